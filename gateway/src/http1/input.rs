//! What was read of a connection and not looked at yet. A connection on which little comes keeps no buffer: what comes is
//! read into the stack and copied into as much memory as it takes. Where more comes, it is read in place, in growing pieces.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

/// How much is read at once: from this, doubled while that is not enough, up to that.
const ROOM: usize = 8 << 10;
const MOST_ROOM: usize = 128 << 10;

/// What was read and not looked at yet.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) bytes: BytesMut,
    /// How much is read at once.
    room: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), room: ROOM }
    }
}

impl Input {
    /// Reads once. The number of bytes that came; 0: the end.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        if self.room == ROOM && self.bytes.is_empty() {
            return self.poll_little(cx, stream);
        }
        if self.bytes.capacity() - self.bytes.len() < self.room / 2 {
            self.bytes.reserve(self.room);
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        let read = ready!(poll_read_buf(Pin::new(stream), cx, &mut self.bytes))?;
        if read == spare {
            self.room = (self.room * 2).min(MOST_ROOM);
        } else if read < self.room / 4 {
            self.room = (self.room / 2).max(ROOM);
        }
        Poll::Ready(Ok(read))
    }

    /// Nothing is expected for a while: where much has come, its buffer is not kept for what comes next.
    pub(crate) fn rest(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > ROOM {
            *self = Self::default();
        }
    }

    fn poll_little<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = [MaybeUninit::uninit(); ROOM];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut scratch))?;
        let read = scratch.filled();
        self.bytes.extend_from_slice(read);
        if read.len() == ROOM {
            self.room *= 2;
        }
        Poll::Ready(Ok(read.len()))
    }
}
