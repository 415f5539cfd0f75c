//! Bodies in both directions, each holding what must live as long as it flows: the lease, the account, the connection.
//! Holds: a [`Hold`] ends when request body and response body have both ended or been dropped.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::{
    accounting::{Account, Ender},
    grpc, h2c,
    intake::{self, Limit},
    received::Received,
    refusal::Refusal,
    upgrade::Replica as Tunnel,
    wire::Reply,
};
use crate::{
    clock,
    fleet::{Lease, Replica, admission::SlotKey},
};

/// What an exchange holds until both its bodies have ended.
#[derive(Debug)]
pub(crate) struct Hold {
    attempt: Mutex<Option<Attempt>>,
    /// Closed when the hold ends.
    pub(crate) account: Account,
    /// Why the request's body was cut off, if we did it.
    cut: OnceLock<Limit>,
}

/// The current attempt.
#[derive(Debug)]
struct Attempt {
    lease: Lease,
    /// Since when the replica has the request.
    begun: Option<Instant>,
}

impl Hold {
    pub(crate) fn new(account: Account) -> Arc<Self> {
        Arc::new(Self { attempt: Mutex::new(None), account, cut: OnceLock::new() })
    }

    /// Holds the lease of the current attempt.
    pub(crate) fn put(&self, lease: Lease) {
        *self.attempt.lock() = Some(Attempt { lease, begun: None });
    }

    /// The current attempt begins. Its replica.
    ///
    /// # Panics
    /// Without a lease.
    pub(crate) fn begin(&self, at: Instant) -> Arc<Replica> {
        let mut attempt = self.attempt.lock();
        let attempt = attempt.as_mut().expect("the lease of this attempt");
        attempt.begun = Some(at);
        Arc::clone(&attempt.lease.replica)
    }

    /// The slot of the current attempt.
    pub(crate) fn slot(&self) -> Option<SlotKey> {
        self.attempt.lock().as_ref().map(|attempt| attempt.lease.slot())
    }

    /// The limit by which the request's body was cut off.
    pub(crate) fn cut(&self) -> Option<Limit> {
        self.cut.get().copied()
    }

    /// The replica of the current attempt.
    ///
    /// # Panics
    /// Without a lease.
    pub(crate) fn replica(&self) -> Arc<Replica> {
        Arc::clone(&self.attempt.lock().as_ref().expect("the lease of this attempt").lease.replica)
    }

    /// The current attempt, which began at `begun`, is being answered; `again`: others failed before.
    pub(crate) fn answered(&self, status: http::StatusCode, begun: Instant, again: bool) {
        if let Some(attempt) = self.attempt.lock().as_mut() {
            attempt.lease.answered(status, begun, again);
        }
    }

    /// Whether nothing of the request's body is still to come: the exchange holds itself once, a body that flows holds it once more.
    pub(crate) fn is_sent(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    /// Takes the lease of an attempt that failed.
    pub(crate) fn take(&self) -> Option<Lease> {
        self.attempt.lock().take().map(|attempt| attempt.lease)
    }

    /// Takes the lease of an attempt that a replica has, and since when it has.
    pub(crate) fn take_begun(&self) -> Option<(Lease, Instant)> {
        let mut attempt = self.attempt.lock();
        let begun = attempt.as_ref()?.begun?;
        attempt.take().map(|attempt| (attempt.lease, begun))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let now = clock::now();
        // First, so that the next request need not wait for our bookkeeping.
        if let Some(attempt) = self.attempt.get_mut().take() {
            attempt.lease.leave(now);
        }
        self.account.close(now);
    }
}

/// Why a body ended before its end.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A request has taken longer than any may.
#[derive(Debug, thiserror::Error)]
#[error("the request's deadline has passed")]
struct Late;

/// A replica's body.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// Over HTTP/1.1.
    Http1(Reply),
    /// Over HTTP/2, and the stream's room on its connection until it has ended.
    Http2(Incoming, Option<h2c::Place>),
}

impl Inbound {
    /// Whether nothing follows. A connection with nothing to read goes back to its pool here, not by being polled.
    fn has_ended(&mut self) -> bool {
        match self {
            Self::Http1(reply) => reply.has_ended(),
            Self::Http2(incoming, place) => {
                let ended = http_body::Body::is_end_stream(incoming);
                if ended {
                    *place = None;
                }
                ended
            }
        }
    }

    /// What follows a head that changed the protocol; `upgrade` is hyper's way to it.
    pub(crate) fn into_tunnel(self, upgrade: OnUpgrade) -> Option<Tunnel> {
        match self {
            Self::Http1(reply) => reply.into_tunnel().map(Tunnel::Http1),
            Self::Http2(_, place) => Some(Tunnel::Http2(upgrade, place)),
        }
    }
}

/// A response's body as the client gets it.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Upstream { inner: Inbound, hold: Until, deadline: Option<Pin<Box<Sleep>>> },
    Changed { body: UnsyncBoxBody<Bytes, Broken>, deadline: Option<Pin<Box<Sleep>>> },
    Live(Live),
}

/// An exchange that is held until the response's end. Who drops it before that is the client's connection.
#[derive(Debug)]
struct Until(Option<Arc<Hold>>);

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(hold) = &self.0 {
            hold.account.left();
        }
    }
}

/// A body of ours that comes bit by bit.
struct Live(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Body {
    /// A body of ours.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(Some(bytes)))
    }

    /// A body of ours that comes bit by bit; dropped when the client leaves.
    pub(crate) fn live(bits: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Kind::Live(Live(Box::pin(bits))))
    }

    /// The length of a body of ours; 0 for one of a replica's.
    pub(crate) fn own_length(&self) -> usize {
        match &self.0 {
            Kind::Full(bytes) => bytes.as_ref().map_or(0, Bytes::len),
            Kind::Upstream { .. } | Kind::Live(_) | Kind::Changed { .. } => 0,
        }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// A body that was made of another one.
    pub(crate) fn changed(body: UnsyncBoxBody<Bytes, Broken>) -> Self {
        Self(Kind::Changed { body, deadline: None })
    }

    /// A replica's body. The exchange is held until it has ended.
    pub(crate) fn upstream(mut inner: Inbound, hold: Arc<Hold>) -> Self {
        let hold = (!inner.has_ended()).then_some(hold);
        Self(Kind::Upstream { inner, hold: Until(hold), deadline: None })
    }

    /// The same, cut off at this instant.
    pub(crate) fn until(mut self, instant: Instant) -> Self {
        if let Kind::Upstream { deadline, .. } | Kind::Changed { deadline, .. } = &mut self.0 {
            *deadline = Some(Box::pin(tokio::time::sleep_until(instant.into())));
        }
        self
    }
}

/// How an answer ends whose request's deadline has passed: a call with its status, anything else by breaking off; so does a call
/// of which more is still coming, since nothing else ends that.
fn last_words(hold: &Arc<Hold>) -> Result<Frame<Bytes>, Broken> {
    if !hold.is_sent() || !hold.account.lacks_status() {
        return Err(Late.into());
    }
    let fields = grpc::ended(&Refusal::RequestDeadline);
    hold.account.said(&fields);
    Ok(Frame::trailers(fields))
}

fn is_late(deadline: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let (inner, hold) = match &mut self.0 {
            Kind::Full(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Changed { body, deadline } => {
                if is_late(deadline, cx) {
                    return Poll::Ready(Some(Err(Late.into())));
                }
                return Pin::new(body).poll_frame(cx);
            }
            Kind::Live(live) => {
                return live.0.as_mut().poll_next(cx).map(|bit| bit.map(|bit| Ok(Frame::data(bit))));
            }
            Kind::Upstream { inner, hold, deadline } => {
                if is_late(deadline, cx)
                    && let Some(hold) = hold.0.take()
                {
                    let last = last_words(&hold);
                    hold.account.broke_off(Ender::Deadline);
                    self.0 = Kind::Full(None);
                    return Poll::Ready(Some(last));
                }
                (inner, &mut hold.0)
            }
        };
        let frame = match inner {
            Inbound::Http1(reply) => ready!(Pin::new(reply).poll_frame(cx)).map(|frame| Ok(frame?)),
            Inbound::Http2(incoming, _) => ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| Ok(frame?)),
        };
        if let (Some(Ok(frame)), Some(hold)) = (&frame, hold.as_ref())
            && let Some(trailers) = frame.trailers_ref()
        {
            hold.account.said(trailers);
        }
        if let (Some(Ok(part)), Some(hold)) = (&frame, &*hold) {
            hold.account.sent(part.data_ref().map_or(0, Bytes::len));
        }
        match &frame {
            Some(Ok(_)) if !inner.has_ended() => {}
            Some(Ok(_)) | None => *hold = None,
            Some(Err(_)) => {
                if let Some(hold) = hold.take() {
                    hold.account.broke_off(Ender::Replica);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Live(_) => false,
            Kind::Upstream { inner: Inbound::Http1(reply), .. } => reply.is_end_stream(),
            Kind::Upstream { inner: Inbound::Http2(incoming, _), .. } => incoming.is_end_stream(),
            Kind::Changed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Live(_) => SizeHint::default(),
            Kind::Upstream { inner: Inbound::Http1(reply), .. } => reply.size_hint(),
            Kind::Upstream { inner: Inbound::Http2(incoming, _), .. } => incoming.size_hint(),
            Kind::Changed { body, .. } => body.size_hint(),
        }
    }
}

/// A request's body on its way to a replica.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// None.
    Empty,
    /// Kept for a replay.
    Kept(Option<Bytes>),
    /// As it arrives; the exchange is held until it has ended.
    Flowing {
        /// The client's body.
        inner: Received,
        /// Let go at the body's end.
        hold: Option<Arc<Hold>>,
    },
    /// What an attempt had taken that came to nothing, once more, and then the rest.
    Again {
        /// Not empty at first.
        taken: VecDeque<Bytes>,
        /// What nobody has seen.
        rest: Box<Outbound>,
    },
}

impl http_body::Body for Outbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Flowing { inner, hold } => {
                let answered = || hold.as_ref().is_some_and(|hold| hold.account.is_answered());
                let frame = ready!(inner.poll(answered, cx));
                match (&frame, &*hold) {
                    (Some(Ok(part)), Some(hold)) => {
                        hold.account.received(part.data_ref().map_or(0, Bytes::len));
                    }
                    (Some(Err(error)), Some(hold)) => {
                        if let Some(limit) = intake::cut(error) {
                            // Set once, by whoever is first.
                            let _ = hold.cut.set(limit);
                        }
                    }
                    (None, _) | (_, None) => {}
                }
                if !matches!(frame, Some(Ok(_))) || inner.is_end_stream() {
                    *hold = None;
                }
                Poll::Ready(frame)
            }
            Self::Again { taken, rest } => match taken.pop_front() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => Pin::new(&mut **rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Kept(None) => true,
            Self::Kept(Some(_)) => false,
            Self::Flowing { inner, .. } => inner.is_end_stream(),
            Self::Again { taken, rest } => taken.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Kept(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Flowing { inner, .. } => inner.size_hint(),
            Self::Again { taken, rest } => {
                let (rest, taken) =
                    (rest.size_hint(), taken.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
                let mut all = SizeHint::new();
                all.set_lower(rest.lower() + taken);
                if let Some(upper) = rest.upper() {
                    all.set_upper(upper + taken);
                }
                all
            }
        }
    }
}
