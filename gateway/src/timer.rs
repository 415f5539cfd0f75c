//! One timer for a connection, armed when it is first needed and left alone while deadlines move on: it fires early and is set
//! again, instead of being put into the runtime's wheel and taken out of it for each request.
//! Used towards replicas and towards clients.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::time::Sleep;

/// Tells when a deadline has passed.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the sleep wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll_passed(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
            self.waker = None;
        }
        // One that will wake this task has nothing else to be told.
        while sleep.is_elapsed() || !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            // A task that has used up its turn is not registered, but comes again.
            let registers = tokio::task::coop::has_budget_remaining();
            if sleep.as_mut().poll(cx).is_pending() {
                self.waker = registers.then(|| cx.waker().clone());
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
            self.waker = None;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;
    use crate::clock;

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
}
