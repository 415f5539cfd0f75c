//! The kinds of single values: text, numbers, durations, sizes, shares, words from a closed list. Each says what it
//! allows in the same words everywhere. Ranges that depend on the setting are [`crate::check`]'s business.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Decode, mismatch};
use crate::{
    advice,
    model::{
        Challenge, Encoding, Engine, Idle, Law, LogFormat, Placement, Reach, RequestId, TlsVersion, Update,
    },
    problem::Draft,
    spec::{Profile, Protocol, Pull, Scratch},
    tree::{Kind, Node, Origin, quoted},
    units::{Bytes, Percent},
};

/// Longer than anything sensible, short enough to be added to any instant.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Implements [`JsonSchema`] for a type of this crate; `title` is what docs/configuration.md shows as the type.
macro_rules! schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// Text without NUL.
pub(crate) type Text = String;

impl Decode for Text {
    const TEXT: bool = true;

    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let Kind::Text(text) = &node.kind else {
            let help = match node.kind {
                Kind::Int(_) | Kind::Float(_) | Kind::Bool(_) => Some("put it in quotes".to_owned()),
                _ => None,
            };
            problems.push(mismatch(node, key, "text").help(help));
            return None;
        };
        if text.contains('\0') {
            problems.push(Draft::new(key, &node.at, "contains a NUL character").found(quoted(text)));
            return None;
        }
        Some(text.clone())
    }
}

/// The text of a [`crate::units::Rate`], or of what stands for none. A number is taken for a text that is no rate, so that
/// there is one place that says how it is written.
#[derive(Debug, Clone)]
pub(crate) struct Often(pub(crate) Text);

impl Decode for Often {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match &node.kind {
            Kind::Int(number) => Some(Self(number.to_string())),
            Kind::Text(_) => Decode::decode(node, key, problems).map(Self),
            _ => {
                problems.push(mismatch(node, key, "a rate, as in \"10/m\" (s, m or h)"));
                None
            }
        }
    }
}

impl JsonSchema for Often {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Text::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Text::json_schema(generator)
    }
}

/// Text that may also be written as a whole number or as `true` or `false`, as in `PORT = 8080`.
#[derive(Debug, Clone)]
pub(crate) struct Loose(pub(crate) String);
schema!(Loose, "Loose", { "title": "text", "type": ["string", "integer", "boolean"] });

impl Decode for Loose {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match &node.kind {
            Kind::Int(number) => Some(Self(number.to_string())),
            Kind::Bool(truth) => Some(Self(truth.to_string())),
            _ => Text::decode(node, key, problems).map(Self),
        }
    }
}

/// A value, or several of them.
#[derive(Debug, Clone)]
pub(crate) struct Wanted(pub(crate) Vec<String>);
schema!(Wanted, "Wanted", { "title": "text or a list", "anyOf": [
    { "type": ["string", "integer", "boolean"] },
    { "type": "array", "items": { "type": ["string", "integer", "boolean"] } },
] });

impl Decode for Wanted {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let is_list = match (&node.kind, &node.at) {
            (Kind::Text(text), Origin::Variable(_)) => text.starts_with('['),
            (kind, _) => matches!(kind, Kind::List(_)),
        };
        let values = if is_list {
            Vec::<Loose>::decode(node, key, problems)?
        } else {
            vec![Loose::decode(node, key, problems)?]
        };
        Some(Self(values.into_iter().map(|value| value.0).collect()))
    }
}

impl Decode for bool {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match (&node.kind, &node.at) {
            (Kind::Bool(truth), _) => Some(*truth),
            (Kind::Text(text), Origin::Variable(_)) if text == "true" || text == "false" => {
                Some(text == "true")
            }
            _ => {
                problems.push(mismatch(node, key, "true or false"));
                None
            }
        }
    }
}

impl Decode for u32 {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        whole(node, key, "a whole number, 0 or more", problems)
    }
}

/// A TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port(pub(crate) u16);
schema!(Port, "Port", { "title": "port", "type": "integer", "minimum": 1, "maximum": 65535 });

impl Decode for Port {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        const ALLOWED: &str = "a port from 1 to 65535";
        let port = whole(node, key, ALLOWED, problems)?;
        if port == 0 {
            problems.push(Draft::new(key, &node.at, "out of range").found(node.describe()).allowed(ALLOWED));
        }
        Some(Self(port))
    }
}

fn whole<T>(node: &Node, key: &str, allowed: &str, problems: &mut Vec<Draft>) -> Option<T>
where
    T: TryFrom<i64> + std::str::FromStr,
{
    let number = match (&node.kind, &node.at) {
        (Kind::Int(number), _) => T::try_from(*number).ok(),
        (Kind::Text(text), Origin::Variable(_)) => text.trim().parse().ok(),
        _ => None,
    };
    if number.is_none() {
        problems.push(match node.kind {
            Kind::Int(_) => Draft::new(key, &node.at, "out of range").found(node.describe()).allowed(allowed),
            _ => mismatch(node, key, allowed),
        });
    }
    number
}

impl Decode for f64 {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "settings are small numbers")]
        let number = match (&node.kind, &node.at) {
            (Kind::Int(number), _) => Some(*number as f64),
            (Kind::Float(number), _) => Some(*number),
            (Kind::Text(text), Origin::Variable(_)) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            problems.push(mismatch(node, key, "a number").help(fraction(node)));
        }
        number
    }
}

/// The fraction that a percentage is.
fn fraction(node: &Node) -> Option<String> {
    let Kind::Text(text) = &node.kind else { return None };
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    Some(format!("write {} if {text} is meant", percent / 100.0))
}

/// A length of time with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);
schema!(Span, "Duration", { "title": "duration", "type": "string", "examples": ["500ms", "30s", "5m", "1h 30m"] });

const DURATION: &str = "a duration with its unit, as in \"500ms\", \"30s\", \"5m\" or \"1h 30m\"";

impl Decode for Span {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        duration(node, key, DURATION, problems).map(Self)
    }
}

fn duration(node: &Node, key: &str, allowed: &str, problems: &mut Vec<Draft>) -> Option<Duration> {
    let draft = |message: &str| Draft::new(key, &node.at, message).found(node.describe()).allowed(allowed);
    let bare = |number: &str| {
        draft("a duration without a unit").help(format!("write \"{number}s\" if seconds are meant"))
    };
    let problem = match &node.kind {
        Kind::Int(number) if *number >= 0 => bare(&number.to_string()),
        Kind::Text(text) if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) => bare(text),
        Kind::Text(text) => match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration <= LONGEST => return Some(duration),
            Ok(_) => draft("longer than a year"),
            Err(_) => draft("not a duration"),
        },
        _ => mismatch(node, key, allowed),
    };
    problems.push(problem);
    None
}

schema!(Idle, "Idle", { "title": "duration, \"auto\" or \"kpa\"", "type": "string", "examples": ["auto", "60s", "kpa"] });

impl Decode for Idle {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == "auto" => return Some(Self::Auto),
            Kind::Text(text) if text == "kpa" => return Some(Self::Kpa),
            _ => (),
        }
        let allowed = format!("{DURATION}, \"auto\", or \"kpa\" for Knative's rule");
        if let Kind::Text(text) = &node.kind
            && let Some(help) = meant_by_idle(text)
        {
            let draft = Draft::new(key, &node.at, "not a duration").found(node.describe());
            problems.push(draft.allowed(allowed).help(help));
            return None;
        }
        duration(node, key, &allowed, problems).map(Self::After)
    }
}

fn meant_by_idle(text: &str) -> Option<String> {
    if ["never", "off", "none"].contains(&&*text.to_ascii_lowercase()) {
        return Some("`min = 1` keeps a replica for good".to_owned());
    }
    advice::closest(text, &["auto", "kpa"]).map(|word| format!("did you mean {word:?}?"))
}

/// A size in bytes with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) Bytes);
schema!(Size, "Size", { "title": "size", "type": "string", "examples": ["64MiB", "1GiB", "500MB"] });

impl Decode for Size {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        const ALLOWED: &str = "a size with its unit, as in \"64MiB\", \"1GiB\" or \"500MB\"";
        let bare = |number: &str| {
            let draft = Draft::new(key, &node.at, "a size without a unit").found(node.describe());
            draft.allowed(ALLOWED).help(number.parse().ok().and_then(|number| with_unit(number, key)))
        };
        let problem = match &node.kind {
            Kind::Int(number) if *number > 0 => bare(&number.to_string()),
            Kind::Text(text) if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) => bare(text),
            Kind::Text(text) => match text.parse() {
                Ok(bytes) => return Some(Self(bytes)),
                Err(_) => Draft::new(key, &node.at, "not a size").found(quoted(text)).allowed(ALLOWED),
            },
            _ => mismatch(node, key, ALLOWED),
        };
        problems.push(problem);
        None
    }
}

/// How a number of bytes or mebibytes is written, whichever is likelier.
fn with_unit(number: u64, key: &str) -> Option<String> {
    let small = ["_bytes", "_rate", "_size"].iter().any(|end| key.ends_with(end));
    let (text, unit) = match small || number >= 64 << 10 {
        true => (Bytes(number).to_string(), "bytes"),
        false => (format!("{number}MiB"), "mebibytes"),
    };
    text.parse::<Bytes>().is_ok().then(|| format!("write \"{text}\" if {unit} are meant"))
}

schema!(Percent, "Share", { "title": "share", "type": "number", "minimum": 0.01, "maximum": 1 });

impl Decode for Percent {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        let share = f64::decode(node, key, problems)?;
        let percent = (share * 100.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was just checked"
        )]
        let valid = if (1.0..=100.0).contains(&percent) { Self::new(percent as u8) } else { None };
        if valid.is_none() {
            let help =
                (2.0..=100.0).contains(&share).then(|| format!("{share} % is written {}", share / 100.0));
            let draft = Draft::new(key, &node.at, "not a share").found(node.describe());
            problems.push(draft.allowed("0.01 to 1.0 (1 % to 100 %)").help(help));
        }
        valid
    }
}

/// Implements [`Decode`] and the schema for an enum whose values are words.
macro_rules! words {
    ($type:ty, $name:literal { $($word:literal => $value:expr),* $(,)? }) => {
        schema!($type, $name, { "type": "string", "enum": [$($word),*] });

        impl Decode for $type {
            fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
                let words: &[&str] = &[$($word),*];
                let allowed = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
                let Kind::Text(text) = &node.kind else {
                    problems.push(mismatch(node, key, &allowed));
                    return None;
                };
                match &**text {
                    $($word => Some($value),)*
                    _ => {
                        let draft = Draft::new(key, &node.at, "not one of its values").found(quoted(text));
                        let meant = advice::closest(text, words).map(|word| format!("did you mean {word:?}?"));
                        problems.push(draft.allowed(allowed).help(meant));
                        None
                    }
                }
            }
        }
    };
}
words!(Pull, "Pull" { "missing" => Self::Missing, "always" => Self::Always, "never" => Self::Never });
words!(Protocol, "Protocol" { "http1" => Self::Http1, "h2c" => Self::H2c, "tcp" => Self::Tcp });
words!(Profile, "Profile" { "default" => Self::Default, "strict" => Self::Strict });
words!(Scratch, "Scratch" { "disk" => Self::Disk, "memory" => Self::Memory });
words!(Engine, "Engine" { "auto" => Self::Auto, "docker" => Self::Docker, "embedded" => Self::Embedded, "swarm" => Self::Swarm, "kubernetes" => Self::Kubernetes });
words!(Reach, "Reach" { "auto" => Self::Auto, "address" => Self::Address, "published" => Self::Published });
words!(Law, "Law" { "kpa" => Self::Kpa, "work" => Self::Work, "hpa" => Self::Hpa });
words!(Update, "Update" { "rolling" => Self::Rolling, "recreate" => Self::Recreate });
words!(LogFormat, "LogFormat" { "json" => Self::Json, "combined" => Self::Combined });
words!(RequestId, "RequestId" { "off" => Self::Off, "make" => Self::Make, "keep" => Self::Keep });
words!(Encoding, "Encoding" { "gzip" => Self::Gzip, "br" => Self::Br, "zstd" => Self::Zstd });
words!(Counted, "Counted" { "address" => Self::Address, "header" => Self::Header, "route" => Self::Route });
words!(Placement, "Placement" { "spread" => Self::Spread, "binpack" => Self::Binpack });

words!(Challenge, "Challenge" { "http-01" => Self::Http01, "tls-alpn-01" => Self::TlsAlpn01 });
words!(TlsVersion, "TlsVersion" { "1.2" => Self::V12, "1.3" => Self::V13 });
/// Whose requests a rate limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Those of a client's address.
    Address,
    /// Those with the same value of a field.
    Header,
    /// All.
    Route,
}

/// One or a list of them.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<super::At<T>>);

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>().to_value();
        let several = serde_json::json!({ "type": "array", "items": one });
        let mut choices = one["anyOf"].as_array().cloned().unwrap_or_else(|| vec![one.clone()]);
        choices.push(several);
        json_schema!({ "title": format!("{} or a list", one["title"].as_str().unwrap_or("one")), "anyOf": choices })
    }
}

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match (&node.kind, &node.at) {
            (Kind::Text(text), Origin::Variable(_)) if text.starts_with('[') => {
                Vec::decode(node, key, problems).map(Self)
            }
            (Kind::Text(_) | Kind::Table(_), _) => {
                Decode::decode(node, key, problems).map(|one| Self(vec![one]))
            }
            (Kind::List(_), _) => Vec::decode(node, key, problems).map(Self),
            _ => {
                let help = match node.kind {
                    Kind::Int(port) => Some(format!("write \"0.0.0.0:{port}\"")),
                    _ => None,
                };
                problems.push(mismatch(node, key, "text, a table, or a list of them").help(help));
                None
            }
        }
    }
}

/// Off, on, or a file to be used.
#[derive(Debug, Clone)]
pub(crate) enum OnOrFile {
    /// `true` or `false`.
    On(bool),
    /// A file's name.
    File(Text),
}
schema!(OnOrFile, "OnOrFile", { "title": "true, false or a file", "type": ["boolean", "string"] });

impl Decode for OnOrFile {
    fn decode(node: &Node, key: &str, problems: &mut Vec<Draft>) -> Option<Self> {
        match (&node.kind, &node.at) {
            (Kind::Text(text), Origin::Variable(_)) if text == "true" || text == "false" => {
                Some(Self::On(text == "true"))
            }
            (Kind::Text(_), _) => Decode::decode(node, key, problems).map(Self::File),
            (Kind::Bool(on), _) => Some(Self::On(*on)),
            _ => {
                problems.push(mismatch(node, key, "true, false or the name of a file"));
                None
            }
        }
    }
}
