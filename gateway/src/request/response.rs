//! Refusals and responses as HTTP: the one place where an error becomes a status line. Pure.
//! Refusals are RFC 9457 problem documents with a `reason` from a closed list.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use serde::Serialize;

use super::{body::Body, refusal::Refusal};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const COLD: HeaderName = HeaderName::from_static("x-tidegate-cold");

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

/// The response for a refusal. `expose` adds the cause in words.
pub(crate) fn refuse(refusal: &Refusal, request_id: &str, expose: bool, now: Instant) -> Response<Body> {
    let problem = Problem {
        r#type: "about:blank",
        title: refusal.to_string(),
        status: refusal.status().as_u16(),
        reason: refusal.reason(),
        request_id,
        detail: refusal.cause().filter(|_| expose),
    };
    let json = serde_json::to_vec(&problem).expect("strings and a number always serialize");
    let mut response = Response::new(Body::full(Bytes::from(json)));
    *response.status_mut() = refusal.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = refusal.retry_after(now) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer that sends a request on: the method and the body stay as they are.
pub(crate) fn moved(place: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, place);
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
    headers.remove(COLD);
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
        let response = refuse(refusal, "id-1", expose, crate::clock::now());
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
