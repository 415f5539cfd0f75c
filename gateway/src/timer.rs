//! One timer for a connection, armed when it is first needed and left alone while deadlines move on: it fires early and is set
//! again, instead of being put into the runtime's wheel and taken out of it for each request.
//! Used towards replicas as it is, and towards clients by hyper, as [`Kept`].

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::clock;

/// Tells when a deadline has passed.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The timer of one connection that hyper serves. hyper makes a new wait for each head and drops it when the head is there;
/// the timer behind it is kept. Two waits at once have a timer each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Timer>>);

impl hyper::rt::Timer for Kept {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(clock::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let timer = std::mem::take(&mut *self.0.lock());
        Box::pin(Wait { timer, deadline, home: Arc::clone(&self.0) })
    }
}

/// One wait.
#[derive(Debug)]
struct Wait {
    timer: Timer,
    deadline: Instant,
    home: Arc<Mutex<Timer>>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        self.timer.poll_passed(cx, deadline)
    }
}

impl hyper::rt::Sleep for Wait {}

impl Drop for Wait {
    fn drop(&mut self) {
        *self.home.lock() = std::mem::take(&mut self.timer);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn deadlines_may_move_either_way() {
        let (now, mut timer) = (clock::now(), Timer::default());
        let passed = |timer: &mut Timer, cx: &mut Context<'_>, ms| {
            timer.poll_passed(cx, now + Duration::from_millis(ms)).is_ready()
        };
        poll_fn(|cx| {
            assert!(!passed(&mut timer, cx, 60_000));
            Poll::Ready(())
        })
        .await;
        // Earlier than it was armed for, and then later than that again.
        for ms in [5, 10] {
            poll_fn(|cx| timer.poll_passed(cx, now + Duration::from_millis(ms))).await;
            assert!(clock::now() >= now + Duration::from_millis(ms));
        }
    }

    #[tokio::test]
    async fn what_hyper_drops_is_kept() {
        use hyper::rt::Timer as _;
        let (now, kept) = (clock::now(), Kept::default());
        let mut long = kept.sleep_until(now + Duration::from_secs(60));
        let pending = poll_fn(|cx| Poll::Ready(long.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        drop(long);
        assert!(kept.0.lock().0.is_some(), "its timer is there for the next one");
        kept.sleep_until(now + Duration::from_millis(5)).await;
        assert!(clock::now() >= now + Duration::from_millis(5));
    }
}
