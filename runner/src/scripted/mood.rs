//! Whether the scripted engine answers: it can be down, or hang.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::{Error, Kind, Result};

/// Whether the engine answers.
pub(super) struct Mood {
    down: watch::Sender<bool>,
    hung: watch::Sender<bool>,
}

impl Mood {
    pub(super) fn new() -> Self {
        Self { down: watch::channel(false).0, hung: watch::channel(false).0 }
    }

    /// Whether nothing is heard of it.
    pub(super) fn is_silent(&self) -> bool {
        *self.down.borrow() || *self.hung.borrow()
    }

    /// Takes it down, or up again; whether that changed anything.
    pub(super) fn down(&self, on: bool) -> bool {
        self.down.send_replace(on) != on
    }

    /// Makes it hang, or go on; whether that changed anything.
    pub(super) fn hang(&self, on: bool) -> bool {
        self.hung.send_replace(on) != on
    }

    /// Lets a call through once the engine does not hang, for `limit` at most.
    pub(super) async fn pass(&self, limit: Duration) -> Result<()> {
        let mut hung = self.hung.subscribe();
        let waited = timeout(limit, hung.wait_for(|hung| !hung)).await;
        if waited.is_err() {
            return Err(Error::new(Kind::Silent, "the engine did not answer in time"));
        }
        if *self.down.borrow() {
            return Err(Error::new(Kind::Silent, "the engine does not answer: connection refused"));
        }
        Ok(())
    }
}
