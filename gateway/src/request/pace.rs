//! How slowly a request's body may come, or an answer be taken: on average, counting only the time in which somebody waits for
//! it. Pure.

use std::time::{Duration, Instant};

/// One body's pace.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Bytes per second.
    least: u64,
    /// Nobody is slow before they have been waited for this long in all.
    grace: Duration,
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// A body of which `least` bytes must come each second, after `grace`.
    pub(crate) fn new(least: u64, grace: Duration) -> Self {
        Self { least, grace, bytes: 0, waited: Duration::ZERO, since: None }
    }

    /// Nothing is there yet. By when something must be, if this wait has just begun.
    pub(crate) fn wait(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        if self.since.is_some() {
            return None;
        }
        let now = *self.since.insert(now());
        let allowed = self.grace.saturating_add(Duration::from_secs(self.bytes / self.least));
        Some(now + allowed.saturating_sub(self.waited))
    }

    /// So many bytes came.
    pub(crate) fn came(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited += now().saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_buys_time_and_only_waiting_costs_it() {
        let (start, second) = (crate::clock::now(), Duration::from_secs(1));
        const GRACE: Duration = Duration::from_secs(10);
        let mut pace = Pace::new(100, GRACE);
        assert_eq!(pace.wait(|| start), Some(start + GRACE));
        assert_eq!(pace.wait(|| start + second), None, "the same wait goes on");
        pace.came(500, || start + 4 * second);
        // The replica took a minute for it.
        let later = start + 64 * second;
        pace.came(0, || panic!("nobody waited"));
        assert_eq!(pace.wait(|| later), Some(later + GRACE + 5 * second - 4 * second));
        pace.came(0, || later + 11 * second);
        assert_eq!(pace.wait(|| later + 11 * second), Some(later + 11 * second));
    }
}
