//! Where requests go: the URL, checked and resolved once, and the request that is sent over and over.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::HOST,
    uri::{Authority, InvalidUri, PathAndQuery},
};
use http_body_util::Full;

/// The URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Not a URL.
    #[error("{url:?} is not a URL; expected one such as http://api.localhost:8080/path")]
    Url {
        /// As given.
        url: String,
        /// What the parser found.
        #[source]
        source: Option<InvalidUri>,
    },
    /// TLS.
    #[error("{0:?}: https is not supported, only plain http; send to the gateway's http listener instead")]
    Https(String),
    /// Not a host for the `Host` header.
    #[error("host {0:?}: expected a name such as api.example.com, with a port if needed")]
    Host(String),
    /// DNS.
    #[error("cannot resolve {name:?}")]
    Resolve {
        /// The host name.
        name: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// DNS, without an answer.
    #[error("{0:?} has no address")]
    NoAddress(String),
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    /// To be tried in this order.
    pub addresses: Vec<SocketAddr>,
    /// What requests ask for: the URL's, or instead of it the one given.
    authority: Authority,
    path: PathAndQuery,
}

impl Target {
    /// Reads and resolves a URL.
    pub async fn resolve(url: &str, host: Option<&str>) -> Result<Self, Invalid> {
        let (authority, path) = parse(url)?;
        let (name, port) = (authority.host(), authority.port_u16().unwrap_or(80));
        let addresses = match literal(name) {
            Some(ips) => ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
            None => look_up(name, port).await?,
        };
        let authority = match host {
            Some(host) => host.parse().map_err(|_| Invalid::Host(host.to_owned()))?,
            None => authority,
        };
        Ok(Self { addresses, authority, path })
    }

    /// The request, as each protocol wants it.
    #[must_use]
    pub fn request(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        h2c: bool,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        if h2c {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(http::uri::Scheme::HTTP);
            parts.authority = Some(self.authority.clone());
            parts.path_and_query = Some(self.path.clone());
            *request.uri_mut() = Uri::from_parts(parts).expect("all three parts are there");
        } else {
            *request.uri_mut() = Uri::from(self.path.clone());
            let host = HeaderValue::from_str(self.authority.as_str()).expect("an authority is plain ASCII");
            request.headers_mut().entry(HOST).or_insert(host);
        }
        request
    }
}

async fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, Invalid> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found = found.map_err(|source| Invalid::Resolve { name: name.to_owned(), source })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() { Err(Invalid::NoAddress(name.to_owned())) } else { Ok(addresses) }
}

fn parse(url: &str) -> Result<(Authority, PathAndQuery), Invalid> {
    let wrong = |source| Invalid::Url { url: url.to_owned(), source };
    let parts = url.parse::<Uri>().map_err(|error| wrong(Some(error)))?.into_parts();
    match parts.scheme.as_ref().map(http::uri::Scheme::as_str) {
        Some("http") => (),
        Some("https") => return Err(Invalid::Https(url.to_owned())),
        Some(_) | None => return Err(wrong(None)),
    }
    let authority = parts.authority.filter(|authority| !authority.as_str().contains('@'));
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok((authority.ok_or_else(|| wrong(None))?, path))
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
            ("http://a.b:81/x?y=1", Ok(("a.b:81", "/x?y=1"))),
            ("http://a.b", Ok(("a.b", "/"))),
            ("http://[::1]:8080/", Ok(("[::1]:8080", "/"))),
            ("https://a.b/", Err("https is not supported")),
            ("a.b:80", Err("is not a URL")),
            ("a.b/path", Err("is not a URL")),
            ("/path", Err("is not a URL")),
            ("ftp://a.b", Err("is not a URL")),
            ("http://user@a.b/", Err("is not a URL")),
            ("", Err("is not a URL")),
        ] {
            match (parse(url), expected) {
                (Ok((authority, path)), Ok(expected)) => {
                    assert_eq!((authority.as_str(), path.as_str()), expected, "{url}");
                }
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{url}: {error}")
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
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

    #[tokio::test]
    async fn the_host_can_be_another() {
        for (host, h2c, uri, header) in [
            (None, false, "/p", Some("api.localhost:81")),
            (Some("x.test"), false, "/p", Some("x.test")),
            (Some("x.test"), true, "http://x.test/p", None),
        ] {
            let target = Target::resolve("http://api.localhost:81/p", host).await.expect("resolves");
            let request = target.request(Method::GET, HeaderMap::new(), Bytes::new(), h2c);
            assert_eq!(request.uri().to_string(), uri);
            assert_eq!(request.headers().get(HOST).map(HeaderValue::as_bytes), header.map(str::as_bytes));
        }
        assert!(Target::resolve("http://localhost", Some("no host")).await.is_err());
    }
}
