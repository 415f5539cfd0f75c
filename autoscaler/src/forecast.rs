//! How many requests come per second, now and over the time that a start takes. Fed with whole seconds by the law
//! [`work`](crate::policy::work).
//!
//! Several averages, from a few seconds to a quarter of an hour, and Holt's method compete: the one that has predicted the
//! recent past best is believed, as long as quicker ones do not differ from it by more than they usually do. So traffic
//! that is all noise is averaged for long, and a step shows within seconds.
//! Absent: clocks; a second's place in the row is its time.

/// Averages: time constants of 4 s, 8 s, ... 1024 s.
const AVERAGES: usize = 9;
const SHORTEST: f64 = 4.0;
/// A quicker average counts if it differs by so many of its usual deviations.
const SIGNIFICANT: f64 = 4.0;
/// Who has not been watched for long is taken to have been silent for so many seconds before.
const SILENT: f64 = 4.0;
/// Holt's method: weight of the newest level and trend, and how much of the trend is left with each second (Gardner and
/// McKenzie 1985).
const ALPHA: f64 = 0.5;
const BETA: f64 = 0.1;
const PHI: f64 = 0.9;
/// Weight of the newest comparison in what is remembered of errors.
const ERRORS: f64 = 0.02;
/// Weight of the newest second in what is remembered of deviations.
const DEVIATIONS: f64 = 0.003;
/// No single second counts for more than so many times what is usual: a step is no reason to expect steps.
const UNUSUAL: f64 = 4.0;
/// What is remembered of surges: the weight of each fades by this with the next, and so many that lasted are taken for granted.
const FADES: f64 = 0.95;
const GRANTED: f64 = 4.0;
/// Below this a rate is none: an hour's average of less than one request.
const NOTHING: f64 = 1e-4;

/// Arrivals, second by second.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// Seconds that have been counted, as far as that matters.
    seconds: f64,
    averages: [f64; AVERAGES],
    /// Squares of how far each is from the next but one, or from the last, over the rate.
    deviations: [f64; AVERAGES],
    level: f64,
    trend: f64,
    contest: Contest,
    surges: Surges,
}

/// Who predicts best: what each said some seconds ago is compared with what came since.
#[derive(Debug, Clone, PartialEq, Default)]
struct Contest {
    said: [f64; AVERAGES + 1],
    came: f64,
    seconds: f64,
    errors: [f64; AVERAGES + 1],
}

/// How much of a surge was still there when what was started for it would have been ready.
#[derive(Debug, Clone, PartialEq, Default)]
struct Surges {
    /// The rate that usually predicts best, and the higher one that was believed instead.
    believed: Option<(f64, f64)>,
    seen: f64,
    lasted: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            averages: [0.0; AVERAGES],
            deviations: std::array::from_fn(chance),
            level: 0.0,
            trend: 0.0,
            contest: Contest::default(),
            surges: Surges::default(),
        }
    }
}

impl Rates {
    /// One more second in which so many requests came; `ahead`: for how many seconds predictions are of use.
    pub fn record(&mut self, arrived: f64, ahead: f64) {
        self.seconds = (self.seconds + 1.0).min(1e6);
        for (at, average) in self.averages.iter_mut().enumerate() {
            let weight = (1.0 / constant(at)).max(1.0 / (self.seconds + SILENT));
            *average += weight * (arrived - *average);
        }
        self.trace(arrived);
        for at in 0..AVERAGES - 1 {
            let (quick, slow) = (self.averages[at], self.averages[(at + 2).min(AVERAGES - 1)]);
            if slow > NOTHING {
                let square = (quick - slow).powi(2) / slow;
                self.deviations[at] +=
                    DEVIATIONS * (square.min(UNUSUAL * self.deviations[at]) - self.deviations[at]);
            }
        }
        self.contest.came += arrived;
        self.contest.seconds += 1.0;
        if self.contest.seconds >= ahead.clamp(4.0, 60.0) {
            self.judge(ahead);
        }
    }

    /// Per second as of now.
    #[must_use]
    pub fn now(&self) -> f64 {
        let (usual, believed) = self.believed();
        if believed > usual { usual + self.surges.last() * (believed - usual) } else { believed }
    }

    /// Whether a quicker average is believed than the one that usually predicts best.
    #[must_use]
    pub fn is_contradicted(&self) -> bool {
        let (usual, believed) = self.believed();
        (believed - usual).abs() > 0.0
    }

    /// What is to be expected within so many seconds.
    #[must_use]
    pub fn ahead(&self, seconds: f64) -> f64 {
        let best = self.best();
        if best == AVERAGES { self.holt(seconds).max(self.averages[0]) } else { self.now() }
    }

    /// The part of a surge that is to be expected to last through a start, as earlier ones did.
    #[must_use]
    pub fn lasting(&self) -> f64 {
        self.surges.last()
    }

    /// Whether next to nothing has come for a minute.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.averages[3] < 0.01
    }

    /// The rate that usually predicts best, and what quicker averages make of it.
    fn believed(&self) -> (f64, f64) {
        let best = self.best().min(AVERAGES - 1);
        (self.averages[best], self.contradicted(self.averages[best], best))
    }

    fn best(&self) -> usize {
        let errors = self.contest.errors.iter().enumerate();
        errors.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(at, _)| at)
    }

    /// The rate, or that of a quicker average which differs from it too much for chance.
    fn contradicted(&self, mut rate: f64, from: usize) -> f64 {
        for at in (0..from).rev() {
            let usual = (self.deviations[at].max(chance(at)) * rate.max(NOTHING)).sqrt();
            let least = 1.0 / constant(at);
            if (self.averages[at] - rate).abs() > SIGNIFICANT * usual + least {
                rate = self.averages[at];
            }
        }
        rate
    }

    fn trace(&mut self, arrived: f64) {
        let level = ALPHA * arrived + (1.0 - ALPHA) * (self.level + PHI * self.trend);
        self.trend = BETA * (level - self.level) + (1.0 - BETA) * PHI * self.trend;
        self.level = level;
    }

    /// The mean of what Holt's method expects of so many seconds to come.
    fn holt(&self, seconds: f64) -> f64 {
        let steps = seconds.max(1.0).ceil();
        (self.level + self.trend * PHI * (1.0 - PHI.powf(steps)) / (1.0 - PHI)).max(0.0)
    }

    fn judge(&mut self, ahead: f64) {
        let came = self.contest.came / self.contest.seconds;
        for (error, said) in self.contest.errors.iter_mut().zip(self.contest.said) {
            *error += ERRORS * ((said - came).powi(2) - *error);
        }
        self.surges.judge(came);
        self.surges.believed = Some(self.believed()).filter(|(usual, believed)| believed > usual);
        self.contest.said[..AVERAGES].copy_from_slice(&self.averages);
        self.contest.said[AVERAGES] = self.holt(ahead / 2.0);
        (self.contest.came, self.contest.seconds) = (0.0, 0.0);
    }
}

impl Surges {
    fn judge(&mut self, came: f64) {
        if let Some((usual, believed)) = self.believed.take() {
            let lasted = ((came - usual) / (believed - usual)).clamp(0.0, 1.0);
            self.seen = FADES * self.seen + 1.0;
            self.lasted = FADES * self.lasted + lasted;
        }
    }

    /// The part of a surge that is to be expected to last.
    fn last(&self) -> f64 {
        (GRANTED + self.lasted) / (GRANTED + self.seen)
    }
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
        assert!(!rates.is_contradicted());
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
        assert!((0.7..1.6).contains(&rates.now()), "{}", rates.now());
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
        assert!(rates.ahead(10.0) > 600.0, "{} behind 599 and rising", rates.ahead(10.0));
    }

    #[test]
    fn silence_is_noticed() {
        assert!(!after(&[(600, 20.0)]).is_silent());
        let mut rates = after(&[(600, 20.0)]);
        (0..600).for_each(|_| rates.record(0.0, 8.0));
        assert!(rates.is_silent() && rates.now() < 0.01, "{}", rates.now());
    }
}
