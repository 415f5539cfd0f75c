//! Where a request is sent instead, and what becomes of its path. Pure.
//! Holds: what comes out begins with one slash, so that no path can name another host.

use std::borrow::Cow;

use http::HeaderValue;
use tidegate_config::{
    model::{PathRewrite, Redirect},
    name::PathPrefix,
};

/// Where a request is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    /// `http` or `https`.
    pub(crate) scheme: &'p str,
    /// As the client wrote it.
    pub(crate) host: &'p str,
    /// Normalised.
    pub(crate) path: &'p str,
    /// Behind the `?`.
    pub(crate) query: Option<&'p str>,
}

/// Where a request is sent instead; `None` if that is where it is. `route`: the path of its route.
pub(crate) fn redirect(to: &Redirect, route: &PathPrefix, from: Place<'_>) -> Option<HeaderValue> {
    let scheme = to.scheme.as_deref().unwrap_or(from.scheme);
    let host = match (&to.host, &to.scheme) {
        (Some(host), _) => host,
        // Another scheme has another port.
        (None, Some(_)) if scheme != from.scheme => without_port(from.host),
        (None, _) => from.host,
    };
    let path = match &to.prefix {
        // A prefix below the route's own path would be put in front again and again.
        Some(prefix) if route.strip(prefix.as_str()).is_some() && prefix.strip(from.path).is_some() => {
            Cow::Borrowed(from.path)
        }
        Some(prefix) => replaced(prefix, route, from.path),
        None => Cow::Borrowed(from.path),
    };
    if scheme == from.scheme && host.eq_ignore_ascii_case(from.host) && path == from.path {
        return None;
    }
    let query = from.query.map(|query| format!("?{query}")).unwrap_or_default();
    let path = single_slash(&path);
    let place = match (&to.scheme, &to.host) {
        (None, None) => format!("{path}{query}"),
        _ => format!("{scheme}://{host}{path}{query}"),
    };
    HeaderValue::try_from(place).ok()
}

/// A path as it is forwarded, after the route's own was stripped if it is to be.
pub(crate) fn rewrite<'p>(how: &PathRewrite, route: &PathPrefix, path: &'p str) -> Cow<'p, str> {
    match how {
        PathRewrite::Add(prefix) => joined(prefix, path),
        PathRewrite::Replace(prefix) => replaced(prefix, route, path),
        PathRewrite::Set(path) => Cow::Owned(path.clone()),
    }
}

fn replaced<'p>(prefix: &PathPrefix, route: &PathPrefix, path: &'p str) -> Cow<'p, str> {
    joined(prefix, route.strip(path).unwrap_or(path))
}

fn joined<'p>(prefix: &PathPrefix, rest: &'p str) -> Cow<'p, str> {
    let whole = format!("{}{rest}", prefix.as_str());
    Cow::Owned(if whole.is_empty() { "/".to_owned() } else { whole })
}

fn without_port(host: &str) -> &str {
    let colon = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
    &host[..colon.unwrap_or(host.len())]
}

/// Browsers read `//host` as another host, and `/\host` too.
fn single_slash(path: &str) -> Cow<'_, str> {
    let rest = path.trim_start_matches(['/', '\\']);
    if path.len() - rest.len() == 1 && path.starts_with('/') {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(format!("/{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PathPrefix {
        text.parse().expect("a path")
    }

    #[test]
    fn requests_are_sent_to_what_is_named_and_keep_the_rest() {
        let rows: [(Redirect, &str, &str, Option<&str>); 11] = [
            (to(Some("https"), None, None), "/", "/a", Some("https://a.org/a?q=1")),
            (to(None, Some("www.a.org"), None), "/", "/a", Some("http://www.a.org/a?q=1")),
            (
                to(Some("https"), Some("b.org:8443"), Some("/new")),
                "/old",
                "/old/x",
                Some("https://b.org:8443/new/x?q=1"),
            ),
            (to(None, None, Some("/new")), "/old", "/old", Some("/new?q=1")),
            (to(None, None, Some("/new")), "/", "/old/x", Some("/new/old/x?q=1")),
            (to(None, None, Some("/new")), "/", "/new/x", None),
            (to(None, None, Some("/")), "/old", "/old//evil.org", Some("/evil.org?q=1")),
            (to(None, None, Some("/")), "/old", "/old/\\evil.org", Some("/evil.org?q=1")),
            (to(Some("http"), Some("a.org:80"), None), "/", "/a", None),
            (to(Some("https"), None, None), "/", "//evil.org", Some("https://a.org/evil.org?q=1")),
            (to(None, Some("A.ORG:80"), None), "/", "/a", None),
        ];
        for (redirect_to, route, path, want) in rows {
            let from = Place { scheme: "http", host: "a.org:80", path, query: Some("q=1") };
            let got = redirect(&redirect_to, &prefix(route), from);
            assert_eq!(got.as_ref().and_then(|place| place.to_str().ok()), want, "{redirect_to:?} {path}");
        }
    }

    fn to(scheme: Option<&str>, host: Option<&str>, path: Option<&str>) -> Redirect {
        let (scheme, host) = (scheme.map(str::to_owned), host.map(str::to_owned));
        Redirect { scheme, host, prefix: path.map(prefix), status: 308 }
    }

    #[test]
    fn paths_are_rewritten() {
        for (how, route, path, want) in [
            (PathRewrite::Add(prefix("/v2")), "/", "/users", "/v2/users"),
            (PathRewrite::Add(prefix("/v2")), "/api", "", "/v2"),
            (PathRewrite::Replace(prefix("/v2")), "/v1", "/v1/users", "/v2/users"),
            (PathRewrite::Replace(prefix("/v2")), "/v1", "/v1", "/v2"),
            (PathRewrite::Replace(prefix("/")), "/v1", "/v1", "/"),
            (PathRewrite::Replace(prefix("/")), "/v1", "/v1/", "/"),
            (PathRewrite::Set("/fixed".into()), "/", "/any/thing", "/fixed"),
        ] {
            assert_eq!(rewrite(&how, &prefix(route), path), want, "{how:?} {path}");
        }
    }
}
