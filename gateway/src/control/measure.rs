//! What replicas use, where the file wants to know it (`scaling.target_cpu`, `target_memory`): their engines are asked every few
//! seconds, and decisions see what came out last.

use std::time::{Duration, Instant};

use tidegate_autoscaler::{Phase, snapshot::Usage};
use tidegate_config::name::ReplicaId;
use tidegate_runner::{self as runner, Cpu, Stats};

use super::{Control, apply::send, event::Event};
use crate::clock;

/// How often a replica is measured.
const EVERY: Duration = Duration::from_secs(5);

/// What is known of one replica's use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// When it was last asked for.
    asked: Option<Instant>,
    /// The last answer: when, and the CPU time until then.
    last: Option<(Instant, Duration)>,
    pub(crate) usage: Option<Usage>,
}

impl Measured {
    /// Takes an answer in. CPU time becomes cores with the second one, and begins anew where it has become less.
    fn take(&mut self, at: Instant, stats: Stats) {
        let cores = match stats.cpu {
            Cpu::Cores(cores) => Some(cores),
            Cpu::Time(used) => self.cores(at, used),
        };
        self.usage = cores.map(|cores| Usage { cores, memory: stats.memory });
    }

    fn cores(&mut self, at: Instant, used: Duration) -> Option<f64> {
        let (then, before) = self.last.replace((at, used))?;
        let (time, used) = (at.saturating_duration_since(then), used.checked_sub(before)?);
        (!time.is_zero()).then(|| used.as_secs_f64() / time.as_secs_f64())
    }
}

impl Control {
    /// Asks for what has not been asked for of late.
    pub(super) fn measure(&mut self, now: Instant) {
        for name in &self.awake {
            let state = self.states.get_mut(name);
            let Some(state) = state.filter(|state| state.fleet.settings().scaling.signals.measure()) else {
                continue;
            };
            let ready = state.members.values_mut().filter(|member| member.phase == Phase::Ready);
            for member in ready.filter(|member| member.load.asked.is_none_or(|asked| asked + EVERY <= now)) {
                let engine = self.engines.iter().find(|engine| *engine.name() == member.host);
                let Some(handle) = engine.filter(|engine| engine.is_up()).map(|engine| engine.handle.clone())
                else {
                    continue;
                };
                if !handle.runner.capabilities().stats {
                    // It may have measured until now.
                    member.load.usage = None;
                    continue;
                }
                member.load.asked = Some(now);
                let (events, id) = (self.events.clone(), member.id.clone());
                self.tasks.spawn(async move {
                    let outcome = handle.call("stats", handle.runner.stats(&id)).await;
                    send(&events, Event::Measured(id, clock::now(), outcome)).await;
                });
            }
        }
    }

    /// What a replica used. One that could not be measured counts as the others do.
    pub(super) fn measured(&mut self, id: &ReplicaId, at: Instant, outcome: runner::Result<Stats>) {
        let Some(member) = self.member(id) else { return };
        match outcome {
            Ok(stats) => member.load.take(at, stats),
            Err(error) => {
                member.load.usage = None;
                tracing::debug!(replica = %id, %error, "not measured");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::units::Bytes;

    use super::*;

    #[test]
    fn cores_are_cpu_time_over_time() {
        let (mut known, start) = (Measured::default(), clock::now());
        let mut take = |seconds, cpu_ms| {
            let stats = Stats { cpu: Cpu::Time(Duration::from_millis(cpu_ms)), memory: Bytes::mib(7) };
            known.take(start + Duration::from_secs(seconds), stats);
            known.usage
        };
        assert_eq!(take(0, 100), None, "one answer tells nothing of cores");
        assert_eq!(take(5, 2600), Some(Usage { cores: 0.5, memory: Bytes::mib(7) }));
        assert_eq!(take(10, 0), None, "it was started anew");
        assert_eq!(take(12, 3000).map(|usage| usage.cores), Some(1.5));
    }

    #[test]
    fn cores_that_an_engine_counts_are_taken_as_they_are() {
        let mut known = Measured::default();
        known.take(clock::now(), Stats { cpu: Cpu::Cores(0.25), memory: Bytes::mib(7) });
        assert_eq!(known.usage, Some(Usage { cores: 0.25, memory: Bytes::mib(7) }));
    }
}
