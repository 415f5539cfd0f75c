//! From HTTP to HTTPS: the same place, over TLS. Pure.

use http::{HeaderValue, Uri};

/// Where authorities look for proof that a name is ours; over HTTP, and nowhere else.
pub(crate) const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// The port that `https://` means.
const HTTPS: u16 = 443;

/// The same path and query on the same host, over TLS on `port`; `None` where there is no host to name, or where a
/// challenge is to be answered here.
pub(crate) fn to_https(host: &str, uri: &Uri, port: u16) -> Option<HeaderValue> {
    if host.is_empty() || uri.path().starts_with(CHALLENGES) {
        return None;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let port = if port == HTTPS { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{host}{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_stay() {
        for (host, uri, port, want) in [
            ("a.org", "/x/y?q=1", 443, Some("https://a.org/x/y?q=1")),
            ("a.org", "/", 8443, Some("https://a.org:8443/")),
            ("[::1]", "http://[::1]:80/z", 443, Some("https://[::1]/z")),
            ("a.org", "*", 443, Some("https://a.org/")),
            ("", "/", 443, None),
            ("a.org", "/.well-known/acme-challenge/token", 443, None),
        ] {
            let found = to_https(host, &uri.parse().expect("a target"), port);
            assert_eq!(found.as_ref().and_then(|found| found.to_str().ok()), want, "{host}{uri}");
        }
    }
}
