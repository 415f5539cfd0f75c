//! How long a higher rate than usual lasts: how much of it was still there when what was started for it would have been ready.
//! Learned by the [forecast](super).

use super::Expected;

/// From this part of the seconds after which it is judged, what is left of a surge is looked at.
const LOOKED: f64 = 0.5;
/// The weight of each surge fades by this with the next,
const FADES: f64 = 0.99;
/// and what is known without any counts for so many.
const GRANTED: f64 = 1.0;

/// What is remembered of surges.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Surges {
    /// The one that is watched.
    watched: Option<Surge>,
    /// For how many seconds there has been one.
    age: f64,
    seen: f64,
    lasted: f64,
}

/// A higher rate was believed than the usual one.
#[derive(Debug, Clone, PartialEq)]
struct Surge {
    usual: f64,
    highest: f64,
    seconds: f64,
    /// The parts of it that were left, second by second.
    parts: Vec<f64>,
}

impl Surges {
    /// One more second; `now`: the quickest average, `judged_after`: how many seconds after its beginning a surge is judged.
    pub(super) fn record(&mut self, expected: Expected, now: f64, judged_after: f64) {
        let Expected { usual, surge, .. } = expected;
        self.age = if surge > usual { self.age + 1.0 } else { 0.0 };
        let Some(watched) = &mut self.watched else {
            self.watched = (surge > usual).then(|| Surge::begun(usual, surge));
            return;
        };
        watched.look(surge, now, judged_after);
        if watched.seconds >= judged_after {
            self.seen = FADES * self.seen + 1.0;
            self.lasted = FADES * self.lasted + watched.left();
            self.watched = None;
        }
    }

    /// For how many seconds there has been a surge.
    pub(super) fn age(&self) -> f64 {
        self.age
    }

    /// The part of one that is to be expected to last; `guess`: what is known without earlier ones.
    pub(super) fn lasting(&self, guess: f64) -> f64 {
        (GRANTED * guess + self.lasted) / (GRANTED + self.seen)
    }
}

impl Surge {
    fn begun(usual: f64, surge: f64) -> Self {
        Self { usual, highest: surge, seconds: 0.0, parts: Vec::new() }
    }

    /// One more second.
    fn look(&mut self, surge: f64, now: f64, judged_after: f64) {
        self.highest = self.highest.max(surge);
        self.seconds += 1.0;
        if self.seconds >= LOOKED * judged_after {
            self.parts.push(((now - self.usual) / (self.highest - self.usual)).clamp(0.0, 1.0));
        }
    }

    /// The part of it that was left, the median: some of the seconds may be of the next surge.
    fn left(&mut self) -> f64 {
        let middle = self.parts.len() / 2;
        *self.parts.select_nth_unstable_by(middle, f64::total_cmp).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_were_over_too_soon_count_for_more_than_a_guess() {
        let mut surges = Surges::default();
        for second in 0..40 {
            let surge = if second % 20 < 3 { 9.0 } else { 1.0 };
            surges.record(Expected { usual: 1.0, surge, sudden: surge > 1.0 }, surge, 8.0);
        }
        assert!(surges.lasting(1.0) < 0.5, "{}", surges.lasting(1.0));
    }

    #[test]
    fn the_next_one_is_not_what_is_left_of_one() {
        let mut surges = Surges::default();
        for second in 0..600 {
            let surge = if second % 60 < 2 { 10.0 } else { 0.0 };
            surges.record(Expected { usual: 0.0, surge, sudden: surge > 0.0 }, surge, 60.0);
        }
        assert!(surges.lasting(0.0) == 0.0, "{}", surges.lasting(0.0));
    }
}
