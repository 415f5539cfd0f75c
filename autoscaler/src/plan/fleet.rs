//! A service's replicas by what they are to it and what may be done with them.

use crate::{
    decide::Decision,
    mix::Role,
    replica::Phase,
    snapshot::{Replica, Snapshot},
};

/// Replicas of one role, oldest first.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    pub(super) ready: Vec<&'a Replica>,
    pub(super) starting: Vec<&'a Replica>,
    pub(super) thawing: Vec<&'a Replica>,
    pub(super) draining: Vec<&'a Replica>,
    pub(super) freezing: Vec<&'a Replica>,
    pub(super) frozen: Vec<&'a Replica>,
    pub(super) stopped: Vec<&'a Replica>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Fleet<'a> {
    pub(super) main: Group<'a>,
    pub(super) trial: Group<'a>,
    pub(super) stale: Group<'a>,
    pub(super) failed: Vec<&'a Replica>,
}

impl<'a> Fleet<'a> {
    pub(super) fn of(decision: &Decision, seen: &'a Snapshot) -> Self {
        let mut fleet = Self::default();
        for replica in &seen.replicas {
            if matches!(replica.phase, Phase::Failed(_)) {
                fleet.failed.push(replica);
            } else {
                fleet.group_mut(decision.mix.role(seen, replica)).add(replica);
            }
        }
        fleet
    }

    pub(super) fn group(&self, role: Role) -> &Group<'a> {
        match role {
            Role::Main => &self.main,
            Role::Trial => &self.trial,
            Role::Stale => &self.stale,
        }
    }

    fn group_mut(&mut self, role: Role) -> &mut Group<'a> {
        match role {
            Role::Main => &mut self.main,
            Role::Trial => &mut self.trial,
            Role::Stale => &mut self.stale,
        }
    }

    pub(super) fn groups(&self) -> [(Role, &Group<'a>); 3] {
        [Role::Main, Role::Trial, Role::Stale].map(|role| (role, self.group(role)))
    }

    /// Ready ones of versions that are wanted.
    pub(super) fn ready(&self) -> usize {
        self.main.ready.len() + self.trial.ready.len()
    }

    /// Live ones of versions that are wanted.
    pub(super) fn live(&self) -> usize {
        self.main.live() + self.trial.live()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.groups().iter().any(|(_, group)| !group.draining.is_empty())
    }
}

impl<'a> Group<'a> {
    pub(super) fn live(&self) -> usize {
        self.ready.len() + self.starting.len() + self.thawing.len()
    }

    fn add(&mut self, replica: &'a Replica) {
        let list = match &replica.phase {
            Phase::Ready => &mut self.ready,
            Phase::Starting => &mut self.starting,
            Phase::Thawing => &mut self.thawing,
            Phase::Draining => &mut self.draining,
            Phase::Freezing => &mut self.freezing,
            Phase::Frozen => &mut self.frozen,
            Phase::Stopped => &mut self.stopped,
            // Out of reach, or on its way out by itself.
            Phase::Lost | Phase::Stopping | Phase::Failed(_) | Phase::Gone => return,
        };
        list.push(replica);
    }
}
