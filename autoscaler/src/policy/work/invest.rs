//! Up when it pays: a start costs its own time and the time that the replica is then held, whatever comes. What goes without it is
//! added up, and what it would have cost is taken off; the replica is bought once that has come to the price of a start (ski
//! rental, Karlin et al., "Competitive Randomized Algorithms for Non-Uniform Problems", SODA 1990; the sum is Page's CUSUM, 1954). In
//! a surge that is at once, in traffic that only fluctuates never.

use std::time::Instant;

use tidegate_config::units::Count;

/// What has gone without more replicas of late, in seconds of a replica.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Purse {
    saved: f64,
    looked: Option<Instant>,
}

/// What a start is judged by, all in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Price {
    /// What a replica costs that turns out not to be needed.
    pub(super) each: f64,
    /// What goes on just now is taken to go on for so long.
    pub(super) ahead: f64,
}

impl Purse {
    /// How many of `wanted` are bought where there are `held`; `cost`: of so many replicas, per second, with all that is late.
    pub(super) fn buy(
        &mut self,
        now: Instant,
        held: Count,
        wanted: Count,
        price: Price,
        cost: impl Fn(Count) -> f64,
    ) -> Count {
        let past = self.looked.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        let gain = |count: Count| cost(held) - cost(count);
        self.saved = (self.saved + gain(wanted.max(held + 1)) * past).max(0.0);
        let pays =
            |count: &Count| self.saved + gain(*count) * price.ahead >= f64::from(*count - held) * price.each;
        let bought = (held + 1..=wanted).rev().find(pays);
        if bought.is_some() {
            self.saved = 0.0;
        }
        bought.unwrap_or(wanted.min(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{origin, secs};

    const PRICE: Price = Price { each: 15.0, ahead: 3.0 };

    /// One more costs 1 and spares `spares`; looked at once a second. When it is bought.
    fn bought(spares: impl Fn(u64) -> f64) -> Option<u64> {
        let (start, mut purse) = (origin(), Purse::default());
        (0..1000).find(|second| {
            let cost = |count: Count| if count > 1 { f64::from(count) } else { 1.0 + spares(*second) };
            let wanted = if spares(*second) > 1.0 { 2 } else { 1 };
            purse.buy(start + secs(*second), 1, wanted, PRICE, cost) == 2
        })
    }

    #[test]
    fn a_surge_is_met_at_once_and_a_small_lasting_gain_in_time() {
        assert_eq!(bought(|_| 100.0), Some(0));
        assert_eq!(bought(|_| 2.0), Some(12), "1 a second, of which three are taken for granted");
        assert_eq!(bought(|_| 1.5), Some(27));
    }

    #[test]
    fn what_only_fluctuates_buys_nothing() {
        assert_eq!(bought(|second| if second % 10 == 0 { 4.0 } else { 0.5 }), None);
        assert_eq!(bought(|_| 0.9), None);
        assert!(bought(|second| if second % 3 == 0 { 0.0 } else { 3.0 }).is_some(), "but mostly does");
    }

    #[test]
    fn as_many_as_pay() {
        let mut purse = Purse::default();
        let cost = |count: Count| f64::from(count) + 20.0 / f64::from(count.max(1));
        assert_eq!(purse.buy(origin(), 1, 6, PRICE, cost), 3, "of six, the last three save too little");
        assert_eq!(purse.buy(origin(), 9, 6, PRICE, cost), 6, "less is no purchase");
    }
}
