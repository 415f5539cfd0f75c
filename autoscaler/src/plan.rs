//! From a decision to steps. Victims are named here; the applier has no choice left, and looks again afterwards (a
//! drained replica is stopped by the plan after the one that drained it).
//! Called after [`decide`](crate::decide) on the same snapshot. Holds: replicas of the current revision that live or
//! are started never exceed the decision; what waits keeps its starting replicas; old revisions serve until enough
//! of the current one is ready. Absent: how many (decided), time except for deadlines that have passed.

use std::{cmp::Reverse, time::Duration};

use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{StartSpec, Target},
};

use crate::{
    decide::Decision,
    placement::{self, NoFit},
    replica::Phase,
    snapshot::{Host, Image, Replica, Snapshot},
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
pub enum Step {
    /// See to it that the service's image is on this host.
    Prepare {
        /// Where.
        host: HostName,
    },
    /// Start a replica.
    Start(StartSpec),
    /// Give a draining replica its requests back.
    Undrain(ReplicaId),
    /// Send a replica no new requests; look again at once, it may have nothing left to do.
    Drain(ReplicaId),
    /// Stop a replica and remove it.
    Stop {
        /// Which.
        id: ReplicaId,
        /// From SIGTERM to SIGKILL.
        grace: Duration,
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
        let hosts = seen.hosts.iter().filter(|h| h.up && placement::permitted(&seen.service, h)).filter(due);
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
    Step::Stop { id: replica.id.clone(), grace: GRACE }
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
