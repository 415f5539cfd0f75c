//! A request's body as it comes in, within the limits of the file: no longer than it may be, and no slower. Holds: while a
//! body comes as it should, this is an addition and a comparison for each piece of it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tidegate_config::model::RequestLimits;

use super::{
    body, headers,
    incoming::{Gone, Incoming},
    pace::Pace,
    refusal::Refusal,
};
use crate::clock;

/// A request's body.
#[derive(Debug)]
pub(crate) struct Intake {
    inner: Incoming,
    /// Bytes that may still come.
    left: u64,
    /// Bytes that must come per second; 0: any.
    least: u64,
    /// After it was waited for so long.
    grace: Duration,
    /// From the first time on that it had to be waited for.
    wait: Option<Box<Wait>>,
}

#[derive(Debug)]
struct Wait {
    pace: Pace,
    alarm: Pin<Box<tokio::time::Sleep>>,
}

/// A body that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The client broke off.
    #[error(transparent)]
    Client(#[from] Gone),
    /// It is not what it may be.
    #[error("{0:?}")]
    Limit(Limit),
}

/// A limit of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `body_bytes`.
    TooLarge,
    /// `body_rate`.
    TooSlow,
}

impl From<Limit> for Refusal {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::TooLarge => Self::BodyTooLarge,
            Limit::TooSlow => Self::BodyTooSlow,
        }
    }
}

/// What a body is refused with that did not come to its end.
pub(crate) fn refusal(error: body::Broken) -> Refusal {
    cut(&error).map_or(Refusal::BadRequest("the request's body broke off"), Refusal::from)
}

/// The limit by which a body was cut off.
pub(crate) fn cut(error: &body::Broken) -> Option<Limit> {
    match error.downcast_ref()? {
        Broken::Limit(limit) => Some(*limit),
        Broken::Client(_) => None,
    }
}

impl Intake {
    /// A body within these limits.
    ///
    /// # Errors
    /// When it says already that it is too large.
    pub(crate) fn new(inner: Incoming, limits: &RequestLimits) -> Result<Self, Limit> {
        let left = limits.body_bytes.map_or(u64::MAX, |bytes| bytes.0);
        if inner.size_hint().lower() > left {
            return Err(Limit::TooLarge);
        }
        let least = if inner.is_end_stream() { 0 } else { limits.body_rate.0 };
        Ok(Self { inner, left, least, grace: limits.body_grace, wait: None })
    }

    /// It may be silent for as long as both ends like.
    pub(crate) fn may_rest(&mut self) {
        self.least = 0;
    }

    /// The next piece. Who has been `answered` may take its time.
    pub(crate) fn poll(
        &mut self,
        answered: impl FnOnce() -> bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.inner.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.take(frame).map_err(Broken::Limit))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.least > 0 && self.is_late(cx) => {
                if answered() {
                    self.least = 0;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(Broken::Limit(Limit::TooSlow))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether nothing more comes, as far as that is known.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    /// How much is still to come, as far as that is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }

    fn take(&mut self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, Limit> {
        if let Some(trailers) = frame.trailers_mut() {
            headers::prepare_trailers(trailers);
        }
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(length as u64).ok_or(Limit::TooLarge)?;
        if let Some(wait) = &mut self.wait {
            wait.pace.came(length, clock::now);
        }
        Ok(frame)
    }

    /// Whether it has been waited for too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let (least, grace) = (self.least, self.grace);
        let wait = self.wait.get_or_insert_with(|| Box::new(Wait::new(Pace::new(least, grace))));
        if let Some(until) = wait.pace.wait(clock::now) {
            wait.alarm.as_mut().reset(until.into());
        }
        wait.alarm.as_mut().poll(cx).is_ready()
    }
}

impl Wait {
    fn new(pace: Pace) -> Self {
        Self { pace, alarm: Box::pin(tokio::time::sleep_until(clock::now().into())) }
    }
}
