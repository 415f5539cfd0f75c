//! What retries may cost: 20 % of the requests of the last 10 s, plus 10 per second. Pure.
//! Bounds what a failing backend gets on top (compare Finagle's and linkerd's retry budgets).

use std::time::Instant;

/// The window, in whole seconds.
const SECONDS: usize = 10;
/// Retries per request.
const SHARE: f64 = 0.2;
/// Retries that are always allowed, per second.
const RESERVE: f64 = 10.0;

/// Counts requests and retries of the last ten seconds.
#[derive(Debug)]
pub(crate) struct Budget {
    start: Instant,
    second: u64,
    requests: [u32; SECONDS],
    retries: [u32; SECONDS],
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { start: now, second: 0, requests: [0; SECONDS], retries: [0; SECONDS] }
    }

    /// A request was sent for the first time.
    pub(crate) fn request(&mut self, now: Instant) {
        let slot = self.slot(now);
        self.requests[slot] = self.requests[slot].saturating_add(1);
    }

    /// Whether one more retry is within the budget; counts it if so.
    pub(crate) fn retry(&mut self, now: Instant) -> bool {
        self.within(now, SHARE, RESERVE)
    }

    /// Whether one more is within this share of the requests and so many per second; counts it if so.
    pub(crate) fn within(&mut self, now: Instant, share: f64, reserve: f64) -> bool {
        let slot = self.slot(now);
        let sum = |of: &[u32]| of.iter().map(|n| f64::from(*n)).sum::<f64>();
        #[expect(clippy::cast_precision_loss, reason = "ten")]
        let allowed = share * sum(&self.requests) + reserve * SECONDS as f64;
        let within = sum(&self.retries) < allowed;
        self.retries[slot] += u32::from(within);
        within
    }

    /// The current second's slot; those of seconds that have passed are emptied.
    fn slot(&mut self, now: Instant) -> usize {
        let second = now.saturating_duration_since(self.start).as_secs();
        let index = |second: u64| usize::try_from(second % SECONDS as u64).expect("less than ten");
        for passed in (self.second + 1..=second).take(SECONDS) {
            (self.requests[index(passed)], self.retries[index(passed)]) = (0, 0);
        }
        self.second = self.second.max(second);
        index(self.second)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn retries(budget: &mut Budget, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.retry(now)).take(10_000).take_while(|within| *within).count()
    }

    #[test]
    fn a_fifth_of_the_requests_and_ten_a_second() {
        let start = crate::clock::now();
        let mut budget = Budget::new(start);
        assert_eq!(retries(&mut budget, start), 100);
        let mut budget = Budget::new(start);
        (0..1000).for_each(|_| budget.request(start));
        assert_eq!(retries(&mut budget, start), 300);
    }

    #[test]
    fn what_is_older_than_ten_seconds_is_forgotten() {
        let start = crate::clock::now();
        let mut budget = Budget::new(start);
        (0..1000).for_each(|_| budget.request(start));
        retries(&mut budget, start);
        assert_eq!(retries(&mut budget, start + Duration::from_secs(9)), 0);
        assert_eq!(retries(&mut budget, start + Duration::from_secs(10)), 100);
    }
}
