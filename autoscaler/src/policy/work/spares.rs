//! What a late request less costs under a goal, before anything is learned: as much as the last replica of those that formulas ask for, over the
//! requests that it spares. Used by the law [`work`](super); how much more or less it is then, [`steer`](super::steer) learns.

use std::time::Instant;

/// Averaged over so many seconds.
const USUAL: f64 = 600.0;

/// Requests per second that the last replica spares, on average.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Spares {
    average: f64,
    seconds: f64,
    looked: Option<Instant>,
}

impl Spares {
    /// Since the last look it has been so many per second.
    pub(super) fn count(&mut self, now: Instant, spared: f64) {
        let past = self.looked.replace(now).map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.seconds = (self.seconds + past).min(USUAL);
        if past > 0.0 {
            self.average += (past / self.seconds).min(1.0) * (spared - self.average);
        }
    }

    /// Seconds of a replica for each request; without end where none is spared.
    pub(super) fn price(&self) -> f64 {
        1.0 / self.average.max(1e-9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{origin, secs};

    #[test]
    fn a_request_costs_what_the_last_replica_takes_to_spare_one() {
        let (now, mut spares) = (origin(), Spares::default());
        assert!(spares.price() > 1e6, "nothing is known");
        for second in 0..1000 {
            spares.count(now + secs(second), if second % 10 == 0 { 20.0 } else { 0.0 });
        }
        assert!((0.4..0.6).contains(&spares.price()), "{}", spares.price());
    }
}
