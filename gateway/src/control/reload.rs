//! Takes up a new model: a difference at a time, in an order in which no route ever points at a missing service.
//! Cannot fail: everything that can was checked before.

use std::sync::Arc;

use tidegate_config::{
    Change,
    model::{Model, Service},
    name::{HostName, ServiceName},
};

use super::{Control, event::Purpose, publish, state::State};
use crate::fleet;

impl Control {
    pub(super) fn change_model(&mut self, model: Arc<Model>) -> Vec<Change> {
        let changes = tidegate_config::diff(&self.model, &model);
        let before = std::mem::replace(&mut self.model, model);
        for change in &changes {
            match change {
                Change::Add(service) => self.enter(service),
                Change::Update { service, launch } => self.change(service, *launch),
                Change::Remove(_) => {}
                Change::Gateway => {
                    self.door.change(Arc::new(self.model.gateway.clone()));
                    if before.gateway.resolvers != self.model.gateway.resolvers {
                        self.ask_names_anew();
                    }
                }
                Change::NeedsRestart { key } => {
                    tracing::warn!(%key, "changed in the file; takes effect at the gateway's next start");
                }
            }
        }
        // Before services go: from here on no request finds them.
        self.publish_routes();
        for change in &changes {
            if let Change::Remove(name) = change {
                self.remove_outside(name);
                self.take_out(name);
            }
        }
        let names: Vec<ServiceName> = self.states.keys().cloned().collect();
        for name in &names {
            self.look_again(name, Purpose::TakeUp);
        }
        self.evaluate_each(names, false);
        changes
    }

    /// A service enters the file.
    pub(super) fn enter(&mut self, service: &Arc<Service>) {
        if service.is_outside() { self.add_outside(service) } else { self.add(service) }
    }

    /// A service has changed. One that is run from now on, or not any more, is another service.
    fn change(&mut self, service: &Arc<Service>, launch: bool) {
        match (self.outside.contains_key(&service.name), service.is_outside()) {
            (false, false) => self.update(service, launch),
            (true, true) => self.update_outside(service),
            (true, false) => {
                self.remove_outside(&service.name);
                self.add(service);
            }
            (false, true) => {
                self.take_out(&service.name);
                self.add_outside(service);
            }
        }
    }

    /// One that was on its way out comes back with what it still has.
    fn add(&mut self, service: &Arc<Service>) {
        if let Some(state) = self.states.get_mut(&service.name) {
            state.leaving = false;
            self.fleet.insert(Arc::clone(&state.fleet));
            self.update(service, true);
            return;
        }
        let mut state = State::new(self.shared(service));
        if let Some(kept) = self.kept.services.remove(&service.name) {
            state.restore(kept);
        }
        self.states.insert(service.name.clone(), state);
        self.awake.insert(service.name.clone());
    }

    /// What a service that is new shares with the data plane.
    pub(super) fn shared(&self, service: &Arc<Service>) -> Arc<fleet::Service> {
        let shared = fleet::Service::new(
            Arc::clone(service),
            self.bell.clone(),
            self.door.tasks.clone(),
            rand::random(),
        );
        let shared = Arc::new(shared);
        self.fleet.insert(Arc::clone(&shared));
        shared
    }

    fn update(&mut self, service: &Arc<Service>, launch: bool) {
        let Some(state) = self.states.get_mut(&service.name) else { return };
        let health = state.fleet.settings().health != service.health;
        state.fleet.set_settings(Arc::clone(service));
        publish::slots(state);
        if launch {
            state.epoch += 1;
            state.images.clear();
        }
        let elsewhere = |host: &HostName| {
            let labels = self.engines.iter().find(|engine| engine.name() == host).map(super::Engine::labels);
            labels.is_some_and(|labels| {
                !service.constraints.iter().all(|(k, v)| v.allows(labels.get(k).map(String::as_str)))
            })
        };
        // Whoever asks for other hosts than the one with the data has moved it.
        if state.pinned.as_ref().is_some_and(|host| !service.launch.has_own_data() || elsewhere(host)) {
            state.pinned = None;
            self.unsaved.note(&service.name);
        }
        // Replicas of an earlier revision are probed as they were started: a new probe may ask what only new ones have.
        let current = state.members.values_mut().filter(|member| member.settings.launch == service.launch);
        let mut again = Vec::new();
        for member in current {
            member.settings = Arc::clone(service);
            again.push(member.id.clone());
        }
        for id in again.iter().filter(|_| health) {
            self.probe_anew(id);
        }
    }

    /// A service leaves the file: it takes nothing new, finishes what runs, and goes.
    fn take_out(&mut self, name: &ServiceName) {
        let Some(state) = self.states.get_mut(name) else { return };
        self.fleet.remove(name);
        state.leaving = true;
        let mut none = (*state.fleet.settings()).clone();
        (none.scaling.min, none.scaling.max) = (0, 0);
        state.fleet.set_settings(Arc::new(none));
    }
}
