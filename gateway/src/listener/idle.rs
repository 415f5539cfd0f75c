//! When nothing happens on a connection over HTTP/2: hyper has no bound for that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::clock;

/// How many requests a connection carries, and since when it is so many.
#[derive(Debug)]
pub(super) struct Activity(Mutex<(usize, Instant)>);

/// One request, until its answer has been sent.
#[derive(Debug)]
pub(super) struct Active(Arc<Activity>);

impl Activity {
    /// A connection that carries nothing yet.
    pub(super) fn none(now: Instant) -> Self {
        Self(Mutex::new((0, now)))
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Active {
        self.0.lock().0 += 1;
        Active(Arc::clone(self))
    }

    /// Ends when there has been nothing for so long, from now on.
    pub(super) async fn idle(&self, patience: Duration) {
        let begun = clock::now();
        loop {
            let now = clock::now();
            let (active, since) = *self.0.lock();
            let until = if active == 0 { since.max(begun) + patience } else { now + patience };
            if until <= now {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut activity = self.0.0.lock();
        activity.0 -= 1;
        activity.1 = clock::now();
    }
}
