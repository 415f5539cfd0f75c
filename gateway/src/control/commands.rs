//! What people ask for by hand, and what they are told.

use std::{sync::Arc, time::Duration};

use tidegate_autoscaler::{
    Phase,
    snapshot::{HostOrder, Image},
};
use tidegate_config::{
    name::{HostName, ReplicaId, ServiceName},
    spec::{Pull, Revision},
};
use tokio::sync::oneshot;

use super::{
    Control, Handle,
    apply::send,
    event::{Command, Event, Purpose, Reply},
    history::{What, unix, unix_now},
    member::Member,
    outside::Outside,
    publish,
    state::{Goal, State, Waiter},
    status::{
        BalanceStatus, Explanation, FailureStatus, HostStatus, LearnedStatus, ReplicaStatus, ServiceStatus,
        seconds_until,
    },
};
use crate::{clock, fleet};

/// From SIGTERM to SIGKILL when the gateway takes its replicas with it; requests have had their drain deadline already.
const LAST_GRACE: Duration = Duration::from_secs(10);

/// The loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is shutting down")]
pub struct Ended;

impl Control {
    pub(super) fn command(&mut self, command: Command) {
        // Whoever asked may have gone before the answer: nothing is lost with it.
        match command {
            Command::Status(reply) => {
                self.publish_gauges();
                drop(reply.send(self.statuses()));
            }
            Command::Explain(name, reply) => {
                let outside = self.outside.get(&name).map(Outside::explain);
                let explained = outside.or_else(|| self.states.get(&name).map(State::explain));
                drop(reply.send(explained.map(Box::new)));
            }
            Command::Wake(name, reply) => self.ask(&name, Goal::Ready, reply),
            Command::Sleep(name, reply) => self.ask(&name, Goal::Cold, reply),
            Command::Restart(name, reply) => self.ask(&name, Goal::RestartedSince(clock::now()), reply),
            Command::RollBack(name, to, reply) => self.look_back(name, to, reply),
            Command::Hosts(reply) => drop(reply.send(self.host_status())),
            Command::Order(host, order, reply) => self.order(host, order, reply),
            Command::Find(name, reply) => drop(reply.send(self.find(&name))),
            Command::Fleet(name, reply) => drop(reply.send(self.fleet(&name))),
            Command::Settled(reply) => drop(reply.send(self.is_settled())),
            Command::StopAll(reply) => self.stop_all(reply),
        }
    }

    /// All services, in order of their names.
    fn statuses(&self) -> Vec<ServiceStatus> {
        let outside = self.outside.values().map(Outside::status);
        let mut all: Vec<_> = self.states.values().map(State::status).chain(outside).collect();
        all.sort_by(|a, b| a.service.cmp(&b.service));
        all
    }

    fn ask(&mut self, name: &ServiceName, goal: Goal, reply: oneshot::Sender<Result<(), String>>) {
        if self.outside.contains_key(name) {
            return self.ask_outside(name, goal, reply);
        }
        let Some(state) = self.states.get_mut(name) else {
            drop(reply.send(Err(format!("no service is called {name}"))));
            return;
        };
        let now = clock::now();
        let words = match goal {
            Goal::Ready => {
                state.asked.wake = Some(now);
                if !state.fleet.awake.is_awake() {
                    state.fleet.metrics.woken("asked");
                }
                "asked to wake"
            }
            Goal::Cold => {
                state.asked.sleep = Some(now);
                "asked to sleep"
            }
            Goal::Runs => "asked to go back to an earlier version",
            Goal::RestartedSince(_) => {
                state.memory.release_mut().forgive();
                "asked to restart"
            }
        };
        state.history.note(What::Asked, words.into());
        if goal != Goal::Cold {
            // Whoever asks by hand may have put right what was wrong: look again at an image that could not be had.
            state.images.retain(|_, image| !matches!(image.image, Image::Failed { .. }));
        }
        // A restart of what sleeps is done.
        let nothing_to_do = matches!(goal, Goal::RestartedSince(_))
            && state.members.values().all(|member| member.phase.is_asleep());
        state.waiters.push(Waiter { goal: if nothing_to_do { Goal::Cold } else { goal }, reply });
        if matches!(goal, Goal::RestartedSince(_)) {
            self.unsaved.note(name);
            self.look_again(name, Purpose::Restart);
        }
        self.evaluate(name, false);
    }

    /// Sees whether any host has the version to go back to: one that is nowhere must not replace one that serves.
    fn look_back(&mut self, name: ServiceName, to: Option<Revision>, reply: Reply) {
        if self.outside.contains_key(&name) {
            return self.ask_outside(&name, Goal::Runs, reply);
        }
        let Some(state) = self.states.get(&name) else {
            drop(reply.send(Err(format!("no service is called {name}"))));
            return;
        };
        let release = state.memory.release();
        let good = release.good.as_ref().filter(|_| state.mix.trial.is_some());
        let mut versions = good.into_iter().chain(&release.kept);
        let version = versions.find(|version| to.as_ref().is_none_or(|to| *to == version.revision));
        let digest = version.map(|version| version.digest.0.clone());
        let up = self.engines.iter().filter(|engine| engine.is_up());
        let handles: Vec<_> = up.map(|engine| engine.handle.clone()).collect();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let mut is_there = digest.is_none();
            for handle in handles {
                let Some(digest) = digest.as_ref().filter(|_| !is_there) else { break };
                let call = handle.runner.prepare(digest, Pull::Never, Arc::new(|_| ()));
                is_there = handle.call("prepare", call).await.is_ok();
            }
            send(&events, Event::Back(name, to, is_there, reply)).await;
        });
    }

    pub(super) fn roll_back(
        &mut self,
        name: &ServiceName,
        to: Option<&Revision>,
        is_there: bool,
        reply: Reply,
    ) {
        let Some(state) = self.states.get_mut(name) else { return };
        if !is_there {
            drop(reply.send(Err("no host has that version's image any more; nothing was changed".into())));
            return;
        }
        match state.memory.roll_back(to) {
            Ok(revision) => {
                tracing::info!(service = %name, %revision, "rolled back by hand");
                self.unsaved.note(name);
                self.ask(name, Goal::Runs, reply);
            }
            Err(error) => drop(reply.send(Err(error.to_string()))),
        }
    }

    fn find(&self, name: &ServiceName) -> Vec<(ReplicaId, super::engine::Handle)> {
        let Some(state) = self.states.get(name) else { return Vec::new() };
        let place = |member: &super::member::Member| {
            self.engine(&member.host).map(|engine| (member.id.clone(), engine.handle.clone()))
        };
        state.members.values().filter_map(place).collect()
    }

    fn fleet(&self, name: &ServiceName) -> Option<Arc<fleet::Service>> {
        let own = self.states.get(name).map(|state| &state.fleet);
        own.or_else(|| self.outside.get(name).map(Outside::fleet)).cloned()
    }

    fn is_settled(&self) -> bool {
        let probing = |state: &State| {
            state.members.values().any(|member| member.phase == Phase::Starting && member.adopted)
        };
        let none_up = !self.engines.iter().any(super::Engine::is_up);
        self.outside.values().all(Outside::is_settled)
            && self.unlisted.is_empty()
            && (none_up || self.states.values().all(|state| state.images_settled() && !probing(state)))
    }

    /// Stops every replica, those whose start is still under way too, and starts nothing any more.
    fn stop_all(&mut self, reply: oneshot::Sender<()>) {
        (self.stopping, self.stopped) = (true, Some(reply));
        let ids: Vec<ReplicaId> = self.members().map(|member| member.id.clone()).collect();
        for id in &ids {
            self.stop(id, LAST_GRACE, false);
        }
    }
}

impl State {
    fn status(&self) -> ServiceStatus {
        let settings = self.fleet.settings();
        let (queued, in_flight) = self.fleet.counts();
        let main = self.mix.main.as_ref();
        ServiceStatus {
            service: self.fleet.name.to_string(),
            state: self.state_word().into(),
            upstreams: Vec::new(),
            image: main.map_or_else(|| settings.launch.image.clone(), |version| version.launch.image.clone()),
            digest: main.map(|version| version.digest.0.clone()),
            revision: main.map(|version| version.revision.0.clone()),
            rollout: self.rollout.clone(),
            newer: self.newer.as_ref().map(|digest| digest.0.clone()),
            earlier: self.memory.release().kept.iter().map(|version| version.revision.0.clone()).collect(),
            want: self.want,
            in_flight,
            queued,
            circuit_open: self.fleet.broken_until().map(|until| seconds_until(until, clock::now())),
            reason: self.words(),
            routes: publish::ways(&settings),
            replicas: self.replica_statuses(),
        }
    }

    /// The service in one word.
    fn state_word(&self) -> &'static str {
        let any = |phase: &str| self.members.values().any(|member| member.phase.label() == phase);
        let image = |test: fn(&Image) -> bool| self.images.values().any(|state| test(&state.image));
        if self.leaving {
            "removing"
        } else if any("ready") {
            "ready"
        } else if any("thawing") || any("starting") {
            "starting"
        } else if self.refused.is_some() || image(|image| matches!(image, Image::Failed { .. })) {
            "failing"
        } else if any("draining") || any("freezing") || any("stopping") || any("failed") {
            "stopping"
        } else if any("lost") {
            "lost"
        } else if any("frozen") || any("stopped") {
            "asleep"
        } else if image(|image| matches!(image, Image::Pulling)) {
            "pulling"
        } else if image(|image| matches!(image, Image::Present { .. })) {
            "cold"
        } else {
            "unknown"
        }
    }

    fn words(&self) -> String {
        let failed = self.images.iter().find_map(|(host, state)| match &state.image {
            Image::Failed { message, .. } => Some(format!("{host}: {message}")),
            Image::Unknown | Image::Pulling | Image::Present { .. } => None,
        });
        let pulling = self.images.iter().find_map(|(host, state)| {
            state
                .progress
                .filter(|_| matches!(state.image, Image::Pulling))
                .map(|at| format!("{host}: pulling, {} of {}", at.done, at.total))
        });
        let last = self.last_failure.as_ref().filter(|failure| failure.open && self.members.is_empty());
        let last = last.map(|failure| format!("the last start failed: {}", failure.cause));
        let other = || last.unwrap_or_else(|| self.reason.clone());
        failed.or(pulling).or(self.no_fit.clone()).unwrap_or_else(other)
    }

    fn replica_statuses(&self) -> Vec<ReplicaStatus> {
        let (forms, now) = (self.fleet.forms(), clock::now());
        let status = |member: &Member| ReplicaStatus {
            id: member.id.to_string(),
            phase: member.phase.label().into(),
            host: member.host.to_string(),
            address: member.address.map(|address| address.to_string()),
            revision: member.revision.0.clone(),
            digest: member.digest.0.clone(),
            in_flight: self.fleet.in_flight_of(member.slot),
            balance: BalanceStatus::of(&forms, member.slot, now),
            age: unix_now().saturating_sub(unix(member.created)),
            waits_for: member.waits_for.clone().filter(|_| member.phase == Phase::Starting),
            trouble: member.trouble(now),
        };
        self.members.values().map(status).collect()
    }

    fn explain(&self) -> Explanation {
        let settings = self.fleet.settings();
        Explanation {
            status: self.status(),
            history: self.history.entries(),
            last_failure: self.last_failure.as_ref().map(|failure| FailureStatus {
                replica: failure.replica.to_string(),
                at: failure.at,
                cause: failure.cause.clone(),
                log: failure.log.clone(),
            }),
            no_fit: self.no_fit.clone(),
            waits: self.waits.status(clock::now(), &settings.scaling),
            learned: self.memory.findings(settings.scaling.work.aim).map(LearnedStatus::from),
        }
    }
}

impl Handle {
    /// All services.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn status(&self) -> Result<Vec<ServiceStatus>, Ended> {
        self.ask(Command::Status).await
    }

    /// One service, in full; `None` if there is none of that name.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn explain(&self, service: ServiceName) -> Result<Option<Box<Explanation>>, Ended> {
        self.ask(|reply| Command::Explain(service, reply)).await
    }

    /// Starts a service and waits until it is ready; the inner error says why it cannot be.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn wake(&self, service: ServiceName) -> Result<Result<(), String>, Ended> {
        self.ask(|reply| Command::Wake(service, reply)).await
    }

    /// As if `idle` had passed; waits until nothing is left.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn sleep(&self, service: ServiceName) -> Result<Result<(), String>, Ended> {
        self.ask(|reply| Command::Sleep(service, reply)).await
    }

    /// Replaces all replicas and waits for the new ones.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn restart(&self, service: ServiceName) -> Result<Result<(), String>, Ended> {
        self.ask(|reply| Command::Restart(service, reply)).await
    }

    /// Goes back to an earlier version, or to a named one, and waits until it serves.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn roll_back(
        &self,
        service: ServiceName,
        to: Option<Revision>,
    ) -> Result<Result<(), String>, Ended> {
        self.ask(|reply| Command::RollBack(service, to, reply)).await
    }

    /// All hosts.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn hosts(&self) -> Result<Vec<HostStatus>, Ended> {
        self.ask(Command::Hosts).await
    }

    /// Sets what a host is to do; draining waits until its last replica has gone.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn order(&self, host: HostName, order: HostOrder) -> Result<Result<(), String>, Ended> {
        self.ask(|reply| Command::Order(host, order, reply)).await
    }

    /// Takes up a new model and tells what changed.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn change(
        &self,
        model: Arc<tidegate_config::model::Model>,
    ) -> Result<Vec<tidegate_config::Change>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Model(model, reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Whether what was found at the start has been looked at and every image is there or known not to be.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn is_settled(&self) -> Result<bool, Ended> {
        self.ask(Command::Settled).await
    }

    /// Stops all replicas and waits for their ends.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn stop_all(&self) -> Result<(), Ended> {
        self.ask(Command::StopAll).await
    }

    /// What a service shares with the data plane; `None`: there is none of this name.
    pub(crate) async fn fleet(&self, service: ServiceName) -> Result<Option<Arc<fleet::Service>>, Ended> {
        self.ask(|reply| Command::Fleet(service, reply)).await
    }

    /// A service's replicas, each with what reads its output.
    pub(crate) async fn find(
        &self,
        service: ServiceName,
    ) -> Result<Vec<(ReplicaId, super::engine::Handle)>, Ended> {
        self.ask(|reply| Command::Find(service, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Command(command(reply))).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }
}
