//! One service's gate: a bounded first-in-first-out queue and the replicas' slots, one value behind one lock.
//! Called by [`Service`](super::service::Service) (and by the simulator), which delivers the grants outside the lock.
//! Holds: in flight never exceeds a replica's slots; nobody waits while a slot is free; the meter changes with them.
//! Absent: phases and settings other than the numbers it is given, clocks, tasks.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    balancer::{self, Candidate},
    meter::Meter,
};

/// A slot's name within its gate; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey(pub u64);

/// A waiting request's name within its gate; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TicketId(u64);

/// A slot handed to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<R> {
    /// To be given back with [`Gate::leave`].
    pub slot: SlotKey,
    /// The replica that the request goes to.
    pub replica: R,
}

/// What became of a request at the gate.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<R> {
    /// Go.
    Granted(Grant<R>),
    /// Wait for a grant.
    Queued(TicketId),
    /// The queue is full.
    Full,
    /// The service is closed, see [`Gate::close`].
    Closed,
}

/// What the control loop sees of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Requests that hold a slot, without onlookers.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Since when both are zero.
    pub idle_since: Option<Instant>,
    /// Average demand of each whole second since the last sample.
    pub seconds: Vec<f64>,
    /// Requests per slot.
    pub per_slot: Vec<(SlotKey, u32)>,
}

/// The first suspension after a failed connect; doubled at each further one up to [`SUSPEND_MOST`].
const SUSPEND_FIRST: Duration = Duration::from_millis(50);
const SUSPEND_MOST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Slot<R> {
    key: SlotKey,
    replica: R,
    seen: Candidate,
    failures: u32,
}

/// One service's queue and slots. `R` is what a grant names as the replica, `W` what wakes a waiting request.
#[derive(Debug)]
pub struct Gate<R, W> {
    /// Oldest replica first.
    slots: Vec<Slot<R>>,
    /// `None` marks a ticket that was given back.
    queue: VecDeque<(TicketId, Option<W>)>,
    waiting: u32,
    in_flight: u32,
    /// Those in flight that are no demand.
    onlookers: u32,
    limit: usize,
    next_ticket: u64,
    next_early: u64,
    closed: bool,
    /// The share of requests, in percent, that replicas on trial get; 100 while none is.
    share: u8,
    chance: u64,
    meter: Meter,
}

/// The grants that a change led to; deliver them outside the lock.
pub type Grants<R, W> = Vec<(W, Grant<R>)>;

/// Tickets that wait at the tail are counted up from here, those put back at the head are counted down.
const FIRST_TICKET: u64 = 1 << 62;

impl<R: Clone, W> Gate<R, W> {
    /// An empty gate for `limit` waiting requests; `seed` feeds the balancer's chance.
    pub fn new(now: Instant, limit: usize, seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            queue: VecDeque::new(),
            waiting: 0,
            in_flight: 0,
            onlookers: 0,
            limit,
            next_ticket: FIRST_TICKET,
            next_early: FIRST_TICKET,
            closed: false,
            share: 100,
            chance: seed,
            meter: Meter::new(now),
        }
    }

    /// A request arrives. `waiter` is made only if it has to wait.
    pub fn enter(&mut self, now: Instant, waiter: impl FnOnce() -> W) -> Entry<R> {
        if let Some(grant) = self.grant_arriving(now) {
            return Entry::Granted(grant);
        }
        if self.closed && !self.has_capacity() {
            return Entry::Closed;
        }
        if self.waiting as usize >= self.limit {
            return Entry::Full;
        }
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.queue.push_back((ticket, Some(waiter())));
        self.count_waiting(now, 1);
        Entry::Queued(ticket)
    }

    /// An onlooker arrives: it gets a slot if one is free, and is no demand while it has it.
    pub fn look_on(&mut self, now: Instant) -> Option<Grant<R>> {
        // Counted before its slot is taken, so that the level never shows it.
        self.onlookers += 1;
        let grant = self.grant_arriving(now);
        if grant.is_none() {
            self.onlookers -= 1;
        }
        grant
    }

    /// An onlooker ends, or becomes a caller like others: to be followed by [`Gate::leave`] or [`Gate::swap`].
    pub fn look_away(&mut self) {
        self.onlookers -= 1;
    }

    /// A request's attempt failed before its response began: its slot is given back and it gets the next one, before
    /// all that wait. The queue's limit does not apply: it was admitted once.
    pub fn swap(
        &mut self,
        now: Instant,
        slot: SlotKey,
        waiter: impl FnOnce() -> W,
    ) -> (TicketId, Grants<R, W>) {
        self.give_back(slot);
        self.next_early -= 1;
        let ticket = TicketId(self.next_early);
        self.queue.push_front((ticket, Some(waiter())));
        self.waiting += 1;
        let grants = self.settle(now);
        (ticket, grants)
    }

    /// A request has ended and gives its slot back.
    pub fn leave(&mut self, now: Instant, slot: SlotKey) -> Grants<R, W> {
        self.give_back(slot);
        self.settle(now)
    }

    /// A waiting request gives its ticket back. False if it is not waiting any more.
    pub fn cancel(&mut self, now: Instant, ticket: TicketId) -> bool {
        let Ok(index) = self.queue.binary_search_by_key(&ticket, |(id, _)| *id) else { return false };
        if self.queue[index].1.take().is_none() {
            return false;
        }
        while self.queue.front().is_some_and(|(_, waiter)| waiter.is_none()) {
            self.queue.pop_front();
        }
        self.count_waiting(now, -1);
        true
    }

    /// Sets how many requests at once a replica may run here: 0 for one that drains. New keys are appended as youngest.
    pub fn set_slots(&mut self, now: Instant, key: SlotKey, replica: &R, capacity: u32) -> Grants<R, W> {
        match self.slots.iter_mut().find(|slot| slot.key == key) {
            Some(slot) => slot.seen.capacity = capacity,
            None => {
                let seen = Candidate { capacity, in_flight: 0, suspended_until: None, trial: false };
                let at = self.slots.partition_point(|slot| slot.key < key);
                self.slots.insert(at, Slot { key, replica: replica.clone(), seen, failures: 0 });
            }
        }
        self.settle(now)
    }

    /// Marks these replicas as being on trial, and no others: they get `percent` of the requests.
    pub fn share(&mut self, trial: &[SlotKey], percent: u8) {
        self.share = percent.min(100);
        for slot in &mut self.slots {
            slot.seen.trial = trial.contains(&slot.key);
        }
    }

    /// The replicas that it knows, oldest first.
    pub fn slots(&self) -> impl Iterator<Item = (SlotKey, &R)> {
        self.slots.iter().map(|slot| (slot.key, &slot.replica))
    }

    /// Forgets a replica. Requests that it still runs give back to nobody, but count until they do.
    pub fn remove(&mut self, key: SlotKey) {
        self.slots.retain(|slot| slot.key != key);
    }

    /// A connect to the replica failed: it gets nothing for a while. Returns when to call [`Gate::resume`].
    pub fn suspend(&mut self, now: Instant, key: SlotKey) -> Option<Instant> {
        let slot = self.slots.iter_mut().find(|slot| slot.key == key)?;
        let pause = SUSPEND_FIRST.saturating_mul(1 << slot.failures.min(10)).min(SUSPEND_MOST);
        slot.failures += 1;
        slot.seen.suspended_until = Some(now + pause);
        slot.seen.suspended_until
    }

    /// The replica answered: its next failure is its first, and a suspension ends now.
    pub fn answered(&mut self, now: Instant, key: SlotKey) -> Grants<R, W> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.key == key && slot.failures > 0) else {
            return Vec::new();
        };
        (slot.failures, slot.seen.suspended_until) = (0, None);
        self.settle(now)
    }

    /// Hands out what became free because a suspension ended.
    pub fn resume(&mut self, now: Instant) -> Grants<R, W> {
        self.settle(now)
    }

    /// Refuses what waits and what comes while no replica has slots; returns those who waited.
    pub fn close(&mut self, now: Instant) -> Vec<W> {
        self.closed = true;
        if self.has_capacity() {
            return Vec::new();
        }
        let refused = self.queue.drain(..).filter_map(|(_, waiter)| waiter).collect();
        self.waiting = 0;
        self.measure(now);
        refused
    }

    /// Undoes [`Gate::close`].
    pub fn open(&mut self) {
        self.closed = false;
    }

    /// Whether it is closed; see [`Gate::close`].
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sets how many requests may wait; those that wait already stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether any replica takes requests, now or once it has finished some.
    pub fn has_capacity(&self) -> bool {
        self.slots.iter().any(|slot| slot.seen.capacity > 0)
    }

    /// Whether this replica drains and has finished.
    pub fn is_drained(&self, key: SlotKey) -> bool {
        self.slots.iter().any(|slot| slot.key == key && slot.seen.capacity == 0 && slot.seen.in_flight == 0)
    }

    /// Requests that one replica runs.
    pub fn in_flight_of(&self, key: SlotKey) -> u32 {
        self.slots.iter().find(|slot| slot.key == key).map_or(0, |slot| slot.seen.in_flight)
    }

    /// Requests that wait and requests that run.
    pub fn counts(&self) -> (u32, u32) {
        (self.waiting, self.in_flight)
    }

    /// Since when nothing runs or waits; `None` while something does.
    pub fn idle_since(&self) -> Option<Instant> {
        self.meter.idle_since()
    }

    /// What the control loop wants to know; seconds are handed out once.
    pub fn sample(&mut self, now: Instant) -> Sample {
        Sample {
            in_flight: self.in_flight - self.onlookers,
            queued: self.waiting,
            seconds: self.meter.sample(now),
            idle_since: self.meter.idle_since(),
            per_slot: self.slots.iter().map(|slot| (slot.key, slot.seen.in_flight)).collect(),
        }
    }

    /// An arriving request may pass only if nobody waits before it.
    fn grant_arriving(&mut self, now: Instant) -> Option<Grant<R>> {
        if self.waiting > 0 {
            return None;
        }
        let grant = self.take_slot(now)?;
        self.measure(now);
        Some(grant)
    }

    fn give_back(&mut self, key: SlotKey) {
        self.in_flight -= 1;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.key == key) {
            slot.seen.in_flight -= 1;
        }
    }

    fn take_slot(&mut self, now: Instant) -> Option<Grant<R>> {
        self.chance = next_chance(self.chance);
        let slots = self.slots.iter().map(|slot| &slot.seen);
        let index = match self.share {
            100 => balancer::pick(slots, now, self.chance),
            share => balancer::pick_by_share(slots, now, self.chance, share),
        }?;
        let slot = &mut self.slots[index];
        slot.seen.in_flight += 1;
        self.in_flight += 1;
        Some(Grant { slot: slot.key, replica: slot.replica.clone() })
    }

    /// Hands free slots to waiting requests, oldest first, until one or the other is used up.
    fn settle(&mut self, now: Instant) -> Grants<R, W> {
        let mut grants = Vec::new();
        while self.waiting > 0 {
            let Some(grant) = self.take_slot(now) else { break };
            let waiter = std::iter::from_fn(|| self.queue.pop_front()).find_map(|(_, waiter)| waiter);
            self.waiting -= 1;
            grants.push((waiter.expect("as many waiters in the queue as are counted"), grant));
        }
        self.measure(now);
        grants
    }

    fn count_waiting(&mut self, now: Instant, change: i32) {
        self.waiting = self.waiting.saturating_add_signed(change);
        self.measure(now);
    }

    fn measure(&mut self, now: Instant) {
        self.meter.set(now, self.waiting + self.in_flight - self.onlookers);
    }
}

/// One step of a 64-bit xorshift (Marsaglia 2003): chance enough for a balancer, and the same for the same seed.
fn next_chance(mut x: u64) -> u64 {
    x |= u64::from(x == 0);
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        now: Instant,
        gate: Gate<&'static str, u32>,
        next: u32,
    }

    fn world(limit: usize) -> World {
        let now = crate::clock::now();
        World { now, gate: Gate::new(now, limit, 1), next: 0 }
    }

    impl World {
        fn enter(&mut self) -> Entry<&'static str> {
            self.next += 1;
            let waiter = self.next;
            self.gate.enter(self.now, || waiter)
        }

        fn slots(&mut self, key: u64, replica: &'static str, capacity: u32) -> Vec<(u32, &'static str)> {
            named(self.gate.set_slots(self.now, SlotKey(key), &replica, capacity))
        }

        fn ticket(&mut self) -> TicketId {
            match self.enter() {
                Entry::Queued(ticket) => ticket,
                other => panic!("expected a ticket, got {other:?}"),
            }
        }
    }

    fn named(grants: Grants<&'static str, u32>) -> Vec<(u32, &'static str)> {
        grants.into_iter().map(|(waiter, grant)| (waiter, grant.replica)).collect()
    }

    #[test]
    fn requests_wait_in_order_and_go_the_instant_a_replica_is_ready() {
        let mut w = world(10);
        for _ in 0..3 {
            w.ticket();
        }
        assert_eq!(w.slots(1, "a", 2), [(1, "a"), (2, "a")]);
        assert_eq!(w.gate.counts(), (1, 2));
        assert_eq!(named(w.gate.leave(w.now, SlotKey(1))), [(3, "a")]);
        assert_eq!(w.gate.leave(w.now, SlotKey(1)), []);
        assert_eq!(w.gate.counts(), (0, 1));
    }

    #[test]
    fn a_full_queue_refuses_and_a_ticket_given_back_makes_room() {
        let mut w = world(2);
        let (first, _) = (w.ticket(), w.ticket());
        assert_eq!(w.enter(), Entry::Full);
        assert!(w.gate.cancel(w.now, first));
        assert!(!w.gate.cancel(w.now, first), "a ticket is given back once");
        w.ticket();
        assert_eq!(w.slots(1, "a", 1), [(2, "a")], "the one that left is passed over");
    }

    #[test]
    fn a_failed_attempt_goes_before_all_that_wait() {
        let mut w = world(1);
        w.slots(1, "a", 1);
        assert!(matches!(w.enter(), Entry::Granted(_)));
        w.ticket();
        w.gate.suspend(w.now, SlotKey(1));
        // Also where the queue is full.
        let (_, grants) = w.gate.swap(w.now, SlotKey(1), || 99);
        assert_eq!(named(grants), [], "its only replica is suspended");
        assert_eq!(w.slots(2, "b", 5), [(99, "b"), (2, "b")]);
    }

    #[test]
    fn a_draining_replica_gets_nothing_and_tells_when_it_is_empty() {
        let mut w = world(1);
        w.slots(1, "a", 2);
        w.enter();
        assert_eq!(w.slots(1, "a", 0), []);
        assert!(!w.gate.is_drained(SlotKey(1)));
        w.ticket();
        assert_eq!(w.gate.leave(w.now, SlotKey(1)), []);
        assert!(w.gate.is_drained(SlotKey(1)));
        w.gate.remove(SlotKey(1));
        assert_eq!(w.gate.counts(), (1, 0));
    }

    #[test]
    fn a_suspension_doubles_ends_and_is_forgotten_after_an_answer() {
        let mut w = world(1);
        w.slots(1, "a", 1);
        let pause = |w: &mut World| w.gate.suspend(w.now, SlotKey(1)).map(|until| until - w.now);
        assert_eq!(pause(&mut w), Some(SUSPEND_FIRST));
        assert_eq!(pause(&mut w), Some(2 * SUSPEND_FIRST));
        w.ticket();
        w.now += SUSPEND_MOST;
        assert_eq!(named(w.gate.resume(w.now)), [(1, "a")]);
        assert_eq!(w.gate.answered(w.now, SlotKey(1)), []);
        assert_eq!(pause(&mut w), Some(SUSPEND_FIRST));
    }

    #[test]
    fn an_answer_ends_the_suspension_for_those_who_wait() {
        let mut w = world(5);
        w.slots(1, "a", 2);
        w.enter();
        w.gate.suspend(w.now, SlotKey(1));
        w.ticket();
        let grants = w.gate.answered(w.now, SlotKey(1));
        assert_eq!(named(grants), [(2, "a")]);
    }

    #[test]
    fn closing_refuses_those_who_wait_but_not_while_a_replica_serves() {
        let mut w = world(5);
        w.ticket();
        assert_eq!(w.gate.close(w.now), [1]);
        assert_eq!(w.enter(), Entry::Closed);
        assert_eq!(w.slots(1, "a", 1), []);
        assert!(matches!(w.enter(), Entry::Granted(_)));
        w.ticket();
        assert_eq!(w.gate.close(w.now), Vec::<u32>::new(), "the replica will come back to them");
    }

    #[test]
    fn demand_is_measured_where_it_changes() {
        let mut w = world(5);
        w.slots(1, "a", 1);
        w.enter();
        w.ticket();
        w.now += Duration::from_secs(1);
        let sample = w.gate.sample(w.now);
        assert_eq!((sample.in_flight, sample.queued, sample.idle_since), (1, 1, None));
        assert_eq!(sample.seconds, [2.0]);
        assert_eq!(sample.per_slot, [(SlotKey(1), 1)]);
    }

    #[test]
    fn an_onlooker_takes_a_slot_and_is_no_demand() {
        let mut w = world(5);
        assert_eq!(w.gate.look_on(w.now), None, "it waits for nothing");
        w.slots(1, "a", 2);
        let idle = w.gate.idle_since();
        w.now += Duration::from_secs(1);
        assert!(w.gate.look_on(w.now).is_some());
        assert_eq!(
            (w.gate.idle_since(), w.gate.counts()),
            (idle, (0, 1)),
            "the service is as idle as before"
        );
        assert_eq!(w.gate.sample(w.now).in_flight, 0);
        assert_eq!(w.slots(1, "a", 0), []);
        assert!(!w.gate.is_drained(SlotKey(1)), "and yet it is not cut off");
        w.gate.look_away();
        w.gate.leave(w.now, SlotKey(1));
        assert!(w.gate.is_drained(SlotKey(1)));
        assert_eq!((w.gate.idle_since(), w.gate.counts()), (idle, (0, 0)));
    }
}
