//! From a decision to steps. Victims are named here; the applier has no choice left, and looks again afterwards (a
//! drained replica is stopped by the plan after the one that drained it).
//! Called after [`decide`](crate::decide) on the same snapshot. Holds: replicas of the current revision that live or
//! are started never exceed the decision; what waits keeps its starting replicas; old revisions serve until enough
//! of the current one is ready. Absent: how many (decided), time except for deadlines that have passed.

use std::{cmp::Reverse, time::Duration};

use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{StartSpec, Target, Version},
};

use crate::{
    decide::Decision,
    placement::{self, NoFit},
    replica::Phase,
    snapshot::{Host, HostState, Image, Replica, Snapshot},
};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In this order; later steps do not depend on how earlier ones end.
    pub steps: Vec<Step>,
    /// Why not all wanted replicas are started, if no host takes them.
    pub no_fit: Option<NoFit>,
}

/// One thing to do. Executing it needs no further decision.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a handful per plan, moved once each")]
pub enum Step {
    /// See to it that the service's image is on this host.
    Prepare {
        /// Where.
        host: HostName,
    },
    /// Start a replica.
    Start(StartSpec),
    /// See whether another version than the one that the settings name can be started on this host.
    Find {
        /// Where.
        host: HostName,
        /// What.
        version: Version,
    },
    /// Wake a frozen replica.
    Thaw(ReplicaId),
    /// Start a stopped replica again.
    Restart(ReplicaId),
    /// Stop a drained replica's processes in place.
    Freeze(ReplicaId),
    /// Give a draining replica its requests back.
    Undrain(ReplicaId),
    /// Send a replica no new requests; look again at once, it may have nothing left to do.
    Drain(ReplicaId),
    /// Stop a replica.
    Stop {
        /// Which.
        id: ReplicaId,
        /// From SIGTERM to SIGKILL.
        grace: Duration,
        /// Whether its container stays, to be started again; else it is removed.
        keep: bool,
    },
    /// Remove a failed replica.
    Remove(ReplicaId),
}

/// Plans the steps from what is to what was decided.
#[must_use]
pub fn plan(decision: &Decision, seen: &Snapshot) -> Plan {
    let fleet = Fleet::of(seen);
    let mut plan = Plan::default();
    plan.clear_away(seen);
    plan.prepare(seen);
    let missing = (decision.want as usize).saturating_sub(fleet.starting.len() + fleet.ready.len());
    let returned = plan.undrain(&fleet, missing);
    plan.stop_drained(&fleet, &returned, seen);
    let blocked = decision.refuse.is_some() || decision.start_after.is_some_and(|at| at > seen.now);
    if !blocked {
        plan.start(seen, missing - returned.len());
    }
    plan.shrink(&fleet, decision.want as usize, seen.queued() > 0);
    plan.retire(&fleet, decision.want as usize, seen.queued() > 0);
    plan
}

/// A service's replicas by what may be done with them.
struct Fleet<'a> {
    /// Of the current revision.
    ready: Vec<&'a Replica>,
    starting: Vec<&'a Replica>,
    /// Of earlier ones.
    stale_ready: Vec<&'a Replica>,
    stale_starting: Vec<&'a Replica>,
    /// Draining ones that may come back.
    returnable: Vec<&'a Replica>,
    draining: Vec<&'a Replica>,
}

impl<'a> Fleet<'a> {
    fn of(seen: &'a Snapshot) -> Self {
        let of =
            |test: &dyn Fn(&Replica) -> bool| seen.replicas.iter().filter(|r| test(r)).collect::<Vec<_>>();
        Self {
            ready: of(&|r| r.phase == Phase::Ready && seen.is_current(r)),
            starting: of(&|r| r.phase == Phase::Starting && seen.is_current(r)),
            stale_ready: of(&|r| r.phase == Phase::Ready && !seen.is_current(r)),
            stale_starting: of(&|r| r.phase == Phase::Starting && !seen.is_current(r)),
            returnable: of(&|r| seen.can_return(r)),
            draining: of(&|r| r.phase == Phase::Draining),
        }
    }
}

impl Plan {
    fn clear_away(&mut self, seen: &Snapshot) {
        let failed = seen.replicas.iter().filter(|r| matches!(r.phase, Phase::Failed(_)));
        self.steps.extend(failed.map(|r| Step::Remove(r.id.clone())));
    }

    /// Sees to the image wherever the service may run, also before it is needed.
    fn prepare(&mut self, seen: &Snapshot) {
        let due = |host: &&Host| match &host.image {
            Image::Unknown => true,
            Image::Failed { retry_at, .. } => retry_at.is_some_and(|at| at <= seen.now),
            Image::Pulling | Image::Present { .. } => false,
        };
        let hosts = seen.hosts.iter().filter(|h| h.state == HostState::Up && placement::permitted(&seen.service, h)).filter(due);
        self.steps.extend(hosts.map(|host| Step::Prepare { host: host.name.clone() }));
    }

    /// Takes draining replicas back, oldest first.
    fn undrain<'a>(&mut self, fleet: &Fleet<'a>, missing: usize) -> Vec<&'a ReplicaId> {
        let returned: Vec<_> = fleet.returnable.iter().take(missing).map(|r| &r.id).collect();
        self.steps.extend(returned.iter().map(|id| Step::Undrain((*id).clone())));
        returned
    }

    fn stop_drained(&mut self, fleet: &Fleet<'_>, returned: &[&ReplicaId], seen: &Snapshot) {
        let late = |r: &Replica| r.since + seen.service.scaling.drain <= seen.now;
        let done =
            fleet.draining.iter().filter(|r| !returned.contains(&&r.id) && (r.in_flight == 0 || late(r)));
        self.steps.extend(done.map(|r| stop(r)));
    }

    fn start(&mut self, seen: &Snapshot, missing: usize) {
        if missing == 0 {
            return;
        }
        let (mut own, mut hosts) = (seen.replicas.clone(), seen.hosts.clone());
        for number in (seen.next_number..).take(missing) {
            let chosen = match placement::place(&seen.service, &own, &hosts) {
                Ok(chosen) => chosen,
                Err(no_fit) => {
                    self.no_fit = Some(no_fit);
                    return;
                }
            };
            let Some(host) = hosts.iter_mut().find(|host| host.name == chosen) else { return };
            let id = ReplicaId::new(seen.service.name.clone(), seen.generation, number);
            let Some(spec) = spec(seen, host, id) else { return };
            own.push(planned(seen, &spec, &host.name));
            let reserve = seen.service.launch.resources.reserve;
            host.reserved.memory.0 += reserve.memory.0;
            host.reserved.cpu += reserve.cpu;
            host.reserved.replicas += 1;
            self.steps.push(Step::Start(spec));
        }
    }

    /// Takes away what is too much of the current revision: first what is not ready yet, unless somebody waits for it.
    fn shrink(&mut self, fleet: &Fleet<'_>, want: usize, waiting: bool) {
        let (ready, starting) = (fleet.ready.len(), fleet.starting.len());
        let unstarted = if waiting { 0 } else { (ready + starting).saturating_sub(want).min(starting) };
        self.steps.extend(fleet.starting.iter().rev().take(unstarted).map(|r| stop(r)));
        self.drain(&fleet.ready, ready.saturating_sub(want));
    }

    /// Takes earlier revisions out of traffic as the current one becomes ready.
    fn retire(&mut self, fleet: &Fleet<'_>, want: usize, waiting: bool) {
        let mut still_needed = want.saturating_sub(fleet.ready.len());
        // Old and new do not fit side by side: the old ones make room one by one while another serves.
        let serving = fleet.ready.len() + fleet.stale_ready.len();
        if self.no_fit.as_ref().is_some_and(NoFit::is_room) && fleet.draining.is_empty() && serving > 1 {
            still_needed = still_needed.min(fleet.stale_ready.len().saturating_sub(1));
        }
        self.drain(&fleet.stale_ready, fleet.stale_ready.len().saturating_sub(still_needed));
        if !waiting || want <= fleet.ready.len() {
            self.steps.extend(fleet.stale_starting.iter().map(|r| stop(r)));
        }
    }

    /// Those with the least to do, the youngest of them first: the oldest are kept busy.
    fn drain(&mut self, from: &[&Replica], number: usize) {
        let mut victims = from.to_vec();
        victims.sort_by_key(|r| (r.in_flight, Reverse(r.id.order())));
        self.steps.extend(victims.iter().take(number).map(|r| Step::Drain(r.id.clone())));
    }
}

fn stop(replica: &Replica) -> Step {
    Step::Stop { id: replica.id.clone(), grace: GRACE, keep: false }
}

fn spec(seen: &Snapshot, host: &Host, id: ReplicaId) -> Option<StartSpec> {
    match &host.image {
        Image::Present { digest, revision, port } => Some(StartSpec {
            id,
            revision: revision.clone(),
            launch: seen.service.launch.clone(),
            digest: digest.clone(),
            port: *port,
            target: Target::Host(host.name.clone()),
        }),
        Image::Unknown | Image::Pulling | Image::Failed { .. } => None,
    }
}

/// A replica that is about to be, so that the next one of the same plan knows of it.
fn planned(seen: &Snapshot, spec: &StartSpec, host: &HostName) -> Replica {
    Replica {
        id: spec.id.clone(),
        revision: spec.revision.clone(),
        phase: Phase::Starting,
        since: seen.now,
        started: seen.now,
        host: host.clone(),
        in_flight: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{self, exited, load, replica, secs, snapshot},
        refuse::{Refuse, RefuseReason},
    };
    use tidegate_config::{model::ScalingPolicy, spec::Revision, units::Count};

    fn decision(want: Count) -> Decision {
        let reason = crate::Reason::Asleep;
        Decision { want, reason, refuse: None, late: None, start_after: None, again_at: None }
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

    use Phase::{Draining, Failed, Ready, Starting, Stopping};

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
        check(&decision(1), &seen, &["start 100 local", "stop 1"]);
        load(&mut seen, 1, 0);
        check(&decision(1), &seen, &["start 100 local"]);
    }

    #[test]
    fn old_revisions_serve_until_enough_of_the_new_one_is_ready() {
        let mut seen = fleet(&[(Ready, 3), (Ready, 1), (Ready, 2), (Starting, 0)]);
        seen.hosts[0].image = fixture::present("r2");
        check(&decision(2), &seen, &["start 100 local", "start 101 local", "drain 2", "stop 4"]);
        let new =
            |number, phase| Replica { revision: Revision("r2".into()), ..replica(number, phase, seen.now) };
        let (first, second) = (new(100, Ready), new(101, Starting));
        seen.replicas = vec![seen.replicas[0].clone(), seen.replicas[2].clone(), first, second];
        check(&decision(2), &seen, &["drain 3"]);
        seen.replicas[3].phase = Ready;
        check(&decision(2), &seen, &["drain 3", "drain 1"]);
        // Not of the revision that is wanted: it does not come back.
        seen.replicas[0].phase = Draining;
        check(&decision(3), &seen, &["start 100 local"]);
        // Which one is wanted is not known: all of them are.
        seen.hosts[0].image = Image::Pulling;
        check(&decision(4), &seen, &["undrain 1"]);
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
        check(&decision(2), &crowd(2), &["drain 2"]);
        check(&decision(1), &crowd(1), &[]);
        let mut under_way = crowd(2);
        under_way.replicas[1].phase = Draining;
        under_way.replicas[1].in_flight = 1;
        check(&decision(2), &under_way, &[]);
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
        (seen.hosts[5].image, seen.hosts[5].up) = (Image::Unknown, false);
        check(&decision(0), &seen, &["prepare a", "prepare c"]);
    }

    #[test]
    fn starts_of_one_plan_know_of_each_other() {
        let mut seen = fleet(&[]);
        seen.hosts = ["a", "b"].map(fixture::host).to_vec();
        seen.hosts[1].capacity.replicas = 1;
        check(&decision(3), &seen, &["start 100 a", "start 101 b", "start 102 a"]);
        seen.hosts[0].up = false;
        let found = plan(&decision(3), &seen);
        assert_eq!(short(&found.steps), ["start 100 b"]);
        let no_fit = found.no_fit.expect("two did not fit");
        assert_eq!(no_fit.to_string(), "a: its engine does not answer; b: full with 1 replicas");
    }
}
