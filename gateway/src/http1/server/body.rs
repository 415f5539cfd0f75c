//! A request's body: read off the connection by whoever polls it, without a channel between the two.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::shared::{Handle, State};

/// A request's body. One that is dropped before its end ends the connection, unless the rest of it is there already.
#[derive(Debug)]
pub(crate) struct Body {
    shared: Handle,
    /// How much is still to come, where that is known.
    left: Option<u64>,
    ended: bool,
}

impl Body {
    /// The body of the request that has begun there.
    pub(super) fn new(shared: Handle) -> Self {
        let left = shared.lock().left();
        Self { shared, left, ended: false }
    }

    /// The next part.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut shared = self.shared.lock();
        let frame = ready!(shared.poll_body(cx));
        self.left = shared.left();
        self.ended = shared.body() == State::Whole;
        if let Some(Err(_)) = &frame {
            shared.ends(State::Left);
            drop(shared);
            self.ended = true;
        }
        Poll::Ready(frame)
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended
    }

    /// How much is still to come, as far as that is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.lock().ends(State::Left);
        }
    }
}
