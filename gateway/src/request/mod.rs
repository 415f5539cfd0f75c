//! The life of a request, in order: identify, route, prepare, exchange, answer. Each stage is one call; the first that
//! refuses decides the answer. Called by the listener for each request; meets the control plane only in [`fleet`](crate::fleet).

mod accounting;
pub mod body;
mod exchange;
mod headers;
mod path;
mod refusal;
mod response;
pub(crate) mod retry;
mod upgrade;
pub(crate) mod upstream;

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use http::{
    HeaderValue, Method, Request, Response, Uri, Version,
    header::{CONTENT_LENGTH, HOST},
    request::Parts,
    uri::PathAndQuery,
};
use hyper::body::Incoming;
use tidegate_config::model;
use tokio_util::task::TaskTracker;

pub use refusal::Refusal;

use crate::{
    clock,
    fleet::Service,
    router::RouteTable,
    telemetry,
};

/// What every request needs: the routes, the gateway's settings, and where tunnels run.
#[derive(Debug)]
pub struct Door {
    /// Swapped whole by the control loop.
    pub routes: ArcSwap<RouteTable<Arc<Service>>>,
    /// Swapped whole by the control loop.
    pub settings: ArcSwap<model::Gateway>,
    /// Owns the tunnels.
    pub tasks: TaskTracker,
}

/// Answers one request.
pub async fn handle(door: &Door, request: Request<Incoming>, peer: SocketAddr) -> Response<body::Body> {
    let settings = door.settings.load_full();
    let is_head = request.method() == Method::HEAD;
    match serve(door, &settings, request, peer).await {
        Ok(response) => response,
        Err(refusal) if is_head => without_body(refuse(&refusal, settings.expose_errors)),
        Err(refusal) => refuse(&refusal, settings.expose_errors),
    }
}

/// The answer to a HEAD: over HTTP/2 a body, which HTTP/1.1 leaves out by itself, would break the stream.
fn without_body(response: Response<body::Body>) -> Response<body::Body> {
    let length = http_body::Body::size_hint(response.body()).exact();
    let (mut head, _) = response.into_parts();
    if let Some(length) = length {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, body::Body::empty())
}

/// Answers with a refusal: counted, logged and given an id by which the log line is found.
pub(crate) fn refuse(refusal: &Refusal, expose: bool) -> Response<body::Body> {
    let id = format!("{:016x}", rand::random::<u64>());
    tracing::debug!(request_id = %id, reason = refusal.reason(), cause = refusal.cause(), "refused");
    telemetry::refused(refusal.reason());
    response::refuse(refusal, &id, expose, clock::now())
}

async fn serve(
    door: &Door,
    settings: &model::Gateway,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<body::Body>, Refusal> {
    let arrived = clock::now();
    let upgrade = headers::upgrade(request.headers()).map(|to| (hyper::upgrade::on(&mut request), to));
    let (mut head, body) = request.into_parts();
    let host = identify(&head)?;
    let (service, target) = route(door, &head.uri, host_name(&host))?;
    head.uri = target;
    prepare(&mut head, &host, &headers::From { peer, trusted: &settings.trusted_proxies });
    let exchange = exchange::Exchange {
        settings: service.settings(),
        service,
        head,
        body,
        upgrade,
        arrived,
        timing_headers: settings.timing_headers,
    };
    exchange::run(exchange, &door.tasks).await
}

/// The host that the request names, as it wrote it; empty for HTTP/1.0 without one.
fn identify(head: &Parts) -> Result<String, Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::BadRequest("CONNECT is not for a gateway"));
    }
    if head.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Refusal::BadRequest("more than one Content-Length"));
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (head.uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Refusal::BadRequest("more than one Host")),
        (Some(authority), _, _) => authority.as_str(),
        (None, Some(host), None) => host.to_str().map_err(|_| Refusal::BadRequest("a Host that is not text"))?,
        (None, None, None) if head.version == Version::HTTP_11 => return Err(Refusal::BadRequest("no Host")),
        (None, None, None) => "",
    };
    if host.contains(['@', '/', ' ', ',']) {
        return Err(Refusal::BadRequest("a Host that is not a host"));
    }
    Ok(host.to_ascii_lowercase())
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    let colon = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
    host[..colon.unwrap_or(host.len())].trim_end_matches('.')
}

/// The service, and the request's target as it is forwarded: one normalised path, matched and passed on.
fn route(door: &Door, uri: &Uri, host: &str) -> Result<(Arc<Service>, Uri), Refusal> {
    if uri.path() == "*" {
        // OPTIONS * asks about the server as a whole; it goes to whoever has the host's root.
        let table = door.routes.load();
        let found = table.find(host, "/").ok_or(Refusal::NoRoute)?;
        return Ok((Arc::clone(found.service), Uri::from_static("*")));
    }
    let path = path::normalise(uri.path(), true).map_err(|_| Refusal::BadRequest("a path that cannot be passed on"))?;
    let table = door.routes.load();
    let found = table.find(host, &path).ok_or(Refusal::NoRoute)?;
    if path::normalise(uri.path(), found.service.settings().upstream.allow_encoded_slashes).is_err() {
        return Err(Refusal::BadRequest("a path with an encoded slash or backslash"));
    }
    let rest = found.strip.and_then(|prefix| prefix.strip(&path));
    let target = match (rest, &path) {
        (None, Cow::Borrowed(_)) => uri.path_and_query().cloned(),
        (rest, path) => rewritten(rest.unwrap_or(path), uri.query()),
    };
    let target = target.ok_or(Refusal::BadRequest("a path that cannot be passed on"))?;
    Ok((Arc::clone(found.service), Uri::from(target)))
}

fn rewritten(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let path = if path.is_empty() { "/" } else { path };
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::try_from(text).ok()
}

/// Makes the head fit for a replica.
fn prepare(head: &mut Parts, host: &str, from: &headers::From<'_>) {
    headers::prepare_request(&mut head.headers, host, from);
    headers::join_cookies(&mut head.headers);
    // What was routed by is what the replica sees, also where the target and the field named different hosts.
    let same = head.headers.get(HOST).is_some_and(|named| named.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
    if !same && let Ok(value) = HeaderValue::from_str(host) {
        head.headers.insert(HOST, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[(&str, &str)], uri: &str, version: Version) -> Result<String, Refusal> {
        let mut request = Request::builder().uri(uri).version(version);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        identify(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        let ok = |host: &str| Ok(host.to_owned());
        assert_eq!(check(&[("host", "API.org:80")], "/", Version::HTTP_11), ok("api.org:80"));
        assert_eq!(check(&[("host", "b.org")], "http://a.org/x", Version::HTTP_11), ok("a.org"));
        assert_eq!(check(&[], "/", Version::HTTP_10), ok(""));
        for (head, why) in [
            (&[("host", "a"), ("host", "b")][..], "more than one Host"),
            (&[][..], "no Host"),
            (&[("host", "a@b")][..], "a Host that is not a host"),
            (&[("host", "a"), ("content-length", "1"), ("content-length", "2")][..], "more than one Content-Length"),
        ] {
            assert_eq!(check(head, "/", Version::HTTP_11), Err(Refusal::BadRequest(why)));
        }
    }

    #[test]
    fn ports_and_final_dots_are_not_part_of_the_name() {
        for (host, name) in [("a.org:80", "a.org"), ("a.org.", "a.org"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")] {
            assert_eq!(host_name(host), name);
        }
    }
}
