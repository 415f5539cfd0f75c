//! Hosts that fall silent, versions that are looked for, replicas that sleep and wake. As the control loop does it.

use std::{collections::BTreeMap, time::Instant};

use tidegate_autoscaler::{Cause, Phase, replica};
use tidegate_config::{
    name::{HostName, ReplicaId, ServiceName},
    spec::Revision,
};
use tidegate_runner as runner;

use super::{
    control::{Control, Out, State},
    engine::Call,
    record::Note,
};

impl State {
    /// Which versions a host has, as far as it has been asked.
    pub(super) fn has(&self, host: &HostName) -> BTreeMap<Revision, bool> {
        let here = self.found.iter().filter(|((at, _), _)| at == host);
        here.map(|((_, revision), has)| (revision.clone(), *has)).collect()
    }
}

impl Control {
    /// A host that has not answered for too long is lost, with all that it runs.
    pub(super) fn lose_silent_hosts(&mut self, now: Instant) {
        let late = |host: &&mut super::control::Host| {
            let over = |since: Instant| since + host.settings.lost_after <= now;
            !host.lost && host.silent_since.is_some_and(over)
        };
        let mut lost = Vec::new();
        for host in self.hosts.iter_mut().filter(late) {
            host.lost = true;
            lost.push(host.settings.name.clone());
        }
        let gone = |phase: &Phase| !matches!(phase, Phase::Stopped);
        let members = self.states.values().flat_map(|state| state.members.values());
        let ids: Vec<ReplicaId> =
            members.filter(|m| lost.contains(&m.host) && gone(&m.phase)).map(|m| m.id.clone()).collect();
        for id in ids {
            if self.advance(&id, replica::Event::Lost, now)
                && let Some(member) = self.member(&id)
            {
                (member.reached, member.restarting) = (false, false);
            }
        }
    }

    pub(super) fn is_lost(&mut self, id: &ReplicaId) -> bool {
        self.member(id).is_some_and(|member| member.phase == Phase::Lost)
    }

    pub(super) fn find(&mut self, service: &ServiceName, host: HostName, revision: Revision) {
        let Some(state) = self.states.get_mut(service) else { return };
        state.found.insert((host.clone(), revision.clone()), false);
        self.notes.push(Note::Called(host.clone(), "find", None));
        self.out.push_back(Out::Find { service: service.clone(), host, revision });
    }

    pub(super) fn found(
        &mut self,
        service: &ServiceName,
        host: &HostName,
        revision: Revision,
        outcome: &runner::Result<()>,
        now: Instant,
    ) {
        let Some(state) = self.states.get_mut(service) else { return };
        state.found.insert((host.clone(), revision), outcome.is_ok());
        self.evaluate(service, now, false);
    }

    /// An engine that answers may have what it could not tell of before.
    pub(super) fn ask_again(&mut self, name: &HostName) {
        for state in self.states.values_mut() {
            state.found.retain(|(host, _), has| host != name || *has);
        }
    }

    /// Moves a replica and asks its engine to follow.
    pub(super) fn turn(&mut self, id: &ReplicaId, event: replica::Event, call: Call, now: Instant) {
        if !self.advance(id, event, now) {
            return;
        }
        let Some(host) = self.member(id).map(|member| member.host.clone()) else { return };
        let what = match call {
            Call::Freeze(_) => "freeze",
            Call::Thaw(_) => "thaw",
            Call::Start(_) | Call::Stop(..) | Call::Remove(_) | Call::Restart(_) => "restart",
        };
        self.notes.push(Note::Called(host.clone(), what, Some(id.clone())));
        self.out.push_back(Out::Call(host, call));
    }

    /// A replica is frozen or thawed; one of which nobody knows is replaced.
    pub(super) fn slept(
        &mut self,
        id: &ReplicaId,
        event: replica::Event,
        outcome: runner::Result<()>,
        now: Instant,
    ) {
        let thawed = event == replica::Event::Thawed;
        match outcome {
            Ok(()) => {
                if self.advance(id, event, now) && thawed {
                    self.probe_life(id);
                }
                self.evaluate(id.service(), now, false);
            }
            Err(error) => {
                let asked = if thawed { Phase::Thawing } else { Phase::Freezing };
                if self.member(id).is_some_and(|member| member.phase == asked) {
                    self.broke(id, Cause::Unhealthy { last: error.to_string() }, now);
                }
            }
        }
    }

    pub(super) fn restarted(&mut self, id: &ReplicaId, outcome: runner::Result<()>, now: Instant) {
        let Some(member) = self.member(id) else { return };
        member.restarting = false;
        if let Err(error) = outcome
            && member.phase == Phase::Starting
        {
            let retryable = error.kind == runner::Kind::Retryable;
            self.broke(id, Cause::StartRefused { message: error.to_string(), retryable }, now);
        }
    }
}
