//! How often being warm has spared a service a cold start, and what that would have cost. Kept in
//! [`Memory`](crate::Memory), read by who has to choose between services ([`budget`](crate::budget)).

use std::time::{Duration, Instant};

use crate::{snapshot::Snapshot, starts::Starts};

/// What being warm has been good for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Warmth {
    starts: Starts,
    idle_since: Option<Instant>,
    calls: u32,
}

impl Warmth {
    pub(crate) fn look(&mut self, seen: &Snapshot) {
        self.starts.look(seen);
        let idle_since = seen.idle_since();
        let called = idle_since.is_none() || idle_since != self.idle_since;
        if !seen.replicas.iter().any(|replica| replica.phase.is_live()) {
            self.calls = 0;
        } else if called && self.idle_since.is_some() {
            self.calls = self.calls.saturating_add(1);
        }
        self.idle_since = idle_since;
    }

    /// How often it was called out of idleness since it last had no replica.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// What a cold start takes, on average.
    #[must_use]
    pub fn cold_start(&self) -> Duration {
        Duration::from_secs_f64(self.starts.mean())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::model::ScalingPolicy;

    use super::*;
    use crate::{
        fixture::{load, replica, secs, snapshot},
        replica::Phase,
    };

    #[test]
    fn what_counts_is_being_called_while_warm() {
        let (mut warmth, mut seen) = (Warmth::default(), snapshot(ScalingPolicy::default()));
        let mut look = |queued, in_flight, phase: Option<Phase>, calls: u32| {
            seen.now += secs(10);
            load(&mut seen, queued, in_flight);
            seen.replicas = phase.map(|phase| replica(1, phase, seen.now)).into_iter().collect();
            warmth.look(&seen);
            assert_eq!(
                warmth.calls(),
                calls,
                "at {queued} queued, {in_flight} in flight, {:?}",
                seen.replicas
            );
        };
        look(0, 0, None, 0);
        look(1, 0, None, 0);
        look(1, 0, Some(Phase::Starting), 0);
        look(0, 1, Some(Phase::Ready), 0);
        look(0, 0, Some(Phase::Ready), 0);
        look(0, 1, Some(Phase::Ready), 1);
        look(0, 1, Some(Phase::Ready), 1);
        look(0, 0, Some(Phase::Ready), 1);
        look(0, 0, Some(Phase::Ready), 1);
        look(0, 3, Some(Phase::Ready), 2);
        look(0, 0, None, 0);
    }

    #[test]
    fn a_call_between_two_looks_counts() {
        let (mut warmth, mut seen) = (Warmth::default(), snapshot(ScalingPolicy::default()));
        seen.replicas = vec![replica(1, Phase::Ready, seen.now)];
        warmth.look(&seen);
        seen.demand[0].idle_since = Some(seen.now + secs(5));
        warmth.look(&seen);
        warmth.look(&seen);
        assert_eq!(warmth.calls(), 1);
    }
}
