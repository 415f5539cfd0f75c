//! When an authority is asked for a certificate: at once if there is none, else when two thirds of its life are over; after
//! a failure later and later. Pure.

use std::time::{Duration, SystemTime};

/// After the first failure. Authorities bound failures per hour, so this is not soon.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// However often it failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(12 * 3600);

/// What came of asking so far, since it last went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    failures: u32,
    last: Option<SystemTime>,
}

impl Tries {
    /// One more failure.
    pub(super) fn failed(self, now: SystemTime) -> Self {
        Self { failures: self.failures.saturating_add(1), last: Some(now) }
    }

    /// When the next one is allowed; `None`: at once.
    fn again(self) -> Option<SystemTime> {
        let doublings = self.failures.saturating_sub(1).min(16);
        Some(self.last? + FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE))
    }
}

/// When to ask for a certificate that there is from `(begin, end)`, or not yet.
pub(super) fn due(good: Option<(SystemTime, SystemTime)>, tries: Tries) -> SystemTime {
    let renewal = good.map_or(SystemTime::UNIX_EPOCH, |(begin, end)| {
        begin + end.duration_since(begin).unwrap_or_default() * 2 / 3
    });
    tries.again().map_or(renewal, |again| again.max(renewal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600)
    }

    #[test]
    fn renewal_is_at_two_thirds_and_failures_put_it_off() {
        let good = Some((at(0), at(90 * 24)));
        let (none, once) = (Tries::default(), Tries::default().failed(at(1)));
        for (good, tries, want) in [
            (None, none, at(0)),
            (good, none, at(60 * 24)),
            (None, once, at(1) + FIRST_PAUSE),
            (None, once.failed(at(2)), at(2) + 2 * FIRST_PAUSE),
            (good, once, at(60 * 24)),
        ] {
            assert_eq!(due(good, tries), want, "{tries:?}");
        }
        let often = (0..100).fold(none, |tries, _| tries.failed(at(5)));
        assert_eq!(due(None, often), at(5) + LONGEST_PAUSE);
    }
}
