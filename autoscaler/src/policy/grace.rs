//! Knative's rule for the last replica, used with `idle = "kpa"`: it goes when the law has wanted nothing, after at
//! least one stable window of activity, for the whole grace period. Asked by [`decide`](crate::decide).

use std::time::{Duration, Instant};

/// Knative's scale-to-zero grace period.
pub const GRACE: Duration = Duration::from_secs(30);

/// Since when a service is active, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastReplica {
    active_since: Option<Instant>,
    inactive_since: Option<Instant>,
}

impl LastReplica {
    /// How long the last replica still has to stay; zero: it may go. `needed`: whether the law wants any.
    pub fn left(&mut self, now: Instant, needed: bool, stable_window: Duration) -> Duration {
        if needed {
            if self.inactive_since.take().is_some() {
                self.active_since = None;
            }
            self.active_since.get_or_insert(now);
            return GRACE;
        }
        let active_until = *self.active_since.get_or_insert(now) + stable_window;
        if now < active_until {
            return active_until - now + GRACE;
        }
        let inactive_since = *self.inactive_since.get_or_insert(now);
        (inactive_since + GRACE).saturating_duration_since(now)
    }

    /// The service is at zero; its next activity is a new one.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
