//! Knative's rule for the last replica, used with `idle = "kpa"`: it goes when the law has wanted nothing, after at
//! least one stable window of activity, for the whole grace period. Asked by [`decide`](crate::decide).

use std::time::{Duration, Instant};

use tidegate_config::model::{Idle, ScalingPolicy};

/// Knative's scale-to-zero grace period.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long the last replica stays when nothing is known of what comes next: as `idle` says.
#[must_use]
pub fn idle(scaling: &ScalingPolicy) -> Duration {
    match scaling.idle {
        Idle::Auto => Idle::USUAL,
        Idle::After(idle) => idle,
        Idle::Kpa => scaling.stable_window + GRACE,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{origin, secs};

    /// At so many seconds: whether the law wants any, and how many seconds are left.
    fn check(rows: &[(u64, bool, u64)]) {
        let (start, mut last) = (origin(), LastReplica::default());
        for (at, needed, left) in rows {
            assert_eq!(last.left(start + secs(*at), *needed, secs(60)), secs(*left), "at {at} s of {rows:?}");
        }
    }

    #[test]
    fn a_stable_window_of_activity_then_the_grace() {
        check(&[(0, true, 30), (70, true, 30), (72, false, 30), (101, false, 1), (102, false, 0)]);
        // Active for 2 s only: the rest of the window comes first.
        check(&[(0, true, 30), (2, false, 88), (59, false, 31), (60, false, 30), (90, false, 0)]);
        // Needed again: everything starts again.
        check(&[(0, true, 30), (60, false, 30), (80, true, 30), (82, false, 88)]);
    }
}
