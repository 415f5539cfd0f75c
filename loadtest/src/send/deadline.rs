//! A deadline that is set for every request and costs a timer only when it has passed. `[IO]`
//! The timer keeps running at an old instant and looks at the new one when it rings: most requests end long before.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// Deadlines one after the other, each later than the one before.
#[derive(Debug)]
pub(crate) struct Deadline {
    timer: Pin<Box<Sleep>>,
    at: Instant,
}

impl Deadline {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { timer: Box::pin(sleep_until(now)), at: now }
    }

    pub(crate) fn set(&mut self, at: Instant) {
        self.at = at;
        // A timer that has rung cannot be asked again.
        if self.timer.is_elapsed() || self.timer.deadline() > at {
            self.timer.as_mut().reset(at);
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_one_set_counts() {
        let start = Instant::now();
        let mut deadline = Deadline::new();
        for round in [1, 2] {
            for ms in [10, 20, 30] {
                deadline.set(Instant::now() + Duration::from_millis(ms));
            }
            poll_fn(|cx| deadline.poll(cx)).await;
            assert_eq!(start.elapsed(), Duration::from_millis(30 * round));
        }
    }
}
