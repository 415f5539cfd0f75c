//! One look at a service: observe, decide, plan, execute. As the control loop does it.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use tidegate_autoscaler::{
    Decision, Phase, Snapshot, Step,
    decide::decide,
    plan::plan,
    replica,
    snapshot::{self, Image, Room},
};
use tidegate_config::{
    name::{HostName, ReplicaId, ServiceName},
    spec::{Capabilities, StartSpec},
};
use tidegate_runner::{self as runner, Kind};

use super::{
    control::{Control, Host, Member, Out, State},
    engine::Call,
    front::HOLD_DEADLINE,
    record::{Evaluation, Note},
};
use crate::{control::ROUNDS, fleet::admission::SlotKey};

impl Control {
    pub(super) fn evaluate(&mut self, name: &ServiceName, now: Instant, mut tick: bool) {
        for _ in 0..ROUNDS {
            let Some(seen) = self.observe(name, now, std::mem::take(&mut tick)) else { return };
            let Some(state) = self.states.get_mut(name) else { return };
            let (decision, memory) = decide(std::mem::take(&mut state.memory), &seen);
            state.memory = memory;
            let planned = plan(&decision, &seen);
            state.again_at = decision.again_at;
            state.decided = Some((decision.want, decision.reason.label()));
            let steps = planned.steps.clone();
            self.note_evaluation(Evaluation { seen, decision: decision.clone(), plan: planned });
            self.publish_gate(name, &decision, now);
            let again = steps.iter().any(|step| matches!(step, Step::Drain(_)));
            for step in steps {
                self.apply(name, step, now);
            }
            if !again {
                break;
            }
        }
    }

    fn observe(&mut self, name: &ServiceName, now: Instant, tick: bool) -> Option<Snapshot> {
        let reserved = self.reserved();
        let state = self.states.get_mut(name)?;
        let sample = state.front.sample(now);
        for member in state.members.values_mut() {
            let slot = sample.per_slot.iter().find(|(key, _)| *key == member.slot);
            member.in_flight = slot.map_or(0, |(_, in_flight)| *in_flight);
        }
        let host = |host: &Host| seen_host(host, state, &reserved);
        Some(Snapshot {
            now,
            wall: Timestamp::UNIX_EPOCH,
            tick,
            gateway_started: self.started,
            service: state.front.settings.clone(),
            learned: sample.learned,
            demand: vec![sample.demand],
            replicas: state.members.values().map(Member::seen).collect(),
            hosts: self.hosts.iter().map(host).collect(),
            asked: state.asked,
            tallies: BTreeMap::new(),
            pinned: None,
            generation: self.generation,
            next_number: self.next_number,
        })
    }

    /// What all replicas of all services reserve on each host.
    fn reserved(&self) -> BTreeMap<HostName, Room> {
        let mut rooms: BTreeMap<HostName, Room> = BTreeMap::new();
        for state in self.states.values() {
            let reserve = state.front.settings.launch.resources.reserve;
            for member in state.members.values().filter(|member| member.phase.holds_room()) {
                let room = rooms.entry(member.host.clone()).or_default();
                room.cpu += reserve.cpu;
                room.memory.0 += reserve.memory.0;
                room.replicas += 1;
            }
        }
        rooms
    }

    fn publish_gate(&mut self, name: &ServiceName, decision: &Decision, now: Instant) {
        let Some(state) = self.states.get_mut(name) else { return };
        match &decision.refuse {
            Some(refuse) => {
                let word = refuse.why.label();
                let refused = state.front.close(now, word, &mut self.notes);
                self.out.push_back(Out::Refused(refused, word));
            }
            None => state.front.open(decision.late.as_ref().map_or(HOLD_DEADLINE, |late| late.why.label())),
        }
    }

    fn apply(&mut self, service: &ServiceName, step: Step, now: Instant) {
        match step {
            Step::Prepare { host } => self.prepare(service, host),
            Step::Start(spec) => self.start(spec, now),
            Step::Undrain(id) => drop(self.advance(&id, replica::Event::Undrain, now)),
            Step::Drain(id) => drop(self.advance(&id, replica::Event::Drain, now)),
            Step::Stop { id, keep, .. } => {
                self.advance(&id, replica::Event::Stop, now);
                self.end(&id, Call::Stop(id.clone(), keep));
            }
            Step::Find { host, version } => self.find(service, host, version.revision),
            Step::Freeze(id) => self.turn(&id, replica::Event::Freeze, Call::Freeze(id.clone()), now),
            Step::Thaw(id) => self.turn(&id, replica::Event::Thaw, Call::Thaw(id.clone()), now),
            Step::Restart(id) => {
                self.turn(&id, replica::Event::Restart, Call::Restart(id.clone()), now);
                if let Some(member) = self.member(&id) {
                    (member.started, member.reached, member.restarting) = (now, false, true);
                }
            }
            Step::Remove(id) => self.end(&id, Call::Remove(id.clone())),
        }
    }

    fn prepare(&mut self, service: &ServiceName, host: HostName) {
        let Some(state) = self.states.get_mut(service) else { return };
        let failures = state.images.get(&host).map_or(0, |(_, failures)| *failures);
        state.images.insert(host.clone(), (Image::Pulling, failures));
        let (epoch, image) = (state.epoch, state.front.settings.launch.image.clone());
        self.notes.push(Note::Called(host.clone(), "prepare", None));
        self.out.push_back(Out::Prepare { service: service.clone(), host, epoch, image });
    }

    fn start(&mut self, spec: StartSpec, now: Instant) {
        let host = spec.target.host().clone();
        let slot = SlotKey(self.next_slot);
        self.next_slot += 1;
        self.next_number = self.next_number.max(spec.id.order().1 + 1);
        let member = Member::new(spec.id.clone(), spec.revision.clone(), host.clone(), slot, now);
        self.notes.push(Note::Phase(spec.id.clone(), None, Phase::Starting));
        let Some(state) = self.states.get_mut(spec.id.service()) else { return };
        state.members.insert(spec.id.clone(), member);
        if let Some(found) = self.host(&host) {
            found.waiting.push_back(spec);
        }
        self.let_starts_go(&host);
    }

    /// As many starts at once as the host may have.
    pub(super) fn let_starts_go(&mut self, name: &HostName) {
        while let Some(host) = self.host(name)
            && host.starting < host.settings.parallel_starts.max(1)
            && let Some(spec) = host.waiting.pop_front()
        {
            host.starting += 1;
            self.notes.push(Note::Called(name.clone(), "start", Some(spec.id.clone())));
            self.out.push_back(Out::Call(name.clone(), Call::Start(Box::new(spec))));
        }
    }

    /// Makes a call that ends a replica, unless one is under way.
    pub(super) fn end(&mut self, id: &ReplicaId, call: Call) {
        let Some(member) = self.member(id).filter(|member| !member.ending) else { return };
        member.ending = true;
        member.prober = None;
        let host = member.host.clone();
        let what = if matches!(call, Call::Stop(..)) { "stop" } else { "remove" };
        self.notes.push(Note::Called(host.clone(), what, Some(id.clone())));
        self.out.push_back(Out::Call(host, call));
    }

    /// A call that ends a replica has ended. If it failed, the next tick tries again.
    pub(super) fn ended(&mut self, id: &ReplicaId, kept: bool, outcome: runner::Result<()>, now: Instant) {
        match outcome {
            Ok(()) if kept => {
                if let Some(member) = self.member(id) {
                    member.ending = false;
                }
                self.advance(id, replica::Event::Stopped, now);
                self.evaluate(id.service(), now, false);
            }
            Err(error) if error.kind != Kind::Gone => {
                if let Some(member) = self.member(id) {
                    member.ending = false;
                }
            }
            Ok(()) | Err(_) => {
                self.advance(id, replica::Event::Removed, now);
                self.evaluate(id.service(), now, false);
            }
        }
    }
}

fn seen_host(host: &Host, state: &State, reserved: &BTreeMap<HostName, Room>) -> snapshot::Host {
    let set = &host.settings.capacity;
    let name = host.settings.name.clone();
    snapshot::Host {
        state: match (host.up, host.lost) {
            (true, _) => snapshot::HostState::Up,
            (false, true) => snapshot::HostState::Lost,
            (false, false) => snapshot::HostState::Silent,
        },
        order: snapshot::HostOrder::Open,
        can: Capabilities { freeze: true, keep_stopped: true, ..Capabilities::default() },
        has: state.has(&name),
        labels: host.settings.labels.clone(),
        capacity: Room {
            cpu: set.cpu.unwrap_or_default(),
            memory: set.memory.unwrap_or_default(),
            replicas: set.replicas.unwrap_or_default(),
        },
        reserved: reserved.get(&name).copied().unwrap_or_default(),
        full: None,
        said: None,
        image: state.images.get(&name).map_or(Image::Unknown, |(image, _)| image.clone()),
        name,
    }
}
