//! What a gate knows of a request that waits.

use std::time::{Duration, Instant};

use super::{super::balancer::Wish, TicketId};

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting<W> {
    pub(super) ticket: TicketId,
    /// Which replica it would like.
    pub(super) wish: Option<Wish>,
    /// `None`: an attempt of its own failed, which is why it waits.
    pub(super) came: Option<Came>,
    /// `None`: its ticket was given back.
    pub(super) waiter: Option<W>,
}

/// When a request came, and whether no replica served then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    pub(super) at: Instant,
    pub(super) cold: bool,
}

impl Came {
    /// Whether it has waited for longer than `after`.
    pub(super) fn is_late(self, now: Instant, after: Duration) -> bool {
        now.saturating_duration_since(self.at) > after
    }
}
