//! A request as bytes: its head, the framing of its body, its trailers. Pure. How the body ends is [`Framing`]'s word alone;
//! a field that says so too is left out.

use http::{
    HeaderMap, HeaderName, Method, Uri,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE,
    },
};

/// The end of a chunked body without trailers.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How the end of a request's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// It has this many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// Appends a request's head.
pub(super) fn head(out: &mut Vec<u8>, method: &Method, target: &Uri, headers: &HeaderMap, framing: Framing) {
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    // An absolute target may have had a query and no path.
    let slash: &[u8] = if target.starts_with(['/', '*']) { b"" } else { b"/" };
    line(out, &[method.as_str().as_bytes(), b" ", slash, target.as_bytes(), b" HTTP/1.1"]);
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            field(out, name, value.as_bytes());
        }
    }
    match framing {
        // Where a body is usual, its absence is said (RFC 9110, 8.6).
        Framing::None if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => {
            line(out, &[b"content-length: 0"]);
        }
        Framing::None => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            line(out, &[]);
        }
        Framing::Chunked => line(out, &[b"transfer-encoding: chunked"]),
    }
    line(out, &[]);
}

/// Appends the line before a chunk of this many bytes.
pub(super) fn chunk_size(out: &mut Vec<u8>, length: usize) {
    let mut digits = [0; usize::BITS as usize / 4];
    let (mut at, mut rest) = (digits.len(), length);
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 0xf];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    line(out, &[&digits[at..]]);
}

/// Appends the end of a chunked body, with the trailers that may stand there (RFC 9110, 6.5.1).
pub(super) fn last_chunk(out: &mut Vec<u8>, trailers: &HeaderMap) {
    line(out, &[b"0"]);
    for (name, value) in trailers {
        if may_trail(name) {
            field(out, name, value.as_bytes());
        }
    }
    line(out, &[]);
}

/// Whether a field may come after the body: not what frames, routes, allows or describes it.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    const BEFORE: [HeaderName; 11] = [
        AUTHORIZATION,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    !BEFORE.contains(name)
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    line(out, &[name.as_str().as_bytes(), b": ", value]);
}

/// One reservation for the whole line, so that copying its parts is all that is left.
fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().map(|part| part.len()).sum::<usize>() + 2);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    fn check(method: Method, target: &str, framing: Framing, want: &str) {
        let fields = headers(&[("host", "a.org"), ("content-length", "7"), ("x-a", "1"), ("x-a", "2")]);
        let mut out = Vec::new();
        head(&mut out, &method, &target.parse().expect("a target"), &fields, framing);
        assert_eq!(String::from_utf8_lossy(&out), want);
    }

    #[test]
    fn the_body_ends_as_the_framing_says_and_nothing_else_does() {
        let fields = "host: a.org\r\nx-a: 1\r\nx-a: 2\r\n";
        for (method, framing, last) in [
            (Method::GET, Framing::None, ""),
            (Method::POST, Framing::None, "content-length: 0\r\n"),
            (Method::POST, Framing::Length(u64::MAX), "content-length: 18446744073709551615\r\n"),
            (Method::PUT, Framing::Length(0), "content-length: 0\r\n"),
            (Method::GET, Framing::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let line = format!("{method} /a?b HTTP/1.1\r\n");
            check(method, "/a?b", framing, &format!("{line}{fields}{last}\r\n"));
        }
    }

    #[test]
    fn targets_are_passed_on_as_they_are() {
        for target in ["/", "*", "/a%20b?c=d&e", "/?x"] {
            let mut out = Vec::new();
            let uri = target.parse().expect("a target");
            head(&mut out, &Method::OPTIONS, &uri, &HeaderMap::new(), Framing::None);
            assert_eq!(String::from_utf8_lossy(&out), format!("OPTIONS {target} HTTP/1.1\r\n\r\n"));
        }
    }

    #[test]
    fn a_target_without_a_path_has_the_root() {
        let mut out = Vec::new();
        let uri = "http://a.org?x".parse::<Uri>().expect("a target");
        let target = uri.path_and_query().cloned().expect("a query").into();
        head(&mut out, &Method::GET, &target, &HeaderMap::new(), Framing::None);
        assert_eq!(String::from_utf8_lossy(&out), "GET /?x HTTP/1.1\r\n\r\n");
    }

    #[test]
    fn trailers_neither_frame_nor_route() {
        let mut out = Vec::new();
        last_chunk(&mut out, &headers(&[("x-sum", "1"), ("content-length", "5"), ("host", "b.org")]));
        assert_eq!(String::from_utf8_lossy(&out), "0\r\nx-sum: 1\r\n\r\n");
    }

    proptest::proptest! {
        #[test]
        fn numbers_are_written_as_others_write_them(number: u64, length: usize) {
            let mut out = Vec::new();
            decimal(&mut out, number);
            chunk_size(&mut out, length);
            proptest::prop_assert_eq!(String::from_utf8_lossy(&out), format!("{number}{length:x}\r\n"));
        }
    }
}
