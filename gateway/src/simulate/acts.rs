//! What happens to the simulated world from outside.

use std::sync::Arc;

use tidegate_autoscaler::{Memory, snapshot::Asked};
use tidegate_config::name::{HostName, ReplicaId, ServiceName};
use tidegate_runner::Event as Said;

use super::{control::Control, record::Note, scenario::Act, world::World};

impl World {
    pub(super) fn act(&mut self, act: Act) {
        let now = self.now;
        self.control.notes.push(Note::Acted(format!("{act:?}").chars().take(100).collect()));
        match act {
            Act::Engine(host, model) => {
                if let Some((engine, _)) = self.engine(&host) {
                    engine.model = model;
                }
            }
            Act::App(service, app) => drop(self.apps.insert(service, app)),
            Act::Answers(host, answers) => {
                if let Some((engine, _)) = self.engine(&host) {
                    engine.answers = answers;
                }
                self.say(&host, Said::Resync);
            }
            Act::Power(host, powered) => self.power(&host, powered),
            Act::Settings(service) => self.control.change(&service, now),
            Act::Crash(service) => {
                for id in self.containers_of(&service) {
                    self.crash(&id);
                }
            }
            Act::Vanish(service) => self.vanish(&service),
            Act::Wake(service) => self.ask(&service, |asked| asked.wake = Some(now)),
            Act::Sleep(service) => self.ask(&service, |asked| asked.sleep = Some(now)),
            Act::Restart(service) => self.ask(&service, |asked| asked.restart = Some(now)),
            Act::RestartGateway => self.restart_gateway(),
        }
    }

    fn ask(&mut self, service: &ServiceName, change: impl FnOnce(&mut Asked)) {
        if let Some(state) = self.control.states.get_mut(service) {
            change(&mut state.asked);
            self.control.evaluate(service, self.now, false);
        }
    }

    fn power(&mut self, host: &HostName, powered: bool) {
        let Some((engine, _)) = self.engine(host) else { return };
        engine.powered = powered;
        let ids: Vec<ReplicaId> = engine.containers.keys().cloned().collect();
        for id in ids {
            self.crash(&id);
        }
        self.say(host, Said::Resync);
    }

    fn vanish(&mut self, service: &ServiceName) {
        for id in self.containers_of(service) {
            let Some(engine) = self.engines.iter_mut().find(|engine| engine.containers.contains_key(&id))
            else {
                continue;
            };
            let host = engine.name.clone();
            let crashed = engine.crash(&id);
            engine.containers.remove(&id);
            if let Some((born, exited)) = crashed {
                if let Some(born) = born {
                    self.runs_no_more(&id, born);
                }
                self.say(&host, exited);
            }
            self.say(&host, Said::Gone(id));
        }
    }

    fn containers_of(&self, service: &ServiceName) -> Vec<ReplicaId> {
        self.containers().filter(|id| id.service() == service).cloned().collect()
    }

    fn restart_gateway(&mut self) {
        self.lose_all();
        self.life += 1;
        self.rung.clear();
        self.suspects.clear();
        let settings: Vec<_> =
            self.control.states.values().map(|state| Arc::clone(&state.front.settings)).collect();
        let hosts: Vec<_> = self.control.hosts.iter().map(|host| host.settings.clone()).collect();
        let generation = self.control.generation + 1;
        let chance = &mut self.chance;
        let mut control = Control::new(settings.into_iter(), hosts.into_iter(), self.now, generation, || {
            chance.below(u64::MAX)
        });
        let mut notes = std::mem::take(&mut self.control.notes);
        notes.append(&mut control.notes);
        control.notes = notes;
        // What is kept of versions is kept in the state directory.
        for (name, state) in &mut control.states {
            if let Some(before) = self.control.states.get(name) {
                state.memory = Memory::restored(before.memory.release().clone(), before.memory.habits());
            }
        }
        self.control = control;
    }
}
