//! Which of the settings that were tried is recommended, and how sure one can be. Pure.

use crate::simulate::replay::Outcome;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Aim {
    /// The cheapest with at most this share of late requests, as a fraction.
    Share(f64),
    /// Least in sum, where a late request costs so many replica-seconds.
    Worth(f64),
}

/// The best of some outcomes, by its place; of equals the first. `None`: there are none.
pub(super) fn best<'o>(outcomes: impl IntoIterator<Item = &'o Outcome>, aim: Aim) -> Option<usize> {
    let rank = |outcome: &Outcome| match aim {
        // Where none reaches the share, the one that comes closest.
        Aim::Share(share) if outcome.late_share() > share => (1, outcome.late_share()),
        Aim::Share(_) => (0, outcome.replica_seconds),
        Aim::Worth(worth) => (0, outcome.replica_seconds + worth * count(outcome.late)),
    };
    let ranks = outcomes.into_iter().map(rank).enumerate();
    ranks.min_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(place, _)| place)
}

/// A figure of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) mean: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// The mean of some runs, and how far they are apart. Without runs: nothing, nowhere.
pub(super) fn spread(values: impl Iterator<Item = f64> + Clone) -> Spread {
    let runs = values.clone().count();
    if runs == 0 {
        return Spread { mean: 0.0, least: 0.0, most: 0.0 };
    }
    Spread {
        mean: values.clone().sum::<f64>() / count(runs as u64),
        least: values.clone().fold(f64::INFINITY, f64::min),
        most: values.fold(f64::NEG_INFINITY, f64::max),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests or runs")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(late: u64, replica_seconds: f64) -> Outcome {
        Outcome { requests: 1000, late, replica_seconds, ..Outcome::default() }
    }

    #[test]
    fn the_cheapest_that_is_good_enough_or_the_closest() {
        let tried = [outcome(50, 100.0), outcome(9, 300.0), outcome(10, 200.0), outcome(0, 900.0)];
        assert_eq!(best(&tried, Aim::Share(0.01)), Some(2));
        assert_eq!(best(&tried, Aim::Share(0.0)), Some(3));
        assert_eq!(best(&tried[..2], Aim::Share(0.001)), Some(1), "none is good enough");
        assert_eq!(best(&[], Aim::Share(0.01)), None);
    }

    #[test]
    fn what_a_late_request_is_worth_decides() {
        let tried = [outcome(50, 100.0), outcome(10, 200.0), outcome(0, 900.0)];
        for (worth, place) in [(1.0, 0), (10.0, 1), (100.0, 2)] {
            assert_eq!(best(&tried, Aim::Worth(worth)), Some(place), "{worth}");
        }
    }

    #[test]
    fn runs_have_a_mean_and_ends() {
        assert_eq!(spread([1.0, 2.0, 6.0].into_iter()), Spread { mean: 3.0, least: 1.0, most: 6.0 });
        assert_eq!(spread([].into_iter()), Spread { mean: 0.0, least: 0.0, most: 0.0 });
    }
}
