//! Down slowly: a lower want counts only after a while, and then little by little, so that there is no cliff behind a
//! burst.

use std::time::{Duration, Instant};

use tidegate_config::units::Count;

use crate::policy::{highest::Highest, kpa};

/// The least share that then goes.
const LEAST: f64 = 0.1;
/// How often something may be taken away.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// What was wanted of late, and what was answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Calm {
    highest: Highest<Instant>,
    /// What was answered last, and when that last became less.
    held: Count,
    lowered: Option<Instant>,
}

impl Calm {
    /// What was answered last.
    pub(super) fn held(&self) -> Count {
        self.held
    }

    /// What to answer where `want` would do: no less than for `length`, and then less by at most this share in each step.
    pub(super) fn hold(&mut self, now: Instant, want: Count, length: Duration, share: f64) -> Count {
        let highest = self.highest.note(now, want, |at| at + length <= now);
        if highest >= self.held {
            self.held = highest;
            return self.held;
        }
        if self.lowered.is_none_or(|at| at + STEP <= now) {
            let step = kpa::count((f64::from(self.held) * share.clamp(LEAST, 1.0)).floor()).max(1);
            self.held = self.held.saturating_sub(step).max(highest);
            self.lowered = Some(now);
        }
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{origin, secs};

    /// At so many seconds: what would do, and what is answered.
    fn check(rows: &[(u64, Count, Count)]) {
        let (start, mut calm) = (origin(), Calm::default());
        for (at, want, held) in rows {
            assert_eq!(calm.hold(start + secs(*at), *want, secs(30), 0.0), *held, "at {at} s of {rows:?}");
        }
    }

    #[test]
    fn up_at_once_and_down_by_a_tenth_every_five_seconds() {
        check(&[
            (0, 2, 2),
            (1, 64, 64),
            (2, 20, 64),
            (30, 20, 64),
            (31, 20, 58),
            (33, 20, 58),
            (36, 20, 53),
            (41, 20, 48),
        ]);
        check(&[(0, 3, 3), (1, 1, 3), (29, 1, 3), (30, 1, 2), (35, 1, 1), (36, 1, 1)]);
    }

    #[test]
    fn a_second_burst_is_met_with_what_the_first_one_left() {
        check(&[(0, 50, 50), (10, 5, 50), (35, 5, 45), (36, 50, 50), (50, 5, 50)]);
    }

    #[test]
    fn where_little_is_lost_by_it_more_goes_at_once() {
        let (start, mut calm) = (origin(), Calm::default());
        let mut at = |second, want| calm.hold(start + secs(second), want, secs(5), 0.7);
        assert_eq!([at(0, 40), at(1, 2), at(6, 2), at(11, 2), at(16, 2)], [40, 40, 12, 4, 2]);
    }
}
