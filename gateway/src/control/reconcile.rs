//! What engines say exists, against what the loop believes: adopts, drops and cleans up. Called after a start, after a
//! gap in an engine's events, and every [`RELIST`].

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tidegate_autoscaler::{Cause, Phase, replica, snapshot::Image};
use tidegate_config::{
    model::Service,
    name::{HostName, ReplicaId},
    revision,
    spec::{Observed, ObservedState},
};
use tidegate_runner::{self as runner, Event as EngineEvent, Inventory, Kind, Prepared, PullProgress};

use super::{
    Control, RELIST,
    apply::send,
    event::{About, Event},
    history::What,
    member::Member,
    state::ImageState,
};
use crate::{clock, fleet::admission::SlotKey};

/// A pull that failed is tried again after this, doubled each time up to [`PULL_AGAIN_MOST`].
const PULL_AGAIN: Duration = Duration::from_secs(5);
const PULL_AGAIN_MOST: Duration = Duration::from_secs(300);

/// The port of an image that exposes none, or several.
const DEFAULT_PORT: u16 = 8080;

impl Control {
    /// Listens to every engine and asks each what it runs; one that answers is asked what it has.
    pub(super) fn watch_engines(&mut self) {
        let hosts: Vec<HostName> = self.engines.iter().map(|engine| engine.name().clone()).collect();
        for host in hosts {
            self.watch(&host);
            self.list(&host);
        }
    }

    fn watch(&mut self, host: &HostName) {
        let Some(handle) = self.engine(host).map(|engine| engine.handle.clone()) else { return };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let mut said = handle.runner.events();
            while let Some(event) = said.next().await {
                send(&events, Event::Engine(handle.host.clone(), event)).await;
            }
        });
    }

    fn ask_inventory(&mut self, host: &HostName) {
        let Some(handle) = self.engine(host).map(|engine| engine.handle.clone()) else { return };
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let found = handle.call("inventory", handle.runner.inventory()).await;
            send(&events, Event::Inventory(handle.host, found)).await;
        });
    }

    /// Asks an engine for all that it runs.
    pub(super) fn list(&mut self, host: &HostName) {
        let now = clock::now();
        let Some(engine) = self.engines.iter_mut().find(|engine| engine.name() == host) else { return };
        engine.listed = now;
        let handle = engine.handle.clone();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let listed = handle.call("list", handle.runner.list()).await;
            send(&events, Event::Listed(handle.host, now, listed)).await;
        });
    }

    /// The tick's share: engines that were not asked for long, or did not answer, and ends that failed.
    pub(super) fn list_stale_engines(&mut self, now: Instant) {
        let stale =
            |engine: &&super::Engine| !engine.up || now.saturating_duration_since(engine.listed) >= RELIST;
        let hosts: Vec<_> = self.engines.iter().filter(stale).map(|engine| engine.name().clone()).collect();
        for host in hosts {
            self.list(&host);
        }
        let unfinished = |member: &&Member| member.phase == Phase::Stopping && !member.ending;
        let members = self.states.values().flat_map(|state| state.members.values());
        let ids: Vec<_> = members.filter(unfinished).map(|member| member.id.clone()).collect();
        for id in ids {
            self.remove(&id);
        }
    }

    pub(super) fn inventory(&mut self, host: &HostName, found: runner::Result<Inventory>) {
        let Some(engine) = self.engines.iter_mut().find(|engine| engine.name() == host) else { return };
        match found {
            Ok(found) => {
                tracing::info!(%host, engine = %found.engine, cpu = found.cpu, memory = %found.memory, "host");
                engine.inventory = Some(found);
            }
            Err(error) => {
                tracing::warn!(%host, error = super::words(&error), "the host does not tell what it has")
            }
        }
    }

    pub(super) fn listed(&mut self, host: &HostName, asked: Instant, listed: runner::Result<Vec<Observed>>) {
        let up = listed.is_ok();
        let Some(engine) = self.engines.iter_mut().find(|engine| engine.name() == host) else { return };
        if engine.up != up {
            tracing::info!(%host, up, "engine");
            engine.up = up;
        }
        let lacks_inventory = engine.inventory.is_none();
        match listed {
            Ok(listed) => {
                self.compare(host, asked, &listed);
                self.unlisted.remove(host);
                if lacks_inventory {
                    self.ask_inventory(host);
                }
            }
            Err(error) => tracing::warn!(%host, error = super::words(&error), "the engine does not answer"),
        }
        let names: Vec<_> = self.states.keys().cloned().collect();
        for name in names {
            self.evaluate(&name, false);
        }
    }

    fn compare(&mut self, host: &HostName, asked: Instant, listed: &[Observed]) {
        for seen in listed {
            match self.member(&seen.id).is_some() {
                true => self.confirm(host, seen),
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
        let members = self.states.values().flat_map(|state| state.members.values());
        let missing: Vec<ReplicaId> = members.filter(missing).map(|member| member.id.clone()).collect();
        for id in missing {
            self.advance(&id, replica::Event::Removed);
        }
    }

    /// A known replica was seen: what its events would have said is said now, should they have been lost.
    fn confirm(&mut self, host: &HostName, seen: &Observed) {
        match &seen.state {
            ObservedState::Running => self.engine_said(host, EngineEvent::Running(seen.clone())),
            ObservedState::Exited(exit) => {
                self.advance(&seen.id, replica::Event::Broke(Cause::Exited(exit.clone())));
            }
            ObservedState::Created | ObservedState::Frozen => {}
        }
    }

    /// A replica of ours that we do not know: an earlier run of the gateway left it. What runs and has a service is
    /// adopted; everything else goes.
    fn adopt(&mut self, host: &HostName, seen: &Observed) {
        let generation = self.generation;
        let service = self.states.get_mut(seen.id.service()).filter(|state| !state.leaving);
        let running = seen.state == ObservedState::Running && seen.address.is_some();
        match service {
            Some(state) if running && seen.id.order().0 < generation => {
                tracing::info!(replica = %seen.id, %host, "adopted");
                let slot = SlotKey(self.next_slot);
                self.next_slot += 1;
                let member = Member::adopted(seen, state.fleet.settings(), host.clone(), slot, clock::now());
                state.members.insert(seen.id.clone(), member);
                self.probe_start(&seen.id);
            }
            _ => {
                tracing::info!(replica = %seen.id, %host, state = ?seen.state, "left over; removing it");
                self.remove_stray(host, &seen.id);
            }
        }
    }

    fn remove_stray(&mut self, host: &HostName, id: &ReplicaId) {
        let Some(handle) = self.engine(host).map(|engine| engine.handle.clone()) else { return };
        let id = id.clone();
        self.tasks.spawn(async move {
            if let Err(error) = handle.call("remove", handle.runner.remove(&id)).await
                && error.kind != Kind::Gone
            {
                tracing::warn!(replica = %id, error = super::words(&error), "could not be removed; trying again");
            }
        });
    }

    pub(super) fn pulling(&mut self, about: &About, progress: PullProgress) {
        if let Some(image) = self.image(about) {
            image.progress = Some(progress);
        }
    }

    fn image(&mut self, about: &About) -> Option<&mut ImageState> {
        let state = self.states.get_mut(&about.service).filter(|state| state.epoch == about.epoch)?;
        state.images.get_mut(&about.host)
    }

    pub(super) fn prepared(&mut self, about: &About, outcome: runner::Result<Prepared>) {
        let Some(settings) = self.states.get(&about.service).map(|state| state.fleet.settings()) else {
            return;
        };
        let Some(image) = self.image(about) else { return };
        let words = match outcome {
            Ok(found) => {
                let words = format!("{} is {}", settings.launch.image, found.digest.short());
                *image = present(&settings, found);
                words
            }
            Err(error) => {
                image.failures += 1;
                let pause = PULL_AGAIN.saturating_mul(1 << (image.failures - 1).min(10)).min(PULL_AGAIN_MOST);
                let retry_at = (error.kind == Kind::Retryable).then(|| clock::now() + pause);
                let message = super::words(&error);
                tracing::warn!(service = %about.service, host = %about.host, error = %message, "no image");
                image.image = Image::Failed { message: message.clone(), retry_at };
                message
            }
        };
        if let Some(state) = self.states.get_mut(&about.service) {
            state.history.note(What::Image, words);
        }
        self.evaluate(&about.service, false);
    }
}

fn present(settings: &Service, found: Prepared) -> ImageState {
    let only = match found.exposed[..] {
        [port] => port,
        _ => DEFAULT_PORT,
    };
    let image = Image::Present {
        revision: revision(&settings.launch, &found.digest),
        digest: found.digest,
        port: settings.launch.port.unwrap_or(only),
    };
    ImageState { image, healthcheck: found.healthcheck, progress: None, failures: 0 }
}
