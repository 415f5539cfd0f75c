//! How many requests come per second, now and when a start would be over. Fed with whole seconds by the law
//! [`work`](crate::policy::work).
//!
//! Averages, from a few seconds to a quarter of an hour, and the trends between them compete: the one that has predicted the
//! recent past best is believed, as long as quicker averages do not differ from it by more than they usually do. So traffic
//! that is all noise is averaged for long, a ramp is followed, and a step shows within seconds.
//! Absent: clocks; a second's place in the row is its time.

mod contest;
mod surges;

use self::{contest::Contest, surges::Surges};

/// Averages: time constants of 2 s, 4 s, ... 1024 s.
const AVERAGES: usize = 10;
const SHORTEST: f64 = 2.0;
/// The one over 32 s.
const HALF_A_MINUTE: usize = 4;
/// Trends: of each average and the one that is twice as slow, but for the slowest.
const TRENDS: usize = AVERAGES - 2;
/// A trend at most multiplies or divides an average by this.
const STEEPEST: f64 = 2.0;
/// A quicker average counts if it differs by so many of its usual deviations.
const SIGNIFICANT: f64 = 4.0;
/// What the average over this part of the seconds of a prediction does not show is a surge.
const SHOWN: f64 = 0.5;
/// Who has not been watched for long is taken to have been silent for so many seconds before.
const SILENT: f64 = 4.0;
/// Weight of the newest second in what is remembered of deviations.
const DEVIATIONS: f64 = 0.003;
/// No single second counts for more than so many times what is usual: a step is no reason to expect steps.
const UNUSUAL: f64 = 4.0;
/// Below this a rate is none: an hour's average of less than one request.
const NOTHING: f64 = 1e-4;
/// Predictions are judged after so many seconds at the least, and at the most.
const JUDGED: std::ops::RangeInclusive<f64> = 4.0..=60.0;

/// Arrivals, second by second.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// Seconds that have been counted, as far as that matters.
    seconds: f64,
    averages: [f64; AVERAGES],
    /// Squares of how far each is from the next but one, or from the last, over the rate.
    deviations: [f64; AVERAGES],
    contest: Contest,
    surges: Surges,
    /// For how many seconds predictions are of use.
    ahead: f64,
}

/// Requests per second that are to be expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Expected {
    /// What there is without the surge,
    pub usual: f64,
    /// and with it; the same where there is none.
    pub surge: f64,
    /// What usually predicts best does not say so, but something quicker.
    pub sudden: bool,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            averages: [0.0; AVERAGES],
            deviations: std::array::from_fn(chance),
            contest: Contest::of(0.0),
            surges: Surges::default(),
            ahead: 0.0,
        }
    }
}

impl Rates {
    /// One more second in which so many requests came; `ahead`: for how many seconds predictions are of use.
    pub fn record(&mut self, arrived: f64, ahead: f64) {
        self.ahead = ahead;
        self.seconds = (self.seconds + 1.0).min(1e6);
        for (at, average) in self.averages.iter_mut().enumerate() {
            let weight = (1.0 / constant(at)).max(1.0 / (self.seconds + SILENT));
            *average += weight * (arrived - *average);
        }
        self.deviate();
        self.surges.record(self.expects(0.0), self.averages[0], judged_after(ahead));
        let averages = &self.averages;
        self.contest.count(arrived, ahead, |who| says(averages, who, ahead / 2.0));
    }

    /// Per second as of now.
    #[must_use]
    pub fn now(&self) -> f64 {
        let best = self.best();
        let said = self.says(best, 0.0);
        match self.contradicted(said, average(best)) {
            Some(more) if more > said => said + self.surges.lasting(1.0) * (more - said),
            Some(less) => less,
            None => said,
        }
    }

    /// What is to be expected in so many seconds.
    #[must_use]
    pub fn expects(&self, seconds: f64) -> Expected {
        let best = self.best();
        let said = self.says(best, seconds);
        let quicker = self.contradicted(self.says(best, 0.0), average(best));
        let surge = quicker.unwrap_or(said);
        let slow = self.slow();
        let surges = average(best) < slow && self.contradicted(self.averages[slow], slow).is_some();
        let usual = if surges { self.averages[slow] } else { said };
        Expected { usual: usual.min(surge), surge, sudden: quicker.is_some() }
    }

    /// For how many seconds there has been a surge.
    #[must_use]
    pub fn surges_for(&self) -> f64 {
        self.surges.age()
    }

    /// The part of a surge that is to be expected to last through a start, as earlier ones did; `guess`: as far as one knows
    /// without them.
    #[must_use]
    pub fn lasting(&self, guess: f64) -> f64 {
        self.surges.lasting(guess)
    }

    /// Whether fewer have come per second than `least`, on an average that forgets in half a minute.
    #[must_use]
    pub fn is_silent(&self, least: f64) -> bool {
        self.averages[HALF_A_MINUTE] < least
    }

    fn best(&self) -> usize {
        self.contest.best(self.averages[AVERAGES - 1], self.ahead)
    }

    fn says(&self, who: usize, seconds: f64) -> f64 {
        says(&self.averages, who, seconds)
    }

    /// The rate of a quicker average which differs from this one by too much for chance.
    fn contradicted(&self, rate: f64, from: usize) -> Option<f64> {
        (0..from).rev().fold(None, |quicker, at| {
            let rate = quicker.unwrap_or(rate);
            let usual = (self.deviations[at].max(chance(at)) * rate.max(NOTHING)).sqrt();
            let least = 1.0 / constant(at);
            let differs = (self.averages[at] - rate).abs() > SIGNIFICANT * usual + least;
            if differs { Some(self.averages[at]) } else { quicker }
        })
    }

    /// The average that is too slow for a surge.
    fn slow(&self) -> usize {
        (0..AVERAGES - 1).find(|at| constant(*at) >= SHOWN * self.ahead).unwrap_or(AVERAGES - 1)
    }

    fn deviate(&mut self) {
        for at in 0..AVERAGES - 1 {
            let (quick, slow) = (self.averages[at], self.averages[(at + 2).min(AVERAGES - 1)]);
            if slow > NOTHING {
                let square = (quick - slow).powi(2) / slow;
                self.deviations[at] +=
                    DEVIATIONS * (square.min(UNUSUAL * self.deviations[at]) - self.deviations[at]);
            }
        }
    }
}

/// What one of those that compete says of the rate in so many seconds.
fn says(averages: &[f64; AVERAGES], who: usize, seconds: f64) -> f64 {
    let Some(at) = who.checked_sub(AVERAGES) else { return averages[who] };
    let (quick, slow) = (averages[at], averages[at + 1]);
    // Behind a steady trend each lags by its time constant (Brown, "Statistical Forecasting for Inventory Control", 1959).
    let trend = (quick - slow) / constant(at);
    (quick + trend * (constant(at) + seconds)).clamp(quick / STEEPEST, quick * STEEPEST)
}

/// After how many seconds it is seen what became of what was said.
fn judged_after(ahead: f64) -> f64 {
    ahead.clamp(*JUDGED.start(), *JUDGED.end())
}

/// The average that one of those that compete is, or that it begins with.
fn average(who: usize) -> usize {
    who.checked_sub(AVERAGES).unwrap_or(who)
}

fn constant(at: usize) -> f64 {
    SHORTEST * f64::from(1_u32 << at)
}

/// The variance over mean of an average of independent requests.
fn chance(at: usize) -> f64 {
    0.5 / constant(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds of each rate, alternating by one around it so that there is some noise.
    fn after(steps: &[(usize, f64)]) -> Rates {
        let mut rates = Rates::default();
        for (seconds, rate) in steps {
            for second in 0..*seconds {
                let noise = if second % 2 == 0 { 1.0 } else { -1.0 };
                rates.record((rate + noise).max(0.0), 8.0);
            }
        }
        rates
    }

    #[test]
    fn what_is_steady_is_told_exactly() {
        let rates = after(&[(600, 20.0)]);
        assert!((rates.now() - 20.0).abs() < 0.3, "{}", rates.now());
        let Expected { usual, surge, .. } = rates.expects(0.0);
        assert!(surge - usual < 0.3, "{usual} and {surge}");
    }

    #[test]
    fn a_step_shows_within_seconds_up_and_down() {
        let up = after(&[(600, 10.0), (3, 30.0)]);
        assert!(up.now() > 15.0, "{}", up.now());
        let down = after(&[(600, 30.0), (20, 5.0)]);
        assert!(down.now() < 10.0, "{}", down.now());
    }

    #[test]
    fn a_clump_among_clumps_is_nothing_new() {
        let mut rates = Rates::default();
        for second in 0..3000 {
            rates.record(if second % 10 == 0 { 10.0 } else { 0.0 }, 8.0);
        }
        rates.record(10.0, 8.0);
        assert!((0.7..2.0).contains(&rates.now()), "{}", rates.now());
    }

    /// What is expected at the height of a surge to 20 per second, from 1, after fifty others that lasted so many seconds each.
    fn at_a_surge(lasted: usize) -> f64 {
        let mut rates = Rates::default();
        let mut go = |seconds: usize, rate: f64| (0..seconds).for_each(|_| rates.record(rate, 8.0));
        for _ in 0..50 {
            go(200, 1.0);
            go(lasted, 20.0);
        }
        go(200, 1.0);
        go(4, 20.0);
        rates.now()
    }

    #[test]
    fn a_surge_is_believed_as_far_as_others_lasted() {
        let (short, long) = (at_a_surge(4), at_a_surge(60));
        assert!(short < 0.6 * long && long > 10.0, "{short} after short ones, {long} after long ones");
    }

    #[test]
    fn a_trend_that_has_lasted_is_taken_further() {
        let mut rates = Rates::default();
        for second in 0..600 {
            rates.record(f64::from(second), 10.0);
        }
        let Expected { usual, surge, .. } = rates.expects(10.0);
        assert!((605.0..615.0).contains(&surge), "{usual} to {surge} ten seconds behind 599 and rising");
    }

    #[test]
    fn silence_is_noticed() {
        assert!(!after(&[(600, 20.0)]).is_silent(0.01));
        let mut rates = after(&[(600, 20.0)]);
        (0..600).for_each(|_| rates.record(0.0, 8.0));
        assert!(rates.is_silent(0.01) && rates.now() < 0.01, "{}", rates.now());
    }
}
