//! Refusals and responses as HTTP: the one place where an error becomes a status line. Pure.
//! Refusals are RFC 9457 problem documents with a `reason` from a closed list.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use serde::Serialize;

use super::{body::Body, grpc, refusal::Refusal};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const COLD: HeaderName = HeaderName::from_static("x-tidegate-cold");
const STATE: HeaderName = HeaderName::from_static("x-tidegate-state");

#[derive(Serialize)]
struct Problem<'p> {
    r#type: &'static str,
    title: String,
    status: u16,
    reason: &'static str,
    request_id: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'p str>,
}

/// How a request that is refused can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A problem document.
    Document,
    /// The same without its body: over HTTP/2 a body after a HEAD, which HTTP/1.1 leaves out by itself, would break the
    /// stream.
    Head,
    /// The status of a call of gRPC.
    Call,
}

impl Form {
    /// As the request needs it.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        if request.method() == Method::HEAD {
            Self::Head
        } else if request.version() == Version::HTTP_2 && grpc::is_call(request.headers()) {
            Self::Call
        } else {
            Self::Document
        }
    }
}

/// The response for a refusal. `expose` adds the cause in words.
pub(crate) fn refuse(
    refusal: &Refusal,
    request_id: &str,
    expose: bool,
    form: Form,
    now: Instant,
) -> Response<Body> {
    let problem = Problem {
        r#type: "about:blank",
        title: refusal.to_string(),
        status: refusal.status().as_u16(),
        reason: refusal.reason(),
        request_id,
        detail: refusal.cause().filter(|_| expose),
    };
    let json = serde_json::to_vec(&problem).expect("strings and a number always serialize");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = refusal.status();
    let fields = response.headers_mut();
    if matches!(refusal, Refusal::BadFraming(_)) {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(seconds) = refusal.retry_after(now) {
        fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match form {
        Form::Document => *response.body_mut() = Body::full(Bytes::from(json)),
        Form::Head => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
        }
        Form::Call => {
            grpc::refuse(fields, refusal, request_id, problem.detail);
            *response.status_mut() = StatusCode::OK;
        }
    }
    if let Refusal::Unauthorized { challenges } = refusal {
        for challenge in challenges.iter() {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge.clone());
        }
    }
    response
}

/// A text of ours.
pub(crate) fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// The answer that sends a request on.
pub(crate) fn moved(status: StatusCode, place: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, place);
    response
}

/// The answer to a page that asks whether it may.
pub(crate) fn preflight(fields: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = fields;
    response
}

/// An answer of ours to a HEAD.
pub(crate) fn without_body(response: Response<Body>) -> Response<Body> {
    let length = response.body().own_length();
    let (mut head, _) = response.into_parts();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Response::from_parts(head, Body::empty())
}

/// What those are told who do not wake a service that sleeps. Sleeping is not being ill: 200, and nothing to keep.
pub(crate) fn asleep() -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from_static(b"asleep\n")));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(STATE, HeaderValue::from_static("asleep"));
    response
}

/// Where a request's time went before its response began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Waiting in the gate.
    pub(crate) queue: Duration,
    /// The start of the replica that it waited for, if it waited for one.
    pub(crate) start: Option<Duration>,
    /// From the lease to the response's head.
    pub(crate) upstream: Duration,
}

/// Takes out the timing fields that a replica sent, and adds ours where they are wanted.
pub(crate) fn time(headers: &mut HeaderMap, timing: Option<Timing>) {
    // Ours to say. One look at the names is cheaper than asking for one that is never there.
    if headers.keys().any(|name| *name == COLD) {
        headers.remove(COLD);
    }
    let Some(timing) = timing else { return };
    let ms = |duration: Duration| format!("{:.1}", duration.as_secs_f64() * 1e3);
    let start = timing.start.map(|start| format!("start;dur={}, ", ms(start))).unwrap_or_default();
    let text = format!("queue;dur={}, {start}upstream;dur={}", ms(timing.queue), ms(timing.upstream));
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(SERVER_TIMING, value);
    }
    if timing.start.is_some() {
        headers.insert(COLD, HeaderValue::from_static("1"));
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn check(refusal: &Refusal, expose: bool) -> (u16, Option<String>, serde_json::Value) {
        let response = refuse(refusal, "id-1", expose, Form::Document, crate::clock::now());
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = response.status().as_u16();
        let body = futures_util::FutureExt::now_or_never(response.into_body().collect());
        let bytes = body.expect("a full body is ready").expect("and cannot fail").to_bytes();
        (status, after, serde_json::from_slice(&bytes).expect("JSON"))
    }

    #[test]
    fn a_refusal_is_a_problem_document() {
        let (status, after, json) = check(&Refusal::QueueFull, true);
        assert_eq!((status, after.as_deref()), (503, Some("1")));
        assert_eq!((&json["reason"], &json["request_id"]), (&"queue_full".into(), &"id-1".into()));
    }

    #[test]
    fn each_form_of_refusal_says_the_same() {
        let told = |form| refuse(&Refusal::QueueFull, "id-1", false, form, crate::clock::now());
        let (head, call) = (told(Form::Head), told(Form::Call));
        for response in [&head, &call] {
            assert!(http_body::Body::is_end_stream(response.body()), "{response:?}");
        }
        assert_eq!(
            (head.status(), head.headers().contains_key(CONTENT_LENGTH)),
            (Refusal::QueueFull.status(), true)
        );
        assert_eq!((call.status(), &call.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from(14)));
        let asked = |version, kind| {
            Form::of(
                &Request::post("/a").version(version).header(CONTENT_TYPE, kind).body(()).expect("a request"),
            )
        };
        assert_eq!(asked(Version::HTTP_2, "application/grpc"), Form::Call);
        assert_eq!(
            asked(Version::HTTP_11, "application/grpc"),
            Form::Document,
            "which no gRPC client speaks"
        );
        assert_eq!(asked(Version::HTTP_2, "text/plain"), Form::Document);
    }

    #[test]
    fn causes_are_told_only_where_that_is_wanted() {
        let again = Some(crate::clock::now() + Duration::from_secs(30));
        let refusal = Refusal::CrashLooping { cause: "exit code 1".into(), again };
        let (_, after, json) = check(&refusal, true);
        assert_eq!((after.as_deref(), &json["detail"]), (Some("30"), &"exit code 1".into()));
        let (_, _, json) = check(&refusal, false);
        assert_eq!(json.get("detail"), None);
    }

    #[test]
    fn timing_fields_of_replicas_are_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(COLD, HeaderValue::from_static("1"));
        time(&mut headers, None);
        assert!(headers.is_empty());
        let ms = Duration::from_millis;
        time(&mut headers, Some(Timing { queue: ms(12), start: Some(ms(11)), upstream: ms(1) }));
        assert_eq!(headers[SERVER_TIMING], "queue;dur=12.0, start;dur=11.0, upstream;dur=1.0");
        assert_eq!(headers[COLD], "1");
    }
}
