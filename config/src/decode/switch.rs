//! A setting that can be switched off: `false` where there may be a value, and `true` for a table that has a default for
//! everything. A route says so where its service has switched something on.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Decode, truth};
use crate::{
    problem::Draft,
    tree::{Kind, Node, Origin},
};

/// Off, or on with a value.
#[derive(Debug, Clone)]
pub(crate) enum Switch<T> {
    /// `false`.
    Off,
    /// The value.
    On(T),
}

impl<T: Decode> Decode for Switch<T> {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match (&node.kind, &node.at) {
            (Kind::Bool(false), _) => Some(Self::Off),
            (Kind::Text(text), Origin::Variable(_)) if text == "false" => Some(Self::Off),
            (Kind::Bool(true), _) if T::TABLE => Self::defaults(node, key, problems),
            (Kind::Text(text), Origin::Variable(_)) if T::TABLE && text == "true" => {
                Self::defaults(node, key, problems)
            }
            _ => {
                let before = problems.len();
                let value = T::decode(node, key, problems);
                if T::TABLE || matches!(node.kind, Kind::Bool(_)) {
                    let refused = problems.split_off(before);
                    problems.extend(refused.into_iter().map(|draft| Self::say_so(draft, node, key)));
                }
                value.map(Self::On)
            }
        }
    }
}

impl<T: Decode> Switch<T> {
    fn defaults(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let empty = Node { kind: Kind::Table(Vec::new()), at: node.at.clone() };
        T::decode(&empty, key, problems).map(Self::On)
    }

    /// Adds to a problem with the value itself that it may be switched. `true` is advised where nothing else must be said.
    fn say_so(draft: Draft, node: &Node, key: &str) -> Draft {
        if !draft.is_at(key) {
            return draft;
        }
        let draft = draft.allowed_too(if T::BARE { "true, false" } else { "false" });
        match truth(node) {
            Some(false) => draft.help("write false".to_owned()),
            Some(true) if T::BARE => draft.help("write true".to_owned()),
            Some(true) | None => draft,
        }
    }
}

impl<T: JsonSchema> JsonSchema for Switch<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Switch{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>().to_value();
        let title = match value["title"].as_str() {
            Some(title) => format!("{title} or false"),
            None => "table or false".to_owned(),
        };
        json_schema!({ "title": title, "anyOf": [value, { "type": "boolean" }] })
    }
}
