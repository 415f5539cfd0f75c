//! A request as one line of text: JSON, or the combined format that most log readers know. Pure.
//! Holds: no header but `User-Agent` and `Referer` is told, and of queries only the names unless the file says otherwise;
//! what clients send cannot end a line or forge another one.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::Write as _,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tidegate_config::model::LogFormat;

/// What is told of a request. What was never known is left out.
#[derive(Debug, Clone)]
pub struct Entry<'e> {
    /// When it arrived.
    pub arrived: SystemTime,
    /// By which a refusal names it, unless it is called something.
    pub id: u64,
    /// What it is called in `X-Request-Id`.
    pub called: Option<&'e str>,
    /// Who asked.
    pub client: IpAddr,
    /// As in `GET`.
    pub method: &'e str,
    /// The host that it named.
    pub host: &'e str,
    /// Path and query, as they came.
    pub target: &'e str,
    /// As in `HTTP/1.1`.
    pub protocol: &'static str,
    /// `http`, or `https` over TLS.
    pub scheme: &'static str,
    /// What it was answered with.
    pub status: u16,
    /// Why, where we answered ourselves.
    pub reason: Option<&'static str>,
    /// Whether the response broke off.
    pub broken: bool,
    /// Who ended the response before its end: `replica`, `client` or `deadline`.
    pub ended_by: Option<&'static str>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// From arrival to the end of both bodies.
    pub total: Duration,
    /// Waiting in the gate.
    pub queue: Option<Duration>,
    /// The start that it waited for.
    pub start: Option<Duration>,
    /// From the first attempt to the response's head.
    pub upstream: Option<Duration>,
    /// Whose it was.
    pub service: Option<&'e str>,
    /// Which replica answered.
    pub replica: Option<&'e str>,
    /// Of which revision.
    pub revision: Option<&'e str>,
    /// Attempts after the first.
    pub retries: u32,
    /// The trace that it is part of.
    pub trace: Option<u128>,
    /// The program that asked.
    pub agent: Option<&'e [u8]>,
    /// Where it found the address.
    pub referer: Option<&'e [u8]>,
    /// Whether values of queries are hidden.
    pub redact: bool,
}

/// Writes one line, its end included.
pub fn write(format: LogFormat, entry: &Entry<'_>, text: &mut Vec<u8>) {
    match format {
        LogFormat::Json => json(entry, text),
        LogFormat::Combined => combined(entry, text),
    }
    text.push(b'\n');
}

#[derive(Serialize)]
struct Json<'e> {
    time: String,
    id: Cow<'e, str>,
    client: IpAddr,
    method: &'e str,
    host: &'e str,
    path: Cow<'e, str>,
    protocol: &'static str,
    scheme: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    broken: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    bytes_in: u64,
    bytes_out: u64,
    total_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'e str>,
    cold: bool,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'e, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<Cow<'e, str>>,
}

fn json(entry: &Entry<'_>, text: &mut Vec<u8>) {
    let line = Json {
        time: humantime::format_rfc3339_micros(entry.arrived).to_string(),
        id: entry.called.map_or_else(|| Cow::Owned(format!("{:016x}", entry.id)), Cow::Borrowed),
        client: entry.client,
        method: entry.method,
        host: entry.host,
        path: path(entry.target, entry.redact),
        protocol: entry.protocol,
        scheme: entry.scheme,
        status: entry.status,
        reason: entry.reason,
        broken: entry.broken,
        ended_by: entry.ended_by,
        bytes_in: entry.bytes_in,
        bytes_out: entry.bytes_out,
        total_ms: ms(entry.total),
        queue_ms: entry.queue.map(ms),
        start_ms: entry.start.map(ms),
        upstream_ms: entry.upstream.map(ms),
        service: entry.service,
        replica: entry.replica,
        revision: entry.revision,
        cold: entry.start.is_some(),
        retries: entry.retries,
        trace_id: entry.trace.map(|trace| format!("{trace:032x}")),
        user_agent: entry.agent.map(String::from_utf8_lossy),
        referer: entry.referer.map(|referer| url(referer, entry.redact)),
    };
    serde_json::to_writer(&mut *text, &line).expect("plain values, written to memory");
}

/// Milliseconds to the microsecond.
pub(super) fn ms(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for three centuries of microseconds")]
    let micros = duration.as_micros() as f64;
    micros / 1e3
}

/// `client - - [time] "request line" status bytes "referer" "agent"`, as Apache and nginx write it.
fn combined(entry: &Entry<'_>, text: &mut Vec<u8>) {
    let when = stamp(entry.arrived);
    let mut line = String::with_capacity(256);
    let (client, path) = (entry.client, path(entry.target, entry.redact));
    write!(line, "{client} - - [{when}] \"").expect("a string takes everything");
    quoted(&mut line, entry.method);
    line.push(' ');
    quoted(&mut line, &path);
    write!(line, " {}\" {} {} \"", entry.protocol, entry.status, entry.bytes_out).expect("as above");
    quoted(&mut line, &entry.referer.map_or("-".into(), |referer| url(referer, entry.redact)));
    line.push_str("\" \"");
    quoted(&mut line, &entry.agent.map_or("-".into(), String::from_utf8_lossy));
    line.push('"');
    text.write_all(line.as_bytes()).expect("memory takes everything");
}

/// What would end a quoted field, or the line, as `\xHH`.
fn quoted(line: &mut String, field: &str) {
    for c in field.chars() {
        if c == '"' || c == '\\' || c.is_control() {
            write!(line, "\\x{:02X}", u32::from(c)).expect("a string takes everything");
        } else {
            line.push(c);
        }
    }
}

/// As in `25/Nov/2026:22:40:01 +0000`.
fn stamp(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let iso = humantime::format_rfc3339_seconds(time).to_string();
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    format!("{}/{}/{}:{} +0000", part(8, 10), month.unwrap_or(&"???"), part(0, 4), part(11, 19))
}

/// A target without the values of its query: they may be passwords, tokens or names.
fn path(target: &str, redact: bool) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?').filter(|_| redact) else { return target.into() };
    let mut told = String::with_capacity(target.len());
    told.push_str(path);
    for (index, pair) in query.split('&').enumerate() {
        told.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) => {
                told.push_str(name);
                told.push_str("=*");
            }
            None if pair.is_empty() => {}
            None => told.push('*'),
        }
    }
    told.into()
}

/// The same for an address that a client sends. User and password in it are nobody's business either.
fn url(text: &[u8], redact: bool) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    let without_fragment = text.split('#').next().unwrap_or_default();
    let told = path(without_fragment, redact);
    match told.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('/')?))) {
        Some((scheme, (host, rest))) if host.contains('@') => {
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{rest}").into()
        }
        _ => told.into_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            arrived: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_646_401_000_250),
            id: 7,
            called: None,
            client: [192, 0, 2, 1].into(),
            method: "GET",
            host: "api.example.org",
            target: "/x?token=secret&page=2&bare",
            protocol: "HTTP/1.1",
            scheme: "https",
            status: 200,
            reason: None,
            broken: false,
            ended_by: None,
            bytes_in: 0,
            bytes_out: 5,
            total: Duration::from_micros(1500),
            queue: Some(Duration::ZERO),
            start: None,
            upstream: Some(Duration::from_micros(1250)),
            service: Some("api"),
            replica: Some("api-1-1"),
            revision: Some("abc"),
            retries: 0,
            trace: Some(1),
            agent: Some(b"curl/8"),
            referer: Some(b"https://me:pw@example.org/from?a=b#c"),
            redact: true,
        }
    }

    fn said(format: LogFormat, entry: &Entry<'_>) -> String {
        let mut text = Vec::new();
        write(format, entry, &mut text);
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn a_line_of_json_has_all_that_is_known() {
        let text = said(LogFormat::Json, &entry());
        assert_eq!(
            text,
            concat!(
                r#"{"time":"2026-11-25T22:40:01.000250Z","id":"0000000000000007","client":"192.0.2.1","#,
                r#""method":"GET","host":"api.example.org","path":"/x?token=*&page=*&*","protocol":"HTTP/1.1","#,
                r#""scheme":"https","status":200,"bytes_in":0,"bytes_out":5,"total_ms":1.5,"queue_ms":0.0,"upstream_ms":1.25,"#,
                r#""service":"api","replica":"api-1-1","revision":"abc","cold":false,"retries":0,"#,
                r#""trace_id":"00000000000000000000000000000001","user_agent":"curl/8","#,
                r#""referer":"https://example.org/from?a=*"}"#,
                "\n"
            )
        );
        let refused = Entry { status: 503, reason: Some("queue_full"), replica: None, ..entry() };
        let text = said(LogFormat::Json, &refused);
        assert!(
            text.contains(r#""status":503,"reason":"queue_full""#) && !text.contains("replica"),
            "{text}"
        );
    }

    #[test]
    fn the_combined_format_is_the_usual_one() {
        assert_eq!(
            said(LogFormat::Combined, &entry()),
            "192.0.2.1 - - [25/Nov/2026:22:40:01 +0000] \"GET /x?token=*&page=*&* HTTP/1.1\" 200 5 \
             \"https://example.org/from?a=*\" \"curl/8\"\n"
        );
    }

    #[test]
    fn nothing_that_a_client_sends_ends_a_line() {
        let forged = Entry { agent: Some(b"x\"\n1.1.1.1 - -\\\xff"), target: "/\"", ..entry() };
        for format in [LogFormat::Json, LogFormat::Combined] {
            let text = said(format, &forged);
            assert_eq!(text.matches('\n').count(), 1, "{text}");
        }
        assert!(said(LogFormat::Combined, &forged).contains(r#""x\x22\x0A1.1.1.1 - -\x5C"#));
    }

    #[test]
    fn values_of_queries_are_told_only_where_that_is_wanted() {
        for (target, told) in [
            ("/", "/"),
            ("/?", "/?"),
            ("/?a", "/?*"),
            ("/?a=", "/?a=*"),
            ("/?a=b=c&d", "/?a=*&*"),
            ("*", "*"),
        ] {
            assert_eq!(path(target, true), told);
            assert_eq!(path(target, false), target);
        }
    }
}
