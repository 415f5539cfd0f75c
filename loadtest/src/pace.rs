//! Whether the generator itself was fast enough for its figures to mean anything. Two signs, either is enough:
//!
//! - more than 1 % of the requests went out over [`BOUND`] late although nothing but the generator held them back. A
//!   request that waits because all connections are busy is *not* late in this sense: that wait is the server's, and
//!   is in its latency. So lateness counts from its instant or from when a connection came free, whichever is later.
//! - the generator's loop, which should wake every [`BEAT`], stood still (over [`BOUND`]) for more than 1 % of the run:
//!   then answers were read late too, and a connection came free late because of us.

use std::time::Duration;

use serde::Serialize;

/// Delays of the generator's own up to this are normal scheduling.
pub const BOUND: Duration = Duration::from_millis(10);
/// How often the loop checks its own pulse.
pub const BEAT: Duration = Duration::from_millis(10);

/// How well the generator kept its own time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// Requests sent.
    pub sent: u64,
    /// Of these, sent late by the generator's own fault.
    pub late: u64,
    /// How long the loop stood still, in all.
    #[serde(serialize_with = "crate::report::seconds")]
    pub stalled: Duration,
    /// The length of the run.
    #[serde(serialize_with = "crate::report::seconds")]
    pub elapsed: Duration,
}

impl Pace {
    /// A request went out `own_delay` after nothing but the generator held it back.
    pub fn sent(&mut self, own_delay: Duration) {
        self.sent += 1;
        self.late += u64::from(own_delay > BOUND);
    }

    /// The loop woke `late` after its beat was due.
    pub fn beat(&mut self, late: Duration) {
        if late > BOUND {
            self.stalled += late;
        }
    }

    /// Whether the figures can be trusted.
    #[must_use]
    pub fn kept_up(&self) -> bool {
        self.late * 100 <= self.sent && self.stalled * 100 <= self.elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_up_means_one_percent() {
        for (sent, late, stalled_ms, elapsed_ms, kept_up) in [
            (1000, 0, 0, 10_000, true),
            (1000, 10, 0, 10_000, true),
            (1000, 11, 0, 10_000, false),
            (1000, 0, 100, 10_000, true),
            (1000, 0, 101, 10_000, false),
            (10, 1, 0, 10_000, false),
            (0, 0, 0, 0, true),
        ] {
            let pace = Pace {
                sent,
                late,
                stalled: Duration::from_millis(stalled_ms),
                elapsed: Duration::from_millis(elapsed_ms),
            };
            assert_eq!(pace.kept_up(), kept_up, "{pace:?}");
        }
    }

    #[test]
    fn only_delays_over_the_bound_count() {
        let mut pace = Pace::default();
        pace.sent(BOUND);
        pace.sent(BOUND + Duration::from_micros(1));
        pace.beat(BOUND);
        pace.beat(Duration::from_millis(30));
        assert_eq!((pace.sent, pace.late, pace.stalled), (2, 1, Duration::from_millis(30)));
    }
}
