//! The control loop's books and rules, step for step as [`control`](crate::control) has them, without its tasks: what
//! it asks of engines and probers is put into an outbox, and what they say is handed in by the
//! [`world`](super::world).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_autoscaler::{
    Cause, Memory, Phase, replica,
    snapshot::{self, Asked, Image},
};
use tidegate_config::{
    model,
    name::{HostName, ReplicaId, ServiceName},
    spec::{Digest, Observed, Revision, StartSpec},
};
use tidegate_runner as runner;

use super::{
    engine::Call,
    front::{Front, Granted},
    record::{Evaluation, Note, RequestId},
};
use crate::{control::TICK, fleet::admission::SlotKey};

/// Engines are asked for all that they run at least this often.
pub(super) const RELIST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Control {
    pub(super) states: BTreeMap<ServiceName, State>,
    pub(super) hosts: Vec<Host>,
    pub(super) started: Instant,
    pub(super) generation: u64,
    pub(super) next_number: u64,
    pub(super) next_slot: u64,
    next_prober: u64,
    next_tick: Instant,
    /// What is to be done outside, in this order.
    pub(super) out: VecDeque<Out>,
    pub(super) notes: Vec<Note>,
}

/// What the loop knows of one service.
#[derive(Debug)]
pub(super) struct State {
    pub(super) front: Front,
    pub(super) memory: Memory,
    pub(super) members: BTreeMap<ReplicaId, Member>,
    pub(super) images: BTreeMap<HostName, (Image, u32)>,
    /// Which hosts have which other versions; false while they are asked.
    pub(super) found: BTreeMap<(HostName, Revision), bool>,
    pub(super) epoch: u64,
    pub(super) asked: Asked,
    pub(super) again_at: Option<Instant>,
    pub(super) decided: Option<(u32, &'static str)>,
}

/// One replica as the loop keeps it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: ReplicaId,
    pub(super) revision: Revision,
    pub(super) host: HostName,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    pub(super) started: Instant,
    pub(super) reached: bool,
    pub(super) slot: SlotKey,
    /// The gate knows it.
    pub(super) published: bool,
    pub(super) in_flight: u32,
    /// The prober at work; others have been called off.
    pub(super) prober: Option<u64>,
    pub(super) ending: bool,
    /// Its restart has been asked for: its last end is no news.
    pub(super) restarting: bool,
}

/// One host as the loop keeps it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) settings: model::Host,
    pub(super) up: bool,
    /// Since when it has not answered.
    pub(super) silent_since: Option<Instant>,
    pub(super) lost: bool,
    pub(super) listed: Instant,
    /// Starts under way, and those that wait for one of them to end.
    pub(super) starting: u32,
    pub(super) waiting: VecDeque<StartSpec>,
}

/// What the loop wants done.
#[derive(Debug)]
pub(super) enum Out {
    Call(HostName, Call),
    List(HostName),
    Prepare {
        service: ServiceName,
        host: HostName,
        epoch: u64,
        image: String,
    },
    Find {
        service: ServiceName,
        host: HostName,
        revision: Revision,
    },
    Granted(Granted),
    Refused(Vec<RequestId>, &'static str),
    ProbeStart(ReplicaId, u64),
    /// After this.
    ProbeLife(ReplicaId, u64, Duration),
}

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Told {
    Said(HostName, runner::Event),
    Listed(HostName, Instant, runner::Result<Vec<Observed>>),
    Prepared {
        service: ServiceName,
        host: HostName,
        epoch: u64,
        outcome: runner::Result<Digest>,
    },
    Started(ReplicaId, HostName, runner::Result<()>),
    Found(ServiceName, HostName, Revision, runner::Result<()>),
    Froze(ReplicaId, runner::Result<()>),
    Thawed(ReplicaId, runner::Result<()>),
    Restarted(ReplicaId, runner::Result<()>),
    /// Whether its container was to stay.
    Ended(ReplicaId, bool, runner::Result<()>),
    Ready(ReplicaId, u64),
    NotReady(ReplicaId, u64, Duration),
    Unhealthy(ReplicaId, u64),
    /// It took no connection, nor any of a few probes in quick succession.
    Suspected(ReplicaId),
}

impl Control {
    pub(super) fn new(
        services: impl Iterator<Item = Arc<model::Service>>,
        hosts: impl Iterator<Item = model::Host>,
        now: Instant,
        generation: u64,
        mut seed: impl FnMut() -> u64,
    ) -> Self {
        let state = |service: Arc<model::Service>| {
            (service.name.clone(), State::new(Front::new(service, now, seed())))
        };
        let host = |settings: model::Host| Host {
            settings,
            up: false,
            silent_since: None,
            lost: false,
            listed: now,
            starting: 0,
            waiting: VecDeque::new(),
        };
        let hosts: Vec<_> = hosts.map(host).collect();
        let out = hosts.iter().map(|host| Out::List(host.settings.name.clone())).collect();
        Self {
            states: services.map(state).collect(),
            hosts,
            started: now,
            generation,
            next_number: 1,
            next_slot: 1,
            next_prober: 1,
            next_tick: now + TICK,
            out,
            notes: vec![Note::GatewayStarted],
        }
    }

    /// When the loop looks again although nothing happens.
    pub(super) fn next_wake(&self) -> Instant {
        self.states.values().filter_map(|state| state.again_at).fold(self.next_tick, Instant::min)
    }

    pub(super) fn wake_up(&mut self, now: Instant) {
        let tick = now >= self.next_tick;
        if tick {
            self.next_tick = now + TICK;
            self.list_stale_engines(now);
            self.lose_silent_hosts(now);
        }
        let due = |state: &State| tick || state.again_at.is_some_and(|at| at <= now);
        let names: Vec<_> =
            self.states.iter().filter(|(_, state)| due(state)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.evaluate(&name, now, tick);
        }
    }

    pub(super) fn take(&mut self, told: Told, now: Instant) {
        match told {
            Told::Said(host, event) => self.engine_said(&host, event, now),
            Told::Listed(host, asked, listed) => self.listed(&host, asked, listed, now),
            Told::Prepared { service, host, epoch, outcome } => {
                self.prepared(&service, &host, epoch, outcome, now)
            }
            Told::Started(id, host, outcome) => self.start_answered(&id, &host, outcome, now),
            Told::Found(service, host, revision, outcome) => {
                self.found(&service, &host, revision, &outcome, now);
            }
            Told::Froze(id, outcome) => self.slept(&id, replica::Event::Frozen, outcome, now),
            Told::Thawed(id, outcome) => self.slept(&id, replica::Event::Thawed, outcome, now),
            Told::Restarted(id, outcome) => self.restarted(&id, outcome, now),
            Told::Ended(id, kept, outcome) => self.ended(&id, kept, outcome, now),
            Told::Ready(id, prober) => self.ready(&id, prober, now),
            Told::NotReady(id, prober, waited) => {
                let cause = Cause::NotReady { waited, last: "connection refused".into() };
                self.probe_failed(&id, prober, cause, now);
            }
            Told::Unhealthy(id, prober) => self.probe_failed(&id, prober, unhealthy(), now),
            Told::Suspected(id) => self.broke(&id, unhealthy(), now),
        }
    }

    /// Moves a replica to its next phase and tells the gate. False if the event changes nothing.
    pub(super) fn advance(&mut self, id: &ReplicaId, event: replica::Event, now: Instant) -> bool {
        let Some(state) = self.states.get_mut(id.service()) else { return false };
        let Some(member) = state.members.get_mut(id) else { return false };
        let Some(phase) = replica::next(&member.phase, event) else { return false };
        self.notes.push(Note::Phase(id.clone(), Some(member.phase.clone()), phase.clone()));
        member.phase = phase;
        member.since = now;
        let granted = publish(&mut state.front, member, now, &mut self.notes);
        if matches!(member.phase, Phase::Failed(_) | Phase::Gone | Phase::Lost | Phase::Freezing) {
            member.prober = None;
        }
        if member.phase == Phase::Gone {
            state.members.remove(id);
        }
        self.out.push_back(Out::Granted(granted));
        true
    }

    pub(super) fn engine_said(&mut self, host: &HostName, event: runner::Event, now: Instant) {
        match event {
            runner::Event::Running(seen) => {
                let Some(member) = self.member(&seen.id) else { return };
                let asks = matches!(member.phase, Phase::Starting | Phase::Lost) && !member.reached;
                if asks && !member.restarting {
                    member.reached = seen.address.is_some();
                    self.probe_start(&seen.id);
                }
            }
            runner::Event::Exited { id, exit } => self.broke(&id, Cause::Exited(exit), now),
            runner::Event::Gone(id) => {
                if self.advance(&id, replica::Event::Removed, now) {
                    self.evaluate(id.service(), now, false);
                }
            }
            // No engine of the simulation places by itself.
            runner::Event::NoPlace { .. } | runner::Event::Trouble { .. } => {}
            runner::Event::Resync => self.list(host, now),
        }
    }

    fn ready(&mut self, id: &ReplicaId, prober: u64, now: Instant) {
        if self.is_probed_by(id, prober) && self.advance(id, replica::Event::Passed, now) {
            self.probe_life(id);
            self.evaluate(id.service(), now, false);
        }
    }

    fn probe_failed(&mut self, id: &ReplicaId, prober: u64, cause: Cause, now: Instant) {
        if self.is_probed_by(id, prober) {
            self.broke(id, cause, now);
        }
    }

    /// When a starting replica has to be ready.
    pub(super) fn start_deadline(&self, id: &ReplicaId) -> Option<Instant> {
        let state = self.states.get(id.service())?;
        Some(state.members.get(id)?.started + state.front.settings.health.start_deadline)
    }

    pub(super) fn is_ready(&self, id: &ReplicaId) -> bool {
        let member = self.states.get(id.service()).and_then(|state| state.members.get(id));
        member.is_some_and(|member| member.phase == Phase::Ready)
    }

    pub(super) fn is_probed_by(&self, id: &ReplicaId, prober: u64) -> bool {
        let member = self.states.get(id.service()).and_then(|state| state.members.get(id));
        member.is_some_and(|member| member.prober == Some(prober))
    }

    pub(super) fn probe_start(&mut self, id: &ReplicaId) {
        if let Some(prober) = self.new_prober(id) {
            self.out.push_back(Out::ProbeStart(id.clone(), prober));
        }
    }

    /// Begins to watch over a replica; an earlier prober is called off.
    pub(super) fn probe_life(&mut self, id: &ReplicaId) {
        let Some(state) = self.states.get(id.service()) else { return };
        let after = state.front.settings.health.interval;
        let serves = |member: &Member| matches!(member.phase, Phase::Ready | Phase::Draining);
        if state.members.get(id).is_some_and(serves)
            && let Some(prober) = self.new_prober(id)
        {
            self.out.push_back(Out::ProbeLife(id.clone(), prober, after));
        }
    }

    fn new_prober(&mut self, id: &ReplicaId) -> Option<u64> {
        let prober = self.next_prober;
        self.next_prober += 1;
        self.member(id)?.prober = Some(prober);
        Some(prober)
    }

    fn start_answered(&mut self, id: &ReplicaId, host: &HostName, outcome: runner::Result<()>, now: Instant) {
        if let Some(host) = self.host(host) {
            host.starting = host.starting.saturating_sub(1);
        }
        self.let_starts_go(host);
        let Err(error) = outcome else { return };
        let retryable = error.kind == runner::Kind::Retryable;
        self.broke(id, Cause::StartRefused { message: error.to_string(), retryable }, now);
    }

    pub(super) fn broke(&mut self, id: &ReplicaId, cause: Cause, now: Instant) {
        if self.advance(id, replica::Event::Broke(cause), now) {
            self.evaluate(id.service(), now, false);
        }
    }

    pub(super) fn member(&mut self, id: &ReplicaId) -> Option<&mut Member> {
        self.states.get_mut(id.service())?.members.get_mut(id)
    }

    pub(super) fn host(&mut self, name: &HostName) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.settings.name == *name)
    }

    pub(super) fn note_evaluation(&mut self, evaluation: Evaluation) {
        self.notes.push(Note::Evaluated(Box::new(evaluation)));
    }
}

fn unhealthy() -> Cause {
    Cause::Unhealthy { last: "connection refused".into() }
}

/// Gives a replica's slots to the gate, or takes them back, as its phase demands.
fn publish(front: &mut Front, member: &mut Member, now: Instant, notes: &mut Vec<Note>) -> Granted {
    match member.phase {
        Phase::Ready => {
            member.published = true;
            front.set_slots(now, member.slot, &member.id, capacity(front), notes)
        }
        Phase::Draining
        | Phase::Freezing
        | Phase::Frozen
        | Phase::Thawing
        | Phase::Stopping
        | Phase::Lost
            if member.published =>
        {
            front.set_slots(now, member.slot, &member.id, 0, notes)
        }
        Phase::Draining
        | Phase::Freezing
        | Phase::Frozen
        | Phase::Thawing
        | Phase::Stopping
        | Phase::Lost
        | Phase::Starting => Vec::new(),
        Phase::Stopped | Phase::Failed(_) | Phase::Gone => {
            if std::mem::take(&mut member.published) {
                return front.remove_slots(now, member.slot, &member.id, notes);
            }
            Vec::new()
        }
    }
}

/// How many requests a replica may run at once.
pub(super) fn capacity(front: &Front) -> u32 {
    front.settings.scaling.concurrency.map_or(u32::MAX, |limit| limit.get().min(u32::MAX - 1))
}

impl State {
    fn new(front: Front) -> Self {
        Self {
            front,
            memory: Memory::default(),
            members: BTreeMap::new(),
            images: BTreeMap::new(),
            found: BTreeMap::new(),
            epoch: 0,
            asked: Asked::default(),
            again_at: None,
            decided: None,
        }
    }
}

impl Member {
    pub(super) fn new(
        id: ReplicaId,
        revision: Revision,
        host: HostName,
        slot: SlotKey,
        now: Instant,
    ) -> Self {
        Self {
            id,
            revision,
            host,
            phase: Phase::Starting,
            since: now,
            started: now,
            reached: false,
            slot,
            published: false,
            in_flight: 0,
            prober: None,
            ending: false,
            restarting: false,
        }
    }

    pub(super) fn seen(&self) -> snapshot::Replica {
        snapshot::Replica {
            id: self.id.clone(),
            revision: self.revision.clone(),
            phase: self.phase.clone(),
            since: self.since,
            started: self.started,
            host: self.host.clone(),
            in_flight: self.in_flight,
            usage: None,
        }
    }
}
