//! Rows for [`plan`](super::plan): what is there, what is wanted, and the steps.

use super::*;
use crate::{
    Mix, Phase,
    fixture::{self, exited, load, replica, secs, snapshot},
    refuse::{Refuse, RefuseReason},
    snapshot::HostOrder,
};
use tidegate_config::{
    model::ScalingPolicy,
    spec::{Revision, Target},
    units::Count,
};

/// So many of `r1`, and nothing in the way.
fn decision(want: Count) -> Decision {
    mixed(want, Mix { main: Some(fixture::version("r1")), trial: None })
}

fn mixed(want: Count, mix: Mix) -> Decision {
    Decision {
        want,
        wants: mix.wants(want, false),
        reason: crate::Reason::Asleep,
        refuse: None,
        late: None,
        start_after: None,
        trial_after: None,
        mix,
        note: None,
        moved: None,
        again_at: None,
    }
}

/// So many of another revision.
fn decision_of(revision: &str, want: Count) -> Decision {
    mixed(want, Mix { main: Some(fixture::version(revision)), trial: None })
}

/// `r1` is good, `r2` gets a share.
fn trial(want: Count, share: u8) -> Decision {
    let trial = Some((fixture::version("r2"), share));
    mixed(want, Mix { main: Some(fixture::version("r1")), trial })
}

/// Steps in short: `prepare local`, `start 100 local`, `undrain 1`, `drain 1`, `stop 1`, `remove 1`.
fn short(steps: &[Step]) -> Vec<String> {
    let number = |id: &ReplicaId| id.order().1;
    let one = |step: &Step| match step {
        Step::Prepare { host } => format!("prepare {host}"),
        Step::Start(StartSpec { id, target: Target::Host(host), .. }) => {
            format!("start {} {host}", number(id))
        }
        Step::Start(_) => "start anywhere".to_owned(),
        Step::Find { host, version } => format!("find {} {host}", version.revision),
        Step::Thaw(id) => format!("thaw {}", number(id)),
        Step::Restart(id) => format!("restart {}", number(id)),
        Step::Freeze(id) => format!("freeze {}", number(id)),
        Step::Stop { id, keep: true, .. } => format!("keep {}", number(id)),
        Step::Undrain(id) => format!("undrain {}", number(id)),
        Step::Drain(id) => format!("drain {}", number(id)),
        Step::Stop { id, .. } => format!("stop {}", number(id)),
        Step::Remove(id) => format!("remove {}", number(id)),
    };
    steps.iter().map(one).collect()
}

/// A snapshot with replicas 1, 2, ... in these phases, each with so many requests in flight.
fn fleet(phases: &[(Phase, u32)]) -> Snapshot {
    let mut seen = snapshot(ScalingPolicy::default());
    for (number, (phase, in_flight)) in (1..).zip(phases) {
        seen.replicas.push(Replica { in_flight: *in_flight, ..replica(number, phase.clone(), seen.now) });
    }
    seen
}

fn check(decision: &Decision, seen: &Snapshot, expected: &[&str]) {
    assert_eq!(short(&plan(decision, seen).steps), expected);
}

use crate::Phase::{Draining, Failed, Freezing, Frozen, Lost, Ready, Starting, Stopped, Stopping, Thawing};

#[test]
fn what_is_missing_is_started() {
    check(&decision(0), &fleet(&[]), &[]);
    check(&decision(2), &fleet(&[]), &["start 100 local", "start 101 local"]);
    check(&decision(3), &fleet(&[(Ready, 0), (Starting, 0)]), &["start 100 local"]);
    check(&decision(2), &fleet(&[(Ready, 0), (Starting, 0)]), &[]);
    // What leaves does not count, and what failed is cleared away.
    let leaving = fleet(&[(Stopping, 0), (Failed(exited()), 0)]);
    check(&decision(1), &leaving, &["remove 2", "start 100 local"]);
}

#[test]
fn a_start_says_everything() {
    let seen = fleet(&[]);
    let steps = plan(&decision(1), &seen).steps;
    let [Step::Start(spec)] = &*steps else { panic!("{steps:?}") };
    assert_eq!(
        (spec.id.to_string().as_str(), spec.port, spec.digest.0.as_str()),
        ("api-2-100", 8080, "sha256:1")
    );
    assert_eq!((&spec.revision.0, &spec.launch), (&"r1".to_owned(), &seen.service.launch));
}

#[test]
fn nothing_is_started_while_refused_or_held_back() {
    let seen = fleet(&[(Draining, 1)]);
    let refuse = Refuse { why: RefuseReason::CrashLooping, until: None, cause: String::new() };
    check(&Decision { refuse: Some(refuse), ..decision(2) }, &seen, &["undrain 1"]);
    let held = |after| Decision { start_after: Some(seen.now + secs(after)), ..decision(2) };
    check(&held(1), &seen, &["undrain 1"]);
    check(&held(0), &seen, &["undrain 1", "start 100 local"]);
}

#[test]
fn draining_replicas_come_back_before_new_ones_start() {
    let seen = fleet(&[(Draining, 0), (Draining, 0), (Ready, 0)]);
    check(&decision(2), &seen, &["undrain 1", "stop 2"]);
    check(&decision(4), &seen, &["undrain 1", "undrain 2", "start 100 local"]);
}

#[test]
fn draining_ends_with_the_last_request_or_at_its_deadline() {
    let mut seen = fleet(&[(Draining, 1), (Draining, 0)]);
    check(&decision(0), &seen, &["stop 2"]);
    seen.now += secs(29);
    check(&decision(0), &seen, &["stop 2"]);
    seen.now += secs(1);
    check(&decision(0), &seen, &["stop 1", "stop 2"]);
}

#[test]
fn the_idlest_and_then_the_youngest_are_drained() {
    let seen = fleet(&[(Ready, 0), (Ready, 2), (Ready, 1), (Ready, 0)]);
    check(&decision(3), &seen, &["drain 4"]);
    check(&decision(1), &seen, &["drain 4", "drain 1", "drain 3"]);
    check(&decision(0), &seen, &["drain 4", "drain 1", "drain 3", "drain 2"]);
}

#[test]
fn a_start_that_somebody_waits_for_is_never_cancelled() {
    let mut seen = fleet(&[(Ready, 0), (Starting, 0), (Starting, 0)]);
    check(&decision(2), &seen, &["stop 3"]);
    check(&decision(0), &seen, &["stop 3", "stop 2", "drain 1"]);
    load(&mut seen, 1, 0);
    check(&decision(1), &seen, &[]);
    // Nor one of an old revision, before the new one can serve.
    let mut seen = fleet(&[(Starting, 0)]);
    seen.hosts[0].image = fixture::present("r2");
    check(&decision_of("r2", 1), &seen, &["start 100 local", "stop 1"]);
    load(&mut seen, 1, 0);
    check(&decision_of("r2", 1), &seen, &["start 100 local"]);
}

#[test]
fn old_revisions_serve_until_enough_of_the_new_one_is_ready() {
    let mut seen = fleet(&[(Ready, 3), (Ready, 1), (Ready, 2), (Starting, 0)]);
    seen.hosts[0].image = fixture::present("r2");
    check(&decision_of("r2", 2), &seen, &["start 100 local", "start 101 local", "drain 2", "stop 4"]);
    let new = |number, phase| Replica { revision: Revision("r2".into()), ..replica(number, phase, seen.now) };
    let (first, second) = (new(100, Ready), new(101, Starting));
    seen.replicas = vec![seen.replicas[0].clone(), seen.replicas[2].clone(), first, second];
    check(&decision_of("r2", 2), &seen, &["drain 3"]);
    seen.replicas[3].phase = Ready;
    check(&decision_of("r2", 2), &seen, &["drain 3", "drain 1"]);
    // Not of the revision that is wanted: it does not come back.
    seen.replicas[0].phase = Draining;
    check(&decision_of("r2", 3), &seen, &["start 100 local"]);
    // Which one is wanted is not known: all of them are.
    seen.hosts[0].image = Image::Pulling;
    check(&mixed(4, Mix::default()), &seen, &["undrain 1"]);
}

#[test]
fn an_asked_restart_replaces_what_was_started_before() {
    let mut seen = fleet(&[(Ready, 0)]);
    seen.asked.restart = Some(seen.now);
    check(&decision(1), &seen, &[]);
    seen.now += secs(1);
    seen.asked.restart = Some(seen.now);
    check(&decision(1), &seen, &["start 100 local"]);
    seen.replicas.push(replica(100, Ready, seen.now));
    check(&decision(1), &seen, &["drain 1"]);
}

#[test]
fn without_room_for_both_old_ones_make_room_while_another_serves() {
    let crowd = |n| {
        let mut seen = fleet(&vec![(Ready, 0); n]);
        seen.hosts[0].image = fixture::present("r2");
        (seen.hosts[0].capacity.replicas, seen.hosts[0].reserved.replicas) = (2, 2);
        seen
    };
    check(&decision_of("r2", 2), &crowd(2), &["drain 2"]);
    check(&decision_of("r2", 1), &crowd(1), &[]);
    let mut under_way = crowd(2);
    under_way.replicas[1].phase = Draining;
    under_way.replicas[1].in_flight = 1;
    check(&decision_of("r2", 2), &under_way, &[]);
}

#[test]
fn images_are_prepared_before_they_are_needed() {
    let mut seen = fleet(&[]);
    seen.hosts = ["a", "b", "c", "d", "e", "f"].map(fixture::host).to_vec();
    let failed = |retry_at| Image::Failed { message: String::new(), retry_at };
    seen.hosts[0].image = Image::Unknown;
    seen.hosts[1].image = Image::Pulling;
    seen.hosts[2].image = failed(Some(seen.now));
    seen.hosts[3].image = failed(Some(seen.now + secs(1)));
    seen.hosts[4].image = failed(None);
    (seen.hosts[5].image, seen.hosts[5].state) = (Image::Unknown, HostState::Silent);
    check(&mixed(0, Mix::default()), &seen, &["prepare a", "prepare c"]);
}

#[test]
fn starts_of_one_plan_know_of_each_other() {
    let mut seen = fleet(&[]);
    seen.hosts = ["a", "b"].map(fixture::host).to_vec();
    seen.hosts[1].capacity.replicas = 1;
    check(&decision(3), &seen, &["start 100 a", "start 101 b", "start 102 a"]);
    seen.hosts[0].state = HostState::Silent;
    let found = plan(&decision(3), &seen);
    assert_eq!(short(&found.steps), ["start 100 b"]);
    let no_fit = found.no_fit.expect("two did not fit");
    assert_eq!(no_fit.to_string(), "a: its engine does not answer; b: full with 1 replicas");
}

/// Replicas 1, 2, ... with their revisions and phases.
fn versions(of: &[(&str, Phase)]) -> Snapshot {
    let mut seen = snapshot(ScalingPolicy::default());
    seen.hosts[0].image = fixture::present("r2");
    seen.hosts[0].has.insert(Revision("r1".into()), true);
    for (number, (revision, phase)) in (1..).zip(of) {
        seen.replicas.push(fixture::of(revision, replica(number, phase.clone(), seen.now)));
    }
    seen
}

#[test]
fn a_trial_grows_beside_the_good_version() {
    let started = |decision: &Decision, seen: &Snapshot| {
        let steps = plan(decision, seen).steps;
        let of = |step: &Step| match step {
            Step::Start(spec) => Some(spec.revision.0.clone()),
            _ => None,
        };
        steps.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(started(&trial(4, 10), &versions(&[])), ["r1", "r1", "r1", "r1", "r2"]);
    assert_eq!(started(&trial(4, 50), &versions(&[])), ["r1", "r1", "r2", "r2"]);
    assert_eq!(started(&trial(2, 100), &versions(&[])), ["r2", "r2"]);
    // The good one gives way as the other becomes ready, and not before.
    let four = [("r1", Ready), ("r1", Ready), ("r1", Ready), ("r1", Ready)];
    check(&trial(4, 50), &versions(&four), &["start 100 local", "start 101 local"]);
    let mixed = |first, second| {
        [("r1", Ready), ("r1", Ready), ("r1", Ready), ("r1", Ready), ("r2", first), ("r2", second)]
    };
    check(&trial(4, 50), &versions(&mixed(Starting, Starting)), &[]);
    check(&trial(4, 50), &versions(&mixed(Ready, Starting)), &["drain 4"]);
    check(&trial(4, 50), &versions(&mixed(Ready, Ready)), &["drain 4", "drain 3"]);
    check(&trial(2, 100), &versions(&mixed(Ready, Ready)), &["drain 4", "drain 3", "drain 2", "drain 1"]);
    // Taken back: what was tried goes as the good one serves.
    check(&decision(1), &versions(&[("r2", Ready), ("r2", Starting)]), &["start 100 local", "stop 2"]);
    check(&decision(1), &versions(&[("r2", Ready), ("r1", Ready)]), &["drain 1"]);
}

#[test]
fn each_version_is_held_back_by_its_own_failures() {
    let seen = versions(&[]);
    let later = Some(seen.now + secs(1));
    let main_waits = Decision { start_after: later, ..trial(1, 50) };
    let trial_waits = Decision { trial_after: later, ..trial(1, 50) };
    for (decision, revision) in [(main_waits, "r2"), (trial_waits, "r1")] {
        let steps = plan(&decision, &seen).steps;
        let [Step::Start(spec)] = &*steps else { panic!("{steps:?}") };
        assert_eq!(spec.revision.0, revision);
    }
}

#[test]
fn other_versions_are_looked_for_before_they_are_needed() {
    let mut seen = versions(&[]);
    seen.hosts[0].has.clear();
    check(&decision(0), &seen, &["find r1 local"]);
    check(&trial(1, 10), &seen, &["find r1 local", "start 100 local"]);
    seen.hosts[0].has.insert(Revision("r1".into()), false);
    check(&decision(0), &seen, &[]);
}

/// A service that sleeps in tiers of 100 s each (0: not in that tier).
fn sleeper(frozen: u64, stopped: u64, phases: &[(Phase, u32)]) -> Snapshot {
    let mut seen = fleet(phases);
    let age = |seconds| (seconds > 0).then(|| secs(seconds));
    std::sync::Arc::make_mut(&mut seen.service).sleep =
        tidegate_config::model::Sleep { frozen: age(frozen), stopped: age(stopped) };
    seen
}

#[test]
fn a_drained_replica_goes_to_its_tier() {
    for (frozen, stopped, step) in
        [(100, 100, "freeze 1"), (100, 0, "freeze 1"), (0, 100, "keep 1"), (0, 0, "stop 1")]
    {
        check(&decision(0), &sleeper(frozen, stopped, &[(Draining, 0)]), &[step]);
    }
    // What the engine cannot do is not asked of it.
    let mut seen = sleeper(100, 100, &[(Draining, 0)]);
    seen.hosts[0].can.freeze = false;
    check(&decision(0), &seen, &["keep 1"]);
    seen.hosts[0].can.keep_stopped = false;
    check(&decision(0), &seen, &["stop 1"]);
    // One that still runs something when its time is over is not frozen with it.
    let mut seen = sleeper(100, 100, &[(Draining, 1)]);
    check(&decision(0), &seen, &[]);
    seen.now += secs(30);
    check(&decision(0), &seen, &["keep 1"]);
    // Others do not sleep: versions that are not wanted, for want of memory, on a host that is to be emptied.
    check(&decision_of("r2", 0), &sleeper(100, 100, &[(Draining, 0)]), &["find r2 local", "stop 1"]);
    let squeezed = Decision { reason: crate::Reason::Squeezed, ..decision(0) };
    check(&squeezed, &sleeper(100, 100, &[(Draining, 0)]), &["keep 1"]);
    let mut seen = sleeper(100, 100, &[(Draining, 0), (Frozen, 0), (Stopped, 0)]);
    seen.hosts[0].order = HostOrder::Draining;
    check(&decision(0), &seen, &["stop 2", "stop 3", "stop 1"]);
    // And never more than the service may have.
    let mut seen = sleeper(100, 100, &[(Frozen, 0), (Stopped, 0), (Draining, 0)]);
    std::sync::Arc::make_mut(&mut seen.service).scaling.max = 1;
    check(&decision(0), &seen, &["stop 2", "stop 3"]);
    std::sync::Arc::make_mut(&mut seen.service).scaling.max = 0;
    check(&decision(0), &seen, &["stop 1", "stop 2", "stop 3"]);
}

#[test]
fn sleep_gets_deeper_with_age() {
    let aged = |frozen, stopped, phase: Phase, age| {
        let mut seen = sleeper(frozen, stopped, &[(phase, 0)]);
        seen.now += secs(age);
        seen
    };
    check(&decision(0), &aged(100, 200, Frozen, 99), &[]);
    check(&decision(0), &aged(100, 200, Frozen, 100), &["keep 1"]);
    check(&decision(0), &aged(100, 0, Frozen, 100), &["stop 1"]);
    check(&decision(0), &aged(100, 200, Stopped, 199), &[]);
    check(&decision(0), &aged(100, 200, Stopped, 200), &["stop 1"]);
    // A tier was switched off.
    check(&decision(0), &aged(0, 200, Frozen, 1), &["keep 1"]);
    check(&decision(0), &aged(0, 0, Frozen, 1), &["stop 1"]);
    check(&decision(0), &aged(100, 0, Stopped, 1), &["stop 1"]);
    let squeezed = Decision { reason: crate::Reason::Squeezed, ..decision(0) };
    check(&squeezed, &aged(100, 200, Frozen, 1), &["keep 1"]);
    check(&squeezed, &aged(100, 0, Frozen, 1), &["stop 1"]);
    check(&squeezed, &aged(100, 200, Stopped, 1), &[]);
}

#[test]
fn the_quickest_way_back_comes_first() {
    let all = [(Stopped, 0), (Frozen, 0), (Draining, 0), (Frozen, 0)];
    check(&decision(1), &sleeper(100, 100, &all), &["undrain 3"]);
    check(&decision(2), &sleeper(100, 100, &all), &["undrain 3", "thaw 2"]);
    check(&decision(4), &sleeper(100, 100, &all), &["undrain 3", "thaw 2", "thaw 4", "restart 1"]);
    let more = ["undrain 3", "thaw 2", "thaw 4", "restart 1", "start 100 local"];
    check(&decision(5), &sleeper(100, 100, &all), &more);
    // A restart takes up room again; a thaw has kept it.
    let mut full = sleeper(100, 100, &[(Stopped, 0), (Frozen, 0)]);
    (full.hosts[0].capacity.replicas, full.hosts[0].reserved.replicas) = (1, 1);
    check(&decision(2), &full, &["thaw 2"]);
}

#[test]
fn what_is_being_frozen_or_thawed_is_waited_for_a_little() {
    let after = |phase: Phase, millis| {
        let mut seen = sleeper(100, 100, &[(phase, 0)]);
        seen.now += Duration::from_millis(millis);
        load(&mut seen, 1, 0);
        seen
    };
    check(&decision(1), &after(Freezing, 999), &[]);
    check(&decision(1), &after(Freezing, 1000), &["start 100 local"]);
    check(&decision(1), &after(Thawing, 1999), &[]);
    check(&decision(1), &after(Thawing, 2000), &["start 100 local"]);
    // Within the maximum, and once.
    let mut seen = after(Thawing, 2000);
    seen.replicas.push(replica(2, Starting, seen.now));
    check(&decision(1), &seen, &[]);
    let mut seen = after(Thawing, 2000);
    std::sync::Arc::make_mut(&mut seen.service).scaling.max = 2;
    check(&decision(2), &seen, &["start 100 local"]);
}

#[test]
fn a_sleeper_that_cannot_be_stopped_keeps_its_place() {
    let mut seen = sleeper(1, 0, &[(Frozen, 0), (Draining, 0)]);
    std::sync::Arc::make_mut(&mut seen.service).scaling.max = 1;
    seen.now += secs(1);
    seen.hosts.push(Host { state: HostState::Silent, ..fixture::host("b") });
    seen.replicas[0].host = fixture::host_name("b");
    check(&decision(0), &seen, &["stop 2"]);
}

#[test]
fn nothing_is_asked_of_a_host_that_does_not_answer() {
    let phases = [(Ready, 0), (Draining, 0), (Frozen, 0), (Stopped, 0), (Starting, 0), (Failed(exited()), 0)];
    for state in [HostState::Silent, HostState::Lost] {
        let mut seen = sleeper(1, 1, &phases);
        seen.now += secs(100);
        seen.hosts[0].state = state;
        seen.hosts[0].image = Image::Unknown;
        check(&decision(0), &seen, &["drain 1"]);
    }
}

#[test]
fn what_is_lost_is_replaced_and_the_surplus_drained_when_it_comes_back() {
    let mut seen = fleet(&[(Ready, 0), (Lost, 0)]);
    seen.hosts.push(fixture::host("b"));
    seen.replicas[1].host = fixture::host_name("b");
    seen.hosts[1].state = HostState::Lost;
    check(&decision(2), &seen, &["start 100 local"]);
    seen.replicas.push(replica(100, Ready, seen.now + secs(1)));
    seen.now += secs(10);
    (seen.replicas[1].phase, seen.replicas[1].since) = (Ready, seen.now);
    seen.hosts[1].state = HostState::Up;
    check(&decision(2), &seen, &["drain 2"]);
    // Unless it is the busiest.
    seen.replicas[1].in_flight = 1;
    check(&decision(2), &seen, &["drain 100"]);
}

#[test]
fn a_host_that_is_drained_is_replaced_first() {
    let mut seen = fleet(&[(Ready, 0)]);
    seen.hosts[0].order = HostOrder::Draining;
    check(&decision(1), &seen, &[]);
    seen.hosts.push(fixture::host("b"));
    check(&decision(1), &seen, &["start 100 b"]);
    let there = Replica { host: fixture::host_name("b"), ..replica(100, Ready, seen.now) };
    seen.replicas.push(there);
    check(&decision(1), &seen, &["drain 1"]);
    // A cordoned one keeps what it has.
    seen.hosts[0].order = HostOrder::Cordoned;
    check(&decision(2), &seen, &[]);
    check(&decision(3), &seen, &["start 100 b"]);
}

/// A service that may be there once only, with a version that follows the one that runs.
fn once(of: &[(&str, Phase)]) -> Snapshot {
    let mut seen = versions(of);
    std::sync::Arc::make_mut(&mut seen.service).update = tidegate_config::model::Update::Recreate;
    seen
}

#[test]
fn of_some_services_the_old_one_is_gone_before_the_new_one_starts() {
    check(&trial(1, 100), &once(&[("r1", Ready)]), &["drain 1"]);
    check(&trial(1, 100), &once(&[("r1", Draining)]), &["stop 1"]);
    for phase in [Stopping, Lost, Freezing] {
        check(&trial(1, 100), &once(&[("r1", phase)]), &[]);
    }
    check(&trial(1, 100), &once(&[("r1", Failed(exited()))]), &["remove 1"]);
    check(&trial(1, 100), &once(&[]), &["start 100 local"]);
    // A stopped one writes nothing.
    check(&decision(2), &once(&[("r1", Stopped)]), &["restart 1"]);
    check(&decision(1), &once(&[("r1", Ready), ("r1", Frozen)]), &["stop 2"]);
    // The old one stays where the new one cannot follow.
    let mut stuck = once(&[("r1", Ready)]);
    stuck.hosts[0].image = Image::Pulling;
    check(&trial(1, 100), &stuck, &["find r2 local"]);
}

#[test]
fn data_binds_a_service_to_its_host() {
    let mut seen = fleet(&[]);
    seen.hosts = ["a", "b"].map(fixture::host).to_vec();
    seen.pinned = Some(fixture::host_name("b"));
    check(&decision(1), &seen, &["start 100 b"]);
    seen.hosts[1].state = HostState::Lost;
    let found = plan(&decision(1), &seen);
    assert_eq!(found.no_fit.expect("no host").to_string(), "a: its data is on b; b: it is lost");
}

#[test]
fn a_refused_service_still_says_where_room_is_missing() {
    let mut seen = fleet(&[]);
    (seen.hosts[0].capacity.replicas, seen.hosts[0].reserved.replicas) = (1, 1);
    let refuse = Refuse { why: RefuseReason::OutOfResources, until: None, cause: String::new() };
    let found = plan(&Decision { refuse: Some(refuse), ..decision(1) }, &seen);
    assert_eq!(found.no_fit.expect("no room").to_string(), "local: full with 1 replicas");
}
