//! Whether the generator itself was fast enough for its figures to mean anything. Three signs, any is enough:
//!
//! - more than 1 % of the requests went out over [`BOUND`] late although nothing but the generator held them back. A
//!   request that waits because all connections are busy is *not* late in this sense: that wait is the server's, and
//!   is in its response time. So lateness counts from its instant or from when a connection came free, whichever is later.
//! - the generator's loop, which should wake every [`BEAT`], stood still (over [`BOUND`]) for more than 1 % of the run:
//!   then answers were read late too, and a connection came free late because of us.
//! - the generator's thread had no moment's rest while requests were overdue, for more than 5 % of the run: then it is the
//!   generator that requests waited for. A backlog that a server has caused is sent off in less.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Delays of the generator's own up to this are normal scheduling.
pub const BOUND: Duration = Duration::from_millis(10);
/// How often the loop checks its own pulse.
pub const BEAT: Duration = Duration::from_millis(10);
/// The share of time that leaves no moment's rest.
const RESTLESS: f64 = 0.95;

/// How well the generator kept its own time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Requests sent.
    pub sent: u64,
    /// Of these, sent late by the generator's own fault.
    pub late: u64,
    /// How long the loop stood still, in all.
    #[serde(with = "crate::report::seconds")]
    pub stalled: Duration,
    /// How long the thread had no rest while requests were overdue, in all.
    #[serde(default, with = "crate::report::seconds")]
    pub saturated: Duration,
    /// The length of the run.
    #[serde(with = "crate::report::seconds")]
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

    /// For `passed` requests were overdue and the thread worked this share of the time; nothing is known of a time without.
    pub fn load(&mut self, passed: Duration, busy: Option<f64>) {
        if busy.is_some_and(|busy| busy > RESTLESS) {
            self.saturated += passed;
        }
    }

    /// Whether the figures can be trusted.
    #[must_use]
    pub fn kept_up(&self) -> bool {
        self.late * 100 <= self.sent
            && self.stalled * 100 <= self.elapsed
            && self.saturated * 20 <= self.elapsed
    }

    /// Adds that of another run at the same time.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.late += other.late;
        self.stalled = self.stalled.max(other.stalled);
        self.saturated = self.saturated.max(other.saturated);
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_up_means_one_percent() {
        for (sent, late, stalled_ms, saturated_ms, elapsed_ms, kept_up) in [
            (1000, 0, 0, 0, 10_000, true),
            (1000, 10, 0, 0, 10_000, true),
            (1000, 11, 0, 0, 10_000, false),
            (1000, 0, 100, 0, 10_000, true),
            (1000, 0, 101, 0, 10_000, false),
            (1000, 0, 0, 500, 10_000, true),
            (1000, 0, 0, 501, 10_000, false),
            (10, 1, 0, 0, 10_000, false),
            (0, 0, 0, 0, 0, true),
        ] {
            let ms = Duration::from_millis;
            let (stalled, saturated, elapsed) = (ms(stalled_ms), ms(saturated_ms), ms(elapsed_ms));
            let pace = Pace { sent, late, stalled, saturated, elapsed };
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

    #[test]
    fn only_a_thread_without_rest_is_saturated() {
        let mut pace = Pace::default();
        for busy in [None, Some(0.5), Some(RESTLESS), Some(0.99)] {
            pace.load(BEAT, busy);
        }
        assert_eq!(pace.saturated, BEAT);
    }
}
