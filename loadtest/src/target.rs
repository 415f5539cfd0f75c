//! Where requests go: a URL as addresses, resolved once before the run. `[IO]`

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use http::{
    Uri,
    uri::{Authority, InvalidUri, PathAndQuery},
};

use crate::template::{self, Template};

/// No requests can go there.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Not a URL.
    #[error("{url:?} is not a URL; expected one as in http://api.localhost:8080/path")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: Option<InvalidUri>,
    },
    /// A place to fill in that is none.
    #[error("{url:?} cannot be filled in")]
    Template {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: template::Invalid,
    },
    /// Not a host name.
    #[error("{0:?} is not a host; expected one as in api.example.com or api.example.com:8080")]
    Host(String),
    /// DNS.
    #[error("{name:?} cannot be resolved")]
    Resolve {
        /// The name.
        name: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// DNS, without an answer.
    #[error("{0:?} has no address")]
    NoAddress(String),
}

/// A place on the network.
#[derive(Debug, Clone)]
pub struct Target {
    /// To be tried in this order.
    pub addresses: Vec<SocketAddr>,
    /// Whether it is reached over TLS.
    pub secure: bool,
    /// The name that its certificate is for.
    pub name: String,
}

/// What a URL says.
#[derive(Debug, PartialEq)]
pub(crate) struct Location {
    pub(crate) secure: bool,
    pub(crate) authority: Authority,
    pub(crate) path: Template,
}

impl Target {
    /// Resolves where a URL leads.
    pub(crate) async fn resolve(location: &Location) -> Result<Self, Invalid> {
        let name = location.authority.host();
        let port = location.authority.port_u16().unwrap_or(if location.secure { 443 } else { 80 });
        let addresses = match literal(name) {
            Some(ips) => ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
            None => look_up(name, port).await?,
        };
        Ok(Self { addresses, secure: location.secure, name: name.trim_matches(['[', ']']).to_owned() })
    }
}

async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, Invalid> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found = found.map_err(|source| Invalid::Resolve { name: name.to_owned(), source })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() { Err(Invalid::NoAddress(name.to_owned())) } else { Ok(addresses) }
}

/// Reads a URL; its path may have places to fill in.
pub(crate) fn locate(url: &str) -> Result<Location, Invalid> {
    let wrong = |source| Invalid::Url { url: url.to_owned(), source };
    let begin = url.find("://").ok_or_else(|| wrong(None))? + 3;
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    let (base, rest) = url.split_at(end);
    let parts = base.parse::<Uri>().map_err(|error| wrong(Some(error)))?.into_parts();
    let secure = match parts.scheme.as_ref().map(http::uri::Scheme::as_str) {
        Some("http" | "ws") => false,
        Some("https" | "wss") => true,
        Some(_) | None => return Err(wrong(None)),
    };
    let authority = parts.authority.filter(|authority| !authority.as_str().contains('@'));
    let rest = rest.split('#').next().unwrap_or_default();
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let template =
        Template::parse(&path).map_err(|source| Invalid::Template { url: url.to_owned(), source })?;
    if template.fixed().is_some() {
        path.parse::<PathAndQuery>().map_err(|error| wrong(Some(error)))?;
    }
    Ok(Location { secure, authority: authority.ok_or_else(|| wrong(None))?, path: template })
}

/// The host to ask for: the given one, or the URL's.
pub(crate) fn authority(location: &Location, host: Option<&str>) -> Result<Authority, Invalid> {
    match host {
        Some(host) => host.parse().map_err(|_| Invalid::Host(host.to_owned())),
        None => Ok(location.authority.clone()),
    }
}

/// Names that need no DNS: addresses, and `localhost` with everything under it (RFC 6761).
fn literal(name: &str) -> Option<Vec<IpAddr>> {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    if lower == "localhost" || lower.ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok().map(|ip| vec![ip])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("http://a.b:81/x?y=1", Ok((false, "a.b:81", "/x?y=1"))),
            ("http://a.b", Ok((false, "a.b", "/"))),
            ("http://a.b?y=1#z", Ok((false, "a.b", "/?y=1"))),
            ("http://[::1]:8080/", Ok((false, "[::1]:8080", "/"))),
            ("https://a.b/", Ok((true, "a.b", "/"))),
            ("wss://a.b/ws", Ok((true, "a.b", "/ws"))),
            ("a.b:80", Err("is not a URL")),
            ("a.b/path", Err("is not a URL")),
            ("/path", Err("is not a URL")),
            ("ftp://a.b", Err("is not a URL")),
            ("http://user@a.b/", Err("is not a URL")),
            ("http://a.b/ x", Err("is not a URL")),
            ("http://a.b/{{count}}", Err("cannot be filled in")),
            ("http://{{counter}}/", Err("is not a URL")),
            ("", Err("is not a URL")),
        ] {
            match (locate(url), expected) {
                (Ok(Location { secure, authority, path }), Ok(expected)) => {
                    let path = std::str::from_utf8(path.fixed().expect("no places")).expect("text");
                    assert_eq!((secure, authority.as_str(), path), expected, "{url}");
                }
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{url}: {error}");
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
        assert_eq!(locate("http://a/{{counter}}").expect("a place").path.fixed(), None);
    }

    #[test]
    fn names_without_dns() {
        for (name, first) in [
            ("api.localhost", Some("127.0.0.1")),
            ("LOCALHOST", Some("127.0.0.1")),
            ("a.b.localhost.", Some("127.0.0.1")),
            ("10.0.0.7", Some("10.0.0.7")),
            ("[::1]", Some("::1")),
            ("notlocalhost", None),
            ("localhost.example.com", None),
        ] {
            let found = literal(name).map(|ips| ips[0].to_string());
            assert_eq!(found.as_deref(), first, "{name}");
        }
    }
}
