//! A request's body that can be had back: what was taken of it is kept, up to [`REPLAY_BYTES`], until the response begins.
//! So a request of any method can be sent once more if its replica says that it has not begun to process it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::request::{
    body::{Broken, Outbound},
    retry::REPLAY_BYTES,
};

/// How long hyper may take to let go of a body whose stream has ended.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// What was taken of a body; `None` once it is too much, or not needed any more.
type Taken = Arc<Mutex<Option<VecDeque<Bytes>>>>;

/// A body on its way, which comes back when it is dropped.
#[derive(Debug)]
pub(super) struct Spared {
    /// There until it is dropped.
    body: Option<Outbound>,
    taken: Taken,
    back: Option<oneshot::Sender<Outbound>>,
}

/// The way back.
#[derive(Debug)]
pub(super) struct Spare {
    taken: Taken,
    back: oneshot::Receiver<Outbound>,
}

/// The body as it is sent, and how it is had back.
pub(super) fn spared(body: Outbound) -> (Spare, Spared) {
    let taken = Taken::new(Mutex::new(Some(VecDeque::new())));
    let (send, back) = oneshot::channel();
    let spare = Spare { taken: Arc::clone(&taken), back };
    (spare, Spared { body: Some(body), taken, back: Some(send) })
}

impl Spare {
    /// It will not be needed again.
    pub(super) fn forget(self) {
        *self.taken.lock() = None;
    }

    /// The body as it was before it was sent, if it can be had.
    pub(super) async fn back(self) -> Option<Outbound> {
        let rest = tokio::time::timeout(BACK_WITHIN, self.back).await.ok()?.ok()?;
        let taken = self.taken.lock().take()?;
        if taken.is_empty() {
            return Some(rest);
        }
        Some(Outbound::Again { taken, rest: Box::new(rest) })
    }
}

impl Spared {
    /// The body, of which nothing was taken.
    pub(super) fn into_inner(mut self) -> Outbound {
        self.body.take().unwrap_or(Outbound::Empty)
    }

    fn keep(&self, frame: Option<&Result<Frame<Bytes>, Broken>>) {
        let mut taken = self.taken.lock();
        let Some(frames) = taken.as_mut() else { return };
        match frame {
            Some(Ok(frame)) => {
                let kept: usize = frames.iter().map(Bytes::len).sum();
                match frame.data_ref() {
                    Some(data) if kept + data.len() <= REPLAY_BYTES as usize => {
                        frames.push_back(data.clone());
                    }
                    // Too long; or trailers, which few requests have.
                    Some(_) | None => *taken = None,
                }
            }
            Some(Err(_)) => *taken = None,
            None => {}
        }
    }
}

impl Drop for Spared {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Mostly nobody wants it.
            drop(back.send(body));
        }
    }
}

impl Body for Spared {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        self.keep(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
