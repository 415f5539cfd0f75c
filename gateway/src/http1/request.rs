//! A request's head, from a client's bytes and as those that a replica gets. Pure. Lines may end with LF alone (RFC 9112, 2.2), since nothing of how a head was written
//! gets to anybody else; where its body ends is said once and clearly, or it is refused.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE},
};
use memchr::{memchr, memchr_iter};

use super::{Bad, encode, fields, framing::Framing};

/// Fields that we will add, for which the map has room from the start.
const OURS: usize = 5;

/// A request's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// How its body ends.
    pub(crate) framing: Framing,
    /// Whether the connection may carry another request.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for `100` before it sends the body.
    pub(crate) expects: bool,
    /// Whether trailers are of use to the client.
    pub(crate) trailers: bool,
    /// Whether it names another protocol.
    pub(crate) upgrades: bool,
}

/// What a head may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes, the empty lines before it included.
    pub(crate) bytes: usize,
    /// Fields.
    pub(crate) fields: usize,
}

/// Finds the end of a head that comes in pieces, and looks at each byte once.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// How much has been looked at.
    seen: usize,
    /// Bytes of empty lines before the head.
    skipped: usize,
    /// The first line has been looked at.
    lined: bool,
}

impl Search {
    /// Takes a whole head out of what was read; `None` if there is none yet.
    pub(crate) fn take(&mut self, read: &mut BytesMut, limits: Limits) -> Result<Option<Bytes>, Bad> {
        if self.seen == 0 {
            let empty = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            read.advance(empty);
            self.skipped += empty;
            if read
                .first()
                .is_some_and(|first| !first.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(first))
            {
                return Err(Bad::Alien);
            }
        }
        let most = limits.bytes.saturating_sub(self.skipped);
        match end(read, self.seen) {
            Some(end) if end <= most => {
                *self = Self::default();
                Ok(Some(if end == read.len() { std::mem::take(read) } else { read.split_to(end) }.freeze()))
            }
            None if read.len() < most => {
                self.lined = self.lined || has_first_line(read, self.seen)?;
                // What ends the head may have begun.
                self.seen = read.len().saturating_sub(2);
                Ok(None)
            }
            Some(_) | None => Err(Bad::TooLarge),
        }
    }
}

/// Whether the first line ends behind `seen`. One that is none of HTTP/1 is refused: nobody need wait for the rest of such a head.
fn has_first_line(read: &[u8], seen: usize) -> Result<bool, Bad> {
    let Some(end) = memchr(b'\n', &read[seen..]).map(|at| seen + at) else { return Ok(false) };
    let line = read[..end].trim_ascii_end();
    let version = line.len().checked_sub(b" HTTP/1.1".len()).map(|at| &line[at..]);
    if version.is_some_and(|version| version.starts_with(b" HTTP/1.")) { Ok(true) } else { Err(Bad::Alien) }
}

/// Behind the first empty line, from `seen` on.
fn end(read: &[u8], seen: usize) -> Option<usize> {
    memchr_iter(b'\n', &read[seen..]).map(|at| seen + at + 1).find_map(|next| match &read[next..] {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// Reads a head that was [taken](Search::take).
pub(crate) fn parse(section: &Bytes, limits: Limits) -> Result<Head, Bad> {
    let mut few = [const { MaybeUninit::uninit() }; fields::MOST];
    let mut many = Vec::new();
    let found: &mut [MaybeUninit<httparse::Header<'_>>] = if limits.fields <= few.len() {
        &mut few[..limits.fields]
    } else {
        many.resize_with(limits.fields, MaybeUninit::uninit);
        &mut many
    };
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(section, found).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Bad::TooLarge,
        error => Bad::Head(error),
    })?;
    let (Some(method), Some(path), Some(version), true) =
        (request.method, request.path, request.version, parsed == httparse::Status::Complete(section.len()))
    else {
        return Err(Bad::Head(httparse::Error::NewLine));
    };
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let target = section.slice_ref(path.as_bytes());
    let mut said = Said::new(version, request.headers.len());
    for field in &*request.headers {
        let (name, value) = fields::one(section, field)?;
        said.field(name, value)?;
    }
    let (framing, keep_alive) = said.framing()?;
    Ok(Head {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| Bad::Head(httparse::Error::Token))?,
        target: rooted(Uri::from_maybe_shared(target).map_err(|_| Bad::Target)?)?,
        version,
        framing,
        keep_alive,
        expects: said.expects && version == Version::HTTP_11 && framing != Framing::None,
        trailers: said.trailers,
        upgrades: said.upgrades,
        headers: said.headers,
    })
}

/// An absolute target may have a query and no path; it is for the root (RFC 9110, 4.2.3).
fn rooted(target: Uri) -> Result<Uri, Bad> {
    match target.path_and_query() {
        Some(query) if query.as_str().starts_with('?') => {
            let path = format!("/{}", query.as_str());
            let mut parts = target.into_parts();
            parts.path_and_query = Some(path.parse().map_err(|_| Bad::Target)?);
            Uri::from_parts(parts).map_err(|_| Bad::Target)
        }
        Some(_) | None => Ok(target),
    }
}

/// What the fields say of the message and its connection.
struct Said {
    version: Version,
    headers: HeaderMap,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
    trailers: bool,
    upgrades: bool,
}

impl Said {
    fn new(version: Version, fields: usize) -> Self {
        Self {
            version,
            headers: HeaderMap::with_capacity(fields + OURS),
            length: None,
            chunked: false,
            close: false,
            keep_alive: false,
            expects: false,
            trailers: false,
            upgrades: false,
        }
    }

    fn field(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Bad> {
        let text = value.as_bytes();
        if name == CONTENT_LENGTH {
            let length = number(text)?;
            if self.length.replace(length).is_some_and(|before| before != length) {
                return Err(Bad::Length);
            }
            // However often it was said, and with however many noughts: it is passed on once.
            let plain = text.len() == 1 || !text.starts_with(b"0");
            self.headers.insert(name, if plain { value } else { HeaderValue::from(length) });
            return Ok(());
        }
        if name == TRANSFER_ENCODING {
            if self.chunked || !text.eq_ignore_ascii_case(b"chunked") {
                return Err(Bad::Coding);
            }
            self.chunked = true;
        } else if name == CONNECTION {
            for word in fields::words(&value) {
                self.close |= word.eq_ignore_ascii_case(b"close");
                self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name == EXPECT {
            self.expects |= is_continue(&value);
        } else if name == TE {
            // Whatever stands behind a semicolon, too.
            let mut said = fields::words(&value).flat_map(|word| word.split(|byte| *byte == b';'));
            self.trailers |= said.any(|said| said.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        } else if name == UPGRADE {
            self.upgrades = true;
        }
        self.headers.append(name, value);
        Ok(())
    }

    /// How the body ends, and whether the connection goes on behind it.
    fn framing(&mut self) -> Result<(Framing, bool), Bad> {
        let keeps =
            if self.version == Version::HTTP_10 { self.keep_alive && !self.close } else { !self.close };
        match (self.chunked, self.length) {
            (true, _) if self.version == Version::HTTP_10 => Err(Bad::Coding),
            // Chunks win, and the connection ends: somebody before us may have read it the other way.
            (true, Some(_)) => {
                self.headers.remove(CONTENT_LENGTH);
                Ok((Framing::Chunked, false))
            }
            (true, None) => Ok((Framing::Chunked, keeps)),
            (false, None | Some(0)) => Ok((Framing::None, keeps)),
            (false, Some(length)) => Ok((Framing::Length(length), keeps)),
        }
    }
}

/// Appends a request's head.
pub(crate) fn write(out: &mut Vec<u8>, method: &Method, target: &Uri, headers: &HeaderMap, framing: Framing) {
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    encode::line(out, &[method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
    for (name, value) in headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            encode::field(out, name, value.as_bytes());
        }
    }
    match framing {
        // Where a body is usual, its absence is said (RFC 9110, 8.6).
        Framing::None if !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) => {
            encode::line(out, &[b"content-length: 0"]);
        }
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => encode::length(out, length),
        Framing::Chunked => encode::line(out, &[b"transfer-encoding: chunked"]),
    }
    encode::line(out, &[]);
}

/// Whether this value of `Expect` waits for `100` (RFC 9110, 10.1.1).
pub(crate) fn is_continue(expect: &HeaderValue) -> bool {
    expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Digits and nothing else: `parse` alone would take a plus sign.
pub(super) fn number(text: &[u8]) -> Result<u64, Bad> {
    if !text.iter().all(u8::is_ascii_digit) {
        return Err(Bad::Length);
    }
    std::str::from_utf8(text).ok().and_then(|digits| digits.parse().ok()).ok_or(Bad::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 200, fields: 10 };

    fn read(text: &str) -> Result<Option<Head>, Bad> {
        let mut read = BytesMut::from(text);
        Search::default().take(&mut read, LIMITS)?.map(|section| parse(&section, LIMITS)).transpose()
    }

    fn head(fields: &str) -> Result<Head, Bad> {
        read(&format!("POST /a HTTP/1.1\r\n{fields}\r\n\r\n")).map(|head| head.expect("a whole head"))
    }

    #[test]
    fn where_a_body_ends_is_clear() {
        for (fields, framing, keeps) in [
            ("x: y", Framing::None, true),
            ("content-length: 0", Framing::None, true),
            ("content-length: 5", Framing::Length(5), true),
            ("content-length: 5\r\nx: y\r\ncontent-length: 5", Framing::Length(5), true),
            ("transfer-encoding: Chunked", Framing::Chunked, true),
            ("content-length: 5\r\ntransfer-encoding: chunked", Framing::Chunked, false),
            ("connection: x, Close", Framing::None, false),
        ] {
            let got = head(fields).expect("a good head");
            assert_eq!((got.framing, got.keep_alive), (framing, keeps), "{fields}");
            let lengths = got.headers.get_all(CONTENT_LENGTH).iter().count();
            assert!(lengths <= usize::from(framing != Framing::Chunked), "{fields}");
        }
        for (fields, bad) in [
            ("content-length: +5", Bad::Length),
            ("content-length: ", Bad::Length),
            ("content-length: 5, 5", Bad::Length),
            ("content-length: 5\r\ncontent-length: 6", Bad::Length),
            ("content-length: 18446744073709551616", Bad::Length),
            ("content-length: x\r\ntransfer-encoding: chunked", Bad::Length),
            ("transfer-encoding: gzip, chunked", Bad::Coding),
            ("transfer-encoding: ", Bad::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", Bad::Coding),
        ] {
            assert_eq!(head(fields).err(), Some(bad), "{fields}");
        }
        let old = |fields: &str| read(&format!("GET / HTTP/1.0\r\n{fields}\r\n\r\n"));
        assert_eq!(old("transfer-encoding: chunked").err(), Some(Bad::Coding));
        let keeps = |fields| old(fields).expect("a good head").expect("a whole one").keep_alive;
        assert!(keeps("connection: keep-alive") && !keeps("x: y") && !keeps("connection: keep-alive, close"));
    }

    #[test]
    fn a_body_is_expected_only_where_one_comes() {
        let expects =
            |fields: &str| head(&format!("{fields}\r\nexpect: 100-Continue")).expect("good").expects;
        assert!(expects("content-length: 5") && !expects("content-length: 0"));
        assert_eq!(head("content-length: 007").expect("good").headers[CONTENT_LENGTH], "7");
    }

    #[test]
    fn heads_have_an_end_and_begin_as_they_must() {
        let long = "y".repeat(200);
        for (text, bad) in [
            (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), Bad::TooLarge),
            (format!("GET / HTTP/1.1\r\nx: {long}"), Bad::TooLarge),
            ("\r\n".repeat(200), Bad::TooLarge),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(11)), Bad::TooLarge),
            ("\x16\x03\x01".to_owned(), Bad::Alien),
            ("GET /a\r\n".to_owned(), Bad::Alien),
            ("GET / HTTP/2.0\r\n".to_owned(), Bad::Alien),
            (" GET / HTTP/1.1\r\n\r\n".to_owned(), Bad::Alien),
            ("GET http:// HTTP/1.1\r\n\r\n".to_owned(), Bad::Target),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), Bad::Head(httparse::Error::Version)),
            ("GET / HTTP/1.1\rx: y\r\n\r\n".to_owned(), Bad::Head(httparse::Error::NewLine)),
        ] {
            assert_eq!(read(&text).err(), Some(bad), "{text:?}");
        }
    }

    fn check(method: Method, target: &str, framing: Framing, want: &str) {
        let fields = fields::of(&[("host", "a.org"), ("content-length", "7"), ("x-a", "1"), ("x-a", "2")]);
        let mut out = Vec::new();
        write(&mut out, &method, &target.parse().expect("a target"), &fields, framing);
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
            write(&mut out, &Method::OPTIONS, &uri, &HeaderMap::new(), Framing::None);
            assert_eq!(String::from_utf8_lossy(&out), format!("OPTIONS {target} HTTP/1.1\r\n\r\n"));
        }
    }

    #[test]
    fn a_target_without_a_path_has_the_root() {
        let head = read("GET http://a.org?x HTTP/1.1\r\n\r\n").expect("a good head").expect("a whole one");
        assert_eq!(head.target, "http://a.org/?x");
    }

    proptest::proptest! {
        #[test]
        fn a_head_that_comes_in_pieces_is_the_same_head(
            before in "(\r\n){0,3}", end in "(\r)?\n(\r)?\n", piece in 1_usize..20,
        ) {
            let (whole, rest) = (format!("{before}GET /a HTTP/1.1\r\nhost: a{end}"), "GET /b");
            let (mut search, mut read) = (Search::default(), BytesMut::new());
            let mut taken = None;
            for piece in format!("{whole}{rest}").as_bytes().chunks(piece) {
                read.extend_from_slice(piece);
                if taken.is_none() {
                    taken = search.take(&mut read, LIMITS).expect("a good head");
                }
            }
            proptest::prop_assert_eq!(taken.as_deref(), Some(&whole.as_bytes()[before.len()..]));
            proptest::prop_assert_eq!(&read[..], rest.as_bytes());
            let head = parse(&taken.expect("a head"), LIMITS).expect("a good head");
            proptest::prop_assert_eq!(head.target.path(), "/a");
        }

        #[test]
        fn no_bytes_bring_it_down(text in "(GET|[ -~]{0,5}) ?[ -~\r\n\u{0}\u{80}]{0,80}(\r\n\r\n|)") {
            drop(read(&text));
        }
    }
}
