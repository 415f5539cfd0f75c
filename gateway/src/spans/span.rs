//! A request as spans: one for the gateway's part in it, and below it the wait in the gate, the start that it waited for,
//! and each attempt. Names and attributes are those of OpenTelemetry's semantic conventions. Pure.

use std::time::{Duration, SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest as _, Sha256};

use super::Context;
use crate::access::Entry;

/// One attempt, in time since the request's arrival.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// Where it was sent.
    pub replica: &'a str,
    /// When it began.
    pub begun: Duration,
    /// When its response's head had come, or it had failed.
    pub ended: Duration,
    /// How it failed, if it did.
    pub failure: Option<&'static str>,
}

/// The start that a request waited for.
#[derive(Debug, Clone)]
pub struct Start<'s> {
    /// What was started.
    pub replica: &'s str,
    /// When that was asked for, in time before (or after) the request's arrival.
    pub asked: SystemTime,
    /// When it was ready.
    pub ready: SystemTime,
    /// Whether nobody has told of it yet: it gets a span of its own, to which all that waited for it link.
    pub first: bool,
}

/// The spans of one request.
#[must_use]
pub fn of(
    context: Context,
    entry: &Entry<'_>,
    attempts: &[Attempt<'_>],
    start: Option<&Start<'_>>,
) -> Vec<SpanData> {
    let at = |after: Duration| entry.arrived + after;
    let mut spans = vec![request(context, entry)];
    let child = |name: &'static str, number: usize, from: SystemTime, to: SystemTime| SpanData {
        parent_span_id: SpanId::from(context.span),
        parent_span_is_remote: false,
        ..span(context.trace, below(context.span, number), name, SpanKind::Internal, from, to)
    };
    if let Some(queue) = entry.queue.filter(|queue| !queue.is_zero()) {
        spans.push(child("queue", 1, entry.arrived, at(queue)));
    }
    if let Some(start) = start {
        let mut waits = child("start", 2, start.asked.max(entry.arrived), start.ready);
        waits.attributes.push(KeyValue::new("tidegate.replica", start.replica.to_owned()));
        let of_start = own(start);
        waits.links.links.push(Link::with_context(of_start.span_context.clone()));
        spans.push(waits);
        spans.extend(start.first.then_some(of_start));
    }
    for (index, attempt) in attempts.iter().enumerate() {
        let mut tried = child("attempt", 3 + index, at(attempt.begun), at(attempt.ended));
        tried.span_kind = SpanKind::Client;
        tried.attributes.push(KeyValue::new("tidegate.replica", attempt.replica.to_owned()));
        if index > 0 {
            let resent = i64::try_from(index).unwrap_or(i64::MAX);
            tried.attributes.push(KeyValue::new("http.request.resend_count", resent));
        }
        if let Some(failure) = attempt.failure {
            tried.attributes.push(KeyValue::new("error.type", failure));
            tried.status = Status::error(failure);
        }
        spans.push(tried);
    }
    spans
}

fn request(context: Context, entry: &Entry<'_>) -> SpanData {
    let (from, to) = (entry.arrived, entry.arrived + entry.total);
    let method = entry.method.to_owned();
    let mut span = span(context.trace, context.span, "", SpanKind::Server, from, to);
    // The target has as many values as clients like; a name has few.
    span.name = entry.service.map_or_else(|| method.clone(), |service| format!("{method} {service}")).into();
    span.parent_span_id = context.parent.map_or(SpanId::INVALID, SpanId::from);
    span.parent_span_is_remote = context.parent.is_some();
    let (path, query) = entry.target.split_once('?').unwrap_or((entry.target, ""));
    let told = |name: &'static str, text: &str| KeyValue::new(name, text.to_owned());
    span.attributes = vec![
        KeyValue::new("http.request.method", method),
        told("url.path", path),
        told("url.scheme", entry.scheme),
        told("server.address", entry.host),
        told("client.address", &entry.client.to_string()),
        told("network.protocol.version", entry.protocol.trim_start_matches("HTTP/").trim_end_matches(".0")),
        KeyValue::new("http.response.status_code", i64::from(entry.status)),
        KeyValue::new("http.request.body.size", i64::try_from(entry.bytes_in).unwrap_or(i64::MAX)),
        KeyValue::new("http.response.body.size", i64::try_from(entry.bytes_out).unwrap_or(i64::MAX)),
        KeyValue::new("tidegate.cold", entry.start.is_some()),
    ];
    // Of queries the access log tells as much as the file allows; spans tell none.
    span.attributes.extend((!query.is_empty()).then(|| told("url.query", "redacted")));
    for (name, value) in [
        ("tidegate.service", entry.service),
        ("tidegate.replica", entry.replica),
        ("tidegate.revision", entry.revision),
    ] {
        span.attributes.extend(value.map(|value| told(name, value)));
    }
    let failed = entry.reason.or((entry.status >= 500).then_some("status"));
    if let Some(reason) = entry.reason {
        span.attributes.push(told("error.type", reason));
    }
    if let Some(why) = failed.filter(|_| entry.status >= 500) {
        span.status = Status::error(why);
    }
    span
}

/// The start's own span: the same for all that waited for it, since a replica's id is never used again.
fn own(start: &Start<'_>) -> SpanData {
    let hash = Sha256::digest(start.replica.as_bytes());
    let mut trace = [0; 16];
    let mut id = [0; 8];
    trace.copy_from_slice(&hash[..16]);
    id.copy_from_slice(&hash[16..24]);
    let (trace, id) = (u128::from_be_bytes(trace), u64::from_be_bytes(id));
    let mut span = span(trace, id, "start", SpanKind::Internal, start.asked, start.ready);
    span.name = "replica start".into();
    span.attributes.push(KeyValue::new("tidegate.replica", start.replica.to_owned()));
    span
}

fn span(
    trace: u128,
    id: u64,
    name: &'static str,
    kind: SpanKind,
    start_time: SystemTime,
    end_time: SystemTime,
) -> SpanData {
    let (trace, id) = (TraceId::from(trace), SpanId::from(id));
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: kind,
        name: name.into(),
        start_time,
        end_time: end_time.max(start_time),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("tidegate").build(),
    }
}

/// The id of a span below another (a step of Steele's `SplitMix`): chance enough, and none is needed.
fn below(span: u64, number: usize) -> u64 {
    let mut x = span.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn entry() -> Entry<'static> {
        Entry {
            arrived: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
            id: 1,
            called: None,
            client: [192, 0, 2, 1].into(),
            method: "GET",
            host: "api.example.org",
            target: "/x?token=secret",
            protocol: "HTTP/1.1",
            scheme: "http",
            status: 200,
            reason: None,
            broken: false,
            ended_by: None,
            bytes_in: 0,
            bytes_out: 5,
            total: 50 * MS,
            queue: Some(20 * MS),
            start: Some(30 * MS),
            upstream: Some(10 * MS),
            service: Some("api"),
            replica: Some("api-1-2"),
            revision: None,
            retries: 1,
            trace: Some(7),
            agent: None,
            referer: None,
            redact: true,
        }
    }

    #[test]
    fn a_request_becomes_a_span_with_what_it_waited_for_below_it() {
        let context = Context { trace: 7, parent: Some(8), span: 9, sampled: true };
        let attempt = |replica: &'static str, begun: u32, ended: u32, failure: Option<&'static str>| {
            Attempt { replica, begun: begun * MS, ended: ended * MS, failure }
        };
        let attempts = [attempt("api-1-1", 20, 25, Some("reset")), attempt("api-1-2", 25, 30, None)];
        let arrived = entry().arrived;
        let start =
            Start { replica: "api-1-1", asked: arrived - 10 * MS, ready: arrived + 20 * MS, first: true };
        let spans = of(context, &entry(), &attempts, Some(&start));
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["GET api", "queue", "start", "replica start", "attempt", "attempt"]);
        assert_eq!((spans[0].parent_span_id, spans[0].parent_span_is_remote), (SpanId::from(8), true));
        for child in [1, 2, 4, 5].map(|index: usize| &spans[index]) {
            assert_eq!(child.parent_span_id, SpanId::from(9), "{}", child.name);
            assert_eq!(child.span_context.trace_id(), TraceId::from(7));
        }
        assert_eq!(spans[2].start_time, arrived, "of a start it is ours only since we came");
        assert_eq!(spans[2].links.links[0].span_context, spans[3].span_context);
        assert_ne!(spans[3].span_context.trace_id(), TraceId::from(7), "a start is nobody's alone");
        assert_eq!((&spans[4].status, &spans[5].status), (&Status::error("reset"), &Status::Unset));
        assert!(!format!("{spans:?}").contains("secret"));
        // Whoever comes later tells the same start no second time, and links to the same.
        let later = Start { first: false, ..start };
        let again = of(context, &entry(), &attempts, Some(&later));
        assert_eq!((again.len(), &again[2].links), (5, &spans[2].links));
    }
}
