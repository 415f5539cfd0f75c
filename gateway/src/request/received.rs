//! A client's body as the exchange reads it: as it comes, or watched where a route bounds or copies it.
//! Holds: what is over the bound is not passed on, and a copy never holds up what it is a copy of.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{
    body::Broken,
    intake::{self, Intake},
};

/// A client's body.
#[derive(Debug)]
pub(crate) enum Received {
    /// As it comes.
    Plain(Intake),
    /// As it comes, and looked at.
    Watched(Box<Watched>),
    /// A copy of one, in pieces, the first last.
    Copied(Vec<Bytes>),
}

/// What a body is watched for.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Intake,
    /// How much more may come.
    left: u64,
    over: Arc<AtomicBool>,
    copy: Option<Copy>,
}

/// A copy in the making; dropped when it is too large, or when the body breaks off.
#[derive(Debug)]
pub(crate) struct Copy {
    room: usize,
    pieces: Vec<Bytes>,
    done: oneshot::Sender<Vec<Bytes>>,
}

/// The body was longer than it may be.
#[derive(Debug, thiserror::Error)]
#[error("the request's body is longer than it may be")]
struct TooLong;

impl Received {
    /// A body that may be so long. `over` is set when it is longer.
    pub(crate) fn watched(
        inner: Intake,
        limit: Option<u64>,
        over: Arc<AtomicBool>,
        copy: Option<Copy>,
    ) -> Self {
        Self::Watched(Box::new(Watched { inner, left: limit.unwrap_or(u64::MAX), over, copy }))
    }

    /// The next piece. Who has been `answered` may take its time.
    pub(crate) fn poll(
        &mut self,
        answered: impl FnOnce() -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Plain(inner) => {
                let frame = ready!(inner.poll(answered, cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Broken::from)))
            }
            Self::Watched(watched) => {
                let frame = ready!(watched.inner.poll(answered, cx));
                Poll::Ready(watched.look(frame))
            }
            Self::Copied(pieces) => Poll::Ready(pieces.pop().map(|piece| Ok(Frame::data(piece)))),
        }
    }

    /// No body.
    pub(crate) fn none() -> Self {
        Self::Copied(Vec::new())
    }

    /// A body that was copied.
    pub(crate) fn copied(mut pieces: Vec<Bytes>) -> Self {
        pieces.reverse();
        Self::Copied(pieces)
    }
}

impl Copy {
    /// A copy of at most `room` bytes, and where it arrives.
    pub(crate) fn of_at_most(room: usize) -> (Self, oneshot::Receiver<Vec<Bytes>>) {
        let (done, arrives) = oneshot::channel();
        (Self { room, pieces: Vec::new(), done }, arrives)
    }

    fn add(mut self, piece: &Bytes) -> Option<Self> {
        self.room = self.room.checked_sub(piece.len())?;
        self.pieces.push(piece.clone());
        Some(self)
    }

    fn finish(self) {
        // Whoever wanted it may have gone.
        drop(self.done.send(self.pieces));
    }
}

impl Watched {
    /// Looks at what came; an error instead of what is too much.
    fn look(
        &mut self,
        frame: Option<Result<Frame<Bytes>, intake::Broken>>,
    ) -> Option<Result<Frame<Bytes>, Broken>> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.copy = None;
                return Some(Err(error.into()));
            }
            None => {
                self.copy.take().into_iter().for_each(Copy::finish);
                return None;
            }
        };
        if let Some(data) = frame.data_ref() {
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                self.over.store(true, Ordering::Relaxed);
                self.copy = None;
                return Some(Err(TooLong.into()));
            };
            self.left = left;
            self.copy = self.copy.take().and_then(|copy| copy.add(data));
        }
        // Nobody may ask again after the last one.
        if self.inner.is_end_stream() {
            self.copy.take().into_iter().for_each(Copy::finish);
        }
        Some(Ok(frame))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.poll(|| false, cx)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_end_stream(),
            Self::Watched(watched) => watched.inner.is_end_stream(),
            Self::Copied(pieces) => pieces.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(inner) => inner.size_hint(),
            Self::Watched(watched) => watched.inner.size_hint(),
            Self::Copied(pieces) => SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }
}
