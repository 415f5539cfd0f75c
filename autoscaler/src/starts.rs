//! How long a service's starts take, learned from those that were seen. Used by the law [`work`](crate::policy::work) and by
//! whoever has to say what a cold start costs. Absent: starts that failed, and those of an earlier run of the gateway.

use std::time::Duration;

use crate::{decide::adopted, keepalive::StartTime, replica::Phase, snapshot::Snapshot};

/// Where nothing has been started yet: what a start is taken to take, in seconds.
const START: f64 = 1.0;
/// Weight of the newest start.
const NEWEST: f64 = 0.2;

/// Mean and mean deviation, in seconds, as TCP learns its timeouts (Jacobson 1988).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Starts {
    known: Option<(f64, f64)>,
    /// Replicas that were starting at the last look,
    starting: Vec<(u64, u64)>,
    /// and the newest one of all that had been there by then; `None` before the first look.
    newest: Option<(u64, u64)>,
}

impl Starts {
    /// As they were when these were kept.
    pub(crate) fn known(known: Option<(f64, f64)>) -> Self {
        Self { known, ..Self::default() }
    }

    /// What is worth keeping.
    pub(crate) fn learned(&self) -> Option<(f64, f64)> {
        self.known
    }

    pub(crate) fn look(&mut self, seen: &Snapshot) {
        // What an earlier run of the gateway started is only probed again.
        let own = || seen.replicas.iter().filter(|replica| !adopted(seen, replica));
        for replica in own().filter(|replica| replica.phase == Phase::Ready) {
            let id = replica.id.order();
            // A quick start is over before anybody has looked.
            if self.newest.is_some_and(|newest| id > newest) || self.starting.contains(&id) {
                self.took(replica.since.saturating_duration_since(replica.started));
            }
        }
        let starting = own().filter(|replica| replica.phase == Phase::Starting);
        self.starting.clear();
        self.starting.extend(starting.map(|replica| replica.id.order()));
        let newest = seen.replicas.iter().map(|replica| replica.id.order()).max();
        self.newest = Some(self.newest.max(newest).unwrap_or_default());
    }

    /// Mean and deviation.
    pub(crate) fn time(&self) -> StartTime {
        let (mean, deviation) = self.known.unwrap_or((START, 0.0));
        StartTime { mean, deviation }
    }

    /// Seconds, on average.
    pub(crate) fn mean(&self) -> f64 {
        self.time().mean
    }

    /// Seconds that only one in ten exceeds.
    pub(crate) fn mostly(&self) -> f64 {
        let StartTime { mean, deviation } = self.time();
        mean + 1.5 * deviation
    }

    /// Seconds until one that began `age` seconds ago is ready. Who is overdue is late by as much again.
    pub(crate) fn remaining(&self, age: f64) -> f64 {
        let StartTime { mean, deviation } = self.time();
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
    use tidegate_config::model::ScalingPolicy;

    use super::*;
    use crate::fixture::{replica, secs, snapshot};

    /// What is known after looks that show these, a minute after each other; replicas took 2 s until ready.
    fn after(looks: &[&[(u64, Phase)]]) -> Option<(f64, f64)> {
        let (mut starts, mut seen) = (Starts::default(), snapshot(ScalingPolicy::default()));
        for look in looks {
            seen.now += secs(60);
            let (started, ready) = (seen.now - secs(5), seen.now - secs(3));
            seen.replicas = look.iter().map(|(id, phase)| replica(*id, phase.clone(), ready)).collect();
            seen.replicas.iter_mut().for_each(|replica| replica.started = started);
            starts.look(&seen);
        }
        starts.learned()
    }

    #[test]
    fn a_start_counts_however_quick_it_was() {
        let known = Some((2.0, 1.0));
        assert_eq!(after(&[&[], &[(1, Phase::Starting)], &[(1, Phase::Ready)]]), known);
        assert_eq!(after(&[&[], &[(1, Phase::Ready)]]), known, "over before anybody looked");
        assert_eq!(after(&[&[(1, Phase::Ready)], &[(1, Phase::Ready), (2, Phase::Ready)]]), known);
    }

    #[test]
    fn what_was_there_before_or_never_became_ready_does_not_count() {
        assert_eq!(after(&[&[(1, Phase::Ready)], &[(1, Phase::Ready)]]), None, "nobody saw it start");
        assert_eq!(after(&[&[(2, Phase::Ready)], &[(1, Phase::Lost)], &[(1, Phase::Ready)]]), None);
        assert_eq!(after(&[&[], &[(1, Phase::Draining)], &[(1, Phase::Ready)]]), None);
    }

    #[test]
    fn who_is_overdue_is_not_counted_on() {
        let starts = Starts::known(Some((10.0, 2.0)));
        assert_eq!([0.0, 6.0, 9.5, 30.0].map(|age| starts.remaining(age)), [10.0, 4.0, 2.0, 20.0]);
    }
}
