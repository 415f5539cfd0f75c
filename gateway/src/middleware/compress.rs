//! Compresses responses with tower-http's layer, which negotiates (q-values included), encodes, and flushes whenever the
//! service pauses. What fits to be compressed is decided here; what never is: parts (206), what is encoded already, event
//! streams, gRPC, answers without a body.

use std::convert::Infallible;

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY},
    response::Parts,
};
use http_body::Body as _;
use http_body_util::BodyExt;
use tidegate_config::model::{self, Encoding};
use tower::{ServiceExt, service_fn};
use tower_http::compression::Compression as Layer;

use crate::request::body::Body;

/// What is compressed, and how.
#[derive(Debug)]
pub(crate) struct Compression(model::Compression);

/// What a request says about the response that it wants.
#[derive(Debug)]
pub(crate) struct Wanted {
    accept: Vec<HeaderValue>,
    head: bool,
}

impl Compression {
    pub(crate) fn new(settings: &model::Compression) -> Self {
        Self(settings.clone())
    }

    /// What must be remembered of a request.
    pub(crate) fn wanted(method: &Method, headers: &HeaderMap) -> Wanted {
        let accept = headers.get_all(ACCEPT_ENCODING).iter().cloned().collect();
        Wanted { accept, head: *method == Method::HEAD }
    }

    /// Compresses a response, if it and the request fit.
    pub(crate) async fn apply(&self, response: Response<Body>, wanted: Wanted) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        // The answer to a HEAD has no body, whose length it tells.
        let length = if wanted.head { None } else { body.size_hint().exact() };
        if !fits(&self.0, &head, length) {
            return Response::from_parts(head, body);
        }
        if wanted.head {
            // Without a body there is nothing to compress, but caches must know that a GET's answer varies.
            vary(&mut head.headers);
            return Response::from_parts(head, body);
        }
        let has = |encoding| self.0.encodings.contains(&encoding);
        let response = Response::from_parts(head, body);
        let mut once = Some(response);
        let inner = service_fn(move |_: Request<()>| {
            let response = once.take().expect("a service that is called once");
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let layer = Layer::new(inner)
            .gzip(has(Encoding::Gzip))
            .br(has(Encoding::Br))
            .zstd(has(Encoding::Zstd))
            .compress_when(|_: StatusCode, _: http::Version, _: &HeaderMap, _: &http::Extensions| true);
        let mut asked = Request::new(());
        for accept in wanted.accept {
            asked.headers_mut().append(ACCEPT_ENCODING, accept);
        }
        let Ok(response) = layer.oneshot(asked).await;
        let (mut head, body) = response.into_parts();
        if !head.headers.contains_key(CONTENT_ENCODING) {
            return Response::from_parts(head, body.into_inner());
        }
        weaken(&mut head.headers);
        Response::from_parts(head, Body::changed(body.boxed_unsync()))
    }
}

/// Whether a response may be compressed, whoever asks. `length`: that of its body, if it is known.
fn fits(rules: &model::Compression, head: &Parts, length: Option<u64>) -> bool {
    let headers = &head.headers;
    let whole = head.status != StatusCode::PARTIAL_CONTENT
        && head.status != StatusCode::SWITCHING_PROTOCOLS
        && head.status != StatusCode::NO_CONTENT
        && head.status != StatusCode::NOT_MODIFIED
        && !headers.contains_key(CONTENT_RANGE);
    let untouched = !headers.contains_key(CONTENT_ENCODING)
        && !headers.get_all(CACHE_CONTROL).iter().any(|value| contains(value, b"no-transform"));
    let long = length.is_none_or(|length| length >= rules.min_size.0);
    whole && untouched && long && headers.get(CONTENT_TYPE).is_some_and(|kind| is_listed(rules, kind))
}

fn is_listed(rules: &model::Compression, kind: &HeaderValue) -> bool {
    let Ok(text) = kind.to_str() else { return false };
    let kind = text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase();
    if kind == "text/event-stream" || kind.starts_with("application/grpc") {
        return false;
    }
    rules.types.iter().any(|listed| match listed.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => kind == *listed,
    })
}

fn contains(value: &HeaderValue, word: &[u8]) -> bool {
    value.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

fn vary(headers: &mut HeaderMap) {
    if !headers.get_all(VARY).iter().any(|value| contains(value, b"accept-encoding") || value == "*") {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// A strong validator promises the same bytes, which is not so any more (RFC 9110, 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(strong) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn check(status: u16, fields: &[(&'static str, &'static str)], length: Option<u64>, want: bool) {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(HeaderName::from_static(name), *value);
        }
        let (head, ()) = response.body(()).expect("a response").into_parts();
        assert_eq!(
            fits(&model::Compression::default(), &head, length),
            want,
            "{status} {fields:?} {length:?}"
        );
    }

    #[test]
    fn whole_untouched_and_long_responses_of_some_types_fit() {
        const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
        check(200, &[HTML], Some(5000), true);
        check(404, &[HTML], Some(5000), true);
        check(200, &[HTML], None, true);
        check(200, &[("content-type", "Application/JSON")], None, true);
        check(200, &[HTML], Some(100), false);
        check(206, &[HTML], Some(5000), false);
        check(204, &[HTML], Some(0), false);
        check(304, &[HTML], None, false);
        check(200, &[], Some(5000), false);
        check(200, &[("content-type", "image/png")], Some(5000), false);
        check(200, &[("content-type", "text/event-stream")], None, false);
        check(200, &[("content-type", "application/grpc+proto")], None, false);
        check(200, &[HTML, ("content-encoding", "br")], Some(5000), false);
        check(200, &[HTML, ("content-range", "bytes 0-1/2")], Some(5000), false);
        check(200, &[HTML, ("cache-control", "public, No-Transform")], Some(5000), false);
    }

    #[test]
    fn validators_are_weakened() {
        for (tag, want) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\""), ("odd", "odd")] {
            let mut headers: HeaderMap = [(ETAG, HeaderValue::from_static(tag))].into_iter().collect();
            weaken(&mut headers);
            assert_eq!(headers[ETAG], want);
        }
    }
}
