//! From a decision to steps. Victims are named here; the applier has no choice left, and looks again afterwards (a
//! drained replica is stopped by the plan after the one that drained it).
//! Called after [`decide`](crate::decide) on the same snapshot. Holds: replicas of a version that live or are started
//! never exceed what was decided; what waits keeps its starting replicas; what is not wanted serves until enough of what is
//! wanted is ready; no step asks an engine that does not answer. Absent: how many (decided), time except for deadlines
//! that have passed.

mod fleet;
mod grow;
mod rest;
mod shrink;

use std::{collections::BTreeSet, time::Duration};

use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{StartSpec, Version},
};

use crate::{
    decide::Decision,
    mix::Role,
    placement::{self, NoFit},
    snapshot::{Host, HostState, Image, Replica, Snapshot},
};
use fleet::Fleet;

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// A replica that is being frozen is waited for so long when it is needed again.
pub(crate) const FREEZING: Duration = Duration::from_secs(1);
/// A replica that is being thawed is waited for so long before another one is started besides.
pub(crate) const THAWING: Duration = Duration::from_secs(2);

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
    let mut draft = Draft::new(decision, seen);
    draft.clear_away();
    draft.prepare();
    draft.find();
    draft.grow(Role::Main);
    draft.grow(Role::Trial);
    draft.explain_refusal();
    draft.settle_down();
    draft.shrink();
    draft.retire();
    draft.plan
}

/// A plan in the making.
struct Draft<'a> {
    seen: &'a Snapshot,
    decision: &'a Decision,
    fleet: Fleet<'a>,
    plan: Plan,
    /// Replicas that an earlier step of this plan brings back.
    taken: BTreeSet<&'a ReplicaId>,
    /// The service's replicas and the hosts as they will be after the starts of this plan.
    own: Vec<Replica>,
    hosts: Vec<Host>,
    next_number: u64,
}

impl<'a> Draft<'a> {
    fn new(decision: &'a Decision, seen: &'a Snapshot) -> Self {
        Self {
            seen,
            decision,
            fleet: Fleet::of(decision, seen),
            plan: Plan::default(),
            taken: BTreeSet::new(),
            own: seen.replicas.clone(),
            hosts: seen.hosts.clone(),
            next_number: seen.next_number,
        }
    }

    /// Whether the engine that has this replica answers.
    fn is_up(&self, replica: &Replica) -> bool {
        self.seen.hosts.iter().any(|host| host.name == replica.host && host.state == HostState::Up)
    }

    fn stop(&mut self, replica: &Replica, keep: bool) {
        if self.is_up(replica) {
            self.plan.steps.push(Step::Stop { id: replica.id.clone(), grace: GRACE, keep });
        }
    }

    fn clear_away(&mut self) {
        let failed = self.fleet.failed.iter().filter(|r| self.is_up(r));
        let steps: Vec<_> = failed.map(|r| Step::Remove(r.id.clone())).collect();
        self.plan.steps.extend(steps);
    }

    /// Hosts that the service may be started on.
    fn candidates(&self) -> impl Iterator<Item = &'a Host> {
        let seen = self.seen;
        seen.hosts.iter().filter(|h| placement::is_open(h) && placement::permitted(seen, h))
    }

    /// Sees to the image wherever the service may run, also before it is needed.
    fn prepare(&mut self) {
        let due = |host: &&Host| match &host.image {
            Image::Unknown => true,
            Image::Failed { retry_at, .. } => retry_at.is_some_and(|at| at <= self.seen.now),
            Image::Pulling | Image::Present { .. } => false,
        };
        let hosts = self.candidates().filter(due);
        let steps: Vec<_> = hosts.map(|host| Step::Prepare { host: host.name.clone() }).collect();
        self.plan.steps.extend(steps);
    }

    /// Looks where versions can be started that the settings do not name, also before that is needed.
    fn find(&mut self) {
        for version in self.decision.mix.versions() {
            let unasked = self.candidates().filter(|host| placement::is_unasked(version, host));
            let steps: Vec<_> = unasked
                .map(|host| Step::Find { host: host.name.clone(), version: version.clone() })
                .collect();
            self.plan.steps.extend(steps);
        }
    }

    /// Nothing is started while the service is refused; where room is missing, that is still to be seen.
    fn explain_refusal(&mut self) {
        if self.decision.refuse.is_some()
            && let Some(version) = self.decision.mix.started(self.decision.wants).first()
        {
            self.plan.no_fit = placement::place(self.seen, *version, &self.own, &self.hosts).err();
        }
    }
}

#[cfg(test)]
mod tests;
