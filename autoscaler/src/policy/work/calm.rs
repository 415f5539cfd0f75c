//! Down slowly: a lower want counts only after a while, and then little by little, so that there is no cliff behind a
//! burst.

use std::time::{Duration, Instant};

use tidegate_config::units::Count;

use crate::policy::highest::Highest;

/// How often something may be taken away.
const STEP: Duration = Duration::from_secs(5);

/// What was wanted of late, and what was answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Calm {
    highest: Highest<Instant>,
    /// What was answered last, and when that last became less.
    held: Count,
    lowered: Option<Instant>,
}

impl Calm {
    /// What to answer where `want` would do.
    pub(super) fn hold(&mut self, now: Instant, want: Count, length: Duration) -> Count {
        let highest = self.highest.note(now, want, |at| at + length <= now);
        if highest >= self.held {
            self.held = highest;
            return self.held;
        }
        if self.lowered.is_none_or(|at| at + STEP <= now) {
            let step = (self.held / 10).max(1);
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
            assert_eq!(calm.hold(start + secs(*at), *want, secs(30)), *held, "at {at} s of {rows:?}");
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
}
