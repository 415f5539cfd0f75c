//! The bodies of answers. `Whole` is the fast path: no allocation, no indirection.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

const BLOCK: Bytes = Bytes::from_static(&[b'x'; 64 << 10]);

/// What an answer carries.
pub(crate) enum Answer {
    /// Everything at once.
    Whole(Full<Bytes>),
    /// The request's own body, trailers included, as it arrives.
    Mirror(Incoming),
    /// So many bytes.
    Blob { left: u64 },
    /// Numbered lines with a pause before each but the first.
    Drip(Drip),
}

/// The state of a slow stream.
pub(crate) struct Drip {
    next: u64,
    count: u64,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(text.into()))
    }

    pub(crate) fn drip(count: u64, pause: Duration) -> Self {
        Self::Drip(Drip { next: 0, count, pause, timer: None })
    }
}

impl Drip {
    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.next == self.count {
            return Poll::Ready(None);
        }
        if self.next > 0 && !self.pause.is_zero() {
            let pause = self.pause;
            ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(pause))).as_mut().poll(cx));
            self.timer = None;
        }
        let line = format!("chunk {}\n", self.next);
        self.next += 1;
        Poll::Ready(Some(line.into()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(infallible(frame))))
            }
            Self::Mirror(body) => Pin::new(body).poll_frame(cx),
            Self::Blob { left: 0 } => Poll::Ready(None),
            Self::Blob { left } => {
                let size = usize::try_from(*left).unwrap_or(usize::MAX).min(BLOCK.len());
                *left -= size as u64;
                Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(..size)))))
            }
            Self::Drip(drip) => drip.poll_line(cx).map(|line| line.map(|line| Ok(Frame::data(line)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Mirror(body) => body.is_end_stream(),
            Self::Blob { left } => *left == 0,
            Self::Drip(drip) => drip.next == drip.count,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Mirror(body) => body.size_hint(),
            Self::Blob { left } => SizeHint::with_exact(*left),
            Self::Drip(_) => SizeHint::default(),
        }
    }
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
