//! Answers over HTTP/2 of which the client takes nothing. Over HTTP/1.1 the kernel ends such a connection; here the connection may
//! be well and a stream have no window. Then nobody asks for more of its answer, which would keep its replica busy for ever.
//! Holds: an answer that is not asked for within the time for it is dropped, and with it what it holds; its stream is reset when
//! the client takes something after all.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::idle::Active;
use crate::{
    clock,
    request::body::{Body, Broken},
};

/// What a client has to take within the time for it: a frame of usual size.
const PIECE: usize = 16 << 10;

/// From so many on, those that have ended are forgotten before others are added.
const FEW: usize = 64;

/// The answers on one connection.
#[derive(Debug, Default)]
pub(super) struct Answers {
    open: Mutex<Open>,
    /// Rung for the first one.
    bell: Notify,
}

#[derive(Debug, Default)]
struct Open {
    answers: Vec<Weak<Mutex<Sent>>>,
    /// How many there were after those that had ended were forgotten.
    alive: usize,
}

/// How far an answer has come.
#[derive(Debug)]
struct Sent {
    /// Until it has ended, or was dropped.
    body: Option<Body>,
    /// Since when it has been the client's turn; `None` while the replica is waited for.
    offered: Option<Instant>,
}

impl Answers {
    /// An answer begins.
    pub(super) fn watch(&self, body: Body, active: Option<Active>) -> Watched {
        let sent = Arc::new(Mutex::new(Sent { body: Some(body), offered: Some(clock::now()) }));
        let mut open = self.open.lock();
        if open.answers.len() >= FEW + 2 * open.alive {
            open.forget();
        }
        if open.answers.is_empty() {
            self.bell.notify_one();
        }
        open.answers.push(Arc::downgrade(&sent));
        Watched { sent, rest: Bytes::new(), _active: active }
    }

    /// Drops answers of which the client takes nothing for so long, give or take a quarter.
    pub(super) async fn sweep(&self, patience: Duration) -> Infallible {
        loop {
            self.bell.notified().await;
            while self.is_busy() {
                tokio::time::sleep(patience / 4).await;
                let now = clock::now();
                let unread =
                    self.open.lock().answers.iter().filter_map(|sent| late(sent, now, patience)).collect();
                // Not within the lock: what they hold is given back.
                drop::<Vec<Body>>(unread);
            }
        }
    }

    fn is_busy(&self) -> bool {
        let mut open = self.open.lock();
        open.forget();
        open.alive > 0
    }
}

impl Open {
    fn forget(&mut self) {
        self.answers.retain(|sent| sent.strong_count() > 0);
        self.alive = self.answers.len();
    }
}

/// An answer's body, if it has been offered for too long.
fn late(sent: &Weak<Mutex<Sent>>, now: Instant, patience: Duration) -> Option<Body> {
    let sent = sent.upgrade()?;
    let mut sent = sent.lock();
    let offered = sent.offered?;
    if now.saturating_duration_since(offered) < patience { None } else { sent.body.take() }
}

/// An answer's body as hyper asks for it, which is when the client can take more.
#[derive(Debug)]
pub(super) struct Watched {
    sent: Arc<Mutex<Sent>>,
    /// What the client has not been given of the last piece.
    rest: Bytes,
    _active: Option<Active>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { sent, rest, .. } = &mut *self;
        let mut sent = sent.lock();
        let Some(body) = sent.body.as_mut() else {
            return Poll::Ready(Some(Err("the client takes nothing of the answer".into())));
        };
        if rest.is_empty() {
            // The client can take something, and there may be nothing yet.
            let polled = Pin::new(body).poll_frame(cx);
            sent.offered = polled.is_ready().then(clock::now);
            match ready!(polled).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => *rest = data,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => return Poll::Ready(None),
            }
        } else {
            sent.offered = Some(clock::now());
        }
        let piece = rest.split_to(rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.sent.lock().body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.sent.lock().body.as_ref().map_or_else(SizeHint::default, Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
