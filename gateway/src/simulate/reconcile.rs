//! What engines say exists, against what the books say. As the control loop does it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_autoscaler::{Cause, Phase, replica, snapshot::Image};
use tidegate_config::{
    model,
    name::{HostName, ReplicaId, ServiceName},
    revision,
    spec::{Digest, Observed, ObservedState},
};
use tidegate_runner::{self as runner, Kind};

use super::{
    control::{Control, Member, Out, RELIST, capacity},
    engine::Call,
    record::Note,
};
use crate::fleet::admission::SlotKey;

/// A pull that failed is tried again after this, doubled each time up to [`PULL_AGAIN_MOST`].
const PULL_AGAIN: Duration = Duration::from_secs(5);
const PULL_AGAIN_MOST: Duration = Duration::from_secs(300);

impl Control {
    /// Asks an engine for all that it runs.
    pub(super) fn list(&mut self, name: &HostName, now: Instant) {
        let Some(host) = self.host(name) else { return };
        host.listed = now;
        self.out.push_back(Out::List(name.clone()));
    }

    /// The tick's share: engines that were not asked for long, or did not answer, ends that failed, and starts that
    /// nothing is heard of.
    pub(super) fn list_stale_engines(&mut self, now: Instant) {
        let stale =
            |host: &&super::control::Host| !host.up || now.saturating_duration_since(host.listed) >= RELIST;
        let hosts: Vec<_> = self.hosts.iter().filter(stale).map(|host| host.settings.name.clone()).collect();
        for host in hosts {
            self.list(&host, now);
        }
        let unfinished = |member: &&Member| member.phase == Phase::Stopping && !member.ending;
        let members = self.states.values().flat_map(|state| state.members.values());
        let ids: Vec<_> = members.filter(unfinished).map(|member| member.id.clone()).collect();
        for id in ids {
            self.end(&id, Call::Remove(id.clone()));
        }
        self.give_up_unheard_starts(now);
    }

    /// A container that went before it was ever seen running leaves no trace in lists: its deadline ends the wait.
    fn give_up_unheard_starts(&mut self, now: Instant) {
        let mut late = Vec::new();
        for state in self.states.values() {
            let deadline = state.front.settings.health.start_deadline;
            let unheard = |member: &&Member| {
                member.phase == Phase::Starting && !member.reached && member.started + deadline <= now
            };
            late.extend(state.members.values().filter(unheard).map(|member| (member.id.clone(), deadline)));
        }
        for (id, waited) in late {
            self.broke(
                &id,
                Cause::NotReady { waited, last: "its engine did not tell where it runs".into() },
                now,
            );
        }
    }

    pub(super) fn listed(
        &mut self,
        name: &HostName,
        asked: Instant,
        listed: runner::Result<Vec<Observed>>,
        now: Instant,
    ) {
        let Some(host) = self.host(name) else { return };
        host.up = listed.is_ok();
        if let Ok(listed) = listed {
            (host.silent_since, host.lost) = (None, false);
            self.ask_again(name);
            self.compare(name, asked, &listed, now);
        } else {
            host.silent_since.get_or_insert(now);
        }
        let names: Vec<_> = self.states.keys().cloned().collect();
        for name in names {
            self.evaluate(&name, now, false);
        }
    }

    fn compare(&mut self, host: &HostName, asked: Instant, listed: &[Observed], now: Instant) {
        for seen in listed {
            match self.member(&seen.id).is_some() {
                true => self.confirm(host, seen, now),
                false => self.adopt(host, seen, now),
            }
        }
        let missing = |member: &&Member| {
            member.host == *host
                && member.since < asked
                && (member.reached || member.phase == Phase::Lost)
                && !member.ending
                && !listed.iter().any(|seen| seen.id == member.id)
        };
        let members = self.states.values().flat_map(|state| state.members.values());
        let missing: Vec<ReplicaId> = members.filter(missing).map(|member| member.id.clone()).collect();
        for id in missing {
            self.advance(&id, replica::Event::Removed, now);
        }
    }

    fn confirm(&mut self, host: &HostName, seen: &Observed, now: Instant) {
        match &seen.state {
            ObservedState::Running => self.engine_said(host, runner::Event::Running(seen.clone()), now),
            ObservedState::Frozen if self.is_lost(&seen.id) => {
                self.advance(&seen.id, replica::Event::Frozen, now);
            }
            ObservedState::Exited(_) if self.member(&seen.id).is_some_and(|member| member.restarting) => {}
            ObservedState::Exited(exit) => {
                self.advance(&seen.id, replica::Event::Broke(Cause::Exited(exit.clone())), now);
            }
            ObservedState::Created | ObservedState::Frozen => {}
        }
    }

    /// A replica that we do not know: what runs, is of an earlier generation and has a service is adopted; everything
    /// else goes.
    fn adopt(&mut self, host: &HostName, seen: &Observed, now: Instant) {
        let running = seen.state == ObservedState::Running && seen.address.is_some();
        let earlier = seen.id.order().0 < self.generation;
        let frozen = seen.state == ObservedState::Frozen;
        match self.states.get_mut(seen.id.service()) {
            Some(state) if frozen && earlier => {
                let slot = SlotKey(self.next_slot);
                self.next_slot += 1;
                let mut member = Member::new(seen.id.clone(), seen.revision.clone(), host.clone(), slot, now);
                (member.reached, member.phase) = (true, Phase::Frozen);
                state.members.insert(seen.id.clone(), member);
                self.notes.push(Note::Phase(seen.id.clone(), None, Phase::Frozen));
            }
            Some(state) if running && earlier => {
                let slot = SlotKey(self.next_slot);
                self.next_slot += 1;
                let mut member = Member::new(seen.id.clone(), seen.revision.clone(), host.clone(), slot, now);
                member.reached = true;
                state.members.insert(seen.id.clone(), member);
                self.notes.push(Note::Phase(seen.id.clone(), None, Phase::Starting));
                self.probe_start(&seen.id);
            }
            _ => {
                self.notes.push(Note::Called(host.clone(), "remove stray", Some(seen.id.clone())));
                self.out.push_back(Out::Call(host.clone(), Call::Remove(seen.id.clone())));
            }
        }
    }

    pub(super) fn prepared(
        &mut self,
        service: &ServiceName,
        host: &HostName,
        epoch: u64,
        outcome: runner::Result<Digest>,
        now: Instant,
    ) {
        let Some(state) = self.states.get_mut(service).filter(|state| state.epoch == epoch) else { return };
        let launch = &state.front.settings.launch;
        let Some((image, failures)) = state.images.get_mut(host) else { return };
        match outcome {
            Ok(digest) => {
                let port = launch.port.unwrap_or(8080);
                *image = Image::Present { revision: revision(launch, &digest), digest, port };
                *failures = 0;
            }
            Err(error) => {
                *failures += 1;
                let pause = PULL_AGAIN.saturating_mul(1 << (*failures - 1).min(10)).min(PULL_AGAIN_MOST);
                let retry_at = (error.kind == Kind::Retryable).then(|| now + pause);
                *image = Image::Failed { message: error.to_string(), retry_at };
            }
        }
        self.evaluate(service, now, false);
    }

    /// The file has new settings for a service.
    pub(super) fn change(&mut self, service: &Arc<model::Service>, now: Instant) {
        let Some(state) = self.states.get_mut(&service.name) else { return };
        let launch = state.front.settings.launch != service.launch;
        let granted = state.front.set_settings(now, Arc::clone(service), &mut self.notes);
        self.out.push_back(Out::Granted(granted));
        let slots = capacity(&state.front);
        for member in state.members.values().filter(|member| member.phase == Phase::Ready) {
            let granted = state.front.set_slots(now, member.slot, &member.id, slots, &mut self.notes);
            self.out.push_back(Out::Granted(granted));
        }
        if launch {
            state.epoch += 1;
            state.images.clear();
        }
        self.evaluate(&service.name, now, false);
    }
}
