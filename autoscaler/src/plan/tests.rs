//! Rows for [`plan`](super::plan): what is there, what is wanted, and the steps.

use super::*;
use crate::{
    Mix, Phase,
    fixture::{self, exited, load, replica, secs, snapshot},
    refuse::{Refuse, RefuseReason},
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

use crate::Phase::{Draining, Failed, Ready, Starting, Stopping};

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
