//! Where a body in HTTP/1.1 ends. Its bytes are counted and not kept. `[P]`

use super::head::{Framing, Malformed};

/// A line of a chunk's size or of trailers at most.
const LONGEST_LINE: usize = 16 << 10;

/// A body that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    state: State,
    /// Bytes of its content so far.
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Left(u64),
    UntilClose,
    /// In the line with a chunk's size, so many bytes of which were seen; the digits are over after the first other byte.
    Size {
        size: u64,
        digits: bool,
        seen: usize,
    },
    Chunk(u64),
    /// Behind a chunk, before its line end.
    ChunkEnd,
    /// In a line of trailers, of which so many bytes were seen.
    Trailer(usize),
    Done,
}

impl Body {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Left(left),
            Framing::Chunked => State::Size { size: 0, digits: true, seen: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, bytes: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the connection's end is the body's.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Takes what belongs to the body from the front and says how many bytes that was.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            used += self.step(&input[used..])?;
        }
        Ok(used)
    }

    fn step(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        match self.state {
            State::Left(left) => Ok(self.data(left, input, State::Done, State::Left)),
            State::Chunk(left) => Ok(self.data(left, input, State::ChunkEnd, State::Chunk)),
            State::UntilClose => {
                self.bytes += input.len() as u64;
                Ok(input.len())
            }
            State::Done => Ok(0),
            State::Size { size, digits, seen } => self.size(input[0], size, digits, seen).map(|()| 1),
            State::ChunkEnd => {
                match input[0] {
                    b'\r' => {}
                    b'\n' => self.state = State::Size { size: 0, digits: true, seen: 0 },
                    _ => return Err(Malformed),
                }
                Ok(1)
            }
            State::Trailer(seen) => {
                self.state = match input[0] {
                    b'\n' if seen == 0 => State::Done,
                    b'\n' => State::Trailer(0),
                    b'\r' => State::Trailer(seen),
                    _ if seen > LONGEST_LINE => return Err(Malformed),
                    _ => State::Trailer(seen + 1),
                };
                Ok(1)
            }
        }
    }

    fn data(&mut self, left: u64, input: &[u8], end: State, more: impl Fn(u64) -> State) -> usize {
        let used = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes += used as u64;
        self.state = if used as u64 == left { end } else { more(left - used as u64) };
        used
    }

    fn size(&mut self, byte: u8, size: u64, digits: bool, seen: usize) -> Result<(), Malformed> {
        self.state = match (byte, (byte as char).to_digit(16)) {
            (b'\n', _) if seen == 0 => return Err(Malformed),
            (b'\n', _) if size == 0 => State::Trailer(0),
            (b'\n', _) => State::Chunk(size),
            _ if seen > LONGEST_LINE => return Err(Malformed),
            (_, Some(digit)) if digits => {
                let size = size.checked_mul(16).ok_or(Malformed)? + u64::from(digit);
                State::Size { size, digits, seen: seen + 1 }
            }
            // An extension, or the carriage return; a line has to begin with a digit.
            _ if seen == 0 => return Err(Malformed),
            _ => State::Size { size, digits: false, seen: seen + 1 },
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of content and those that are left over, fed in pieces of `piece` bytes.
    fn read(framing: Framing, input: &str, piece: usize) -> Result<(bool, u64, usize), Malformed> {
        let (mut body, mut left) = (Body::new(framing), 0);
        for part in input.as_bytes().chunks(piece) {
            left += part.len() - body.take(part)?;
        }
        Ok((body.is_done(), body.bytes, left))
    }

    #[test]
    fn bodies_end_where_they_should() {
        use Framing::{Chunked, Length, UntilClose};
        for (framing, input, expected) in [
            (Length(0), "more", (true, 0, 4)),
            (Length(3), "abcmore", (true, 3, 4)),
            (Length(5), "abc", (false, 3, 0)),
            (UntilClose, "abc", (false, 3, 0)),
            (Chunked, "3\r\nabc\r\n0\r\n\r\nmore", (true, 3, 4)),
            (Chunked, "3\nabc\n0\n\n", (true, 3, 0)),
            (Chunked, "0a;name=b\r\n0123456789\r\n00\r\nTrailer: x\r\nOther: y\r\n\r\n", (true, 10, 0)),
            (Chunked, "3\r\nab", (false, 2, 0)),
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(read(framing, input, piece), Ok(expected), "{input:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_is_no_chunk() {
        for input in ["\r\n", "x\r\n", "3\r\nabcd\r\n", "fffffffffffffffff\r\n", ";a\r\n"] {
            assert_eq!(read(Framing::Chunked, input, 100), Err(Malformed), "{input:?}");
        }
    }
}
