//! The replicas of a run: what decisions see of them, and what they cost.

use std::time::{Duration, Instant};

use tidegate_autoscaler::{Phase, replica, snapshot::Replica};
use tidegate_config::{name::ReplicaId, spec::StartSpec};

use crate::fleet::admission::{self, SlotKey};

/// What the gate hands out slots of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbered(pub(super) u64);

impl admission::Replica for Numbered {
    fn name(&self) -> u64 {
        self.0
    }
}

/// The replicas that are there, oldest first; both lists are in the same order.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    pub(super) seen: Vec<Replica>,
    own: Vec<Own>,
    next: u64,
    pub(super) seconds: f64,
    pub(super) idle_seconds: f64,
}

/// What the run notes of one replica.
#[derive(Debug)]
struct Own {
    slot: SlotKey,
    running: u32,
    /// Since when it has been ready and run nothing.
    idle_since: Option<Instant>,
}

impl Replicas {
    /// One is started; its slot.
    pub(super) fn start(
        &mut self,
        spec: StartSpec,
        host: tidegate_config::name::HostName,
        now: Instant,
    ) -> SlotKey {
        let StartSpec { id, revision, .. } = spec;
        self.next += 1;
        let slot = SlotKey(self.next);
        self.own.push(Own { slot, running: 0, idle_since: None });
        let phase = Phase::Starting;
        self.seen.push(Replica {
            id,
            revision,
            phase,
            since: now,
            started: now,
            host,
            in_flight: 0,
            usage: None,
        });
        slot
    }

    /// Moves one to its next phase; its slot and that phase, if the event changes anything.
    pub(super) fn advance(
        &mut self,
        at: usize,
        event: replica::Event,
        now: Instant,
    ) -> Option<(SlotKey, Phase)> {
        let (seen, own) = (&mut self.seen[at], &mut self.own[at]);
        let phase = replica::next(&seen.phase, event)?;
        if phase == Phase::Ready && own.running == 0 {
            own.idle_since = Some(now);
        }
        (seen.phase, seen.since) = (phase.clone(), now);
        Some((own.slot, phase))
    }

    /// One is gone.
    pub(super) fn remove(&mut self, at: usize, now: Instant) -> SlotKey {
        let (seen, mut own) = (self.seen.remove(at), self.own.remove(at));
        self.seconds += now.saturating_duration_since(seen.started).as_secs_f64();
        self.idle_seconds += idle(&mut own, now).as_secs_f64();
        own.slot
    }

    /// All that are left at the end.
    pub(super) fn remove_all(&mut self, end: Instant) {
        while !self.seen.is_empty() {
            self.remove(self.seen.len() - 1, end);
        }
    }

    pub(super) fn find(&self, id: &ReplicaId) -> Option<usize> {
        self.seen.iter().position(|replica| replica.id == *id)
    }

    pub(super) fn of_slot(&self, slot: SlotKey) -> Option<usize> {
        self.own.binary_search_by_key(&slot, |own| own.slot).ok()
    }

    /// It gets a request.
    pub(super) fn takes(&mut self, slot: SlotKey, now: Instant) {
        let Some(at) = self.of_slot(slot) else { return };
        let own = &mut self.own[at];
        own.running += 1;
        self.idle_seconds += idle(own, now).as_secs_f64();
    }

    /// It has finished one.
    pub(super) fn finishes(&mut self, slot: SlotKey, now: Instant) {
        let Some(at) = self.of_slot(slot) else { return };
        let own = &mut self.own[at];
        own.running -= 1;
        if own.running == 0 {
            own.idle_since = Some(now);
        }
    }

    /// How many requests it runs.
    pub(super) fn running(&self, at: usize) -> u32 {
        self.own[at].running
    }

    /// Notes what each runs, for the decision.
    pub(super) fn note_running(&mut self) {
        for (seen, own) in self.seen.iter_mut().zip(&self.own) {
            seen.in_flight = own.running;
        }
    }

    pub(super) fn count(&self, phase: &Phase) -> u32 {
        u32::try_from(self.seen.iter().filter(|replica| replica.phase == *phase).count()).unwrap_or(u32::MAX)
    }
}

fn idle(own: &mut Own, now: Instant) -> Duration {
    own.idle_since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}
