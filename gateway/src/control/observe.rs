//! Builds the one value that a decision about a service may see. Looks once; nothing is asked again afterwards.

use std::time::Instant;

use jiff::Timestamp;
use tidegate_autoscaler::{Phase, Snapshot, snapshot::Host};

use super::{engine::Engine, rooms::Rooms, state::State, waits::Counts};

/// What all services share.
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) wall: Timestamp,
    pub(crate) tick: bool,
    pub(crate) gateway_started: Instant,
    pub(crate) generation: u64,
    pub(crate) next_number: u64,
    pub(crate) engines: &'a [Engine],
    pub(crate) reserved: &'a Rooms,
}

/// What a decision about this service may see.
pub(crate) fn observe(state: &mut State, around: &Around<'_>) -> Snapshot {
    let sample = state.fleet.sample(around.now);
    for member in state.members.values_mut() {
        let slot = sample.per_slot.iter().find(|(key, _)| *key == member.slot);
        member.in_flight = slot.map_or(0, |(_, in_flight)| *in_flight) + state.elsewhere.in_flight_of(member);
        member.count_into(&mut state.tallies);
    }
    state.note_waits(around.now, Counts::of(&sample.demand.flow));
    let elsewhere = state.elsewhere.demand(sample.demand.samples.len());
    let present = state.members.values().filter(|member| member.phase != Phase::Gone);
    Snapshot {
        now: around.now,
        wall: around.wall,
        tick: around.tick,
        gateway_started: around.gateway_started,
        service: state.fleet.settings(),
        learned: sample.learned,
        demand: std::iter::once(sample.demand).chain(elsewhere).collect(),
        replicas: present.map(super::member::Member::seen).collect(),
        hosts: around.engines.iter().map(|engine| host(engine, state, around.reserved, around.now)).collect(),
        asked: state.asked,
        tallies: state.tallies.clone(),
        pinned: state.pinned.clone(),
        generation: around.generation,
        next_number: around.next_number,
    }
}

/// A host, as a service sees it.
pub(super) fn host(engine: &Engine, state: &State, reserved: &Rooms, now: Instant) -> Host {
    let name = engine.name();
    Host {
        name: name.clone(),
        state: engine.state(),
        order: engine.order,
        can: engine.handle.runner.capabilities(),
        labels: engine.labels(),
        capacity: engine.capacity(),
        reserved: reserved.get(name).copied().unwrap_or_default(),
        full: engine
            .full
            .get(&state.fleet.settings().name)
            .filter(|full| full.until > now)
            .map(|full| full.why.clone()),
        said: engine.said.clone(),
        image: state.image(name),
        has: state.has(name),
    }
}
