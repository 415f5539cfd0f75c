//! A simulated service's gate: the real one, with a note of everything that goes through it.
//! What [`fleet::Service`](crate::fleet::Service) is to the gateway, without its tasks and channels.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tidegate_config::{model, name::ReplicaId};

use super::record::{Note, RequestId};
use crate::fleet::{
    admission::{self, Entry, Gate, Grant, Grants, Left, Rules, Sample, SlotKey, TicketId},
    balancer::{Out, Report, Wish, affinity},
};

/// Grants that are still to be followed up.
pub(super) type Granted = Grants<ReplicaId, RequestId>;

#[derive(Debug)]
pub(super) struct Front {
    pub(super) settings: Arc<model::Service>,
    /// What refused requests are told while the gate is closed, and those whose hold deadline passes.
    pub(super) word: &'static str,
    gate: Gate<ReplicaId, RequestId>,
    /// Who is ejected and what each can bear, as it was last noted.
    shown: BTreeMap<ReplicaId, Shown>,
}

/// How a replica is ejected, and the limit that was learned.
type Shown = (Option<Out>, Option<u32>);

/// What a request that gave its slot back led to.
pub(super) struct GaveBack {
    pub(super) granted: Granted,
    pub(super) drained: bool,
    /// Its replica is ejected until then.
    pub(super) ejected: Option<Instant>,
}

/// What a request that waits for its turn is told when its deadline has passed.
pub(super) const HOLD_DEADLINE: &str = "hold_deadline";

impl Front {
    pub(super) fn new(settings: Arc<model::Service>, now: Instant, seed: u64) -> Self {
        let gate = Gate::new(now, Rules::of(&settings), seed);
        Self { settings, word: HOLD_DEADLINE, gate, shown: BTreeMap::new() }
    }

    pub(super) fn set_settings(
        &mut self,
        now: Instant,
        settings: Arc<model::Service>,
        notes: &mut Vec<Note>,
    ) -> Granted {
        let grants = self.gate.set_rules(now, Rules::of(&settings));
        self.settings = settings;
        self.note_grants(grants, notes)
    }

    pub(super) fn enter(
        &mut self,
        now: Instant,
        request: RequestId,
        wish: Option<Wish>,
        notes: &mut Vec<Note>,
    ) -> Entry<ReplicaId> {
        let entry = self.gate.enter(now, wish, || request);
        self.note_standings(notes);
        match &entry {
            Entry::Granted(grant) => notes.push(Note::Granted(request, grant.replica.clone())),
            Entry::Queued(_) => notes.push(Note::Waits(request)),
            Entry::Full | Entry::Closed | Entry::Broken(_) => {}
        }
        entry
    }

    pub(super) fn swap(
        &mut self,
        now: Instant,
        request: RequestId,
        held: &Grant<ReplicaId>,
        report: Report,
        notes: &mut Vec<Note>,
    ) -> (TicketId, GaveBack) {
        notes.push(Note::GaveBack(request, held.replica.clone()));
        notes.push(Note::Waits(request));
        let (ticket, left) = self.gate.swap(now, held.slot, report, || request);
        (ticket, self.note_left(left, notes))
    }

    /// Gives a slot back.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        request: RequestId,
        held: &Grant<ReplicaId>,
        report: Report,
        notes: &mut Vec<Note>,
    ) -> GaveBack {
        notes.push(Note::GaveBack(request, held.replica.clone()));
        let left = self.gate.leave(now, held.slot, report);
        self.note_left(left, notes)
    }

    fn note_left(&mut self, left: Left<ReplicaId, RequestId>, notes: &mut Vec<Note>) -> GaveBack {
        let Left { grants, drained, ejected, broken: _ } = left;
        GaveBack { granted: self.note_grants(grants, notes), drained, ejected }
    }

    /// Who is ejected or comes back, and what each can bear: before the grants that this led to.
    fn note_standings(&mut self, notes: &mut Vec<Note>) {
        for (id, out, limit) in self.gate.shown() {
            let (out_before, limit_before) = self.shown.insert(id.clone(), (out, limit)).unwrap_or_default();
            if out_before != out {
                notes.push(Note::Out(id.clone(), out));
            }
            if limit_before != limit {
                notes.push(Note::Learned(id.clone(), limit));
            }
        }
    }

    fn note_grants(&mut self, grants: Granted, notes: &mut Vec<Note>) -> Granted {
        self.note_standings(notes);
        for (request, grant) in &grants {
            notes.push(Note::WaitsNoMore(*request));
            notes.push(Note::Granted(*request, grant.replica.clone()));
        }
        grants
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
        let grants = self.gate.set_slots(now, key, replica, capacity);
        self.note_grants(grants, notes)
    }

    pub(super) fn remove_slots(
        &mut self,
        now: Instant,
        key: SlotKey,
        replica: &ReplicaId,
        notes: &mut Vec<Note>,
    ) -> Granted {
        notes.push(Note::Slots(replica.clone(), None));
        let grants = self.gate.remove(now, key);
        self.shown.remove(replica);
        self.note_grants(grants, notes)
    }

    /// Until when the replica gets nothing.
    pub(super) fn may_retry(&mut self, now: Instant) -> bool {
        self.gate.retry(now)
    }

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
        let grants = self.gate.resume(now);
        self.note_grants(grants, notes)
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        held: &Grant<ReplicaId>,
        notes: &mut Vec<Note>,
    ) -> Granted {
        notes.push(Note::Resumed(held.replica.clone()));
        let grants = self.gate.answered(now, held.slot);
        self.note_grants(grants, notes)
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

impl admission::Replica for ReplicaId {
    fn name(&self) -> u64 {
        affinity::hash(self.to_string().as_bytes())
    }
}
