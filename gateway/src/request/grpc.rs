//! What gRPC means by what HTTP says: its status for ours, refusals as its clients read them (HTTP 200, "trailers only"), and
//! how long a call may take. Pure. Called on the request path for calls alone; absent: bodies.

use std::{fmt::Write, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use super::refusal::Refusal;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// When a client may try again, in milliseconds.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const REASON: HeaderName = HeaderName::from_static("x-tidegate-reason");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-tidegate-request-id");
const DETAIL: HeaderName = HeaderName::from_static("x-tidegate-detail");

/// A call's status (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u8);

/// Their names by number: the closed list of the metric's labels.
pub(crate) const NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

impl Status {
    pub(crate) const CANCELLED: Self = Self(1);
    const UNKNOWN: Self = Self(2);
    const DEADLINE_EXCEEDED: Self = Self(4);
    const PERMISSION_DENIED: Self = Self(7);
    const RESOURCE_EXHAUSTED: Self = Self(8);
    const UNIMPLEMENTED: Self = Self(12);
    const INTERNAL: Self = Self(13);
    pub(crate) const UNAVAILABLE: Self = Self(14);
    const UNAUTHENTICATED: Self = Self(16);

    /// What a status of HTTP means to a caller of gRPC.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 500 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 | 421 => Self::UNIMPLEMENTED,
            408 | 504 => Self::DEADLINE_EXCEEDED,
            413 | 414 | 429 | 431 => Self::RESOURCE_EXHAUSTED,
            499 => Self::CANCELLED,
            502 | 503 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// What a replica says: in its trailers, or in its head if that is all.
    pub(crate) fn said(fields: &HeaderMap) -> Option<Self> {
        let said = fields.get(STATUS)?.to_str().ok().and_then(|text| text.parse().ok());
        Some(said.filter(|number| usize::from(*number) < NAMES.len()).map_or(Self::UNKNOWN, Self))
    }

    /// Its place in [`NAMES`].
    pub(crate) fn number(self) -> u8 {
        self.0
    }
}

/// Whether a request is a call. gRPC's dialect for browsers is not meant: there, refusals are HTTP's.
pub(crate) fn is_call(fields: &HeaderMap) -> bool {
    let kind = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = kind.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the caller waits, if it says so.
pub(crate) fn timeout(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(TIMEOUT)?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let valid = (1..=8).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| valid)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Takes from the caller's time what the call has spent with us, so that its replica knows how much is left.
pub(crate) fn spend(fields: &mut HeaderMap, waited: Duration) {
    if waited < Duration::from_millis(1) {
        return;
    }
    if let Some(whole) = timeout(fields) {
        let left = whole.saturating_sub(waited).as_millis().max(1);
        // Eight digits at most: in seconds what is too long for milliseconds.
        let text = if left < 100_000_000 { format!("{left}m") } else { format!("{}S", left / 1000) };
        if let Ok(value) = HeaderValue::try_from(text) {
            fields.insert(TIMEOUT, value);
        }
    }
}

/// Makes the fields of a refusal the only ones of a response: status, message and our problem.
pub(crate) fn refuse(fields: &mut HeaderMap, refusal: &Refusal, request_id: &str, detail: Option<&str>) {
    let pushback = fields.remove(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    tell(fields, refusal);
    let mut set = |name, text: &str| {
        if let Ok(value) = HeaderValue::try_from(encoded(text)) {
            fields.insert(name, value);
        }
    };
    set(REASON, refusal.reason());
    set(REQUEST_ID, request_id);
    if let Some(detail) = detail {
        set(DETAIL, detail);
    }
    if let Some(seconds) = pushback {
        fields.insert(PUSHBACK, HeaderValue::from(seconds.saturating_mul(1000)));
    }
}

/// The trailers of a call that we end.
pub(crate) fn ended(refusal: &Refusal) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(2);
    tell(&mut fields, refusal);
    fields
}

fn tell(fields: &mut HeaderMap, refusal: &Refusal) {
    fields.insert(STATUS, HeaderValue::from(u16::from(Status::of(refusal.status()).0)));
    if let Ok(message) = HeaderValue::try_from(encoded(&refusal.to_string())) {
        fields.insert(MESSAGE, message);
    }
}

/// Text as `grpc-message` carries it: what does not print, and `%`, in percent.
fn encoded(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => all.push(char::from(byte)),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(all, "%{other:02X}");
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn calls_are_told_by_their_content() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_call(&fields(&CONTENT_TYPE, kind)), call, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_have_eight_digits_and_a_unit() {
        let ms = Duration::from_millis;
        for (text, want) in [
            ("100m", Some(ms(100))),
            ("1S", Some(ms(1000))),
            ("2M", Some(ms(120_000))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("1500u", Some(Duration::from_micros(1500))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("-5m", None),
            ("+5m", None),
            ("123456789m", None),
            ("1é", None),
        ] {
            assert_eq!(
                timeout(&HeaderMap::from_iter([(
                    TIMEOUT,
                    HeaderValue::from_bytes(text.as_bytes()).expect("bytes")
                )])),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_spent_waiting_is_not_the_replicas_to_spend() {
        for (said, waited, left) in [
            ("5S", 2000, "3000m"),
            ("5S", 0, "5S"),
            ("1S", 2000, "1m"),
            ("99999999S", 1000, "99999998S"),
            ("soon", 1000, "soon"),
        ] {
            let mut fields = fields(&TIMEOUT, said);
            spend(&mut fields, Duration::from_millis(waited));
            assert_eq!(fields[TIMEOUT], left, "{said} after {waited} ms");
        }
    }

    #[test]
    fn refusals_have_the_status_that_callers_know() {
        for (status, want) in [
            (400, "internal"),
            (401, "unauthenticated"),
            (403, "permission_denied"),
            (404, "unimplemented"),
            (413, "resource_exhausted"),
            (429, "resource_exhausted"),
            (431, "resource_exhausted"),
            (500, "internal"),
            (502, "unavailable"),
            (503, "unavailable"),
            (504, "deadline_exceeded"),
            (418, "unknown"),
        ] {
            let status = Status::of(StatusCode::from_u16(status).expect("a status"));
            assert_eq!(NAMES[usize::from(status.0)], want);
        }
        let mut refused = fields(&RETRY_AFTER, "5");
        let refusal = Refusal::Pulling { cause: "50 %".into() };
        refuse(&mut refused, &refusal, "id-1", refusal.cause());
        let text = |name: &HeaderName| refused.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((text(&STATUS), text(&REASON)), (Some("14"), Some("pulling")));
        assert_eq!(
            (text(&DETAIL), text(&PUSHBACK), text(&RETRY_AFTER)),
            (Some("50 %25"), Some("5000"), None)
        );
    }

    #[test]
    fn what_a_replica_says_is_of_the_closed_list() {
        for (said, want) in [("0", "ok"), ("14", "unavailable"), ("17", "unknown"), ("x", "unknown")] {
            let status = Status::said(&fields(&STATUS, said)).expect("a status");
            assert_eq!(NAMES[usize::from(status.0)], want, "{said}");
        }
        assert_eq!(Status::said(&HeaderMap::new()), None);
    }
}
