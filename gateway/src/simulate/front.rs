//! A simulated service's gate: the real one, with a note of everything that goes through it.
//! What [`fleet::Service`](crate::fleet::Service) is to the gateway, without its tasks and channels.

use std::{sync::Arc, time::Instant};

use tidegate_config::{model, name::ReplicaId};

use super::record::{Note, RequestId};
use crate::fleet::{
    admission::{Entry, Gate, Grant, Grants, Sample, SlotKey, TicketId},
    retries::Budget,
};

/// Grants that are still to be followed up.
pub(super) type Granted = Grants<ReplicaId, RequestId>;

#[derive(Debug)]
pub(super) struct Front {
    pub(super) settings: Arc<model::Service>,
    pub(super) retries: Budget,
    /// What refused requests are told while the gate is closed, and those whose hold deadline passes.
    pub(super) word: &'static str,
    gate: Gate<ReplicaId, RequestId>,
}

/// What a request that waits for its turn is told when its deadline has passed.
pub(super) const HOLD_DEADLINE: &str = "hold_deadline";

impl Front {
    pub(super) fn new(settings: Arc<model::Service>, now: Instant, seed: u64) -> Self {
        let gate = Gate::new(now, settings.scaling.queue, seed);
        Self { settings, retries: Budget::new(now), word: HOLD_DEADLINE, gate }
    }

    pub(super) fn set_settings(&mut self, settings: Arc<model::Service>) {
        self.gate.set_limit(settings.scaling.queue);
        self.settings = settings;
    }

    pub(super) fn enter(
        &mut self,
        now: Instant,
        request: RequestId,
        notes: &mut Vec<Note>,
    ) -> Entry<ReplicaId> {
        let entry = self.gate.enter(now, || request);
        match &entry {
            Entry::Granted(grant) => notes.push(Note::Granted(request, grant.replica.clone())),
            Entry::Queued(_) => notes.push(Note::Waits(request)),
            Entry::Full | Entry::Closed => {}
        }
        entry
    }

    pub(super) fn swap(
        &mut self,
        now: Instant,
        request: RequestId,
        held: &Grant<ReplicaId>,
        notes: &mut Vec<Note>,
    ) -> (TicketId, Granted) {
        notes.push(Note::GaveBack(request, held.replica.clone()));
        notes.push(Note::Waits(request));
        let (ticket, grants) = self.gate.swap(now, held.slot, || request);
        (ticket, note_grants(grants, notes))
    }

    /// Gives a slot back; whether its replica has drained.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        request: RequestId,
        held: &Grant<ReplicaId>,
        notes: &mut Vec<Note>,
    ) -> (Granted, bool) {
        notes.push(Note::GaveBack(request, held.replica.clone()));
        let grants = self.gate.leave(now, held.slot);
        (note_grants(grants, notes), self.gate.is_drained(held.slot))
    }

    pub(super) fn cancel(
        &mut self,
        now: Instant,
        request: RequestId,
        ticket: TicketId,
        notes: &mut Vec<Note>,
    ) {
        if self.gate.cancel(now, ticket) {
            notes.push(Note::WaitsNoMore(request));
        }
    }

    pub(super) fn set_slots(
        &mut self,
        now: Instant,
        key: SlotKey,
        replica: &ReplicaId,
        capacity: u32,
        notes: &mut Vec<Note>,
    ) -> Granted {
        notes.push(Note::Slots(replica.clone(), Some(capacity)));
        note_grants(self.gate.set_slots(now, key, replica, capacity), notes)
    }

    pub(super) fn remove_slots(&mut self, key: SlotKey, replica: &ReplicaId, notes: &mut Vec<Note>) {
        notes.push(Note::Slots(replica.clone(), None));
        self.gate.remove(key);
    }

    /// Until when the replica gets nothing.
    pub(super) fn suspend(
        &mut self,
        now: Instant,
        held: &Grant<ReplicaId>,
        notes: &mut Vec<Note>,
    ) -> Option<Instant> {
        let until = self.gate.suspend(now, held.slot)?;
        notes.push(Note::Suspended(held.replica.clone(), until));
        Some(until)
    }

    pub(super) fn resume(&mut self, now: Instant, notes: &mut Vec<Note>) -> Granted {
        note_grants(self.gate.resume(now), notes)
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        held: &Grant<ReplicaId>,
        notes: &mut Vec<Note>,
    ) -> Granted {
        notes.push(Note::Resumed(held.replica.clone()));
        note_grants(self.gate.answered(now, held.slot), notes)
    }

    pub(super) fn close(
        &mut self,
        now: Instant,
        word: &'static str,
        notes: &mut Vec<Note>,
    ) -> Vec<RequestId> {
        self.word = word;
        let refused = self.gate.close(now);
        notes.extend(refused.iter().map(|request| Note::WaitsNoMore(*request)));
        refused
    }

    /// `word`: what those are told whose hold deadline passes meanwhile.
    pub(super) fn open(&mut self, word: &'static str) {
        self.word = word;
        self.gate.open();
    }

    pub(super) fn sample(&mut self, now: Instant) -> Sample {
        self.gate.sample(now)
    }

    pub(super) fn has_capacity(&self) -> bool {
        self.gate.has_capacity()
    }

    /// Requests that wait and requests that run.
    pub(super) fn counts(&self) -> (u32, u32) {
        self.gate.counts()
    }
}

fn note_grants(grants: Granted, notes: &mut Vec<Note>) -> Granted {
    for (request, grant) in &grants {
        notes.push(Note::WaitsNoMore(*request));
        notes.push(Note::Granted(*request, grant.replica.clone()));
    }
    grants
}
