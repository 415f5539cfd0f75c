//! A simulated host's engine: containers that start, answer, end and vanish, and calls that may fail.
//! The [`world`](super::world) asks it when a call's time is up, and carries its events.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{Digest, Exit, Observed, ObservedState, Revision, StartSpec},
};
use tidegate_runner::{self as runner, Error, Event, Kind};

use super::{
    chance::Chance,
    scenario::{App, EngineModel},
};

/// How long a bad image runs.
const BAD: Duration = Duration::from_millis(200);

/// A simulated host's engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) name: HostName,
    pub(super) model: EngineModel,
    pub(super) answers: bool,
    pub(super) powered: bool,
    pub(super) containers: BTreeMap<ReplicaId, Container>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) revision: Revision,
    digest: Digest,
    pub(super) state: ObservedState,
    /// From when on it answers; `None`: never.
    pub(super) ready_at: Option<Instant>,
    pub(super) born: Instant,
}

/// A call of the control loop's, of those that end with an answer about a replica.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Start(Box<StartSpec>),
    /// Whether its container stays.
    Stop(ReplicaId, bool),
    Remove(ReplicaId),
    Freeze(ReplicaId),
    Thaw(ReplicaId),
    Restart(ReplicaId),
}

/// What a call led to.
pub(super) struct Effect {
    pub(super) answer: runner::Result<()>,
    pub(super) events: Vec<Event>,
    /// A container was born and ends by itself after this.
    pub(super) crash_at: Option<Instant>,
    /// A container that ran since then runs no more.
    pub(super) ended: Option<Instant>,
    /// A container runs now.
    pub(super) begun: bool,
}

impl Effect {
    /// Nothing but an answer.
    fn none(answer: runner::Result<()>) -> Self {
        Self { answer, events: Vec::new(), crash_at: None, ended: None, begun: false }
    }
}

impl Engine {
    pub(super) fn new(name: HostName, model: EngineModel) -> Self {
        Self { name, model, answers: true, powered: true, containers: BTreeMap::new() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.answers && self.powered
    }

    /// Whether a connection to the replica is taken.
    pub(super) fn serves(&self, id: &ReplicaId, now: Instant) -> bool {
        let answers =
            |c: &Container| c.state == ObservedState::Running && c.ready_at.is_some_and(|at| at <= now);
        self.powered && self.containers.get(id).is_some_and(answers)
    }

    pub(super) fn list(&self, chance: &mut Chance) -> runner::Result<Vec<Observed>> {
        self.may_answer(chance)?;
        Ok(self.containers.iter().map(|(id, container)| container.seen(id)).collect())
    }

    /// An image's content follows from its name; one whose name starts with `missing` cannot be had.
    pub(super) fn prepare(&self, image: &str, chance: &mut Chance) -> runner::Result<Digest> {
        self.may_answer(chance)?;
        if image.starts_with("missing") {
            return Err(Error::new(Kind::Permanent, "no such image"));
        }
        Ok(Digest(format!("sha256:{image}")))
    }

    /// Whether a version can be started here; whatever was named once is there.
    pub(super) fn find(&self, chance: &mut Chance) -> runner::Result<()> {
        self.may_answer(chance)
    }

    pub(super) fn perform(&mut self, call: &Call, app: &App, now: Instant, chance: &mut Chance) -> Effect {
        if let Err(error) = self.may_answer(chance) {
            return Effect::none(Err(error));
        }
        let mut effect = match call {
            Call::Start(spec) => self.start(spec, app, now, chance),
            Call::Stop(id, true) => self.halt(id, &ObservedState::Exited(stopped())),
            Call::Freeze(id) => self.halt(id, &ObservedState::Frozen),
            Call::Stop(id, false) | Call::Remove(id) => self.end(id),
            Call::Thaw(id) => self.run_again(id, None, now),
            Call::Restart(id) => {
                let ready_at = now + chance.draw(app.ready);
                self.run_again(id, Some(ready_at), now)
            }
        };
        if chance.happens(self.model.answer_lost) {
            effect.answer = Err(Error::new(Kind::Retryable, "no answer in time"));
        }
        effect
    }

    /// A container's process ends by itself, if there is one: since when it ran, if it did, and what the engine says.
    pub(super) fn crash(&mut self, id: &ReplicaId) -> Option<(Option<Instant>, Event)> {
        let has_process =
            |c: &&mut Container| matches!(c.state, ObservedState::Running | ObservedState::Frozen);
        let container = self.containers.get_mut(id).filter(has_process)?;
        let born = container.ran_since();
        let exit = Exit { code: 1, out_of_memory: false, disrupted: false, message: None };
        container.state = ObservedState::Exited(exit.clone());
        Some((born, Event::Exited { id: id.clone(), exit }))
    }

    /// A container stays, without running.
    fn halt(&mut self, id: &ReplicaId, state: &ObservedState) -> Effect {
        let Some(container) = self.containers.get_mut(id) else {
            return Effect::none(Err(Error::new(Kind::Gone, "no such container")));
        };
        let ended = container.ran_since();
        container.state = state.clone();
        Effect { ended, ..Effect::none(Ok(())) }
    }

    /// A container that was kept runs again; `ready_at`: it starts from the beginning.
    fn run_again(&mut self, id: &ReplicaId, ready_at: Option<Instant>, now: Instant) -> Effect {
        let Some(container) = self.containers.get_mut(id) else {
            return Effect::none(Err(Error::new(Kind::Gone, "no such container")));
        };
        let expected =
            if ready_at.is_some() { ObservedState::Exited(stopped()) } else { ObservedState::Frozen };
        if container.state != expected {
            return Effect::none(Err(Error::new(Kind::Permanent, "its process has ended")));
        }
        (container.state, container.born) = (ObservedState::Running, now);
        container.ready_at = ready_at.or(container.ready_at);
        let events = vec![Event::Running(container.seen(id))];
        Effect { events, begun: true, ..Effect::none(Ok(())) }
    }

    fn may_answer(&self, chance: &mut Chance) -> runner::Result<()> {
        if !self.is_up() {
            return Err(Error::new(Kind::Retryable, "connection refused"));
        }
        if chance.happens(self.model.fails) {
            return Err(Error::new(Kind::Retryable, "internal error"));
        }
        Ok(())
    }

    fn start(&mut self, spec: &StartSpec, app: &App, now: Instant, chance: &mut Chance) -> Effect {
        // An image whose name has `bad` in it ends soon after its start.
        let bad = spec.launch.image.contains("bad");
        let never = bad || chance.happens(app.never_ready);
        let ready_at = now + chance.draw(app.ready);
        let container = Container {
            revision: spec.revision.clone(),
            digest: spec.digest.clone(),
            state: ObservedState::Running,
            ready_at: (!never).then_some(ready_at),
            born: now,
        };
        let crash_at = chance.happens(app.crashes).then(|| now + chance.draw(app.crash_after));
        let crash_at = if bad { Some(now + BAD) } else { crash_at };
        let events = vec![Event::Running(container.seen(&spec.id))];
        self.containers.insert(spec.id.clone(), container);
        Effect { answer: Ok(()), events, crash_at, ended: None, begun: true }
    }

    fn end(&mut self, id: &ReplicaId) -> Effect {
        let Some(container) = self.containers.remove(id) else {
            // Idempotent: what is gone is gone.
            return Effect::none(Ok(()));
        };
        let mut events = Vec::new();
        if container.state == ObservedState::Running {
            events.push(Event::Exited { id: id.clone(), exit: stopped() });
        }
        events.push(Event::Gone(id.clone()));
        Effect { events, ended: container.ran_since(), ..Effect::none(Ok(())) }
    }
}

/// How a process ends that was told to.
fn stopped() -> Exit {
    Exit { code: 143, out_of_memory: false, disrupted: false, message: None }
}

impl Container {
    fn ran_since(&self) -> Option<Instant> {
        (self.state == ObservedState::Running).then_some(self.born)
    }

    fn seen(&self, id: &ReplicaId) -> Observed {
        let running = self.state == ObservedState::Running;
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
        Observed {
            id: id.clone(),
            revision: self.revision.clone(),
            digest: self.digest.clone(),
            state: self.state.clone(),
            address: running.then_some(address),
            created: SystemTime::UNIX_EPOCH,
            healthcheck: None,
        }
    }
}
