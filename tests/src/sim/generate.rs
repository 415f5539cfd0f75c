//! A scenario from a seed: a few hosts and services, load, and faults that stop, so that what must come right again can
//! be told from what may go wrong meanwhile.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tidegate::simulate::{
    chance::{Chance, Span},
    scenario::{Act, App, Arrival, EngineModel, Scenario},
    workload::{self, Kind},
};
use tidegate_config::{
    model::{Adaptive, Affinity, Balance, Circuit, Common, Host, Idle, Law, ScalingPolicy, Service, Sleep},
    name::{HostName, ServiceName},
    units::Percent,
};

/// Until then anything may happen.
pub const FAULTS_END: Duration = Duration::from_secs(300);
/// From then on every request must be answered: the longest back-off has passed.
pub const SOUND_FROM: Duration = Duration::from_secs(640);
/// The last request has come.
pub const LOAD_ENDS: Duration = Duration::from_secs(700);
/// From then on nothing must happen any more.
pub const STILL_FROM: Duration = Duration::from_secs(1000);
/// The end.
pub const END: Duration = Duration::from_secs(1060);

/// A scenario, and what its checks have to know of it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The scenario.
    pub scenario: Scenario,
    /// A host may be full: refusals for want of room are no fault.
    pub tight: bool,
}

/// The scenario of a seed.
#[must_use]
pub fn generate(seed: u64) -> Generated {
    let mut chance = Chance::new(seed);
    let tight = chance.happens(0.2);
    let hosts: Vec<_> =
        (0..=chance.below(3)).map(|n| (host(n, tight, &mut chance), engine(&mut chance))).collect();
    let services: Vec<_> =
        (0..=chance.below(3)).map(|n| (service(n, &mut chance), app(&mut chance))).collect();
    let mut arrivals = Vec::new();
    let mut acts = Vec::new();
    for (service, _) in &services {
        arrivals.extend(load(service, &mut chance));
        acts.extend(acts_on(service, &mut chance));
        acts.push((FAULTS_END, Act::App(service.name.clone(), App::sound(Duration::from_millis(300)))));
    }
    for (host, _) in &hosts {
        acts.extend(outages(&host.name, &mut chance));
        acts.push((
            FAULTS_END,
            Act::Engine(host.name.clone(), EngineModel::sound(Duration::from_millis(500))),
        ));
    }
    for _ in 0..chance.below(3) {
        acts.push((within_faults(&mut chance), Act::RestartGateway));
    }
    Generated { scenario: Scenario { seed, hosts, services, arrivals, acts }, tight }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn within_faults(chance: &mut Chance) -> Duration {
    ms(chance.below(295_000))
}

fn up_to(most: u64, chance: &mut Chance) -> Span {
    Span::Between(ms(1), ms(1 + chance.below(most)))
}

/// A share that is often none at all.
fn share(most: f64, chance: &mut Chance) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "less than 100")]
    if chance.happens(0.5) { 0.0 } else { most * chance.below(100) as f64 / 100.0 }
}

fn host(number: u64, tight: bool, chance: &mut Chance) -> Host {
    let name = ["one", "two", "three"][usize::try_from(number).unwrap_or(0) % 3];
    let mut host = Host { name: name.parse().expect("a valid name"), ..Host::local() };
    host.parallel_starts = 1 + u32::try_from(chance.below(4)).unwrap_or(0);
    if tight {
        host.capacity.replicas = Some(2 + u32::try_from(chance.below(4)).unwrap_or(0));
    }
    host
}

fn engine(chance: &mut Chance) -> EngineModel {
    EngineModel {
        prepare: up_to(20_000, chance),
        start: up_to(3_000, chance),
        stop: up_to(10_000, chance),
        call: up_to(300, chance),
        lag: up_to(5_000, chance),
        fails: share(0.2, chance),
        answer_lost: share(0.1, chance),
        event_lost: share(0.6, chance),
        event_twice: share(0.5, chance),
    }
}

fn app(chance: &mut Chance) -> App {
    App {
        ready: up_to(4_000, chance),
        never_ready: share(0.5, chance),
        crashes: share(0.9, chance),
        crash_after: up_to(40_000, chance),
    }
}

fn service(number: u64, chance: &mut Chance) -> Arc<Service> {
    let name = ["api", "web", "jobs"][usize::try_from(number).unwrap_or(0) % 3];
    let mut service = Service::of(name.parse().expect("a valid name"), format!("{name}:1"));
    service.scaling = scaling(chance);
    service.balance = balance(service.scaling.concurrency.is_some(), chance);
    service.health.start_deadline = secs(5 + chance.below(20));
    let age = |chance: &mut Chance| chance.happens(0.3).then(|| secs(5 + chance.below(90)));
    service.sleep = Sleep { frozen: age(chance), stopped: age(chance) };
    if chance.happens(0.5) {
        service.rollout.steps = [10, 50, 100].into_iter().filter_map(Percent::new).collect();
    }
    Arc::new(service)
}

fn scaling(chance: &mut Chance) -> ScalingPolicy {
    let max = 1 + count(chance.below(8));
    let min = if chance.happens(0.25) { (1 + count(chance.below(2))).min(max) } else { 0 };
    let limits = [None, NonZeroU32::new(1), NonZeroU32::new(2), NonZeroU32::new(10), NonZeroU32::new(100)];
    let law = [Law::Kpa, Law::Work, Law::Work, Law::Hpa][usize::try_from(chance.below(4)).unwrap_or(0)];
    let idle = match chance.below(5) {
        // What Kubernetes' law holds back for five minutes would outlast the run by Knative's rule.
        0 if law != Law::Hpa => Idle::Kpa,
        1 => Idle::Auto,
        _ => Idle::After(secs(2 + chance.below(58))),
    };
    ScalingPolicy {
        min,
        max,
        initial: 1 + count(chance.below(3)).min(max - 1),
        concurrency: limits[usize::try_from(chance.below(5)).unwrap_or(0)],
        stable_window: secs(6 + chance.below(55)),
        scale_down_delay: if chance.happens(0.2) { secs(10) } else { Duration::ZERO },
        law,
        idle,
        drain: secs(1 + chance.below(20)),
        hold: secs(5 + chance.below(56)),
        queue: usize::try_from(20 + chance.below(500)).unwrap_or(20),
        ..ScalingPolicy::default()
    }
}

fn balance(limited: bool, chance: &mut Chance) -> Balance {
    let number = |n: u64| NonZeroU32::new(count(n)).unwrap_or(NonZeroU32::MIN);
    let default = Balance::default();
    let mut ejection = default.ejection.clone().filter(|_| chance.happens(0.9));
    if let Some(ejection) = &mut ejection {
        ejection.failures = number(1 + chance.below(6));
        ejection.max_ejected =
            Percent::new(if chance.happens(0.5) { 100 } else { 30 }).unwrap_or(ejection.max_ejected);
    }
    let by = Common::Header("x-user".into());
    let affinity = chance.happens(0.4).then_some(Affinity { by, bound: Affinity::BOUND });
    // So small that it is felt.
    let adaptive = Adaptive { initial: number(1 + chance.below(10)), min: number(1), max: number(10) };
    let adaptive = (!limited && chance.happens(0.5)).then_some(adaptive);
    let circuit = chance.happens(0.3).then(|| Circuit { least: 5, ..Circuit::default() });
    let slow_start = if chance.happens(0.5) { default.slow_start } else { Duration::ZERO };
    Balance { slow_start, ejection, affinity, adaptive, circuit, hedge: None }
}

fn count(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// Noise and bursts while there are faults, a little afterwards that must all be answered.
fn load(service: &Service, chance: &mut Chance) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let kind = Kind {
        service: service.name.clone(),
        takes: if chance.happens(0.2) { up_to(20_000, chance) } else { up_to(500, chance) },
        patience: chance.happens(0.5).then(|| Span::Exponential(ms(500 + chance.below(20_000)))),
        replayable: share(1.0, chance),
        keys: if service.balance.affinity.is_some() { 1 + chance.below(30) } else { 0 },
    };
    let mut from = Duration::ZERO;
    while from < FAULTS_END {
        let until = (from + secs(5 + chance.below(90))).min(FAULTS_END);
        #[expect(clippy::cast_precision_loss, reason = "less than 20")]
        match chance.below(3) {
            0 => {}
            1 => {
                arrivals.extend(workload::poisson(&kind, from, until, 0.1 + chance.below(12) as f64, chance))
            }
            _ => {
                let number = u32::try_from(chance.below(200)).unwrap_or(0);
                arrivals.extend(workload::burst(&kind, from, number, chance));
            }
        }
        from = until;
    }
    let late = Kind::of(service.name.clone(), Span::Between(ms(1), ms(100)));
    arrivals.extend(workload::poisson(&late, SOUND_FROM, LOAD_ENDS, 2.0, chance));
    arrivals.extend(workload::burst(&late, LOAD_ENDS, 15, chance));
    arrivals
}

fn acts_on(service: &Arc<Service>, chance: &mut Chance) -> Vec<(Duration, Act)> {
    let name = || -> ServiceName { service.name.clone() };
    let mut acts = Vec::new();
    let mut current = (**service).clone();
    let mut times: Vec<Duration> = (0..chance.below(8)).map(|_| within_faults(chance)).collect();
    times.sort();
    for (version, at) in times.into_iter().enumerate() {
        let act = match chance.below(8) {
            0 | 1 => Act::Crash(name()),
            2 => Act::Vanish(name()),
            3 => Act::Wake(name()),
            4 => Act::Sleep(name()),
            5 => Act::Restart(name()),
            6 => {
                current.launch.image = format!("{}:{}", current.name, version + 2);
                Act::Settings(Arc::new(current.clone()))
            }
            _ => {
                current.scaling = scaling(chance);
                Act::Settings(Arc::new(current.clone()))
            }
        };
        acts.push((at, act));
    }
    acts
}

/// Times in which an engine does not answer, or a host has no power; they end with the faults.
fn outages(host: &HostName, chance: &mut Chance) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let mut from = ms(chance.below(400_000));
    while from < FAULTS_END {
        let until = (from + ms(chance.below(60_000))).min(FAULTS_END);
        let act = if chance.happens(0.5) { Act::Answers } else { Act::Power };
        acts.push((from, act(host.clone(), false)));
        acts.push((until, act(host.clone(), true)));
        from = until + ms(chance.below(200_000));
    }
    acts
}
