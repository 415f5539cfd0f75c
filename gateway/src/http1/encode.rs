//! Lines, chunks and trailers as bytes, and a request's head. Pure. How its body ends is [`Framing`]'s word alone; a field that
//! says so too is left out.

use http::{HeaderMap, HeaderName};

/// The end of a chunked body without trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line before a chunk of this many bytes.
pub(crate) fn chunk_size(out: &mut Vec<u8>, length: usize) {
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
pub(crate) fn last_chunk(out: &mut Vec<u8>, trailers: &HeaderMap) {
    line(out, &[b"0"]);
    for (name, value) in trailers {
        if may_trail(name) {
            field(out, name, value.as_bytes());
        }
    }
    line(out, &[]);
}

/// Whether a field may come after the body: not what frames, routes, allows or describes it, nor what says who asks. There are
/// servers that take what comes late for what came first.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    !matches!(
        name.as_str(),
        "authorization"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-range"
            | "content-type"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-proto"
            | "x-forwarded-user"
            | "x-real-ip"
    )
}

/// Appends a field's line.
#[inline]
pub(crate) fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    line(out, &[name.as_str().as_bytes(), b": ", value]);
}

/// Appends a line: one reservation for all of it, so that copying its parts is all that is left.
#[inline]
pub(crate) fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.reserve(parts.iter().map(|part| part.len()).sum::<usize>() + 2);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the field that says a body's length.
pub(crate) fn length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    decimal(out, length);
    line(out, &[]);
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
    use super::{super::fields, *};

    #[test]
    fn trailers_neither_frame_nor_route_nor_name_a_client() {
        let mut out = Vec::new();
        last_chunk(
            &mut out,
            &fields::of(&[("x-sum", "1"), ("content-length", "5"), ("host", "b.org"), ("x-real-ip", "::1")]),
        );
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
