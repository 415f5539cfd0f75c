//! The fields of a head or of a trailer section, whose values stay where they were read. Pure.

use std::sync::LazyLock;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use smallvec::SmallVec;

use super::{Bad, encode};

/// How many fields a section may have.
pub(crate) const MOST: usize = 128;

/// The longest section that is read of a replica, and the longest of trailers.
pub(crate) const MOST_BYTES: usize = 64 << 10;

/// Where the empty line behind fields ends.
pub(crate) fn end(read: &[u8]) -> Option<usize> {
    static EMPTY_LINE: LazyLock<memmem::Finder<'_>> = LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));
    EMPTY_LINE.find(read).map(|at| at + 4)
}

/// The fields that were found in `section`, of which each line and the whole end as they must. Each name is shown to `look`.
pub(crate) fn map(
    section: &Bytes,
    found: &[httparse::Header<'_>],
    mut look: impl FnMut(&HeaderName),
) -> Result<HeaderMap, Bad> {
    let mut map = HeaderMap::with_capacity(found.len());
    for field in found {
        if !follows_a_line(section, field.name) {
            return Err(Bad::BareLineFeed);
        }
        let (name, value) = one(section, field)?;
        look(&name);
        map.append(name, value);
    }
    Ok(map)
}

/// A field that was found in `section`; its value stays there.
pub(crate) fn one(section: &Bytes, found: &httparse::Header<'_>) -> Result<(HeaderName, HeaderValue), Bad> {
    let name = HeaderName::from_bytes(found.name.as_bytes()).map_err(|_| Bad::Field)?;
    let value = HeaderValue::from_maybe_shared(section.slice_ref(found.value)).map_err(|_| Bad::Field)?;
    Ok((name, value))
}

/// The words of a value that is a list.
pub(crate) fn words(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a field that is a list has this word, in capitals or not.
pub(crate) fn says(headers: &HeaderMap, name: HeaderName, word: &[u8]) -> bool {
    headers.get_all(name).iter().flat_map(words).any(|said| said.eq_ignore_ascii_case(word))
}

/// The trailers of a chunked body: taken out of what was read, up to and with the empty line. `None`: not all there yet.
pub(crate) fn trailers(read: &mut BytesMut) -> Result<Option<HeaderMap>, Bad> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let end = match end(&read[..read.len().min(MOST_BYTES)]) {
        Some(end) => end,
        None if read.len() < MOST_BYTES => return Ok(None),
        None => return Err(Bad::TooLarge),
    };
    let section = read.split_to(end).freeze();
    let mut found = [httparse::EMPTY_HEADER; MOST];
    match httparse::parse_headers(&section, &mut found).map_err(Bad::Head)? {
        httparse::Status::Complete((length, found)) if length == section.len() => {
            let mut trailers = map(&section, found, |_| {})?;
            remove(&mut trailers, |name| !encode::may_trail(name));
            Ok(Some(trailers))
        }
        _ => Err(Bad::BareLineFeed),
    }
}

/// Takes out the fields whose names are these.
pub(crate) fn remove(headers: &mut HeaderMap, these: impl Fn(&HeaderName) -> bool) {
    // Most heads have few of them; one look at what is there is cheaper than asking for each.
    let names: SmallVec<[HeaderName; 2]> = headers.keys().filter(|name| these(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether what stands before `name`, which is a part of `section`, is a line's end of two characters, or nothing. The parser
/// would be content with one.
fn follows_a_line(section: &[u8], name: &str) -> bool {
    let at = (name.as_ptr() as usize).wrapping_sub(section.as_ptr() as usize);
    section.get(..at).is_some_and(|before| before.is_empty() || before.ends_with(b"\r\n"))
}

/// Fields as a test writes them.
#[cfg(test)]
pub(crate) fn of(list: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    list.iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_do_not_frame() {
        let got = |text: &str| trailers(&mut BytesMut::from(text)).map(|map| map.map(|map| map.len()));
        assert_eq!(got("\r\nnext"), Ok(Some(0)));
        assert_eq!(got("x: 1\r\ncontent-length: 3\r\n\r\n"), Ok(Some(1)));
        assert_eq!(got("x: 1\r\n"), Ok(None));
        let long = |bytes| format!("x: {}\r\n\r\n", "y".repeat(bytes - 7));
        assert_eq!(got(&long(MOST_BYTES)), Ok(Some(1)));
        assert_eq!(got(&long(MOST_BYTES + 1)), Err(Bad::TooLarge), "also when all of it has come");
        assert_eq!(got("x: 1\ny: 2\r\n\r\n"), Err(Bad::BareLineFeed));
    }
}
