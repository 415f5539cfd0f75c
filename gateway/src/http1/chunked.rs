//! Chunks (RFC 9112, 7.1), cut out of what was read. Pure. Extensions are skipped; a size is hexadecimal digits and nothing
//! else, and every line ends with CR and LF.

use bytes::{Buf, BytesMut};
use memchr::memchr;

use super::{Bad, fields, framing::Step};

/// The longest line before a chunk, its extensions included.
const LONGEST_LINE: usize = 4 << 10;

/// A chunked body on its way.
#[derive(Debug, Default)]
pub(crate) struct Chunked(State);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a size line.
    #[default]
    Size,
    /// Within a chunk, with so many bytes to come.
    Data(u64),
    /// Before the line's end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    Done,
}

impl Chunked {
    pub(crate) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Takes the next part out of what was read.
    pub(crate) fn next(&mut self, read: &mut BytesMut) -> Result<Step, Bad> {
        loop {
            self.0 = match self.0 {
                State::Size => match size_line(read)? {
                    None => return Ok(Step::More),
                    Some(0) => State::Trailers,
                    Some(size) => State::Data(size),
                },
                State::Data(_) if read.is_empty() => return Ok(Step::More),
                State::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
                    let data = read.split_to(length).freeze();
                    let left = left - length as u64;
                    self.0 = if left == 0 { after_data(read) } else { State::Data(left) };
                    return Ok(Step::Data(data));
                }
                State::DataEnd if read.len() < 2 => return Ok(Step::More),
                State::DataEnd if read.starts_with(b"\r\n") => {
                    read.advance(2);
                    State::Size
                }
                State::DataEnd => return Err(Bad::Chunk),
                State::Trailers => match fields::trailers(read)? {
                    None => return Ok(Step::More),
                    Some(trailers) => {
                        self.0 = State::Done;
                        return Ok(if trailers.is_empty() { Step::End } else { Step::Trailers(trailers) });
                    }
                },
                State::Done => return Ok(Step::End),
            };
        }
    }
}

/// If the body's end is there already it ends now, so that its last part is known as such.
fn after_data(read: &mut BytesMut) -> State {
    const END: &[u8] = b"\r\n0\r\n\r\n";
    if read.starts_with(END) {
        read.advance(END.len());
        return State::Done;
    }
    State::DataEnd
}

/// Takes a chunk's size line; `None` if it is not all there.
fn size_line(read: &mut BytesMut) -> Result<Option<u64>, Bad> {
    let Some(end) = memchr(b'\n', read) else {
        return if read.len() < LONGEST_LINE { Ok(None) } else { Err(Bad::Chunk) };
    };
    let line = read[..end].strip_suffix(b"\r").filter(|line| line.len() < LONGEST_LINE).ok_or(Bad::Chunk)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at(digits);
    let extension = extension.trim_ascii_start();
    let clear = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if !(1..=16).contains(&digits.len())
        || !(extension.is_empty() || extension[0] == b';')
        || !extension.iter().all(clear)
    {
        return Err(Bad::Chunk);
    }
    let digit = |byte: &u8| u64::from((*byte as char).to_digit(16).unwrap_or_default());
    let size = digits.iter().fold(0, |size, byte| size << 4 | digit(byte));
    read.advance(end + 1);
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    /// The body and its trailers, read `piece` bytes at a time, and what is left behind it.
    fn decode(text: &[u8], piece: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Bad> {
        let (mut chunked, mut read, mut body, mut last) =
            (Chunked::default(), BytesMut::new(), Vec::new(), HeaderMap::new());
        let mut pieces = text.chunks(piece.max(1));
        loop {
            match chunked.next(&mut read)? {
                Step::Data(data) => body.extend_from_slice(&data),
                Step::Trailers(trailers) => last = trailers,
                Step::End => {
                    read.extend_from_slice(&pieces.flatten().copied().collect::<Vec<_>>());
                    return Ok((body, last, read.to_vec()));
                }
                Step::More => match pieces.next() {
                    Some(piece) => read.extend_from_slice(piece),
                    None => return Err(Bad::Truncated),
                },
            }
        }
    }

    #[test]
    fn sizes_are_digits_and_lines_end() {
        for (text, want) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok("hello")),
            ("2;a=b;c=\"d\"\r\nhe\r\n003 \r\nllo\r\n00\r\n\r\n", Ok("hello")),
            ("A\r\n0123456789\r\n0\r\nx: y\r\n\r\n", Ok("0123456789")),
            ("0\r\n\r\n", Ok("")),
            ("\r\n", Err(Bad::Chunk)),
            ("x\r\n", Err(Bad::Chunk)),
            ("-1\r\n", Err(Bad::Chunk)),
            ("+1\r\n", Err(Bad::Chunk)),
            (" 1\r\n", Err(Bad::Chunk)),
            ("0x1\r\n", Err(Bad::Chunk)),
            ("1 2\r\n", Err(Bad::Chunk)),
            ("11111111111111111\r\n", Err(Bad::Chunk)),
            ("1\nx\r\n0\r\n\r\n", Err(Bad::Chunk)),
            ("1\r\nxy\r\n0\r\n\r\n", Err(Bad::Chunk)),
            ("1\r\nx\n\n0\r\n\r\n", Err(Bad::Chunk)),
            ("1;a\rb\r\nx\r\n", Err(Bad::Chunk)),
            ("5\r\nhel", Err(Bad::Truncated)),
            ("5\r\nhello\r\n0\r\n", Err(Bad::Truncated)),
            ("0\r\nx: 1\nz: 2\r\n\r\n", Err(Bad::BareLineFeed)),
        ] {
            for piece in [1, 2, 7, text.len()] {
                let got = decode(text.as_bytes(), piece).map(|(body, ..)| body);
                assert_eq!(got, want.map(|text| text.as_bytes().to_vec()), "{text:?} by {piece}");
            }
        }
        assert_eq!(decode(&[b'1'; LONGEST_LINE], LONGEST_LINE), Err(Bad::Chunk));
    }

    #[test]
    fn what_follows_is_left() {
        let (_, trailers, rest) = decode(b"1\r\nx\r\n0\r\nx-sum: 7\r\n\r\nHTTP/1.1", 64).expect("a body");
        assert_eq!((trailers["x-sum"].as_bytes(), &rest[..]), (&b"7"[..], &b"HTTP/1.1"[..]));
    }

    #[test]
    fn the_last_part_is_known_as_the_last() {
        let (mut chunked, mut read) = (Chunked::default(), BytesMut::from("2\r\nhi\r\n0\r\n\r\n"));
        assert_eq!(chunked.next(&mut read), Ok(Step::Data("hi".into())));
        assert!(chunked.is_done() && read.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn however_it_is_cut_it_is_the_same_body(
            parts in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 1..40), 0..6),
            piece in 1_usize..50,
        ) {
            let mut text = Vec::new();
            for part in &parts {
                super::super::encode::chunk_size(&mut text, part.len());
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
            super::super::encode::last_chunk(&mut text, &HeaderMap::new());
            let got = decode(&text, piece).map(|(body, ..)| body);
            proptest::prop_assert_eq!(got, Ok(parts.concat()));
        }

        #[test]
        fn no_bytes_bring_it_down(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            drop(decode(&text, 3));
        }
    }
}
