//! How many replicas a service gets.

use std::time::Duration;

use super::{keep_warm, law, release::share, value};
use crate::{
    decode::At,
    model::{Idle, ScalingPolicy, Signals},
    problem::Draft,
    raw::{self, Mount},
    units::Concurrency,
};

/// `writer` is a volume that only one replica may write to.
pub(super) fn check(
    raw: Option<At<raw::Scaling>>,
    writer: Option<&At<Mount>>,
    problems: &mut Vec<Draft>,
) -> ScalingPolicy {
    let default = ScalingPolicy::default();
    let default = ScalingPolicy { max: if writer.is_some() { 1 } else { default.max }, ..default };
    let Some(At { value: raw, .. }) = raw else { return default };
    check_counts(&raw, &default, writer, problems);
    if let Some(Idle::After(Duration::ZERO)) = raw.idle.as_ref().map(|idle| idle.value) {
        problems.extend(
            raw.idle
                .as_ref()
                .map(|idle| idle.problem("too short").allowed("more than 0s, \"auto\" or \"kpa\"")),
        );
    }
    check_window(&raw, problems);
    let (law, work) = law::check(&raw, &default.work, problems);
    let most = raw.max.as_ref().map_or(default.max, |max| max.value);
    let signals = Signals {
        rps: raw.target_rps.as_ref().map(|rps| rate(rps, problems)),
        cpu: raw.target_cpu.as_ref().map(|cpu| cpu.value),
        memory: raw.target_memory.as_ref().map(|memory| memory.value),
    };
    ScalingPolicy {
        signals,
        concurrency: raw.concurrency.as_ref().and_then(|limit| concurrency(limit, problems)),
        min: value::of(raw.min, default.min),
        max: value::of(raw.max, default.max),
        initial: value::of(raw.initial, default.initial),
        keep_warm: keep_warm::check(raw.keep_warm, most, problems),
        law,
        work,
        target: value::of(raw.target, default.target),
        stable_window: value::span(raw.stable_window, default.stable_window),
        surge_window: value::of(raw.surge_window, default.surge_window),
        surge_threshold: ratio(raw.surge_threshold, 1.1, 10.0, default.surge_threshold, problems),
        max_up_rate: ratio(raw.max_up_rate, 1.1, 1e6, default.max_up_rate, problems),
        max_down_rate: ratio(raw.max_down_rate, 1.1, 1e6, default.max_down_rate, problems),
        scale_down_delay: value::span(raw.scale_down_delay, default.scale_down_delay),
        idle: value::of(raw.idle, default.idle),
        drain: value::span(raw.drain, default.drain),
        hold: value::lasting(raw.hold, default.hold, problems),
        queue: usize::try_from(value::positive(raw.queue, 10_000, problems)).unwrap_or(usize::MAX),
    }
}

fn rate(rps: &At<f64>, problems: &mut Vec<Draft>) -> f64 {
    if !(0.01..=1e6).contains(&rps.value) {
        problems.push(
            rps.problem("not a rate that a replica is good for")
                .allowed("0.01 to 1000000 requests per second"),
        );
    }
    rps.value
}

fn concurrency(limit: &At<u32>, problems: &mut Vec<Draft>) -> Option<Concurrency> {
    let checked = Concurrency::new(limit.value);
    if checked.is_none() {
        let draft = limit.problem("no replica could take a request").allowed("1 or more");
        problems.push(draft.help("leave `concurrency` out for no limit".to_owned()));
    }
    checked
}

/// min <= max, 1 <= initial <= max; the default of `initial` always fits.
fn check_counts(
    raw: &raw::Scaling,
    default: &ScalingPolicy,
    writer: Option<&At<Mount>>,
    problems: &mut Vec<Draft>,
) {
    const MOST: u32 = 10_000;
    if let Some((max, volume)) = raw.max.as_ref().filter(|max| max.value > 1).zip(writer) {
        let draft =
            max.problem("two replicas would write to a volume at once").also(&volume.at, "the volume");
        problems.push(draft.allowed("1, or a volume that is shared or read-only").help(share(volume)));
        return;
    }
    if let Some(max) = raw.max.as_ref().filter(|max| max.value == 0 || max.value > MOST) {
        problems.push(max.problem("not a number of replicas").allowed(format!("1 to {MOST}")));
        return;
    }
    if raw.refused.contains(&"max") {
        return;
    }
    let most = raw.max.as_ref().map_or(default.max, |max| max.value);
    let origin = if raw.max.is_some() { "max" } else { "the default of max" };
    let beside = |draft: Draft| match (&raw.max, writer) {
        (Some(max), _) => draft.also(&max.at, "max"),
        (None, Some(volume)) => draft.also(&volume.at, "max is 1 because of this volume").help(share(volume)),
        (None, None) => draft,
    };
    if let Some(min) = raw.min.as_ref().filter(|min| min.value > most) {
        problems.push(beside(min.problem("more than max").allowed(format!("0 to {most} ({origin})"))));
    }
    if let Some(initial) = raw.initial.as_ref().filter(|initial| initial.value == 0 || initial.value > most) {
        let message = if initial.value == 0 { "a wake must start a replica" } else { "more than max" };
        let range = if most == 1 { "1".to_owned() } else { format!("1 to {most}") };
        problems.push(beside(initial.problem(message).allowed(format!("{range} ({origin})"))));
    }
}

/// Demand is sampled once a second and decided on every two: shorter windows would be noise.
fn check_window(raw: &raw::Scaling, problems: &mut Vec<Draft>) {
    let fits = |length: Duration| (Duration::from_secs(6)..=Duration::from_secs(3600)).contains(&length);
    if let Some(window) = raw.stable_window.as_ref().filter(|window| !fits(window.value.0)) {
        problems.push(window.problem("out of range").allowed("6s to 1h"));
    }
}

fn ratio(setting: Option<At<f64>>, least: f64, most: f64, default: f64, problems: &mut Vec<Draft>) -> f64 {
    if let Some(setting) = setting.as_ref().filter(|setting| !(least..=most).contains(&setting.value)) {
        problems.push(setting.problem("out of range").allowed(format!("{least} to {most}")));
    }
    value::of(setting, default)
}
