//! Turns [`Node`]s into typed values and reports everything that does not fit, instead of stopping at the first as serde
//! must. The [`section!`] macro is the one table of keys: decoding, unknown-key advice and the JSON Schema (and through
//! it docs/configuration.md) all come from the same lines of [`crate::raw`]. Leaf types are in [`leaf`],
//! what can be switched off in [`switch`].

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{
    advice,
    problem::Draft,
    tree::{self, Kind, Node, Origin},
};

pub(crate) mod leaf;
pub(crate) mod switch;

/// Something that a value of the file can be.
pub(crate) trait Decode: Sized {
    /// Whether a value is written as plain text.
    const TEXT: bool = false;
    /// Whether it is a table whose keys are known.
    const TABLE: bool = false;
    /// Whether it is a table that says something when it is empty, because there is a default for everything.
    const BARE: bool = false;

    /// Reads the value of `key`; `None` once its problems are in `problems`.
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self>;
}

/// A decoded value that still knows where it was written.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it was written.
    pub(crate) at: Origin,
    /// The setting's full key.
    pub(crate) key: String,
    /// The value in words, for problems.
    found: String,
}

impl<T> At<T> {
    /// A problem with this value.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Draft {
        Draft::new(&self.key, &self.at, message).found(&self.found)
    }

    /// The same place with another value.
    pub(crate) fn with<U>(&self, value: U) -> At<U> {
        At { value, at: self.at.clone(), key: self.key.clone(), found: self.found.clone() }
    }
}

impl<T: Decode> Decode for At<T> {
    const TEXT: bool = T::TEXT;

    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let value = T::decode(node, key, problems)?;
        Some(Self { value, at: node.at.clone(), key: key.to_owned(), found: node.describe() })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A problem with a value of the wrong kind.
pub(crate) fn mismatch(node: &Node, key: &str, allowed: &str) -> Draft {
    Draft::new(key, &node.at, "the wrong kind of value").found(node.describe()).allowed(allowed)
}

/// What somebody who wrote a word for on or off meant by it.
pub(crate) fn truth(node: &Node) -> Option<bool> {
    match &node.kind {
        Kind::Bool(truth) => Some(*truth),
        Kind::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        },
        Kind::Null | Kind::Int(_) | Kind::Float(_) | Kind::List(_) | Kind::Table(_) => None,
    }
}

/// A list or table that an environment variable spells out as text.
fn spelled_out(node: &Node) -> Option<Node> {
    match (&node.kind, &node.at) {
        (Kind::Text(text), at @ Origin::Variable(_)) if text.trim_start().starts_with(['[', '{']) => {
            tree::toml::read_value(text, at)
        }
        _ => None,
    }
}

/// A table whose keys are known.
pub(crate) struct Table<'n> {
    node: Cow<'n, Node>,
    key: &'n str,
    /// Known keys that were misspelled, and how: their values are read all the same, so that one slip is one problem.
    meant: Vec<(String, String)>,
}

impl<'n> Table<'n> {
    /// Opens a table and reports the keys that it must not have. `bare`: it may be empty.
    pub(crate) fn open(
        node: &'n Node,
        key: &'n str,
        known: &[&str],
        bare: bool,
        problems: &mut Vec<Draft>,
    ) -> Option<Self> {
        let node = match spelled_out(node) {
            Some(table) => Cow::Owned(table),
            None => Cow::Borrowed(node),
        };
        let Kind::Table(entries) = &node.kind else {
            let allowed = format!("a table with keys from: {}", known.join(", "));
            let help = (bare && truth(&node) == Some(true)).then(|| "write {} for the defaults".to_owned());
            problems.push(mismatch(&node, key, &allowed).help(help));
            return None;
        };
        let mut meant = Vec::new();
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let draft =
                Draft::new(child(key, &entry.key), &entry.at, "unknown key").allowed(known.join(", "));
            problems.push(draft.help(advice::for_unknown_key(key, &entry.key, known)));
            meant.extend(advice::closest(&entry.key, known).map(|near| (near.to_owned(), entry.key.clone())));
        }
        Some(Self { node, key, meant })
    }

    /// The value of one key; `None` if it is absent, or noted as refused.
    pub(crate) fn take<T: Decode>(
        &self,
        name: &'static str,
        refused: &mut Vec<&'static str>,
        problems: &mut Vec<Draft>,
    ) -> Option<At<T>> {
        let misspelled =
            || self.meant.iter().find(|(known, _)| known == name).and_then(|(_, key)| self.node.get(key));
        let entry = self.node.get(name).or_else(misspelled)?;
        let value = At::decode(&entry.value, &child(self.key, name), problems);
        refused.extend(value.is_none().then_some(name));
        value
    }
}

/// A key below another.
pub(crate) fn child(key: &str, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name =
        if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") };
    if key.is_empty() { name } else { format!("{key}.{name}") }
}

/// Declares one table of the file: a struct of optional fields, how it is decoded, and its schema. A field is
/// `/// meaning`, `name: type` and, where there is one, `= default` as the file would say it. `; bare = true`
/// after its name and defaults: the table says something when it is empty.
macro_rules! section {
    ($(#[doc = $about:literal])+ $name:ident $(, $d:ident = $defaults:expr)? $(; bare = $bare:literal)? => {
        $($(#[doc = $doc:literal])+ $key:ident: $type:ty $(= $default:expr)?,)*
    }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default)]
        pub(crate) struct $name {
            $($(#[doc = $doc])+ pub(crate) $key: Option<crate::decode::At<$type>>,)*
            /// Keys that are there with a value that was refused.
            #[allow(dead_code, reason = "only tables with required keys ask")]
            pub(crate) refused: Vec<&'static str>,
        }

        impl $name {
            /// Every key that the table may have.
            pub(crate) const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            /// The keys that are there.
            #[allow(dead_code, reason = "only asked of tables whose keys may have no effect")]
            pub(crate) fn said(&self) -> Vec<&'static str> {
                [$(self.$key.as_ref().map(|_| stringify!($key))),*].into_iter().flatten().collect()
            }
        }

        impl crate::decode::Decode for $name {
            const TABLE: bool = true;
            $(const BARE: bool = $bare;)?

            fn decode(
                node: &crate::tree::Node,
                key: &str,
                problems: &mut Vec<crate::problem::Draft>,
            ) -> Option<Self> {
                let table = crate::decode::Table::open(node, key, Self::KEYS, Self::BARE, problems)?;
                let mut refused = Vec::new();
                $(let $key = table.take(stringify!($key), &mut refused, problems);)*
                Some(Self { $($key,)* refused })
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $(let $d = $defaults;)?
                let mut properties = serde_json::Map::new();
                $(
                    let mut schema = generator.subschema_for::<$type>();
                    schema.insert("description".into(), [$($doc.trim()),+].join(" ").into());
                    $(schema.insert("default".into(), serde_json::json!($default));)?
                    properties.insert(stringify!($key).into(), schema.to_value());
                )*
                schemars::json_schema!({
                    "type": "object",
                    "description": ([$($about.trim()),+].join(" ")),
                    "properties": properties,
                    "additionalProperties": false,
                })
            }
        }
    };
}
pub(crate) use section;

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let spelled = spelled_out(node);
        let node = spelled.as_ref().unwrap_or(node);
        let Kind::List(items) = &node.kind else {
            let help = match &node.kind {
                Kind::Text(text) if T::TEXT => {
                    let words: Vec<_> = text.split_whitespace().map(tree::quoted).collect();
                    Some(format!("write [{}]", words.join(", ")))
                }
                Kind::Table(_) if !T::TEXT => Some("write [{ ... }], or a [[header]] in TOML".to_owned()),
                _ => None,
            };
            problems.push(mismatch(node, key, "a list").help(help));
            return None;
        };
        let all: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| T::decode(item, &format!("{key}[{index}]"), problems))
            .collect();
        // A wrong item is reported; the others are still worth checking.
        Some(all.into_iter().flatten().collect())
    }
}

/// A table whose keys are the user's own, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Named<T>(pub(crate) Vec<(At<String>, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let spelled = spelled_out(node);
        let node = spelled.as_ref().unwrap_or(node);
        let Kind::Table(entries) = &node.kind else {
            problems.push(mismatch(node, key, "a table of names and values"));
            return None;
        };
        let mut named = Vec::new();
        for entry in entries {
            let key = child(key, &entry.key);
            let value = T::decode(&entry.value, &key, problems);
            let found = tree::quoted(&entry.key);
            let name = At { value: entry.key.clone(), at: entry.at.clone(), key, found };
            named.extend(value.map(|value| (name, value)));
        }
        Some(Self(named))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": value })
    }
}
