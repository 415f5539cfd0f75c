//! How slowly a client may take its answer: on average, counting only the time in which something is there that it does not
//! take. Used where answers are written. Holds: what waits in the kernel is not taken yet; of a client that keeps up nothing
//! is asked; a replica that is silent costs its client no time.

use std::{
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use crate::{clock, request::pace::Pace, timer::Timer};

/// One answer, and how its client takes it.
#[derive(Debug)]
pub(super) struct Taking {
    /// Bytes that must be taken per second; 0: any.
    least: u64,
    /// After it was waited for so long.
    grace: Duration,
    /// From the first time on that it had to be waited for.
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    pace: Pace,
    /// When it is looked how much was taken.
    look: Instant,
    /// As of the last look.
    taken: u64,
}

/// Why an answer is cut off.
#[derive(Debug, thiserror::Error)]
#[error("the client takes its answer too slowly")]
pub(super) struct TooSlow;

impl Taking {
    /// An answer of which `least` bytes must be taken each second, after `grace`.
    pub(super) fn new(least: u64, grace: Duration) -> Self {
        Self { least, grace, wait: None }
    }

    /// What there was has been written.
    pub(super) fn keeps_up(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.pace.came(0, clock::now);
        }
    }

    /// Something cannot be written. Ready once that has been so for too long; `taken` tells what the client has taken so far,
    /// if that is to be known.
    pub(super) fn poll_slow(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        taken: impl Fn() -> Option<u64>,
    ) -> Poll<()> {
        if self.least == 0 {
            return Poll::Pending;
        }
        let wait = match &mut self.wait {
            Some(wait) => wait,
            none => {
                let Some(taken) = taken() else { return Poll::Pending };
                let pace = Pace::new(self.least, self.grace);
                none.insert(Wait { pace, look: clock::now(), taken })
            }
        };
        if let Some(until) = wait.pace.wait(clock::now) {
            wait.look = until;
        }
        loop {
            ready!(timer.poll_passed(cx, wait.look));
            let (now, taken) = (clock::now(), taken().unwrap_or(wait.taken));
            wait.pace.came(usize::try_from(taken - wait.taken).unwrap_or(usize::MAX), || now);
            wait.taken = taken;
            match wait.pace.wait(|| now) {
                Some(until) if until > now => wait.look = until,
                Some(_) | None => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn};

    use super::*;

    /// Whether a client is too slow that is waited for, and has taken so much at the first look, the second, and so on.
    async fn is_slow(least: u64, looks: &[Option<u64>]) -> bool {
        let (mut taking, mut timer, next) =
            (Taking::new(least, Duration::ZERO), Timer::default(), Cell::new(0));
        poll_fn(|cx| {
            let look = || looks[next.replace(next.get() + 1)];
            match taking.poll_slow(cx, &mut timer, look) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending if least == 0 || next.get() == looks.len() => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    #[tokio::test]
    async fn what_is_taken_buys_time() {
        assert!(is_slow(1000, &[Some(7), Some(7)]).await, "nothing");
        assert!(!is_slow(1000, &[Some(7), Some(1_000_000)]).await, "a quarter of an hour's worth");
        assert!(is_slow(u64::MAX, &[Some(7), Some(1_000_000)]).await, "too little");
        assert!(!is_slow(1000, &[None]).await, "who knows");
        assert!(!is_slow(0, &[]).await, "it need not");
    }
}
