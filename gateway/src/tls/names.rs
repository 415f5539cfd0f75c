//! Which names a certificate stands for, and which certificate answers to a name: an exact one before a wildcard, which
//! stands for one label. Pure.

use std::collections::HashMap;

/// Certificates by name.
#[derive(Debug)]
pub(crate) struct Table<C> {
    exact: HashMap<String, C>,
    wildcard: HashMap<String, C>,
}

impl<C: Clone> Table<C> {
    /// A table of certificates and their names; of two for one name the first answers.
    pub(crate) fn new<'n>(all: impl IntoIterator<Item = (&'n [String], C)>) -> Self {
        let mut table = Self { exact: HashMap::new(), wildcard: HashMap::new() };
        for (names, certificate) in all {
            for name in names {
                let (list, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut table.wildcard, suffix),
                    None => (&mut table.exact, name.as_str()),
                };
                list.entry(name.to_owned()).or_insert_with(|| certificate.clone());
            }
        }
        table
    }

    /// The certificate that answers to a name (lower case).
    pub(crate) fn find(&self, name: &str) -> Option<&C> {
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard)
    }
}

/// Whether one of a certificate's names is the host's (lower case, an IPv6 address in brackets).
pub(crate) fn cover(names: &[String], host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let suffix = host.split_once('.').map(|(_, suffix)| suffix);
    let is = |name: &String| match name.strip_prefix("*.") {
        Some(below) => suffix == Some(below),
        None => name == host,
    };
    names.iter().any(is)
}

/// Whether an authority could know a host: a name with a dot that is not of this machine alone, and no address.
pub(crate) fn is_public(host: &str) -> bool {
    let address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    host.contains('.') && !host.ends_with(".localhost") && !address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn exact_names_win_and_wildcards_are_one_label() {
        let all = [(names(&["*.a.org", "b.org"]), "wild"), (names(&["x.a.org", "b.org"]), "exact")];
        let table = Table::new(all.iter().map(|(names, certificate)| (names.as_slice(), *certificate)));
        for (name, want) in [
            ("x.a.org", Some("exact")),
            ("y.a.org", Some("wild")),
            ("a.org", None),
            ("x.y.a.org", None),
            ("b.org", Some("wild")),
            ("org", None),
            ("", None),
        ] {
            assert_eq!(table.find(name).copied(), want, "{name}");
        }
    }

    #[test]
    fn authorities_know_no_local_names() {
        for (host, want) in [
            ("a.org", true),
            ("app.lan", true),
            ("localhost", false),
            ("a.localhost", false),
            ("192.0.2.1", false),
            ("[::1]", false),
        ] {
            assert_eq!(is_public(host), want, "{host}");
        }
    }

    #[test]
    fn a_host_is_covered_as_clients_would_see_it() {
        let own = names(&["a.org", "*.b.org", "192.0.2.1", "2001:db8::1"]);
        for (host, want) in [
            ("a.org", true),
            ("x.b.org", true),
            ("b.org", false),
            ("x.y.b.org", false),
            ("192.0.2.1", true),
            ("[2001:db8::1]", true),
            ("", false),
        ] {
            assert_eq!(cover(&own, host), want, "{host}");
        }
    }
}
