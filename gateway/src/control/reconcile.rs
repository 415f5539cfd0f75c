//! What engines say exists, against what the loop believes: adopts, drops and cleans up. Called after a start, after a
//! gap in an engine's events, and every [`RELIST`].

use std::time::Instant;

use futures_util::StreamExt;
use tidegate_autoscaler::{Cause, Phase, replica};
use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{Observed, ObservedState},
};
use tidegate_runner::{self as runner, Event as EngineEvent, Inventory, Kind};

use super::{
    Control, RELIST,
    apply::send,
    event::Event,
    history::{self, What},
    hosts,
    member::Member,
    phases::KILLED,
    state::LastFailure,
};
use crate::{clock, fleet::admission::SlotKey};

impl Control {
    /// Listens to every engine, asks each whether it answers and what it runs; one that does is asked what it has.
    pub(super) fn watch_engines(&mut self) {
        let hosts: Vec<HostName> = self.engines.iter().map(|engine| engine.name().clone()).collect();
        for host in hosts {
            self.watch(&host);
            self.list(&host);
            let Some(handle) = self.handle(&host) else { continue };
            self.tasks.spawn(hosts::listen(handle, self.events.clone()));
        }
    }

    fn watch(&mut self, host: &HostName) {
        let Some(handle) = self.handle(host) else { return };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let mut said = handle.runner.events();
            while let Some(event) = said.next().await {
                send(&events, Event::Engine(handle.host.clone(), event)).await;
            }
        });
    }

    fn ask_inventory(&mut self, host: &HostName) {
        let Some(handle) = self.handle(host) else { return };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let found = handle.call("inventory", handle.runner.inventory()).await;
            send(&events, Event::Inventory(handle.host, found)).await;
        });
    }

    /// Asks an engine for all that it runs.
    pub(super) fn list(&mut self, host: &HostName) {
        let now = clock::now();
        let Some(engine) = self.engine_mut(host) else { return };
        (engine.listed, engine.listing) = (now, true);
        let handle = engine.handle.clone();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let listed = handle.call("list", handle.runner.list()).await;
            send(&events, Event::Listed(handle.host, now, listed)).await;
        });
    }

    /// The tick's share: engines that were not asked for long, and ends that failed.
    pub(super) fn list_stale_engines(&mut self, now: Instant) {
        let stale = |engine: &&super::Engine| {
            engine.is_up() && !engine.listing && now.saturating_duration_since(engine.listed) >= RELIST
        };
        let hosts: Vec<_> = self.engines.iter().filter(stale).map(|engine| engine.name().clone()).collect();
        for host in &hosts {
            self.list(host);
        }
        let unfinished = |member: &&Member| member.phase == Phase::Stopping && !member.ending;
        let answers = |member: &&Member| self.engine(&member.host).is_some_and(super::Engine::is_up);
        let members = self.members().filter(unfinished).filter(answers);
        let ids: Vec<_> = members.map(|member| member.id.clone()).collect();
        for id in ids {
            self.remove(&id);
        }
    }

    pub(super) fn inventory(&mut self, host: &HostName, found: runner::Result<Inventory>) {
        let names = self.names.clone();
        let Some(engine) = self.engine_mut(host) else { return };
        match found {
            Ok(found) => {
                // Before anything is started there: containers are told once whom to ask for names.
                names.host(host, found.bridge, &engine.handle.runner);
                tracing::info!(%host, engine = %found.engine, cpu = found.cpu, memory = %found.memory, "host");
                engine.inventory = Some(found);
            }
            Err(error) => {
                tracing::warn!(%host, error = tidegate_runner::chain(&error), "the host does not tell what it has")
            }
        }
        // It has told what it runs just now.
        self.heard(host);
        self.evaluate_all();
    }

    pub(super) fn listed(&mut self, host: &HostName, asked: Instant, listed: runner::Result<Vec<Observed>>) {
        let Some(engine) = self.engine_mut(host) else { return };
        engine.listing = false;
        let lacks_inventory = engine.inventory.is_none();
        let is_back = match listed {
            Ok(listed) => {
                // In this order: what ended during a silence is told from what ended otherwise.
                self.compare(host, asked, &listed);
                // What it has comes first: it is up once that is known.
                if lacks_inventory {
                    self.ask_inventory(host);
                    false
                } else {
                    self.heard(host)
                }
            }
            Err(error) => {
                tracing::debug!(%host, error = tidegate_runner::chain(&error), "the engine did not tell what it runs");
                self.silent(host, asked, super::hosts::said(&error));
                false
            }
        };
        if is_back {
            self.evaluate_all();
        } else {
            self.evaluate_awake();
        }
    }

    fn compare(&mut self, host: &HostName, asked: Instant, listed: &[Observed]) {
        for seen in listed {
            match self.member(&seen.id).is_some() {
                true => self.confirm(host, asked, seen),
                false => self.adopt(host, seen),
            }
        }
        let missing = |member: &&Member| {
            member.host == *host
                && member.since < asked
                && member.accepted.is_some_and(|accepted| accepted < asked)
                && !member.ending
                && !listed.iter().any(|seen| seen.id == member.id)
        };
        let missing: Vec<ReplicaId> =
            self.members().filter(missing).map(|member| member.id.clone()).collect();
        for id in missing {
            self.advance(&id, replica::Event::Removed);
        }
        let all_up = self.engines.iter().all(super::Engine::is_up);
        for state in self.states.values_mut() {
            // What was not there may be by now.
            state.found.retain(|(at, _), has| at != host || *has != Some(false));
            // Whatever the last run had stopped and kept is known by now.
            state.kept_stopped.retain(|id| state.members.contains_key(id) || !all_up);
        }
    }

    /// A known replica was seen: what its events would have said is said now, should they have been lost.
    fn confirm(&mut self, host: &HostName, asked: Instant, seen: &Observed) {
        let silent = self.is_on_silent_host(&seen.id);
        let Some(member) = self.member(&seen.id) else { return };
        let phase = member.phase.clone();
        // Seen before it was started again.
        let old = member.again && member.accepted.is_none_or(|accepted| accepted > asked);
        match &seen.state {
            // The host is back, and so may this one be.
            ObservedState::Running if phase == Phase::Lost => self.find_again(seen),
            ObservedState::Running => self.engine_said(host, EngineEvent::Running(seen.clone())),
            ObservedState::Exited(_) if old => {}
            ObservedState::Exited(_) if silent => {
                self.advance(&seen.id, replica::Event::Broke(Cause::EngineAway));
            }
            ObservedState::Exited(exit) => {
                self.advance(&seen.id, replica::Event::Broke(Cause::Exited(exit.clone())));
            }
            ObservedState::Frozen if self.advance(&seen.id, replica::Event::Frozen) => {}
            ObservedState::Frozen => self.thaw_stray(&seen.id, asked),
            // Made, and cut off before it was started.
            ObservedState::Created if phase == Phase::Lost => {
                let message = "the engine went away while it was started".to_owned();
                let cause = Cause::StartRefused { message, retryable: true };
                self.advance(&seen.id, replica::Event::Broke(cause));
            }
            ObservedState::Created => {}
        }
    }

    fn find_again(&mut self, seen: &Observed) {
        if let Some(member) = self.member(&seen.id) {
            member.address = seen.address.or(member.address);
            member.accepted.get_or_insert_with(clock::now);
        }
        self.probe_start(&seen.id);
    }

    /// A replica of ours that we do not know: an earlier run of the gateway left it. What runs and has a service is
    /// adopted; everything else goes.
    fn adopt(&mut self, host: &HostName, seen: &Observed) {
        let generation = self.generation;
        // Another gateway finishes requests there; the next list finds it again.
        let busy_elsewhere = self.is_busy_elsewhere(&seen.id);
        let service = self.states.get_mut(seen.id.service()).filter(|state| !state.leaving);
        let of_use = |state: &super::State| match seen.state {
            ObservedState::Running => seen.address.is_some(),
            ObservedState::Frozen => true,
            ObservedState::Exited(_) => state.kept_stopped.contains(&seen.id),
            ObservedState::Created => false,
        };
        match service {
            Some(state) if of_use(state) && seen.id.order().0 < generation => {
                tracing::info!(replica = %seen.id, %host, state = ?seen.state, "adopted");
                let slot = SlotKey(self.next_slot);
                self.next_slot += 1;
                let member = Member::adopted(seen, state.fleet.settings(), host.clone(), slot, clock::now());
                state.members.insert(seen.id.clone(), member);
                self.awake.insert(seen.id.service().clone());
                if seen.state == ObservedState::Running {
                    self.probe_start(&seen.id);
                }
            }
            _ if busy_elsewhere => {}
            _ => {
                tracing::info!(replica = %seen.id, %host, state = ?seen.state, "left over; removing it");
                self.tell_end(seen);
                self.remove_stray(host, &seen.id);
            }
        }
    }

    /// How a replica ended while no gateway ran is told like any other end. SIGKILL may have been a removal of ours that the
    /// former gateway did not finish.
    fn tell_end(&mut self, seen: &Observed) {
        let ObservedState::Exited(exit) = &seen.state else { return };
        let Some(state) = self.states.get_mut(seen.id.service()) else { return };
        if exit.code == KILLED && !exit.out_of_memory {
            return;
        }
        let cause = Cause::Exited(exit.clone()).to_string();
        let what = What::Phase { replica: seen.id.to_string(), to: "failed".into() };
        state.history.note(what, cause.clone());
        state.last_failure = Some(LastFailure {
            replica: seen.id.clone(),
            at: history::unix_now(),
            cause,
            open: false,
            log: Vec::new(),
        });
    }

    pub(super) fn remove_stray(&mut self, host: &HostName, id: &ReplicaId) {
        let Some(handle) = self.handle(host) else { return };
        let id = id.clone();
        self.tasks.spawn(async move {
            if let Err(error) = handle.call("remove", handle.runner.remove(&id)).await
                && error.kind != Kind::Gone
            {
                tracing::warn!(replica = %id, error = tidegate_runner::chain(&error), "could not be removed; trying again");
            }
        });
    }
}
