//! The file as users write it: every table, every key, what it means, and the default as the file would say it.
//! The doc comments below are what the JSON Schema, editors and docs/configuration.md show. Defaults are read from
//! [`crate::model`], where they stand. Pure lists, a file for each part.

mod access;
mod admin;
mod balance;
mod edge;
mod gateway;
mod host;
mod launch;
mod limits;
mod middleware;
mod service;
mod spans;
mod traffic;
mod wake;

pub(crate) use self::{
    access::AccessLog,
    admin::{Admin, Token},
    balance::{Adaptive, Affinity, Balance, Circuit, Ejection, Hedge},
    edge::{Acme, Certificate, GatewayTls, Listener},
    gateway::{Gateway, Images},
    host::{Capacity, Host, Kubernetes},
    launch::{Mount, MountTable, Reserve, Resources, SecretFile},
    limits::Limits,
    middleware::{
        BasicAuth, BearerAuth, Compression, Cors, Edits, Hsts, Ip, Middleware, Mirror, RateLimit, Redirect,
        Rewrite,
    },
    service::{Rollout, Route, Service, Sleep},
    spans::Tracing,
    traffic::{Health, KeepWarm, Probe, ProbeTable, Scaling, Upstream},
    wake::{Ignore, Wake},
};
use crate::{
    decode::{At, Named, section},
    units::Percent,
};

section! {
    /// The whole file.
    File => {
        /// The gateway's own settings.
        gateway: Gateway,
        /// The machines that replicas may run on. Without any: one, named `local`, with `engine = "auto"`.
        hosts: Vec<At<Host>>,
        /// Where the embedded engine's images come from, and how long they are kept.
        images: Images,
        /// The services, by name. A name has 1 to 40 of a-z, 0-9 and `-`.
        services: Named<At<Service>>,
    }
}

/// Shares as the file would say them.
fn percentages(shares: &[Percent]) -> Vec<u32> {
    shares.iter().map(|share| share.whole()).collect()
}

/// A duration as the file would say it.
fn duration(duration: std::time::Duration) -> String {
    const DAY: u64 = 24 * 3600;
    let seconds = duration.as_secs();
    if duration.subsec_nanos() == 0 && seconds > 0 && seconds.is_multiple_of(DAY) {
        format!("{}d", seconds / DAY)
    } else if duration.subsec_nanos() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// What a late request is worth, as the file would say it.
fn worth() -> String {
    match crate::model::Work::default().aim {
        crate::model::Aim::Worth(worth) => duration(worth),
        crate::model::Aim::Share(share) => share.to_string(),
    }
}

/// Implements [`Decode`] and the schema for a value that is a text or else a table.
macro_rules! text_or_table {
    ($(#[$doc:meta])* $name:ident, $table:ty, $title:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) enum $name {
            /// As one text.
            Text(crate::decode::leaf::Text),
            /// As a table.
            Table(Box<$table>),
        }

        impl crate::decode::Decode for $name {
            fn decode(node: &crate::tree::Node, key: &str, problems: &mut Vec<crate::problem::Draft>) -> Option<Self> {
                match &node.kind {
                    crate::tree::Kind::Text(text) if !text.trim_start().starts_with('{') => {
                        crate::decode::Decode::decode(node, key, problems).map(Self::Text)
                    }
                    crate::tree::Kind::Text(_) | crate::tree::Kind::Table(_) => {
                        crate::decode::Decode::decode(node, key, problems).map(|table| Self::Table(Box::new(table)))
                    }
                    _ => {
                        let keys = <$table>::KEYS.join(", ");
                        problems.push(crate::decode::mismatch(node, key, &format!("text, or a table with keys from: {keys}")));
                        None
                    }
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let table = generator.subschema_for::<$table>();
                schemars::json_schema!({ "title": $title, "anyOf": [{ "type": "string" }, table] })
            }
        }
    };
}
use text_or_table;
