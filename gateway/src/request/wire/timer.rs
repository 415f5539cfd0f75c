//! One timer for a connection, armed when it is first needed and left alone while deadlines move on: it fires early and is set
//! again, instead of being put into the runtime's wheel and taken out of it for each request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::time::Sleep;

/// Tells when a deadline has passed.
#[derive(Debug, Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `deadline` has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
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

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test]
    async fn deadlines_may_move_either_way() {
        let (now, mut timer) = (crate::clock::now(), Timer::default());
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
            assert!(crate::clock::now() >= now + Duration::from_millis(ms));
        }
    }
}
