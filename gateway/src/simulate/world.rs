//! The simulated world: one clock, one timeline, and the parts that it moves. One event per step.
//! Holds: what happens at a step is decided by the scenario and its seed alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_config::{
    model,
    name::{HostName, ReplicaId, ServiceName},
    spec::{ObservedState, Revision},
};
use tidegate_runner::Event as Said;

use super::{
    chance::{Chance, Span},
    control::{Control, Out, Told},
    engine::{Call, Engine},
    record::{Figures, Note, Outcome, RequestId, RequestRecord},
    scenario::{Act, App, Scenario},
    timeline::Timeline,
    traffic::Request,
};
use crate::clock;

/// A call to an engine that is known to be gone fails after this.
const REFUSED: Duration = Duration::from_millis(1);

/// How late the control loop answers its bell.
const BUSY: Span = Span::Between(Duration::ZERO, Duration::from_millis(2));

/// The simulated world.
#[derive(Debug)]
pub struct World {
    origin: Instant,
    pub(super) now: Instant,
    /// Which run of the gateway it is; what earlier ones asked for is answered to nobody.
    pub(super) life: u64,
    pub(super) chance: Chance,
    pub(super) timeline: Timeline<Event>,
    pub(super) control: Control,
    pub(super) engines: Vec<Engine>,
    pub(super) apps: BTreeMap<ServiceName, App>,
    pub(super) requests: Vec<Request>,
    pub(super) rung: BTreeSet<ServiceName>,
    pub(super) suspects: BTreeSet<ReplicaId>,
    figures: BTreeMap<ServiceName, Figures>,
}

/// Something that is to happen.
#[derive(Debug)]
pub(super) enum Event {
    Arrives(RequestId),
    GivesUp(RequestId),
    HoldEnds(RequestId),
    Connects(RequestId, u32),
    Answers(RequestId, u32),
    Resume(u64, ServiceName),
    Bell(u64),
    CallEnds(u64, HostName, Call),
    ListEnds(u64, HostName, Instant),
    FindEnds(u64, ServiceName, HostName, Revision),
    PrepareEnds { life: u64, service: ServiceName, host: HostName, epoch: u64, image: String },
    Told(u64, Told),
    ProbeStart { life: u64, id: ReplicaId, prober: u64, began: Instant, deadline: Instant },
    ProbeLife { life: u64, id: ReplicaId, prober: u64, failures: u32 },
    Suspect { life: u64, id: ReplicaId, failures: u32 },
    Crash(ReplicaId),
    Act(Box<Act>),
}

/// One step: when, what, and what came of it.
#[derive(Debug)]
pub struct Step {
    /// Since the beginning.
    pub at: Duration,
    /// The event's kind.
    pub what: &'static str,
    /// What happened, in order.
    pub notes: Vec<Note>,
}

impl World {
    /// The world at its beginning.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let origin = clock::now();
        let Scenario { seed, hosts, services, arrivals, acts } = scenario;
        let mut chance = Chance::new(seed);
        let mut timeline = Timeline::new();
        for (at, act) in acts {
            timeline.plan(origin + at, Event::Act(Box::new(act)));
        }
        let request = |(number, arrival)| Request::new(number, arrival, origin);
        let requests: Vec<Request> = arrivals.into_iter().enumerate().map(request).collect();
        for request in &requests {
            timeline.plan(request.record.arrived, Event::Arrives(request.record.id));
        }
        let settings = services.iter().map(|(service, _)| Arc::clone(service));
        let machines = hosts.iter().map(|(host, _)| host.clone());
        let control = Control::new(settings, machines, origin, 1, || chance.below(u64::MAX));
        let mut world = Self {
            origin,
            now: origin,
            life: 1,
            timeline,
            control,
            engines: hosts.into_iter().map(|(host, model)| Engine::new(host.name, model)).collect(),
            figures: services.iter().map(|(service, _)| (service.name.clone(), Figures::default())).collect(),
            apps: services.into_iter().map(|(service, app)| (service.name.clone(), app)).collect(),
            requests,
            rung: BTreeSet::new(),
            suspects: BTreeSet::new(),
            chance,
        };
        world.do_what_is_wanted();
        world
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.origin
    }

    /// The moment that is so long after the beginning.
    #[must_use]
    pub fn at(&self, after: Duration) -> Instant {
        self.origin + after
    }

    /// Lets the next event happen. There always is one: the policy's tick never ends.
    pub fn step(&mut self) -> Step {
        let wake = self.control.next_wake();
        let what = match self.timeline.next_at() {
            Some(at) if at <= wake => match self.timeline.pop() {
                Some((at, event)) => {
                    self.now = self.now.max(at);
                    self.happens(event)
                }
                None => "nothing",
            },
            Some(_) | None => {
                self.now = self.now.max(wake);
                self.control.wake_up(self.now);
                "clock"
            }
        };
        self.do_what_is_wanted();
        let notes = std::mem::take(&mut self.control.notes);
        self.note_figures(&notes);
        Step { at: self.elapsed(), what, notes }
    }

    /// A service's settings as of now.
    #[must_use]
    pub fn settings(&self, service: &ServiceName) -> Option<&Arc<model::Service>> {
        self.control.states.get(service).map(|state| &state.front.settings)
    }

    /// Requests that wait and requests that run, as the gate counts them.
    #[must_use]
    pub fn counts(&self, service: &ServiceName) -> (u32, u32) {
        self.control.states.get(service).map_or((0, 0), |state| state.front.counts())
    }

    /// All containers that exist, running or not.
    pub fn containers(&self) -> impl Iterator<Item = &ReplicaId> {
        self.engines.iter().flat_map(|engine| engine.containers.keys())
    }

    /// All replicas in the gateway's books.
    pub fn members(&self) -> impl Iterator<Item = &ReplicaId> {
        self.control.states.values().flat_map(|state| state.members.keys())
    }

    /// All requests, those to come included.
    pub fn requests(&self) -> impl Iterator<Item = &RequestRecord> {
        self.requests.iter().map(|request| &request.record)
    }

    /// The services' figures up to now.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<ServiceName, Figures> {
        let mut figures = self.figures.clone();
        for (id, container) in self.engines.iter().flat_map(|engine| &engine.containers) {
            if container.state == ObservedState::Running
                && let Some(of) = figures.get_mut(id.service())
            {
                of.replica_seconds += (self.now - container.born).as_secs_f64();
            }
        }
        figures
    }

    pub(super) fn ring(&mut self, service: &ServiceName) {
        if self.rung.insert(service.clone()) {
            self.plan_bell();
        }
    }

    pub(super) fn suspect(&mut self, replica: &ReplicaId) {
        self.suspects.insert(replica.clone());
        self.plan_bell();
    }

    fn plan_bell(&mut self) {
        let at = self.now + self.chance.draw(BUSY);
        self.timeline.plan(at, Event::Bell(self.life));
    }

    fn happens(&mut self, event: Event) -> &'static str {
        match event {
            Event::Arrives(id) => (self.arrives(id), "arrives").1,
            Event::GivesUp(id) => (self.gives_up(id), "gives up").1,
            Event::HoldEnds(id) => (self.hold_ends(id), "hold ends").1,
            Event::Connects(id, attempt) => (self.connects(id, attempt), "connects").1,
            Event::Answers(id, attempt) => (self.answers(id, attempt), "answers").1,
            Event::Resume(life, service) => (self.resume(life, &service), "resume").1,
            Event::Bell(life) => (self.bell(life), "bell").1,
            Event::CallEnds(life, host, call) => (self.call_ends(life, &host, &call), "call ends").1,
            Event::ListEnds(life, host, asked) => (self.list_ends(life, &host, asked), "list ends").1,
            Event::FindEnds(life, service, host, revision) => {
                let outcome = self.engine(&host).map(|(engine, chance)| engine.find(chance));
                if let Some(outcome) = outcome {
                    self.tell(life, Told::Found(service, host, revision, outcome));
                }
                "find ends"
            }
            Event::PrepareEnds { life, service, host, epoch, image } => {
                let outcome = self.engine(&host).map(|(engine, chance)| engine.prepare(&image, chance));
                if let Some(outcome) = outcome {
                    self.tell(life, Told::Prepared { service, host, epoch, outcome });
                }
                "prepare ends"
            }
            Event::Told(life, told) => (self.tell(life, told), "engine event").1,
            Event::ProbeStart { life, id, prober, began, deadline } => {
                (self.probe_start(life, id, prober, began, deadline), "start probe").1
            }
            Event::ProbeLife { life, id, prober, failures } => {
                (self.probe_life(life, id, prober, failures), "life probe").1
            }
            Event::Suspect { life, id, failures } => {
                (self.probe_suspect(life, id, failures), "suspect probe").1
            }
            Event::Crash(id) => (self.crash(&id), "crash").1,
            Event::Act(act) => (self.act(*act), "act").1,
        }
    }

    /// Empties the control loop's outbox.
    fn do_what_is_wanted(&mut self) {
        while let Some(out) = self.control.out.pop_front() {
            match out {
                Out::Call(host, call) => self.call(host, call),
                Out::List(host) => {
                    let after = self.call_takes(&host, |model| model.call);
                    self.timeline.plan(self.now + after, Event::ListEnds(self.life, host, self.now));
                }
                Out::Prepare { service, host, epoch, image } => {
                    let after = self.call_takes(&host, |model| model.prepare);
                    let ends = Event::PrepareEnds { life: self.life, service, host, epoch, image };
                    self.timeline.plan(self.now + after, ends);
                }
                Out::Find { service, host, revision } => {
                    let after = self.call_takes(&host, |model| model.call);
                    self.timeline.plan(self.now + after, Event::FindEnds(self.life, service, host, revision));
                }
                Out::Granted(granted) => self.follow(granted),
                Out::Refused(refused, word) => {
                    refused.into_iter().for_each(|id| self.finish(id, Outcome::Refused(word)));
                }
                Out::ProbeStart(id, prober) => {
                    let began = self.now;
                    let deadline = self.control.start_deadline(&id).unwrap_or(began).max(began);
                    let at = self.looks_ready_at(&id).map_or(deadline, |at| at.max(began).min(deadline));
                    self.timeline
                        .plan(at, Event::ProbeStart { life: self.life, id, prober, began, deadline });
                }
                Out::ProbeLife(id, prober, after) => {
                    let probe = Event::ProbeLife { life: self.life, id, prober, failures: 0 };
                    self.timeline.plan(self.now + after, probe);
                }
            }
        }
    }

    fn call(&mut self, host: HostName, call: Call) {
        let after = match &call {
            Call::Start(spec) => {
                if let Some(figures) = self.figures.get_mut(spec.id.service()) {
                    figures.starts += 1;
                }
                self.call_takes(&host, |model| model.start)
            }
            Call::Stop(..) => self.call_takes(&host, |model| model.stop),
            Call::Remove(_) | Call::Freeze(_) | Call::Thaw(_) | Call::Restart(_) => {
                self.call_takes(&host, |model| model.call)
            }
        };
        self.timeline.plan(self.now + after, Event::CallEnds(self.life, host, call));
    }

    fn call_takes(&mut self, host: &HostName, of: fn(&super::scenario::EngineModel) -> Span) -> Duration {
        let Some((engine, chance)) = self.engine(host) else { return REFUSED };
        if engine.is_up() { chance.draw(of(&engine.model)) } else { REFUSED }
    }

    fn call_ends(&mut self, life: u64, host: &HostName, call: &Call) {
        let (now, app) = (self.now, self.app_of(call));
        let Some((engine, chance)) = self.engine(host) else { return };
        let effect = engine.perform(call, &app, now, chance);
        let id = call.id().clone();
        if let Some(at) = effect.crash_at {
            self.timeline.plan(at, Event::Crash(id.clone()));
        }
        if effect.begun {
            self.control.notes.push(Note::Container(id.clone(), true));
        }
        if let Some(born) = effect.ended {
            self.runs_no_more(&id, born);
        }
        for event in effect.events {
            self.say(host, event);
        }
        match call {
            Call::Start(_) => self.tell(life, Told::Started(id, host.clone(), effect.answer)),
            Call::Stop(_, kept) => self.tell(life, Told::Ended(id, *kept, effect.answer)),
            Call::Remove(_) => self.tell(life, Told::Ended(id, false, effect.answer)),
            Call::Freeze(_) => self.tell(life, Told::Froze(id, effect.answer)),
            Call::Thaw(_) => self.tell(life, Told::Thawed(id, effect.answer)),
            Call::Restart(_) => self.tell(life, Told::Restarted(id, effect.answer)),
        }
    }

    fn app_of(&self, call: &Call) -> App {
        self.apps.get(call.id().service()).copied().unwrap_or_else(|| App::sound(Duration::ZERO))
    }

    pub(super) fn runs_no_more(&mut self, id: &ReplicaId, born: Instant) {
        self.control.notes.push(Note::Container(id.clone(), false));
        if let Some(figures) = self.figures.get_mut(id.service()) {
            figures.replica_seconds += (self.now - born).as_secs_f64();
        }
        self.break_off(id);
    }

    /// The engine says something; it may be lost, late, or said twice.
    pub(super) fn say(&mut self, host: &HostName, event: Said) {
        let (now, life) = (self.now, self.life);
        let Some((engine, chance)) = self.engine(host) else { return };
        if !engine.is_up() {
            return;
        }
        let mut due = Vec::new();
        if !chance.happens(engine.model.event_lost) {
            due.push(now + chance.draw(engine.model.lag));
        }
        if chance.happens(engine.model.event_twice) {
            due.push(now + chance.draw(engine.model.lag));
        }
        for at in due {
            self.timeline.plan(at, Event::Told(life, Told::Said(host.clone(), event.clone())));
        }
    }

    pub(super) fn tell(&mut self, life: u64, told: Told) {
        if life == self.life {
            self.control.take(told, self.now);
        }
    }

    fn list_ends(&mut self, life: u64, host: &HostName, asked: Instant) {
        let Some((engine, chance)) = self.engine(host) else { return };
        let listed = engine.list(chance);
        self.tell(life, Told::Listed(host.clone(), asked, listed));
    }

    fn resume(&mut self, life: u64, service: &ServiceName) {
        if life == self.life
            && let Some(state) = self.control.states.get_mut(service)
        {
            let granted = state.front.resume(self.now, &mut self.control.notes);
            self.follow(granted);
        }
    }

    fn bell(&mut self, life: u64) {
        if life != self.life {
            return;
        }
        for id in std::mem::take(&mut self.suspects) {
            if self.control.is_ready(&id) {
                self.probe_suspect(life, id, 0);
            }
        }
        for name in std::mem::take(&mut self.rung) {
            self.control.evaluate(&name, self.now, false);
        }
    }

    pub(super) fn crash(&mut self, id: &ReplicaId) {
        let host = self.engines.iter_mut().find_map(|engine| Some((engine.name.clone(), engine.crash(id)?)));
        if let Some((host, (born, event))) = host {
            if let Some(born) = born {
                self.runs_no_more(id, born);
            }
            self.say(&host, event);
        }
    }

    pub(super) fn engine(&mut self, host: &HostName) -> Option<(&mut Engine, &mut Chance)> {
        let engine = self.engines.iter_mut().find(|engine| engine.name == *host)?;
        Some((engine, &mut self.chance))
    }

    fn note_figures(&mut self, notes: &[Note]) {
        let at = self.elapsed();
        for note in notes {
            let Note::Evaluated(evaluation) = note else { continue };
            let Some(figures) = self.figures.get_mut(&evaluation.seen.service.name) else { continue };
            let (want, why) = (evaluation.decision.want, evaluation.decision.reason.label());
            if figures.decisions.last().is_none_or(|(_, before, reason)| (*before, &**reason) != (want, why))
            {
                figures.decisions.push((at, want, why.to_owned()));
            }
        }
    }
}

impl Call {
    pub(super) fn id(&self) -> &ReplicaId {
        match self {
            Self::Start(spec) => &spec.id,
            Self::Stop(id, _) | Self::Remove(id) | Self::Freeze(id) | Self::Thaw(id) | Self::Restart(id) => {
                id
            }
        }
    }
}
