//! The control loop: one task over a closed [`Event`], the only writer of replica phases.
//!
//! Each turn: take what happened, then for each service concerned look ([`mod@observe`]), decide and plan (the autoscaler's
//! pure functions), execute ([`apply`]) and tell the data plane ([`publish`]). Nothing here waits for an engine: calls
//! run as tasks and come back as events, and the next look plans again.

mod alarms;
mod apply;
mod clusters;
mod commands;
mod engine;
mod event;
pub mod history;
mod hosts;
mod images;
pub mod keep;
mod measure;
mod member;
mod observe;
mod outside;
pub(crate) mod peers;
mod phases;
mod prober;
mod publish;
mod reconcile;
mod reload;
mod rooms;
mod sleep;
mod squeeze;
mod state;
pub mod status;
mod tick;
mod waits;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tidegate_autoscaler::{
    Decision, Plan, Snapshot, Step,
    budget::Worths,
    decide::decide,
    placement::{NoFit, permitted},
    plan::plan,
    snapshot,
};
use tidegate_config::{
    model::{Host, Model},
    name::{HostName, ReplicaId, ServiceName},
};
use tidegate_runner::Runner;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use commands::Ended;

use self::{
    alarms::Alarms,
    engine::Engine,
    event::Event,
    keep::{Keeper, Kept, Unsaved},
    observe::{Around, observe},
    outside::Outside,
    peers::Peers,
    rooms::Reserved,
    state::State,
    tick::Turns,
};
use crate::{
    clock,
    fleet::{Bell, Fleet, Rung},
    names::Names,
    request::Door,
};

/// The policy's tick (Knative's).
pub(crate) const TICK: Duration = Duration::from_secs(2);

/// Engines are asked for all that they run at least this often, whatever their events say.
const RELIST: Duration = Duration::from_secs(30);

/// How long a gateway that has just begun waits for the word of every host before it starts what nobody waits for.
const LOOK_AROUND: Duration = Duration::from_secs(3);

/// Looks in a row that one event may cause: drain, stop, and what follows from it.
pub(crate) const ROUNDS: usize = 4;

/// However many requests wait, a service is not looked at more often for it.
pub(crate) const BREATH: Duration = Duration::from_millis(10);

/// Events that may wait for the loop; whoever brings more waits.
const EVENTS: usize = 1024;

/// What the loop needs from its surroundings.
pub struct Setup {
    /// The checked file.
    pub model: Arc<Model>,
    /// A runner for each of its hosts.
    pub runners: BTreeMap<HostName, Arc<dyn Runner>>,
    /// Shared with the data plane.
    pub fleet: Arc<Fleet>,
    /// The data plane's routes and settings.
    pub door: Arc<Door>,
    /// Rung by the data plane.
    pub bell: Bell,
    /// Which start of the gateway on its state directory this is.
    pub generation: u64,
    /// What outlives the gateway.
    pub keeper: Keeper,
    /// Serves the names of services to containers.
    pub names: Names,
}

/// The control loop's state.
pub(crate) struct Control {
    model: Arc<Model>,
    fleet: Arc<Fleet>,
    door: Arc<Door>,
    bell: Bell,
    engines: Vec<Engine>,
    states: BTreeMap<ServiceName, State>,
    /// Services that run elsewhere.
    outside: BTreeMap<ServiceName, Outside>,
    tasks: JoinSet<()>,
    events: mpsc::Sender<Event>,
    started: Instant,
    generation: u64,
    next_number: u64,
    next_slot: u64,
    next_tick: Instant,
    /// The gateway stops and its replicas with it: nothing is started any more.
    stopping: bool,
    /// Answered when no replica is left.
    stopped: Option<oneshot::Sender<()>>,
    /// Hosts that have not told yet what they run, and are not lost.
    unlisted: BTreeSet<HostName>,
    drainers: Vec<hosts::Drainer>,
    /// Something that is to outlive the gateway has changed.
    unsaved: Unsaved,
    /// When what laws have learned was last written.
    learned_at: Instant,
    /// Where it is put for its writer.
    keep: watch::Sender<Kept>,
    /// Services that were kept and are not in the file (yet).
    kept: Kept,
    peers: Peers,
    names: Names,
    worths: Worths,
    alarms: Alarms,
    reserved: Reserved,
    /// All services but those that [slept](State::sleeps) when they were last settled.
    awake: BTreeSet<ServiceName>,
    turns: Turns,
}

/// How others reach the loop.
#[derive(Debug, Clone)]
pub struct Handle {
    events: mpsc::Sender<Event>,
}

/// A loop that is ready to run.
pub struct Loop {
    control: Control,
    inbox: mpsc::Receiver<Event>,
    writer: (watch::Receiver<Kept>, keep::Save),
    /// Engines are being listened to.
    watching: bool,
}

/// Builds the loop; nothing happens before [`Loop::run`].
#[must_use]
pub fn build(setup: Setup) -> (Loop, Handle) {
    let (events, inbox) = mpsc::channel(EVENTS);
    let now = clock::now();
    let Setup { model, mut runners, fleet, door, bell, generation, keeper, names } = setup;
    let (keep, values) = watch::channel(keeper.kept.clone());
    let engine =
        |host: &Host| runners.remove(&host.name).map(|runner| Engine::new(host.clone(), runner, now));
    let engines: Vec<Engine> = model.hosts.iter().filter_map(engine).collect();
    let handle = Handle { events: events.clone() };
    let mut control = Control {
        unlisted: engines.iter().map(|engine| engine.name().clone()).collect(),
        fleet,
        door,
        bell,
        engines,
        states: BTreeMap::new(),
        outside: BTreeMap::new(),
        tasks: JoinSet::new(),
        events,
        started: now,
        generation,
        next_number: 1,
        next_slot: 1,
        next_tick: now + TICK,
        stopping: false,
        stopped: None,
        drainers: Vec::new(),
        unsaved: Unsaved::default(),
        learned_at: now,
        keep,
        kept: keeper.kept,
        peers: Peers::default(),
        names,
        worths: Worths::default(),
        alarms: Alarms::default(),
        reserved: Reserved::default(),
        awake: BTreeSet::new(),
        turns: Turns::default(),
        model: Arc::clone(&model),
    };
    control.restore_orders();
    for service in model.services.values() {
        control.enter(service);
    }
    control.publish_routes();
    (Loop { control, inbox, writer: (values, keeper.save), watching: false }, handle)
}

impl Loop {
    /// Runs until `stop`; can be run again. Dropped, calls that are under way are left to their engines.
    pub async fn run(mut self, stop: CancellationToken) -> Self {
        if !std::mem::replace(&mut self.watching, true) {
            self.control.watch_engines();
        }
        let mut writer = JoinSet::new();
        writer.spawn(keep::write(self.writer.0.clone(), Arc::clone(&self.writer.1)));
        let bell = self.control.bell.clone();
        loop {
            let wake_at = self.control.next_wake();
            // All arms are cancel-safe: what is not taken stays queued, rung or due.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = self.inbox.recv() => self.control.take(event),
                rung = bell.wait() => self.control.answer(rung),
                () = tokio::time::sleep_until(wake_at.into()) => self.control.wake_up(),
                Some(ended) = self.control.tasks.join_next() => report(ended),
            }
            self.control.answer_orders();
            self.control.save();
            self.control.tell_peers();
        }
        self.control.unsaved.note_all();
        self.control.save();
        // The writer ends with the sender, after the last value.
        let (keep, values) = watch::channel(self.control.keep.borrow().clone());
        (self.control.keep, self.writer.0) = (keep, values);
        writer.join_all().await;
        self
    }
}

/// A task of ours that panicked took only its own message with it; the next look plans again.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a control task panicked");
    }
}

impl Control {
    fn answer(&mut self, rung: Rung) {
        for id in rung.suspects {
            self.probe_suspect(&id);
        }
        let now = clock::now();
        for name in rung.services {
            match self.states.get(&name).and_then(|state| state.puts_off(now)) {
                Some(soon) => self.alarms.by(&name, soon),
                None => self.evaluate(&name, false),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Model(model, reply) => {
                let changes = self.change_model(model);
                // Whoever asked may have gone; the change stands.
                drop(reply.send(changes));
            }
            Event::Engine(host, event) => self.engine_said(&host, event),
            Event::Listed(host, asked, listed) => self.listed(&host, asked, listed),
            Event::Beat(host, beat) => self.beat(&host, beat),
            Event::Inventory(host, found) => self.inventory(&host, found),
            Event::Pulling(about, progress) => self.pulling(&about, progress),
            Event::Prepared(about, outcome) => self.prepared(&about, outcome),
            Event::Found(about, revision, outcome) => self.found_version(&about, revision, outcome),
            Event::Looked(about, purpose, outcome) => self.looked(&about, purpose, outcome),
            Event::Froze(id, outcome) => self.froze(&id, outcome),
            Event::Thawed(id, outcome) => self.thawed(&id, outcome),
            Event::Started(id, outcome) => self.start_answered(&id, outcome),
            Event::Probed(id, found) => self.probed(&id, found),
            Event::Ended(id, outcome, log) => self.ended(&id, outcome, log),
            Event::Back(name, to, is_there, reply) => self.roll_back(&name, to.as_ref(), is_there, reply),
            Event::Measured(id, at, outcome) => self.measured(&id, at, outcome),
            Event::Outside(said) => self.outside_said(said),
            Event::Peer(said) => self.peer_said(said),
            Event::Command(command) => self.command(command),
        }
    }

    /// Looks at several services, one after the other.
    fn evaluate_each(&mut self, names: Vec<ServiceName>, tick: bool) {
        for name in names {
            self.evaluate(&name, tick);
        }
    }

    /// Looks at a service, decides, plans and executes, until nothing follows any more.
    fn evaluate(&mut self, name: &ServiceName, mut tick: bool) {
        for _ in 0..ROUNDS {
            let Some((seen, decision, plan)) = self.think(name, std::mem::take(&mut tick)) else { return };
            if self.makes_room(name) {
                continue;
            }
            let Some(state) = self.states.get_mut(name) else { return };
            publish::gate(state, &decision);
            state.elsewhere.note(&decision);
            let again = plan.steps.iter().any(|step| matches!(step, Step::Drain(_)));
            let calm = self.looks_around(&seen);
            for step in plan.steps {
                let held = match &step {
                    Step::Start(_) => calm || self.stopping,
                    Step::Prepare { .. } | Step::Thaw(_) | Step::Restart(_) => self.stopping,
                    _ => false,
                };
                if !held {
                    self.apply(name, step);
                }
            }
            if !again {
                break;
            }
        }
        self.settle(name);
    }

    /// Looks, decides and plans; notes why.
    fn think(&mut self, name: &ServiceName, tick: bool) -> Option<(Snapshot, Decision, Plan)> {
        let state = self.states.get_mut(name)?;
        // Until it is settled.
        self.awake.insert(name.clone());
        self.reserved.count(state);
        let around = Around {
            now: clock::now(),
            wall: clock::wall().try_into().unwrap_or(Timestamp::UNIX_EPOCH),
            tick,
            gateway_started: self.started,
            generation: self.generation,
            next_number: self.next_number,
            engines: &self.engines,
            reserved: self.reserved.rooms(),
        };
        let seen = observe(state, &around);
        state.looked_at = Some(seen.now);
        let before = state.memory.release().clone();
        let (decision, memory) = decide(std::mem::take(&mut state.memory), &seen);
        if before != *memory.release() {
            self.unsaved.note(name);
        }
        self.alarms.set(name, decision.again_at);
        state.memory = memory;
        let plan = plan(&decision, &seen);
        state.forget_versions(&decision.mix);
        let no_fit = plan.no_fit.as_ref();
        state.no_fit = no_fit.map(ToString::to_string);
        state.lacks_memory = no_fit.map(NoFit::lacks_memory).unwrap_or_default();
        state.image_on_its_way =
            no_fit.is_some_and(|no_fit| no_fit.hosts.iter().any(|(_, misfit)| misfit.is_image()));
        state.note(&decision);
        Some((seen, decision, plan))
    }

    /// A gateway that has just begun, and is not waited for, first looks at all its hosts: whoever answers first would get
    /// everything.
    fn looks_around(&self, seen: &Snapshot) -> bool {
        let looked = |host: &snapshot::Host| match host.image {
            _ if host.state == snapshot::HostState::Lost => true,
            snapshot::Image::Unknown | snapshot::Image::Pulling => false,
            snapshot::Image::Present { .. } | snapshot::Image::Failed { .. } => true,
        };
        let permitted = |host: &&snapshot::Host| permitted(seen, host);
        seen.now < self.started + LOOK_AROUND
            && seen.queued() == 0
            && !seen.hosts.iter().filter(permitted).all(looked)
    }

    fn member(&mut self, id: &ReplicaId) -> Option<&mut member::Member> {
        self.states.get_mut(id.service())?.members.get_mut(id)
    }

    /// Looks at the services that have something to do.
    fn evaluate_awake(&mut self) {
        self.evaluate_each(self.awake.iter().cloned().collect(), false);
    }

    /// Looks at every service: something that concerns them all has changed.
    fn evaluate_all(&mut self) {
        let names: Vec<_> = self.states.keys().cloned().collect();
        self.evaluate_each(names, false);
    }

    fn engine_mut(&mut self, host: &HostName) -> Option<&mut Engine> {
        self.engines.iter_mut().find(|engine| engine.name() == host)
    }

    /// What a task needs to call the host's engine.
    fn handle(&self, host: &HostName) -> Option<engine::Handle> {
        self.engine(host).map(|engine| engine.handle.clone())
    }

    fn engine(&self, host: &HostName) -> Option<&Engine> {
        self.engines.iter().find(|engine| engine.name() == host)
    }

    /// Answers those whose wish has come true, and lets a service go that has left the file.
    fn settle(&mut self, name: &ServiceName) {
        let Some(state) = self.states.get_mut(name) else { return };
        self.reserved.count(state);
        state.answer_waiters();
        if state.sleeps() {
            self.awake.remove(name);
        }
        if state.leaving && state.members.is_empty() {
            publish::farewell(state);
            // Should it come back, its data is where it was.
            self.kept.services.insert(name.clone(), state.kept());
            self.states.remove(name);
            self.awake.remove(name);
            self.alarms.set(name, None);
            self.unsaved.note(name);
        }
    }

    /// Answers whoever has ordered to stop all replicas, or to drain a host, once that is done.
    fn answer_orders(&mut self) {
        if self.stopped.is_some()
            && self.awake().all(|state| state.members.is_empty())
            && let Some(stopped) = self.stopped.take()
        {
            // Whoever asked may have given up.
            let _ = stopped.send(());
        }
        self.answer_drainers();
    }

    /// A replica has gone: services that fitted nowhere may fit now.
    fn room_freed(&mut self) {
        let short = |state: &State| state.no_fit.is_some() || state.refused.is_some();
        let names: Vec<_> =
            self.states.iter().filter(|(_, state)| short(state)).map(|(name, _)| name.clone()).collect();
        self.evaluate_each(names, false);
    }
}
