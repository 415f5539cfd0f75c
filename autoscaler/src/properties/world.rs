//! The world: what can happen to a service, and a loop that decides, plans and executes.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidegate_config::{model::ScalingPolicy, name::ReplicaId};

use crate::{
    Decision, Memory, Plan, Step,
    decide::decide,
    fixture::{self, exited, host_name, load, present, replica, secs, snapshot},
    plan::plan,
    replica::{Event, Phase, next},
    snapshot::{Flow, Host, HostOrder, HostState, Image, Replica, Snapshot, Tally},
};

/// Something that happens; indices pick among what there is.
#[derive(Debug, Clone)]
pub(super) enum Happens {
    Seconds(u64),
    Load(u32, u32),
    /// A second in which so many came and ended.
    Came(u32),
    Goes(usize),
    Breaks(usize),
    Removed(usize),
    Busy(usize, u32),
    Image(usize, u8),
    State(usize, HostState),
    Order(usize, HostOrder),
    Errors(usize),
    Pinned(bool),
    Sleep,
    Squeeze,
    Wake,
    Restart,
    RollBack,
    Forgive,
}

pub(super) fn happens() -> impl Strategy<Value = Happens> {
    let state =
        prop_oneof![2 => Just(HostState::Up), 1 => Just(HostState::Silent), 1 => Just(HostState::Lost)];
    let order = prop_oneof![2 => Just(HostOrder::Open), 1 => Just(HostOrder::Cordoned), 1 => Just(HostOrder::Draining)];
    prop_oneof![
        4 => (0_u64..90).prop_map(Happens::Seconds),
        4 => (0_u32..4, 0_u32..400).prop_map(|(queued, running)| Happens::Load(queued, running)),
        3 => Just(Happens::Load(0, 0)),
        4 => (0_u32..40).prop_map(Happens::Came),
        8 => (0_usize..16).prop_map(Happens::Goes),
        2 => (0_usize..16).prop_map(Happens::Breaks),
        1 => (0_usize..16).prop_map(Happens::Removed),
        2 => (0_usize..16, 0_u32..3).prop_map(|(index, n)| Happens::Busy(index, n)),
        2 => (0_usize..2, 0_u8..8).prop_map(|(host, image)| Happens::Image(host, image)),
        1 => (0_usize..2, state).prop_map(|(host, state)| Happens::State(host, state)),
        1 => (0_usize..2, order).prop_map(|(host, order)| Happens::Order(host, order)),
        1 => (0_usize..3).prop_map(Happens::Errors),
        1 => any::<bool>().prop_map(Happens::Pinned),
        1 => Just(Happens::Sleep),
        1 => Just(Happens::Squeeze),
        1 => Just(Happens::Wake),
        1 => Just(Happens::Restart),
        1 => Just(Happens::RollBack),
        1 => Just(Happens::Forgive),
    ]
}

pub(super) struct World {
    pub(super) seen: Snapshot,
    memory: Memory,
    /// Stops that keep the container.
    kept: BTreeSet<ReplicaId>,
}

impl World {
    pub(super) fn new(scaling: ScalingPolicy) -> Self {
        let mut seen = snapshot(scaling);
        seen.gateway_started = seen.now;
        seen.hosts.push(Host {
            capacity: crate::snapshot::Room { replicas: 3, ..Default::default() },
            ..fixture::host("b")
        });
        // What an earlier gateway left.
        let id = ReplicaId::new(seen.service.name.clone(), 1, 1);
        seen.replicas.push(Replica { id, ..replica(1, Phase::Ready, seen.now) });
        Self { seen, memory: Memory::default(), kept: BTreeSet::new() }
    }

    pub(super) fn happen(&mut self, event: Happens) {
        let now = self.seen.now;
        match event {
            Happens::Seconds(n) => self.quiet(n),
            Happens::Load(queued, in_flight) => load(&mut self.seen, queued, in_flight),
            Happens::Came(arrived) => {
                self.quiet(1);
                let second = &mut self.seen.demand[0].flow[0];
                (second.arrived, second.ended) = (arrived, arrived);
            }
            Happens::Goes(index) => self.goes_on(index),
            Happens::Breaks(index) => self.send_nth(index, Event::Broke(exited())),
            Happens::Removed(index) => self.send_nth(index, Event::Removed),
            Happens::Busy(index, n) => {
                if let Some(replica) = self.seen.replicas.get_mut(index) {
                    replica.in_flight = n;
                }
            }
            Happens::Image(host, image) => {
                self.seen.hosts[host].image = match image {
                    0 => Image::Unknown,
                    1 => Image::Failed { message: "not found".into(), retry_at: Some(now + secs(5)) },
                    2 => present("r2"),
                    3 => present("r3"),
                    _ => present("r1"),
                };
            }
            Happens::State(host, state) => self.host_is(host, state),
            Happens::Order(host, order) => self.seen.hosts[host].order = order,
            Happens::Errors(revision) => {
                let tally =
                    Tally { requests: now.duration_since(self.seen.gateway_started).as_secs(), errors: 100 };
                self.seen.tallies.insert(fixture::version(["r1", "r2", "r3"][revision]).revision, tally);
            }
            Happens::Pinned(pinned) => self.seen.pinned = pinned.then(|| host_name("b")),
            Happens::Sleep => self.seen.asked.sleep = Some(now),
            Happens::Squeeze => self.seen.asked.squeeze = Some(now),
            Happens::Wake => self.seen.asked.wake = Some(now),
            Happens::Restart => self.seen.asked.restart = Some(now),
            Happens::RollBack => drop(self.memory.roll_back(None)),
            Happens::Forgive => self.memory.release_mut().forgive(),
        }
        self.count_rooms();
    }

    /// So many seconds go by in which nobody comes.
    pub(super) fn quiet(&mut self, seconds: u64) {
        self.seen.now += secs(seconds);
        let second = Flow { running: f64::from(self.seen.in_flight()), ..Flow::default() };
        self.seen.demand[0].flow = (0..seconds).map(|_| second).collect();
    }

    /// What runs on a lost host is lost, as far as anybody knows.
    fn host_is(&mut self, index: usize, state: HostState) {
        let host = &mut self.seen.hosts[index];
        host.state = state;
        let name = host.name.clone();
        if state == HostState::Lost {
            for index in 0..self.seen.replicas.len() {
                if self.seen.replicas[index].host == name && self.seen.replicas[index].phase != Phase::Stopped
                {
                    self.change(index, Event::Lost);
                }
            }
        }
    }

    /// What was begun comes to its end: starts pass, stops stop, lost ones are found again.
    fn goes_on(&mut self, index: usize) {
        let Some(replica) = self.seen.replicas.get(index) else { return };
        let up = self.seen.hosts.iter().any(|h| h.name == replica.host && h.state == HostState::Up);
        let event = match replica.phase {
            Phase::Starting => Event::Passed,
            Phase::Freezing => Event::Frozen,
            Phase::Thawing => Event::Thawed,
            Phase::Lost if up => Event::Passed,
            Phase::Stopping if self.kept.contains(&replica.id) => Event::Stopped,
            Phase::Stopping => Event::Removed,
            _ => return,
        };
        self.send_nth(index, event);
    }

    pub(super) fn all_is_well(&mut self) {
        self.memory.release_mut().forgive();
        self.seen.tallies.clear();
        self.seen.pinned = None;
        for host in &mut self.seen.hosts {
            (host.state, host.order) = (HostState::Up, HostOrder::Open);
            host.has.clear();
        }
    }

    pub(super) fn calm(&mut self) {
        for host in &mut self.seen.hosts {
            host.image = present("r1");
            for has in host.has.values_mut() {
                *has = true;
            }
        }
        for index in (0..self.seen.replicas.len()).rev() {
            self.seen.replicas[index].in_flight = 0;
            self.goes_on(index);
        }
        self.count_rooms();
    }

    fn count_rooms(&mut self) {
        for host in &mut self.seen.hosts {
            let there = self.seen.replicas.iter().filter(|r| r.host == host.name && r.phase.holds_room());
            host.reserved.replicas = u32::try_from(there.count()).expect("few");
        }
    }

    fn change(&mut self, index: usize, event: Event) {
        let now = self.seen.now;
        if let Some(replica) = self.seen.replicas.get_mut(index)
            && let Some(phase) = next(&replica.phase, event)
        {
            (replica.phase, replica.since) = (phase, now);
        }
    }

    fn send_nth(&mut self, index: usize, event: Event) {
        self.change(index, event);
        self.seen.replicas.retain(|r| r.phase != Phase::Gone);
    }

    fn send(&mut self, id: &ReplicaId, event: Event) {
        let index = self.seen.replicas.iter().position(|r| r.id == *id);
        self.send_nth(index.expect("a step names a replica that is there"), event);
    }

    pub(super) fn evaluate(&mut self, tick: bool) -> (Decision, Plan) {
        self.seen.tick = tick;
        self.seen.demand[0].samples = vec![f64::from(self.seen.queued() + self.seen.in_flight()); 2];
        let (decision, memory) = decide(self.memory.clone(), &self.seen);
        assert_eq!(
            decide(self.memory.clone(), &self.seen),
            (decision.clone(), memory.clone()),
            "same in, same out"
        );
        self.memory = memory;
        self.seen.demand[0].flow.clear();
        let plan = plan(&decision, &self.seen);
        (decision, plan)
    }

    pub(super) fn execute(&mut self, plan: Plan) {
        for step in plan.steps {
            match step {
                Step::Prepare { host } => self.host(&host).image = Image::Pulling,
                Step::Find { host, version } => {
                    let has = version.revision.0 != "r3";
                    self.host(&host).has.insert(version.revision, has);
                }
                Step::Start(spec) => {
                    let number = spec.id.order().1;
                    let host = spec.target.host().clone();
                    let started = replica(number, Phase::Starting, self.seen.now);
                    self.seen.replicas.push(Replica { revision: spec.revision, host, ..started });
                    self.seen.next_number = number + 1;
                }
                Step::Thaw(id) => self.send(&id, Event::Thaw),
                Step::Restart(id) => self.send(&id, Event::Restart),
                Step::Freeze(id) => self.send(&id, Event::Freeze),
                Step::Undrain(id) => self.send(&id, Event::Undrain),
                Step::Drain(id) => self.send(&id, Event::Drain),
                Step::Stop { id, keep, .. } => {
                    if keep {
                        self.kept.insert(id.clone());
                    } else {
                        self.kept.remove(&id);
                    }
                    self.send(&id, Event::Stop);
                }
                Step::Remove(id) => self.send(&id, Event::Removed),
            }
        }
        self.count_rooms();
    }

    fn host(&mut self, name: &tidegate_config::name::HostName) -> &mut Host {
        self.seen.hosts.iter_mut().find(|host| host.name == *name).expect("a step names a host that is there")
    }
}
