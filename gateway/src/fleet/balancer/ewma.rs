//! How long a replica takes to answer: a moving average that follows a peak at once and forgets it over ten seconds.
//! Peak EWMA as in Finagle's and Tower's balancers. Fed by the [`Gate`](crate::fleet::admission::Gate) with what leases
//! report. Pure.
//! Holds: an estimate that nothing feeds sinks towards zero, so that who was slow is tried again.

use std::time::{Duration, Instant};

/// After ten seconds a peak counts for a third: so much of that passes in one.
const PER_SECOND: f64 = 0.1;

/// In so little time less than a thousandth passes.
const FINE: Duration = Duration::from_millis(10);

/// A failed attempt counts as one that took so much longer than usual: who fails fast must not look fast (linkerd's
/// balancer has a penalty for the same reason).
const PENALTY: f64 = 4.0;

/// What a penalty is at least and at most, in seconds.
const PENALTIES: std::ops::RangeInclusive<f64> = 0.1..=5.0;

/// The estimate; none before the first answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PeakEwma(Option<(f64, Instant)>);

impl PeakEwma {
    /// An answer came after so long.
    pub(crate) fn observe(&mut self, now: Instant, after: Duration) {
        let after = after.as_secs_f64();
        let estimate = match self.0 {
            // It would weigh next to nothing.
            Some((before, at)) if after < before && is_fresh(now, at) => return,
            Some((before, at)) if after < before => after + (before - after) * kept(now, at),
            Some(_) | None => after,
        };
        self.0 = Some((estimate, now));
    }

    /// An attempt failed.
    pub(crate) fn penalise(&mut self, now: Instant) {
        let usual = self.read(now).unwrap_or_default();
        self.0 = Some(((usual * PENALTY).clamp(*PENALTIES.start(), *PENALTIES.end()), now));
    }

    /// The estimate in seconds as of now.
    pub(crate) fn read(&self, now: Instant) -> Option<f64> {
        self.0.map(|(estimate, at)| if is_fresh(now, at) { estimate } else { estimate * kept(now, at) })
    }
}

/// Whether an estimate is as good as new: most are looked at thousands of times in a second.
fn is_fresh(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) < FINE
}

/// How much of an estimate is left: e to the minus age over decay.
fn kept(now: Instant, at: Instant) -> f64 {
    let age = now.saturating_duration_since(at).as_secs_f64() * PER_SECOND;
    // The first terms of the series where they are exact enough: an exponential for each request would cost more.
    if age < 0.05 { 1.0 - age + age * age / 2.0 } else { (-age).exp() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers at milliseconds that took milliseconds, then the estimate at the last one, in milliseconds.
    fn check(answers: &[(u64, u64)], at: u64, want: f64) {
        let start = crate::clock::now();
        let ms = Duration::from_millis;
        let mut ewma = PeakEwma::default();
        for (when, after) in answers {
            ewma.observe(start + ms(*when), ms(*after));
        }
        let got = ewma.read(start + ms(at)).expect("an estimate") * 1000.0;
        assert!((got - want).abs() < want / 1000.0, "{answers:?} at {at}: {got} is not {want}");
    }

    #[test]
    fn peaks_count_at_once_and_fade_over_ten_seconds() {
        check(&[(0, 100)], 0, 100.0);
        check(&[(0, 10), (1, 500)], 1, 500.0);
        check(&[(0, 500), (10_000, 0)], 10_000, 500.0 / std::f64::consts::E);
        check(&[(0, 110), (10_000, 10)], 10_000, 10.0 + 100.0 / std::f64::consts::E);
        check(&[(0, 100)], 20_000, 100.0 * (-2.0_f64).exp());
    }

    #[test]
    fn nothing_is_known_before_the_first_answer() {
        assert_eq!(PeakEwma::default().read(crate::clock::now()), None);
    }

    #[test]
    fn failures_are_dear_and_the_dearer_the_more_there_are() {
        let now = crate::clock::now();
        let mut ewma = PeakEwma::default();
        let penalty = |ewma: &mut PeakEwma| {
            ewma.penalise(now);
            ewma.read(now).expect("an estimate")
        };
        ewma.observe(now, Duration::from_millis(1));
        for want in [0.1, 0.4, 1.6, 5.0, 5.0] {
            let got = penalty(&mut ewma);
            assert!((got - want).abs() < 1e-9, "{got} is not {want}");
        }
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_the_smallest_and_the_largest_answer(
            answers in proptest::collection::vec((0_u64..5_000, 1_u64..2_000), 1..50),
        ) {
            let mut now = crate::clock::now();
            let mut ewma = PeakEwma::default();
            for (gap, after) in &answers {
                now += Duration::from_millis(*gap);
                ewma.observe(now, Duration::from_millis(*after));
            }
            let ends = |of: fn(f64, f64) -> f64, from| answers.iter().map(|(_, a)| *a as f64 / 1000.0).fold(from, of);
            let got = ewma.read(now).expect("an estimate");
            prop_assert!(got >= ends(f64::min, f64::MAX) - 1e-9 && got <= ends(f64::max, 0.0) + 1e-9, "{got}");
        }
    }
}
