//! Who of several predicts best: what each said some seconds ago is compared with what came since. Used by the
//! [forecast](super). Absent: what they say.

use super::{AVERAGES, NOTHING, TRENDS, average, constant, judged_after};

/// Those that compete: averages, then trends.
const ALL: usize = AVERAGES + TRENDS;
/// Weight of the newest comparison in what is remembered of errors.
const ERRORS: f64 = 0.02;
/// What is known of errors without any comparison counts for so many.
const GRANTED: f64 = 3.0;
/// Predictions for so many times as long, or for as much less, are others: what is known of errors says nothing of theirs.
const OTHERS: f64 = 3.0;
/// A trend errs by so many times the square of its quicker average.
const TREND: f64 = 4.0;

/// What each said, what came since, and the squares of their errors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contest {
    said: [f64; ALL],
    came: f64,
    seconds: f64,
    errors: [f64; ALL],
    /// Weight of what is taken for granted.
    granted: f64,
    /// For how many seconds predictions were when this began.
    ahead: f64,
}

impl Contest {
    /// Of predictions for so many seconds; nothing is known of them.
    pub(super) fn of(ahead: f64) -> Self {
        let granted = ERRORS * GRANTED;
        Self { said: [0.0; ALL], came: 0.0, seconds: 0.0, errors: [0.0; ALL], granted, ahead }
    }

    /// One more second in which so many came. Predictions are for `ahead` seconds; all are judged after some, and then asked anew
    /// what they say.
    pub(super) fn count(&mut self, arrived: f64, ahead: f64, says: impl Fn(usize) -> f64) {
        if ahead > OTHERS * self.ahead || ahead < self.ahead / OTHERS {
            *self = Self::of(ahead);
        }
        self.came += arrived;
        self.seconds += 1.0;
        if self.seconds < judged_after(ahead) {
            return;
        }
        let came = self.came / self.seconds;
        for (error, said) in self.errors.iter_mut().zip(self.said) {
            *error += ERRORS * ((said - came).powi(2) - *error);
        }
        self.granted *= 1.0 - ERRORS;
        self.said = std::array::from_fn(says);
        (self.came, self.seconds) = (0.0, 0.0);
    }

    /// The one that has erred the least, where so many requests per second are usual and predictions are for `ahead` seconds.
    pub(super) fn best(&self, rate: f64, ahead: f64) -> usize {
        let square = |who: usize| self.errors[who] + self.granted * expected(who, rate, ahead);
        (0..ALL).min_by(|a, b| square(*a).total_cmp(&square(*b))).unwrap_or(0)
    }
}

/// The square by which one errs as far as nothing is known: by chance if it is quick, and for lagging behind if it is slow. The best
/// average is the one that takes as long as the predictions (steady state of a random walk with noise: Muth, "Optimal Properties of
/// Exponentially Weighted Forecasts", 1960).
fn expected(who: usize, rate: f64, ahead: f64) -> f64 {
    let (constant, ahead) = (constant(average(who)), ahead.max(1.0));
    let square = rate.max(NOTHING) / 2.0 * (1.0 / constant + constant / ahead.powi(2));
    if who < AVERAGES { square } else { TREND * square }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_anything_is_known_the_average_is_as_long_as_the_predictions() {
        for (ahead, seconds) in [(2.0, 2.0), (9.0, 8.0), (60.0, 64.0)] {
            let best = Contest::of(ahead).best(0.05, ahead);
            assert_eq!((best < AVERAGES, constant(average(best))), (true, seconds), "{ahead}");
        }
    }

    #[test]
    fn who_errs_less_is_believed_after_some_comparisons() {
        let (mut contest, trend) = (Contest::of(8.0), AVERAGES + 2);
        let says = |who| if who == trend { 10.0 } else { 9.0 };
        (0..320).for_each(|_| contest.count(10.0, 8.0, says));
        assert_eq!(contest.best(10.0, 8.0), trend);
        contest.count(10.0, 20.0, says);
        assert_eq!(contest.best(10.0, 20.0), trend, "starts vary");
        contest.count(10.0, 60.0, says);
        assert_eq!(
            contest.best(10.0, 60.0),
            5,
            "what predicts the next seconds says nothing of the next minute"
        );
    }
}
