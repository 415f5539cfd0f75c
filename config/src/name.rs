//! The shared vocabulary: names that are checked once, where they enter, and cannot be wrong afterwards.
//! Used by every crate. Absent: IO, and anything that looks a name up.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not a valid name; the text itself is shown by whoever knows where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a DNS label: 1 to 40 of a-z, 0-9 and `-`, not at either end.
    #[error("expected 1 to 40 of a-z, 0-9 and '-', starting and ending with a letter or digit")]
    Label,
    /// Not `SERVICE-GENERATION-NUMBER`.
    #[error("expected SERVICE-GENERATION-NUMBER, as in api-3-17")]
    Replica,
    /// Not a host name pattern.
    #[error("expected a host name such as api.example.org, or a wildcard such as *.example.org")]
    Authority,
    /// Not a path prefix.
    #[error("expected a path that starts with '/', without '?', '#', '..' or an encoded slash")]
    Path,
}

/// True for a DNS label of at most 40 characters (63 less what container names add to it).
fn is_label(text: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    text.len() <= 40 && edge(text.bytes().next()) && edge(text.bytes().next_back()) && text.bytes().all(inner)
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_label(text) { Ok(Self(text.into())) } else { Err(InvalidName::Label) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label! {
    /// A service's name: a DNS label, because it is also a host name.
    ServiceName
}
label! {
    /// A host's name in the file: a DNS label.
    HostName
}

/// One replica, for ever: `SERVICE-GENERATION-NUMBER`. The generation is counted up in the state directory at each
/// start of the gateway and the number at each replica, so an id is never used twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId {
    generation: u64,
    number: u64,
    service: ServiceName,
}

impl ReplicaId {
    /// Names the `number`th replica that generation `generation` of the gateway starts.
    #[must_use]
    pub fn new(service: ServiceName, generation: u64, number: u64) -> Self {
        Self { generation, number, service }
    }

    /// The service that the replica belongs to.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Generation and number: what orders the replicas of a service from oldest to newest.
    #[must_use]
    pub fn order(&self) -> (u64, u64) {
        (self.generation, self.number)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}-{}", self.service, self.generation, self.number))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReplicaId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.rsplitn(3, '-');
        let mut number = || parts.next().and_then(|n| n.parse().ok()).ok_or(InvalidName::Replica);
        let (last, generation) = (number()?, number()?);
        let service = parts.next().ok_or(InvalidName::Replica)?.parse().map_err(|_| InvalidName::Replica)?;
        Ok(Self::new(service, generation, last))
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> Self {
        id.to_string()
    }
}

/// The hosts that a route answers for: one name, every name below one (`*.example.org`), or any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// Exactly this host, lower case, without port.
    Exact(String),
    /// Any host that ends with `.` and this suffix.
    Wildcard(String),
    /// Every host.
    Any,
}

impl FromStr for Authority {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (suffix, wildcard) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, true),
            None => (text, false),
        };
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let address = text.parse::<std::net::Ipv4Addr>().is_ok()
            || text
                .strip_prefix('[')
                .and_then(|t| t.strip_suffix(']'))
                .is_some_and(|t| t.parse::<std::net::Ipv6Addr>().is_ok());
        if !address && (suffix.len() > 253 || !suffix.split('.').all(label)) {
            return Err(InvalidName::Authority);
        }
        let suffix = suffix.to_ascii_lowercase();
        Ok(if wildcard { Self::Wildcard(suffix) } else { Self::Exact(suffix) })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A path prefix that ends at a segment: `/v1` matches `/v1` and `/v1/users`, not `/v10`. `/` matches everything.
/// Held without the trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The prefix of every path.
    #[must_use]
    pub fn root() -> Self {
        Self(String::new())
    }

    /// The prefix without a trailing slash; empty for `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the prefix in `path`, if it matches: empty, or starting with `/`.
    #[must_use]
    pub fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(&*self.0).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let dots = text.split('/').any(|s| s == "." || s == "..");
        let bad =
            |c: char| c == '?' || c == '#' || c == '\\' || c == '%' || c.is_whitespace() || c.is_control();
        if !text.starts_with('/') || dots || text.contains(bad) || text.contains("//") {
            return Err(InvalidName::Path);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_ids_survive_text_and_order_by_age() {
        let id = |text: &str| text.parse::<ReplicaId>().expect("a valid id");
        assert_eq!(id("my-api-3-17").to_string(), "my-api-3-17");
        assert_eq!(id("my-api-3-17").service().as_str(), "my-api");
        assert!(id("api-2-9") < id("api-2-10") && id("api-2-10") < id("api-3-1"));
        for bad in ["api", "api-3", "-3-1", "api-x-1", "API-1-1"] {
            assert_eq!(bad.parse::<ReplicaId>(), Err(InvalidName::Replica), "{bad}");
        }
    }

    #[test]
    fn labels_are_dns_labels() {
        for (text, valid) in
            [("a", true), ("a-1", true), ("", false), ("-a", false), ("a-", false), ("A", false)]
        {
            assert_eq!(text.parse::<ServiceName>().is_ok(), valid, "{text}");
        }
        assert!("x".repeat(41).parse::<HostName>().is_err());
    }

    #[test]
    fn authorities_are_names_wildcards_or_addresses() {
        assert_eq!("API.Example.org".parse(), Ok(Authority::Exact("api.example.org".into())));
        assert_eq!("*.example.org".parse(), Ok(Authority::Wildcard("example.org".into())));
        assert_eq!("[::1]".parse(), Ok(Authority::Exact("[::1]".into())));
        for bad in ["", "a..b", "a.*.b", "http://x", "x:80", "-a.b"] {
            assert_eq!(bad.parse::<Authority>(), Err(InvalidName::Authority), "{bad}");
        }
    }

    #[test]
    fn prefixes_end_at_segments() {
        let v1: PathPrefix = "/v1/".parse().expect("a valid prefix");
        assert_eq!(v1.strip("/v1"), Some(""));
        assert_eq!(v1.strip("/v1/users"), Some("/users"));
        assert_eq!(v1.strip("/v10"), None);
        assert_eq!(PathPrefix::root().strip("/x"), Some("/x"));
        assert!("/a/../b".parse::<PathPrefix>().is_err() && "v1".parse::<PathPrefix>().is_err());
    }
}
