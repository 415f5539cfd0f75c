//! Whether one more request may come: the generic cell rate algorithm, for each caller. Pure; time is an argument.
//! Holds: bounded memory, whoever comes. Owned by [`limits`](super::limits), and by the
//! listener for handshakes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tidegate_config::model::RateLimit;

/// What some of the callers have used.
#[derive(Debug)]
pub(crate) struct Buckets {
    interval: Duration,
    /// How far a caller may be ahead of its rate.
    ahead: Duration,
    most: usize,
    /// Up to when the allowance of each is used.
    used: HashMap<u64, Instant>,
}

impl Buckets {
    /// For `most` callers at once.
    pub(crate) fn new(limit: &RateLimit, most: usize) -> Self {
        let interval = limit.rate.interval();
        Self { interval, ahead: interval.saturating_mul(limit.burst), most, used: HashMap::new() }
    }

    /// Counts one more request of `caller`, or says when one may come.
    pub(crate) fn take(&mut self, caller: u64, now: Instant) -> Result<(), Instant> {
        let before = self.used.get(&caller).copied();
        let until = before.unwrap_or(now).max(now) + self.interval;
        // In whole intervals: rounding must not take away from the burst.
        if let Some(again) = until.checked_sub(self.ahead).filter(|again| *again > now) {
            return Err(again);
        }
        if before.is_none() && self.used.len() >= self.most {
            self.make_room(now);
        }
        self.used.insert(caller, until);
        Ok(())
    }

    /// Forgets those that are as good as new, or else the one that used least.
    fn make_room(&mut self, now: Instant) {
        self.used.retain(|_, until| *until > now);
        if self.used.len() >= self.most
            && let Some(least) = self.used.iter().min_by_key(|(_, until)| **until).map(|(caller, _)| *caller)
        {
            self.used.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(rate: &str, burst: u32, most: usize) -> Buckets {
        let limit = RateLimit { burst, ..RateLimit::to(rate.parse().expect("a rate")) };
        Buckets::new(&limit, most)
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let (mut buckets, now) = (buckets("10/s", 3, 100), crate::clock::now());
        let tenth = Duration::from_millis(100);
        for _ in 0..3 {
            assert_eq!(buckets.take(1, now), Ok(()));
        }
        assert_eq!(buckets.take(1, now), Err(now + tenth));
        assert_eq!(buckets.take(2, now), Ok(()), "others may");
        assert_eq!(buckets.take(1, now + tenth), Ok(()));
        assert_eq!(buckets.take(1, now + tenth), Err(now + 2 * tenth));
        for _ in 0..3 {
            assert_eq!(buckets.take(1, now + 10 * tenth), Ok(()), "after a pause");
        }
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let (mut buckets, now) = (buckets("1/s", 1, 100), crate::clock::now());
        assert_eq!(buckets.take(1, now), Ok(()));
        for _ in 0..1000 {
            assert!(buckets.take(1, now).is_err());
        }
        assert_eq!(buckets.take(1, now + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_who_used_least_is_forgotten() {
        let (mut buckets, now) = (buckets("1/m", 2, 10), crate::clock::now());
        assert_eq!((buckets.take(0, now), buckets.take(0, now)), (Ok(()), Ok(())));
        for caller in 1..1000 {
            assert_eq!(buckets.take(caller, now + Duration::from_micros(caller)), Ok(()));
        }
        assert_eq!(buckets.used.len(), 10);
        assert!(buckets.take(0, now + Duration::from_secs(1)).is_err(), "a flood of others frees nobody");
    }
}
