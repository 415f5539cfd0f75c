//! Whether a replica that fails again and again gets requests: outlier ejection by failures in a row, as Envoy has it,
//! each time for twice as long, and then half open: one request tries. Owned by a [`Candidate`](super::Candidate). Pure.
//! Holds: never more than a share of those that serve are ejected, and never all of them.
//! Absent: what becomes of the replica itself (the prober's and the control loop's).

use std::time::Instant;

use tidegate_config::model;

/// Doublings that are counted; more would be longer than any setting.
const DOUBLINGS: u32 = 16;

/// How a replica is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// It gets nothing before then, and one request afterwards.
    Until(Instant),
    /// One request tries it.
    Tried,
}

/// How a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It gets requests.
    Good {
        /// Failures since its last answer.
        failures: u32,
        /// Ejections that it has behind it, and when the last one ended.
        past: Option<(u32, Instant)>,
    },
    /// It gets none before then, and one afterwards.
    Ejected {
        /// When one may try.
        until: Instant,
        /// Ejections in a row, this one included.
        times: u32,
    },
    /// One request tries it.
    Probation {
        /// Ejections in a row.
        times: u32,
    },
}

impl Standing {
    /// As a new replica stands.
    pub(crate) const NEW: Self = Self::Good { failures: 0, past: None };

    /// Whether it gets a request now.
    pub(crate) fn is_open(self, now: Instant) -> bool {
        match self {
            Self::Good { .. } => true,
            Self::Ejected { until, .. } => until <= now,
            Self::Probation { .. } => false,
        }
    }

    /// How it is ejected, if it is.
    pub(crate) fn out(self) -> Option<Out> {
        match self {
            Self::Good { .. } => None,
            Self::Ejected { until, .. } => Some(Out::Until(until)),
            Self::Probation { .. } => Some(Out::Tried),
        }
    }

    /// It gets a request.
    pub(crate) fn taken(&mut self) {
        if let Self::Ejected { times, .. } = *self {
            *self = Self::Probation { times };
        }
    }

    /// A request ended without a word on the replica: the next one may try.
    pub(crate) fn unknown(&mut self, now: Instant) {
        if let Self::Probation { times } = *self {
            *self = Self::Ejected { until: now, times };
        }
    }

    /// It answered. While it is ejected that says nothing: the answer is to a request of before.
    pub(crate) fn answered(&mut self, now: Instant) {
        match self {
            Self::Good { failures, .. } => *failures = 0,
            Self::Probation { times } => *self = Self::Good { failures: 0, past: Some((*times, now)) },
            Self::Ejected { .. } => {}
        }
    }

    /// It failed. True if it should be ejected.
    pub(crate) fn failed(&mut self, rules: &model::Ejection) -> bool {
        match self {
            Self::Good { failures, .. } => {
                *failures = failures.saturating_add(1);
                *failures >= rules.failures.get()
            }
            Self::Probation { .. } => true,
            Self::Ejected { .. } => false,
        }
    }

    /// Ejects it, until the instant that is returned. One that was good for longer than the longest ejection starts anew.
    pub(crate) fn eject(&mut self, now: Instant, rules: &model::Ejection) -> Instant {
        let recent = |ended: Instant| now.saturating_duration_since(ended) <= rules.longest;
        let before = match *self {
            Self::Good { past: Some((times, ended)), .. } if recent(ended) => times,
            Self::Good { .. } => 0,
            Self::Ejected { times, .. } | Self::Probation { times } => times,
        };
        let length = rules.base.saturating_mul(1 << before.min(DOUBLINGS)).min(rules.longest);
        let until = now + length;
        *self = Self::Ejected { until, times: before.saturating_add(1) };
        until
    }
}

/// How many of so many replicas may be ejected at once: their share, and never the last one.
pub(crate) fn most(serving: usize, rules: &model::Ejection) -> usize {
    let share = serving * rules.max_ejected.whole() as usize / 100;
    share.min(serving.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use proptest::prelude::*;
    use tidegate_config::units::Percent;

    use super::*;

    fn rules(failures: u32, max_ejected: u8) -> model::Ejection {
        model::Ejection {
            failures: NonZeroU32::new(failures).expect("at least one"),
            base: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            max_ejected: Percent::new(max_ejected).expect("a share"),
            ..model::Ejection::default()
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_an_answer_starts_the_row_anew() {
        let (now, rules) = (crate::clock::now(), rules(3, 50));
        for (words, ejects) in
            [("ff", false), ("fff", true), ("ffaff", false), ("affaf", false), ("ffff", true)]
        {
            let mut standing = Standing::NEW;
            let last = words.chars().map(|word| match word {
                'f' => standing.failed(&rules),
                _ => {
                    standing.answered(now);
                    false
                }
            });
            assert_eq!(last.last(), Some(ejects), "{words}");
        }
    }

    #[test]
    fn each_ejection_lasts_twice_as_long_until_one_trial_goes_well() {
        let (mut now, rules) = (crate::clock::now(), rules(1, 50));
        let mut standing = Standing::NEW;
        for want in [1, 2, 4, 8, 16, 30, 30] {
            let until = standing.eject(now, &rules);
            assert_eq!(until - now, Duration::from_secs(want));
            assert!(!standing.is_open(now) && standing.is_open(until));
            standing.taken();
            assert!(!standing.is_open(until), "one request tries, no more");
            assert!(standing.failed(&rules), "a trial that fails ejects at once");
            now = until;
        }
        standing.answered(now);
        assert!(standing.is_open(now) && standing.out().is_none());
        for (later, want, why) in [(30, 60, "it has not been good for long"), (31, 1, "that was long ago")] {
            let (mut standing, later) = (standing, now + Duration::from_secs(later));
            let length = standing.eject(later, &rules) - later;
            assert_eq!(length, Duration::from_secs(want).min(rules.longest), "{why}");
        }
    }

    #[test]
    fn a_trial_that_says_nothing_is_followed_by_another() {
        let (now, rules) = (crate::clock::now(), rules(1, 50));
        let mut standing = Standing::NEW;
        let until = standing.eject(now, &rules);
        standing.answered(now);
        assert!(!standing.is_open(now), "an answer to a request of before says nothing");
        standing.taken();
        standing.unknown(until);
        assert!(standing.is_open(until));
    }

    #[test]
    fn the_last_one_stays() {
        for (serving, share, want) in [
            (0, 100, 0),
            (1, 100, 0),
            (2, 50, 1),
            (2, 100, 1),
            (3, 50, 1),
            (4, 50, 2),
            (10, 5, 0),
            (20, 5, 1),
        ] {
            assert_eq!(most(serving, &rules(1, share)), want, "{serving} with {share} %");
        }
    }

    proptest! {
        #[test]
        fn an_ejection_ends(fates in proptest::collection::vec(0_u8..3, 0..200)) {
            let (mut now, rules) = (crate::clock::now(), rules(2, 50));
            let mut standing = Standing::NEW;
            for fate in fates {
                if standing.is_open(now) {
                    standing.taken();
                }
                match fate {
                    0 => standing.answered(now),
                    1 => standing.unknown(now),
                    _ if standing.failed(&rules) => prop_assert!(standing.eject(now, &rules) > now),
                    _ => {}
                }
                now += Duration::from_millis(700);
                let tried = matches!(standing, Standing::Probation { .. });
                prop_assert!(tried || standing.is_open(now + rules.longest), "{standing:?}");
            }
        }
    }
}
