//! What is under way on a connection over HTTP/2, and since when nothing is: hyper has no bound for that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::crowd::Corner;
use crate::clock;

/// How many requests a connection carries, and since when it is so many.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<(usize, Instant)>,
    corner: Corner,
}

/// One request, until its answer has been sent.
#[derive(Debug)]
pub(super) struct Active(Arc<Activity>);

impl Activity {
    /// A connection that carries nothing yet, and where its requests are counted.
    pub(super) fn none(now: Instant, corner: Corner) -> Self {
        Self { state: Mutex::new((0, now)), corner }
    }

    /// A request has come. Where there is no room for it, whose bound is reached.
    pub(super) fn begin(self: &Arc<Self>) -> Result<Active, &'static str> {
        self.corner.enter()?;
        self.state.lock().0 += 1;
        Ok(Active(Arc::clone(self)))
    }

    /// Ends when there has been nothing for so long, from now on.
    pub(super) async fn idle(&self, patience: Duration) {
        let begun = clock::now();
        loop {
            let now = clock::now();
            let (active, since) = *self.state.lock();
            let until = if active == 0 { since.max(begun) + patience } else { now + patience };
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

impl Active {
    /// The same request once more, for what outlives its answer: it had its room.
    pub(super) fn again(&self) -> Self {
        self.0.corner.stay();
        self.0.state.lock().0 += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.corner.leave();
        let mut state = self.0.state.lock();
        state.0 -= 1;
        state.1 = clock::now();
    }
}
