//! The simulation suite: 256 seeds with all checks, and a few scenarios by name.
//! `SIM_SEED=42 cargo test -p e2e --test sim seeds -- --nocapture` replays one seed and prints what happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use e2e::sim::{
    ended,
    generate::{self, Generated, generate},
    run, run_with,
    shadow::{Check, ensure},
};
use tidegate::simulate::{
    chance::{Chance, Span},
    record::{Note, Outcome},
    scenario::{Act, App, Arrival, EngineModel, Scenario},
    workload::{self, Kind},
    world::World,
};
use tidegate_config::{
    model::{Affinity, Common, Host, Idle, Service, Sleep},
    name::HostName,
};

/// How many seeds.
const SEEDS: u64 = 256;

#[test]
fn seeds() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        let seed = seed.parse().expect("SIM_SEED is a number");
        if let Err(what) = live(seed) {
            panic!("seed {seed}, {what}");
        }
        return;
    }
    let next = AtomicU64::new(0);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return failures;
            }
            failures.extend(live(seed).err().map(|what| format!("seed {seed}, {what}")));
        }
    };
    let cores = thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a seed panicked")).collect()
    });
    let first = failures.first().map_or("", |first| first);
    let which: Vec<&str> = failures.iter().filter_map(|what| what.split(['\n']).next()).collect();
    assert!(
        failures.is_empty(),
        "{} of {SEEDS} seeds fail:\n{}\n\n{first}",
        failures.len(),
        which.join("\n")
    );
}

/// Lives through one seed's scenario.
fn live(seed: u64) -> Check {
    let Generated { scenario, tight } = generate(seed);
    let (world, checks) = run(scenario, generate::END)?;
    checks.at_the_end(&world, generate::STILL_FROM, tight)?;
    late_requests_are_answered(&world, tight)
}

/// Once nothing is broken any more, every request is answered.
fn late_requests_are_answered(world: &World, tight: bool) -> Check {
    let sound = world.at(generate::SOUND_FROM);
    for request in world.requests().filter(|request| request.arrived >= sound) {
        let fine = match &request.end {
            Some((_, Outcome::Answered(_))) => true,
            // The first of them may be the one that finds out.
            Some((at, Outcome::Refused("circuit_open"))) => *at < sound + secs(10),
            Some((_, Outcome::Refused(word))) => {
                tight && ["out_of_resources", "hold_deadline"].contains(word)
            }
            Some((_, Outcome::Cancelled | Outcome::Lost)) | None => false,
        };
        ensure(fine, || {
            format!("at {:?} still not answered: {request:?}", request.arrived - world.at(Duration::ZERO))
        })?;
    }
    Ok(())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// One service on one sound host; its containers start in half a second and are ready as much later.
fn one(
    change: impl FnOnce(&mut Service),
    arrivals: impl FnOnce(&Kind, &mut Chance) -> Vec<Arrival>,
) -> Scenario {
    let mut service = Service::of("api".parse().expect("a valid name"), "api:1");
    change(&mut service);
    let half = Duration::from_millis(500);
    let mut chance = Chance::new(7);
    let kind = Kind::of(service.name.clone(), Duration::from_millis(100));
    Scenario {
        seed: 7,
        hosts: vec![(Host::local(), EngineModel::sound(half))],
        arrivals: arrivals(&kind, &mut chance),
        services: vec![(Arc::new(service), App::sound(half))],
        acts: Vec::new(),
    }
}

fn lived(scenario: Scenario, until: u64) -> World {
    run(scenario, secs(until)).unwrap_or_else(|what| panic!("{what}")).0
}

fn answered(world: &World) -> usize {
    ended(world, |_, outcome| matches!(outcome, Outcome::Answered(_)))
}

fn starts(world: &World) -> u32 {
    world.figures().values().map(|figures| figures.starts).sum()
}

#[test]
fn a_thousand_at_once_start_what_they_need_and_no_more() {
    let scenario = one(
        |service| {
            service.scaling.concurrency = NonZeroU32::new(100);
            service.scaling.max = 20;
        },
        |kind, chance| {
            workload::burst(&Kind { takes: secs(1).into(), ..kind.clone() }, secs(5), 1000, chance)
        },
    );
    let world = lived(scenario, 400);
    assert_eq!(answered(&world), 1000);
    assert!((1..=15).contains(&starts(&world)), "{} starts", starts(&world));
    assert_eq!(world.containers().count(), 0, "asleep again");
}

#[test]
fn a_crash_loop_is_refused_and_not_started_by_every_request() {
    let mut scenario = one(|_| {}, |kind, chance| workload::poisson(kind, secs(5), secs(300), 20.0, chance));
    let dies =
        App { crashes: 1.0, crash_after: Span::Fixed(Duration::from_millis(200)), ..App::sound(secs(1)) };
    scenario.services[0].1 = dies;
    let world = lived(scenario, 400);
    assert_eq!(answered(&world), 0);
    // 1, 2, 4 ... s after one another: nine or ten tries in five minutes, whoever asks.
    assert!((5..=12).contains(&starts(&world)), "{} starts", starts(&world));
    let looping = ended(&world, |_, outcome| *outcome == Outcome::Refused("crash_looping"));
    assert!(looping > 5000, "{looping} refused as crash_looping");
}

#[test]
fn a_rolling_update_under_load_loses_nothing() {
    let mut scenario = one(
        |service| {
            service.scaling.concurrency = NonZeroU32::new(10);
            service.scaling.min = 3;
        },
        |kind, chance| workload::poisson(kind, secs(10), secs(120), 50.0, chance),
    );
    let mut next = (*scenario.services[0].0).clone();
    for (version, at) in [(2, 40), (3, 70), (4, 72)] {
        next.launch.image = format!("api:{version}");
        scenario.acts.push((secs(at), Act::Settings(Arc::new(next.clone()))));
    }
    let world = lived(scenario, 130);
    assert_eq!(answered(&world), world.requests().count());
    let slowest = world.requests().filter(|r| r.arrived > world.at(secs(20))).filter_map(|r| r.waited).max();
    assert!(slowest.is_some_and(|waited| waited < secs(1)), "one waited {slowest:?} although others served");
}

#[test]
fn an_adopting_gateway_takes_nothing_away_for_a_stable_window() {
    let mut scenario = one(
        |service| service.scaling.concurrency = NonZeroU32::new(1),
        |kind, chance| workload::burst(&Kind { takes: secs(20).into(), ..kind.clone() }, secs(5), 4, chance),
    );
    scenario.acts.push((secs(20), Act::RestartGateway));
    let (adopted, held) = (secs(22), secs(79));
    let mut ran = Vec::new();
    let watched = run_with(scenario, secs(300), |world, step| {
        if step.at > adopted && step.at < held {
            ran.push(world.members().count());
        }
        Ok(())
    });
    let (world, _) = watched.unwrap_or_else(|what| panic!("{what}"));
    let before = ran.first().copied().unwrap_or_default();
    assert!(before >= 2, "{before} were adopted");
    assert!(ran.iter().all(|now| *now == before), "{before} were adopted, then {ran:?}");
    assert_eq!(world.containers().count(), 0, "asleep in the end");
}

/// Runs a scenario and keeps what `keep` finds in each note, in order, without repetitions.
fn noted(scenario: Scenario, until: u64, keep: impl Fn(&Note) -> Option<String>) -> (World, Vec<String>) {
    let mut found: Vec<String> = Vec::new();
    let lived = run_with(scenario, secs(until), |_, step| {
        for text in step.notes.iter().filter_map(&keep) {
            if found.last() != Some(&text) {
                found.push(text);
            }
        }
        Ok(())
    });
    (lived.unwrap_or_else(|what| panic!("{what}")).0, found)
}

/// Three replicas that stay, and which of them answered each request.
fn with_affinity(arrivals: impl FnOnce(&Kind, &mut Chance) -> Vec<Arrival>) -> Vec<(Option<u64>, String)> {
    let scenario = one(
        |service| {
            (service.scaling.min, service.scaling.max) = (3, 3);
            let by = Common::Header("x-user".into());
            service.balance.affinity = Some(Affinity { by, bound: Affinity::BOUND });
        },
        arrivals,
    );
    let keys: Vec<_> = scenario.arrivals.iter().map(|arrival| arrival.key).collect();
    let world = lived(scenario, 120);
    let by = |end: &Option<(_, Outcome)>| match end {
        Some((_, Outcome::Answered(replica))) => replica.to_string(),
        other => panic!("{other:?}"),
    };
    keys.into_iter().zip(world.requests().map(|request| by(&request.end))).collect()
}

#[test]
fn what_belongs_together_goes_to_one_replica() {
    let answered = with_affinity(|kind, chance| {
        workload::poisson(&Kind { keys: 30, ..kind.clone() }, secs(10), secs(60), 20.0, chance)
    });
    let mut homes: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (key, replica) in &answered {
        homes.entry(key.expect("a key")).or_default().insert(replica);
    }
    assert!(homes.values().all(|homes| homes.len() == 1), "{homes:?}");
    let all: BTreeSet<_> = homes.values().flatten().collect();
    assert_eq!((homes.len(), all.len()), (30, 3));
}

#[test]
fn a_key_that_everybody_wants_does_not_drown_its_replica() {
    let answered = with_affinity(|kind, chance| {
        workload::burst(&Kind { keys: 1, ..kind.clone() }, secs(20), 90, chance)
    });
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, replica) in &answered {
        *counts.entry(replica).or_default() += 1;
    }
    // A quarter more than a third of all.
    assert!(counts.values().all(|count| *count <= 38), "{counts:?}");
    assert_eq!(counts.values().max(), Some(&38));
}

#[test]
fn a_host_that_is_lost_is_replaced_and_its_replica_drained_when_it_is_back() {
    let mut scenario = one(
        |service| (service.scaling.min, service.scaling.initial) = (2, 2),
        |kind, chance| workload::poisson(kind, secs(10), secs(200), 20.0, chance),
    );
    // One replica each on the first two hosts; the third gets the image when they have started.
    let (mut host, engine) = scenario.hosts[0].clone();
    let [away, spare] = ["away", "spare"].map(|name| name.parse::<HostName>().expect("a valid name"));
    let later = EngineModel { prepare: Span::Fixed(secs(5)), ..engine };
    scenario.hosts.push((Host { name: spare, ..host.clone() }, later));
    host.capacity.replicas = Some(1);
    scenario.hosts[0].0 = host.clone();
    scenario.hosts.push((Host { name: away.clone(), ..host }, engine));
    scenario.acts.push((secs(20), Act::Answers(away.clone(), false)));
    scenario.acts.push((secs(120), Act::Answers(away, true)));
    let phase = |note: &Note| match note {
        Note::Phase(_, Some(from), to) => Some(format!("{} {}", from.label(), to.label())),
        _ => None,
    };
    let (world, phases) = noted(scenario, 220, phase);
    assert_eq!(answered(&world), world.requests().count());
    assert_eq!((starts(&world), world.containers().count()), (3, 2), "{phases:?}");
    let lost = phases.iter().position(|p| p == "ready lost").expect("it was lost");
    let rest: Vec<&str> = phases.iter().skip(lost + 1).map(String::as_str).collect();
    assert_eq!(
        rest,
        ["starting ready", "lost ready", "ready draining", "draining stopping", "stopping gone"]
    );
}

#[test]
fn sleep_gets_deeper_and_a_request_wakes_from_each_depth() {
    let at = [5, 30, 90];
    let scenario = one(
        |service| {
            service.scaling.idle = Idle::After(secs(10));
            service.sleep = Sleep { frozen: Some(secs(30)), stopped: Some(secs(60)) };
        },
        |kind, chance| at.into_iter().flat_map(|at| workload::burst(kind, secs(at), 1, chance)).collect(),
    );
    let called = |note: &Note| match note {
        Note::Called(_, what, Some(_)) => Some((*what).to_owned()),
        _ => None,
    };
    let (world, calls) = noted(scenario, 300, called);
    assert_eq!(answered(&world), 3);
    let expected = ["start", "freeze", "thaw", "freeze", "stop", "restart", "freeze", "stop"];
    assert_eq!(calls, expected, "and at last it is removed");
    assert_eq!((starts(&world), world.containers().count()), (1, 0));
    let waits: Vec<Duration> = world.requests().filter_map(|request| request.waited).collect();
    let [cold, thawed, restarted] = *waits else { panic!("{waits:?}") };
    assert!(thawed < Duration::from_millis(50) && restarted < cold, "{waits:?}");
}

#[test]
fn a_bad_version_is_taken_back_and_the_next_one_follows_without_an_error() {
    let mut scenario = one(
        |service| service.scaling.min = 2,
        |kind, chance| workload::poisson(kind, secs(10), secs(160), 50.0, chance),
    );
    let mut next = (*scenario.services[0].0).clone();
    for (image, at) in [("api:bad", 40), ("api:3", 80)] {
        next.launch.image = image.into();
        scenario.acts.push((secs(at), Act::Settings(Arc::new(next.clone()))));
    }
    let moved = |note: &Note| match note {
        Note::Evaluated(looked) => looked.decision.moved.as_ref().map(|moved| moved.label().to_owned()),
        _ => None,
    };
    let (world, moves) = noted(scenario, 170, moved);
    assert_eq!(answered(&world), world.requests().count());
    assert_eq!(moves, ["first", "tries", "taken_back", "tries", "good"]);
    assert_eq!(world.containers().count(), 2);
}
