//! A response's head: from a replica's bytes, strict where two readers could see two responses (see [`Bad`]); and as the bytes
//! that a client gets. Pure.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
};
use hyper::ext::ReasonPhrase;
use memchr::memchr_iter;

use super::{Bad, encode, fields, framing::Framing, request};

const START: &[u8] = b"HTTP/1.";

/// A response's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// The words behind the status, where they are not the usual ones.
    pub(crate) reason: Option<ReasonPhrase>,
    pub(crate) headers: HeaderMap,
    /// How its body ends.
    pub(crate) framing: Framing,
    /// Whether the connection may carry another exchange.
    pub(crate) keep_alive: bool,
}

/// Takes a whole head out of what was read; `None` if there is none yet.
pub(crate) fn take(read: &mut BytesMut) -> Result<Option<Bytes>, Bad> {
    let begun = read.len().min(START.len());
    if read[..begun] != START[..begun] {
        return Err(Bad::Head(httparse::Error::Version));
    }
    let end = fields::end(read);
    match end {
        Some(end) if end <= fields::MOST_BYTES => {
            Ok(Some(if end == read.len() { std::mem::take(read) } else { read.split_to(end) }.freeze()))
        }
        Some(_) => Err(Bad::TooLarge),
        // Without this, lines that end with LF alone would be waited for until the deadline.
        None if memchr_iter(b'\n', read).any(|at| at == 0 || read[at - 1] != b'\r') => Err(Bad::BareLineFeed),
        None if read.len() >= fields::MOST_BYTES => Err(Bad::TooLarge),
        None => Ok(None),
    }
}

/// Reads a head that was [taken](take). `to_head`: it answers a HEAD, so no body follows.
pub(crate) fn parse(section: &Bytes, to_head: bool) -> Result<Head, Bad> {
    let mut found = [const { std::mem::MaybeUninit::uninit() }; fields::MOST];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, section, &mut found)
        .map_err(Bad::Head)?;
    if parsed != httparse::Status::Complete(section.len()) {
        return Err(Bad::BareLineFeed);
    }
    let (Some(code), Some(version)) = (response.code, response.version) else {
        return Err(Bad::Head(httparse::Error::Status));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Bad::Head(httparse::Error::Status))?;
    let mut named = Named::default();
    let mut headers = fields::map(section, response.headers, |name| {
        named.length |= *name == CONTENT_LENGTH;
        named.coding |= *name == TRANSFER_ENCODING;
        named.connection |= *name == CONNECTION;
    })?;
    let framing = framing(&mut headers, named, status, version, to_head)?;
    let usual = status.canonical_reason().unwrap_or_default();
    let reason = response.reason.filter(|reason| *reason != usual);
    Ok(Head {
        status,
        reason: reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok()),
        keep_alive: if named.connection { keeps_alive(&headers, version) } else { version > 0 },
        headers,
        framing,
    })
}

/// Which of the fields that frame a response it has.
#[derive(Debug, Default, Clone, Copy)]
struct Named {
    length: bool,
    coding: bool,
    connection: bool,
}

/// How a response goes to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// How the body ends.
    pub(crate) framing: Framing,
    /// Whether the fields say how long the body would be, although none comes: as they have it.
    pub(crate) keeps_length: bool,
}

impl Form {
    /// The form of a response. `exact`: its body's length, where that is known.
    pub(crate) fn of(status: StatusCode, to_head: bool, version: Version, exact: Option<u64>) -> Self {
        let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
        if to_head || bodiless || status == StatusCode::NOT_MODIFIED {
            return Self { framing: Framing::None, keeps_length: to_head && !bodiless };
        }
        let framing = match exact {
            Some(length) => Framing::Length(length),
            None if version == Version::HTTP_11 => Framing::Chunked,
            None => Framing::UntilClose,
        };
        Self { framing, keeps_length: false }
    }
}

/// What a response says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    /// What its version says by itself, or its own fields.
    Usual,
    /// It goes on, although the client speaks HTTP/1.0.
    Kept,
    /// It ends.
    Closed,
}

/// Appends a response's head. `date` is for one that has none.
pub(crate) fn write(
    out: &mut Vec<u8>,
    (status, reason): (StatusCode, Option<&ReasonPhrase>),
    headers: &HeaderMap,
    form: Form,
    connection: Connection,
    date: &[u8],
) {
    status_line(out, status, reason);
    let mut dated = false;
    for (name, value) in headers {
        let ours = *name == TRANSFER_ENCODING
            || (*name == CONTENT_LENGTH && !form.keeps_length)
            || (*name == CONNECTION && connection == Connection::Closed);
        dated |= *name == DATE;
        if !ours {
            encode::field(out, name, value.as_bytes());
        }
    }
    match form.framing {
        Framing::Length(length) => encode::length(out, length),
        Framing::Chunked => encode::line(out, &[b"transfer-encoding: chunked"]),
        Framing::None | Framing::UntilClose => {}
    }
    match connection {
        Connection::Usual => {}
        Connection::Kept => encode::line(out, &[b"connection: keep-alive"]),
        Connection::Closed => encode::line(out, &[b"connection: close"]),
    }
    if !dated {
        encode::line(out, &[b"date: ", date]);
    }
    encode::line(out, &[]);
}

/// Appends an interim response, which has neither a body nor a word about the connection (RFC 9110, 15.2).
pub(crate) fn interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    status_line(out, status, None);
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            encode::field(out, name, value.as_bytes());
        }
    }
    encode::line(out, &[]);
}

fn status_line(out: &mut Vec<u8>, status: StatusCode, reason: Option<&ReasonPhrase>) {
    let usual = || status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = reason.map_or_else(usual, ReasonPhrase::as_bytes);
    encode::line(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", reason]);
}

/// RFC 9112, 6.3, without its leniency.
fn framing(
    headers: &mut HeaderMap,
    named: Named,
    status: StatusCode,
    version: u8,
    to_head: bool,
) -> Result<Framing, Bad> {
    let length = if named.length { length(headers)? } else { None };
    let coding = if named.coding { headers.get(TRANSFER_ENCODING) } else { None };
    if let Some(coding) = coding {
        let once = headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_none();
        if version == 0 || !once || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Bad::Coding);
        }
        if length.is_some() {
            return Err(Bad::TwoFramings);
        }
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match length {
        _ if to_head || bodiless || status.is_informational() => Framing::None,
        _ if coding.is_some() => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    })
}

/// One number, however often it is said (RFC 9110, 8.6); it is said once from here on.
fn length(headers: &mut HeaderMap) -> Result<Option<u64>, Bad> {
    let mut said =
        headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let Some(first) = said.next() else { return Ok(None) };
    let (length, mut again) = (request::number(first.trim_ascii())?, false);
    for other in said {
        again = true;
        if request::number(other.trim_ascii())? != length {
            return Err(Bad::Length);
        }
    }
    if again {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(Some(length))
}

fn keeps_alive(headers: &HeaderMap, version: u8) -> bool {
    let says = |word| fields::says(headers, CONNECTION, word);
    if version == 0 { says(b"keep-alive") && !says(b"close") } else { !says(b"close") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, to_head: bool) -> Result<Option<Head>, Bad> {
        let mut read = BytesMut::from(text);
        take(&mut read)?.map(|section| parse(&section, to_head)).transpose()
    }

    /// What is wrong with a response of this status line and these fields.
    fn bad(fields: &str) -> Option<Bad> {
        read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), false).err()
    }

    #[test]
    fn where_a_body_ends_is_clear() {
        for (text, to_head, framing, keep_alive) in [
            ("1.1 200 OK\r\ncontent-length: 5", false, Framing::Length(5), true),
            ("1.1 200 OK\r\ncontent-length: 5", true, Framing::None, true),
            ("1.1 204 No Content\r\nx: y", false, Framing::None, true),
            ("1.1 304 Not Modified\r\ncontent-length: 5", false, Framing::None, true),
            ("1.1 200 OK\r\ntransfer-encoding: Chunked", false, Framing::Chunked, true),
            ("1.1 200 OK\r\nx: y", false, Framing::UntilClose, true),
            ("1.1 200 \r\ncontent-length: 0\r\nconnection: x, Close", false, Framing::Length(0), false),
            ("1.0 200 OK\r\ncontent-length: 0", false, Framing::Length(0), false),
            ("1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive", false, Framing::Length(0), true),
            ("1.1 101 Switching Protocols\r\nupgrade: x", false, Framing::None, true),
        ] {
            let head =
                read(&format!("HTTP/{text}\r\n\r\n"), to_head).expect("a good head").expect("a whole one");
            assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (fields, want) in [
            ("content-length: 5\r\ncontent-length: 6", Bad::Length),
            ("content-length: 5, 6", Bad::Length),
            ("content-length: 5,", Bad::Length),
            ("content-length: +5", Bad::Length),
            ("content-length: -5", Bad::Length),
            ("content-length: 0x5", Bad::Length),
            ("content-length: ", Bad::Length),
            ("content-length: 18446744073709551616", Bad::Length),
            ("content-length: 5\r\ntransfer-encoding: chunked", Bad::TwoFramings),
            ("transfer-encoding: gzip, chunked", Bad::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", Bad::Coding),
            ("transfer-encoding: identity", Bad::Coding),
            ("transfer-encoding: xchunked", Bad::Coding),
            ("x: y\nz: 1", Bad::BareLineFeed),
            ("x: y\n", Bad::BareLineFeed),
            ("x: y\r\n folded", Bad::Head(httparse::Error::HeaderName)),
            ("x : y", Bad::Head(httparse::Error::HeaderName)),
            (": y", Bad::Head(httparse::Error::HeaderName)),
            ("x: a\u{0}b", Bad::Head(httparse::Error::HeaderValue)),
            ("x: a\rb", Bad::Head(httparse::Error::HeaderValue)),
        ] {
            assert_eq!(bad(fields), Some(want), "{fields:?}");
        }
        for text in ["SSH-2.0-x\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "\r\nHTTP/1.1 200 OK\r\n\r\n"] {
            assert!(read(text, false).is_err(), "{text:?}");
        }
        let old = read("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false);
        assert_eq!(old.err(), Some(Bad::Coding));
        assert_eq!(read("HTTP/1.1 200 OK\nx: y\n", false).err(), Some(Bad::BareLineFeed));
    }

    #[test]
    fn a_length_that_is_said_twice_is_passed_on_once() {
        for fields in ["content-length: 5, 5", "content-length: 5\r\ncontent-length: 5"] {
            let head = read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"), false);
            let head = head.expect("a good head").expect("a whole one");
            let said: Vec<_> =
                head.headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!((head.framing, said), (Framing::Length(5), vec![&b"5"[..]]), "{fields}");
        }
    }

    #[test]
    fn heads_have_an_end() {
        assert_eq!(bad(&format!("x: {}", "y".repeat(fields::MOST_BYTES))), Some(Bad::TooLarge));
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(fields::MOST_BYTES));
        assert_eq!(read(&endless, false).err(), Some(Bad::TooLarge));
        let many = vec!["x: y"; fields::MOST + 1].join("\r\n");
        assert_eq!(bad(&many), Some(Bad::Head(httparse::Error::TooManyHeaders)));
        assert_eq!(bad(&vec!["x: y"; fields::MOST].join("\r\n")), None);
    }

    #[test]
    fn only_unusual_words_are_kept() {
        let reason = |text| read(text, false).expect("a good head").expect("a whole one").reason;
        assert_eq!(reason("HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(reason("HTTP/1.1 200 Fine\r\n\r\n"), Some(ReasonPhrase::from_static(b"Fine")));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_bring_it_down(text in "(HTTP/1\\.[01] [0-9]{3} ?|)[ -~\r\n\u{0}\u{80}]{0,80}(\r\n\r\n|)") {
            drop(read(&text, false));
        }

        #[test]
        fn a_head_that_comes_in_pieces_is_the_same_head(cut in 0_usize..60) {
            let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello";
            let mut read = BytesMut::from(&whole[..cut.min(whole.len())]);
            let early = take(&mut read).expect("the beginning of a good head");
            proptest::prop_assert_eq!(early.is_some(), cut >= whole.len() - 5);
            if early.is_none() {
                read.extend_from_slice(&whole.as_bytes()[cut..]);
                proptest::prop_assert!(take(&mut read).expect("a good head").is_some());
            }
            proptest::prop_assert!(b"hello".starts_with(&read));
        }
    }
}
