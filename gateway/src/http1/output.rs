//! What is to be written on a connection next: a head or a chunk's line, data behind it, and what ends the data. Small data is
//! copied behind the head, so that one `send` takes both; large data goes along by a vectored write.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Up to here copying is cheaper than a vectored write.
const COPIED: usize = 2 << 10;

/// So much text is written before more is added.
const ENOUGH: usize = 16 << 10;

/// A head longer than this is not worth keeping its buffer for.
const KEPT: usize = 8 << 10;

/// What is to be written next.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What comes first; written up to `at`.
    first: Vec<u8>,
    at: usize,
    data: Bytes,
    last: &'static [u8],
    /// Whether any byte has been written since [`Output::begin`].
    sent: bool,
}

impl Output {
    /// A new exchange begins: what is written first is for the caller to append.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.clear();
        self.sent = false;
        &mut self.first
    }

    /// Where text can be appended that goes before the [data](Output::push); only while there is none.
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.is_flat());
        &mut self.first
    }

    /// Appends data and what ends it; only while there is none.
    pub(crate) fn push(&mut self, data: Bytes, last: &'static [u8]) {
        debug_assert!(self.is_flat());
        if data.len() > COPIED {
            (self.data, self.last) = (data, last);
        } else {
            self.first.extend_from_slice(&data);
            self.first.extend_from_slice(last);
        }
    }

    /// Whether text and data can be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.is_flat() && self.first.len() < ENOUGH
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.first.len() && self.is_flat()
    }

    /// Whether there is text alone.
    fn is_flat(&self) -> bool {
        self.data.is_empty() && self.last.is_empty()
    }

    /// Whether any byte of this exchange has been written.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Forgets what was not written.
    pub(crate) fn clear(&mut self) {
        self.first.clear();
        self.first.shrink_to(KEPT);
        (self.at, self.data, self.last) = (0, Bytes::new(), &[]);
    }

    /// Writes until nothing is left.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let mut stream = Pin::new(&mut *stream);
            let first = &self.first[self.at..];
            let written = if self.is_flat() {
                ready!(stream.as_mut().poll_write(cx, first))?
            } else {
                let slices = [IoSlice::new(first), IoSlice::new(&self.data), IoSlice::new(self.last)];
                ready!(stream.as_mut().poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written(written);
        }
        Poll::Ready(Ok(()))
    }

    fn written(&mut self, mut length: usize) {
        self.sent = true;
        let first = length.min(self.first.len() - self.at);
        self.at += first;
        length -= first;
        if self.at == self.first.len() {
            self.first.clear();
            self.at = 0;
        }
        let data = length.min(self.data.len());
        self.data.advance(data);
        self.last = &self.last[length - data..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_or_written_twice(head in 0_usize..9, data in 0_usize..3 * COPIED, steps in proptest::collection::vec(1_usize..3000, 1..20)) {
            let mut output = Output::default();
            output.begin().extend_from_slice(&vec![b'h'; head]);
            output.push(vec![b'd'; data].into(), b"\r\n");
            let mut left = head + data + 2;
            for step in steps {
                let rest = output.first.len() - output.at + output.data.len() + output.last.len();
                proptest::prop_assert_eq!(rest, left);
                proptest::prop_assert_eq!(output.is_empty(), left == 0);
                let step = step.min(left);
                output.written(step);
                left -= step;
            }
        }
    }
}
