//! Where a body ends, piece by piece. Pure, and never copies: what is handed out is cut off what was read.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::{Bad, chunked::Chunked};

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// It has this many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More has to be read first.
    More,
    /// A part of it.
    Data(Bytes),
    /// What stands behind it; nothing follows.
    Trailers(HeaderMap),
    /// Nothing.
    End,
}

/// How much of a body is still to come.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// Nothing.
    Ended,
    /// So many bytes.
    Length(u64),
    /// What the chunks say.
    Chunked(Chunked),
    /// All until the connection ends.
    UntilClose,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes the next part out of what was read.
    pub(crate) fn next(&mut self, read: &mut BytesMut) -> Result<Step, Bad> {
        match self {
            Self::Ended => Ok(Step::End),
            Self::Length(_) | Self::UntilClose if read.is_empty() => Ok(Step::More),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Step::Data(read.split_to(length).freeze()))
            }
            Self::UntilClose => Ok(Step::Data(read.split().freeze())),
            Self::Chunked(chunked) => {
                let step = chunked.next(read)?;
                if chunked.is_done() {
                    *self = Self::Ended;
                }
                Ok(step)
            }
        }
    }

    /// The connection has ended: so has a body that ends with it; any other is broken.
    pub(crate) fn close(&mut self) -> Result<(), Bad> {
        match self {
            Self::Ended => Ok(()),
            Self::UntilClose => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(Bad::Truncated),
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// How many bytes are still to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Ended => Some(0),
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_ends_where_it_says_and_leaves_the_rest() {
        let mut decoder = Decoder::new(Framing::Length(5));
        let mut read = BytesMut::from("hel");
        assert_eq!(decoder.next(&mut read), Ok(Step::Data("hel".into())));
        assert_eq!(decoder.next(&mut read), Ok(Step::More));
        assert_eq!((decoder.left(), decoder.close()), (Some(2), Err(Bad::Truncated)));
        read.extend_from_slice(b"loHTTP");
        assert_eq!(decoder.next(&mut read), Ok(Step::Data("lo".into())));
        assert!(decoder.is_ended());
        assert_eq!((decoder.next(&mut read), &read[..]), (Ok(Step::End), &b"HTTP"[..]));
    }

    #[test]
    fn a_body_may_end_with_its_connection() {
        let mut decoder = Decoder::new(Framing::UntilClose);
        assert_eq!(decoder.next(&mut BytesMut::from("all")), Ok(Step::Data("all".into())));
        assert!(!decoder.is_ended());
        assert_eq!(decoder.close(), Ok(()));
        assert!(decoder.is_ended());
    }
}
