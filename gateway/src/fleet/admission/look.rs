//! What a gate can be asked without changing anything in it.

use std::time::{Duration, Instant};

use super::{Form, Gate, Out, Replica, Slot, SlotKey};

impl<R: Replica, W> Gate<R, W> {
    /// Until when the circuit is open; `None`: it is not.
    pub fn broken_until(&self, now: Instant) -> Option<Instant> {
        self.circuit.as_ref().and_then(|circuit| circuit.open_until(now))
    }

    /// Whether any replica takes requests, now or once it has finished some.
    pub fn has_capacity(&self) -> bool {
        self.slots.iter().any(|slot| slot.seen.serves())
    }

    /// Whether this replica drains and has finished.
    pub fn is_drained(&self, key: SlotKey) -> bool {
        self.find(key).is_ok_and(|at| self.slots[at].is_drained())
    }

    /// Requests that one replica runs.
    pub fn in_flight_of(&self, key: SlotKey) -> u32 {
        self.find(key).map_or(0, |at| self.slots[at].seen.in_flight)
    }

    /// How each replica is ejected and what it has shown to bear, oldest first.
    pub fn shown(&self) -> impl Iterator<Item = (&R, Option<Out>, Option<u32>)> {
        self.slots.iter().map(|slot| (&slot.replica, slot.seen.out(), slot.seen.limit()))
    }

    /// Whether the replica of this name takes requests.
    pub fn serves(&self, name: u64) -> bool {
        self.slots.iter().any(|slot| slot.seen.name == name && slot.seen.serves())
    }

    /// How the replicas are doing, oldest first.
    pub fn forms(&self, now: Instant) -> Vec<Form> {
        let form = |slot: &Slot<R>| Form {
            slot: slot.key,
            latency: slot.seen.latency.read(now).map(Duration::from_secs_f64),
            out: slot.seen.out(),
            limit: slot.seen.limit(),
        };
        self.slots.iter().map(form).collect()
    }

    /// Requests that wait and requests that run.
    pub fn counts(&self) -> (u32, u32) {
        (self.waiting, self.in_flight)
    }

    /// Since when nothing runs or waits; `None` while something does.
    pub fn idle_since(&self) -> Option<Instant> {
        self.meter.idle_since()
    }
}
