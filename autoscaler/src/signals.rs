//! How many replicas requests per second, CPU and memory ask for, besides what the law says. Asked by
//! [`decide`](crate::decide) for services that are awake: what a replica uses while nobody calls is no reason to keep it.
//!
//! CPU and memory are judged as Kubernetes does (use over target, and no change within a tenth of it), and a lower answer counts
//! once a stable window has passed.

use std::time::{Duration, Instant};

use tidegate_config::{model::ScalingPolicy, spec::Resources, units::Count};

use crate::{
    policy::{highest::Highest, kpa},
    reason::{Reason, Signal},
    replica::Phase,
    snapshot::{Snapshot, Usage},
    window::Window,
};

/// No change while use is so near to its target, as a share of it.
const TOLERANCE: f64 = 0.1;

/// Over this a surge of requests shows.
const LATELY: Duration = Duration::from_secs(5);

/// What is remembered of the signals.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Signals {
    /// Requests that came, second by second.
    arrivals: Window,
    /// What was asked for of late.
    asked: Highest<Instant>,
}

impl Signals {
    /// Takes in what is new.
    pub(crate) fn look(&mut self, seen: &Snapshot) {
        let scaling = &seen.service.scaling;
        if scaling.signals.rps.is_some() {
            for second in seen.flow() {
                self.arrivals.record(f64::from(second.arrived), scaling.stable_window);
            }
        }
    }

    /// The most that a signal asks for, if that is anything.
    pub(crate) fn ask(&mut self, seen: &Snapshot) -> Option<(Count, Reason)> {
        let scaling = &seen.service.scaling;
        let used = [self.rate(scaling), cpu(seen), memory(seen)].into_iter().flatten();
        let signal = used.max_by_key(|signal| signal.needs)?;
        let is_past = |at: Instant| at + scaling.stable_window <= seen.now;
        let held = self.asked.note(seen.now, signal.needs, is_past);
        Some((held, Reason::Signal { held, signal }))
    }

    fn rate(&self, scaling: &ScalingPolicy) -> Option<Signal> {
        let each = scaling.signals.rps?;
        let lately = LATELY.min(scaling.stable_window);
        let (stable, now) = (self.arrivals.average(scaling.stable_window), self.arrivals.average(lately));
        // As with demand: a surge counts at once, all else as it is on average.
        let used = if now >= stable * scaling.surge_threshold { now } else { stable };
        Some(Signal { what: "requests/s", used, each, needs: kpa::count((used / each).ceil()) })
    }
}

fn cpu(seen: &Snapshot) -> Option<Signal> {
    let target = seen.service.scaling.signals.cpu?;
    let limit = seen.service.launch.resources.cpu.unwrap_or(1.0);
    used(seen, "cores", limit * target.fraction(), |usage| usage.cores)
}

fn memory(seen: &Snapshot) -> Option<Signal> {
    let target = seen.service.scaling.signals.memory?;
    let Resources { memory, .. } = &seen.service.launch.resources;
    used(seen, "MiB of memory", mebibytes(memory.0) * target.fraction(), |usage| mebibytes(usage.memory.0))
}

/// What all replicas use that have been measured, over what each is to use. Those that have not been count as the others on average.
fn used(seen: &Snapshot, what: &'static str, each: f64, of: impl Fn(&Usage) -> f64) -> Option<Signal> {
    let ready = || seen.replicas.iter().filter(|replica| replica.phase == Phase::Ready);
    let known: Vec<f64> = ready().filter_map(|replica| replica.usage.as_ref().map(&of)).collect();
    if known.is_empty() {
        return None;
    }
    let count = number(ready().count());
    let used = known.iter().sum::<f64>() / number(known.len()) * count;
    let over = used / (each * count);
    let needs = if (over - 1.0).abs() <= TOLERANCE { count } else { (used / each).ceil() };
    Some(Signal { what, used, each, needs: kpa::count(needs) })
}

#[expect(clippy::cast_precision_loss, reason = "some thousands at most")]
fn number(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_config::{
        model,
        units::{Bytes, Percent},
    };

    use super::*;
    use crate::{
        fixture::{self, secs},
        snapshot::Flow,
    };

    fn seen(signals: model::Signals, usages: &[Option<(f64, u64)>]) -> Snapshot {
        let mut seen = fixture::snapshot(ScalingPolicy { signals, ..ScalingPolicy::default() });
        let mut service = (*seen.service).clone();
        (service.launch.resources.cpu, service.launch.resources.memory) = (Some(2.0), Bytes::mib(512));
        seen.service = Arc::new(service);
        let at = seen.now;
        seen.replicas = (1..)
            .zip(usages)
            .map(|(n, used)| {
                let mut replica = fixture::replica(n, Phase::Ready, at);
                replica.usage = used.map(|(cores, mib)| Usage { cores, memory: Bytes::mib(mib) });
                replica
            })
            .collect();
        seen
    }

    fn half() -> Option<Percent> {
        Percent::new(50)
    }

    fn asks(seen: &Snapshot) -> Option<Count> {
        let mut signals = Signals::default();
        signals.look(seen);
        signals.ask(seen).map(|(needs, _)| needs)
    }

    #[test]
    fn use_over_target_is_how_many_there_should_be() {
        let cpu = model::Signals { cpu: half(), ..model::Signals::default() };
        // Each of two is to use one core.
        for (cores, needs) in [(0.0, 0), (0.4, 1), (0.95, 2), (1.09, 2), (1.2, 3), (2.0, 4)] {
            let seen = seen(cpu, &[Some((cores, 1)), Some((cores, 1))]);
            assert_eq!(asks(&seen), Some(needs), "{cores} cores each");
        }
        let memory = model::Signals { memory: half(), ..model::Signals::default() };
        assert_eq!(asks(&seen(memory, &[Some((9.0, 500))])), Some(2));
        assert_eq!(asks(&seen(memory, &[None])), None, "nothing is known");
        let both = model::Signals { memory: half(), ..cpu };
        assert_eq!(
            asks(&seen(both, &[Some((1.9, 500)), None])),
            Some(4),
            "the most, and unknown is as known"
        );
        assert_eq!(asks(&seen(model::Signals::default(), &[Some((9.0, 900))])), None, "nobody asked");
    }

    #[test]
    fn a_surge_of_requests_counts_at_once_and_a_fall_when_it_has_lasted() {
        let mut seen = seen(model::Signals { rps: Some(10.0), ..model::Signals::default() }, &[]);
        let mut signals = Signals::default();
        let mut wants = Vec::new();
        for rate in [20; 30].into_iter().chain([100; 10]).chain([20; 150]) {
            seen.now += secs(1);
            seen.demand[0].flow = vec![Flow { arrived: rate, ..Flow::default() }];
            signals.look(&seen);
            wants.push(signals.ask(&seen).map_or(0, |(needs, _)| needs));
        }
        assert_eq!((wants[29], wants[34], wants[90]), (2, 10, 10), "{wants:?}");
        assert_eq!(wants[189], 2, "{wants:?}");
    }
}
