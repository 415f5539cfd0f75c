//! How long a service's starts take, learned from those that were seen. Used by the law [`work`](crate::policy::work) and by
//! whoever has to say what a cold start costs. Absent: starts that failed, and those of an earlier run of the gateway.

use std::time::Duration;

use crate::{decide::adopted, replica::Phase, snapshot::Snapshot};

/// Where nothing has been started yet: what a start is taken to take, in seconds.
const START: f64 = 1.0;
/// Weight of the newest start.
const NEWEST: f64 = 0.2;

/// Mean and mean deviation, in seconds, as TCP learns its timeouts (Jacobson 1988).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Starts {
    known: Option<(f64, f64)>,
    /// Replicas that were starting at the last look.
    starting: Vec<(u64, u64)>,
}

impl Starts {
    /// As they were when these were kept.
    pub(crate) fn known(known: Option<(f64, f64)>) -> Self {
        Self { known, starting: Vec::new() }
    }

    /// What is worth keeping.
    pub(crate) fn learned(&self) -> Option<(f64, f64)> {
        self.known
    }

    pub(crate) fn look(&mut self, seen: &Snapshot) {
        for replica in &seen.replicas {
            if replica.phase == Phase::Ready && self.starting.contains(&replica.id.order()) {
                self.took(replica.since.saturating_duration_since(replica.started));
            }
        }
        // What an earlier run of the gateway started is only probed again.
        let starting = seen.replicas.iter().filter(|replica| replica.phase == Phase::Starting);
        let starting = starting.filter(|replica| !adopted(seen, replica));
        self.starting.clear();
        self.starting.extend(starting.map(|replica| replica.id.order()));
    }

    /// Seconds, on average.
    pub(crate) fn mean(&self) -> f64 {
        self.known.map_or(START, |(mean, _)| mean)
    }

    /// Seconds that only one in ten exceeds.
    pub(crate) fn mostly(&self) -> f64 {
        self.known.map_or(START, |(mean, deviation)| mean + 1.5 * deviation)
    }

    /// Seconds until one that began `age` seconds ago is ready. Who is overdue is late by as much again.
    pub(crate) fn remaining(&self, age: f64) -> f64 {
        let (mean, deviation) = self.known.unwrap_or((START, 0.0));
        (mean - age).abs().max(deviation)
    }

    fn took(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.known = Some(match self.known {
            None => (time, time / 2.0),
            Some((mean, deviation)) => {
                (mean + NEWEST * (time - mean), deviation + NEWEST * ((time - mean).abs() - deviation))
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_overdue_is_not_counted_on() {
        let starts = Starts::known(Some((10.0, 2.0)));
        assert_eq!([0.0, 6.0, 9.5, 30.0].map(|age| starts.remaining(age)), [10.0, 4.0, 2.0, 20.0]);
    }
}
