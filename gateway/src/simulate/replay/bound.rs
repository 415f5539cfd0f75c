//! The clairvoyant lower bound: the replica-seconds that it takes at the least to serve every request as it comes, by
//! somebody who knows all requests, starts replicas in time and moves running requests between them at will.
//! No policy can do with less unless requests wait.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// Adds up `ceil(running / slots)` over time, request by request.
#[derive(Debug)]
pub(super) struct Least {
    slots: u32,
    ends: BinaryHeap<Reverse<Duration>>,
    counted: Duration,
    seconds: f64,
}

impl Least {
    /// `slots`: requests at once per replica.
    pub(super) fn new(slots: u32) -> Self {
        Self { slots: slots.max(1), ends: BinaryHeap::new(), counted: Duration::ZERO, seconds: 0.0 }
    }

    /// A request comes and would end after so long.
    pub(super) fn arrives(&mut self, at: Duration, takes: Duration) {
        self.count_to(at);
        self.ends.push(Reverse(at + takes));
    }

    /// All, to the end of the last request.
    pub(super) fn seconds(mut self) -> f64 {
        self.count_to(Duration::MAX);
        self.seconds
    }

    fn count_to(&mut self, to: Duration) {
        while let Some(Reverse(end)) = self.ends.peek().copied().filter(|Reverse(end)| *end <= to) {
            self.add(end);
            self.ends.pop();
        }
        self.add(to);
    }

    fn add(&mut self, to: Duration) {
        let running = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        let replicas = running.div_ceil(self.slots);
        self.seconds += f64::from(replicas) * to.saturating_sub(self.counted).as_secs_f64();
        self.counted = self.counted.max(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(slots: u32, requests: &[(u64, u64)], want: f64) {
        let mut least = Least::new(slots);
        for (at, takes) in requests {
            least.arrives(Duration::from_secs(*at), Duration::from_secs(*takes));
        }
        let got = least.seconds();
        assert!((got - want).abs() < 1e-9, "{requests:?} on {slots}: {got}");
    }

    #[test]
    fn as_many_replicas_as_run_at_once() {
        check(1, &[], 0.0);
        check(1, &[(0, 10), (5, 10)], 20.0);
        check(2, &[(0, 10), (5, 10)], 15.0);
        check(2, &[(0, 10), (5, 10), (6, 2)], 17.0);
        check(1, &[(90, 50)], 50.0);
    }
}
