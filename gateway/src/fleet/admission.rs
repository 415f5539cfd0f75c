//! One service's gate: a bounded first-in-first-out queue and the replicas' slots, one value behind one lock.
//! Called by [`Service`](super::service::Service) (and by the simulator), which delivers the grants outside the lock.
//! Holds: in flight never exceeds a replica's slots; nobody waits while a slot is free; the meter changes with them.
//! Absent: phases and settings other than the numbers it is given, clocks, tasks.

mod look;
mod waiting;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tidegate_autoscaler::snapshot::Demand;

use self::waiting::{Came, Waiting};
pub use super::entry::{Entry, Form, Grant, Grants, Left, Replica, Rules, Sample, SlotKey, TicketId};
use super::{
    balancer::{self, Answer, Candidate, Draw, Out, Report, Wish, circuit::Circuit},
    meter::{Level, Meter},
    retries::Budget,
};

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

impl<R> Slot<R> {
    /// Whether its replica drains and has finished.
    fn is_drained(&self) -> bool {
        !self.seen.serves() && self.seen.in_flight == 0
    }
}

impl<R> AsRef<Candidate> for Slot<R> {
    fn as_ref(&self) -> &Candidate {
        &self.seen
    }
}

/// One service's queue and slots. `R` is what a grant names as the replica, `W` what wakes a waiting request.
#[derive(Debug)]
pub struct Gate<R, W> {
    /// Oldest replica first.
    slots: Vec<Slot<R>>,
    queue: VecDeque<Waiting<W>>,
    waiting: u32,
    in_flight: u32,
    /// Those in flight that are no demand.
    onlookers: u32,
    /// Onlookers that are about to end: they did not come as demand either.
    looked_away: u32,
    rules: Rules,
    next_ticket: u64,
    next_early: u64,
    closed: bool,
    /// The share of requests, in percent, that replicas on trial get; 100 while none is.
    share: u8,
    chance: u64,
    /// Until then some replica is fresh.
    fresh_until: Instant,
    /// Boxed: few have one.
    circuit: Option<Box<Circuit>>,
    /// What retries may cost.
    budget: Budget,
    meter: Meter,
}

/// Tickets that wait at the tail are counted up from here, those put back at the head are counted down.
const FIRST_TICKET: u64 = 1 << 62;

impl<R: Replica, W> Gate<R, W> {
    /// An empty gate; `seed` feeds the balancer's chance.
    pub fn new(now: Instant, rules: Rules, seed: u64) -> Self {
        let circuit = rules.balance.circuit.clone();
        Self {
            circuit: circuit.map(|rules| Box::new(Circuit::new(now, rules))),
            fresh_until: now,
            slots: Vec::new(),
            queue: VecDeque::new(),
            waiting: 0,
            in_flight: 0,
            onlookers: 0,
            looked_away: 0,
            rules,
            next_ticket: FIRST_TICKET,
            next_early: FIRST_TICKET,
            closed: false,
            share: 100,
            chance: seed,
            budget: Budget::new(now),
            meter: Meter::new(now),
        }
    }

    /// A request arrives that would like this replica, if any. `waiter` is made only if it has to wait.
    pub fn enter(&mut self, now: Instant, wish: Option<Wish>, waiter: impl FnOnce() -> W) -> Entry<R> {
        if let Some(Err(until)) = self.circuit.as_mut().map(|circuit| circuit.admit(now)) {
            return Entry::Broken(until);
        }
        if let Some(grant) = self.grant_arriving(now, wish) {
            self.count_arrived(now);
            return Entry::Granted(grant);
        }
        if self.closed && !self.has_capacity() {
            return Entry::Closed;
        }
        if self.waiting as usize >= self.rules.queue {
            // It would have been served if there were more replicas.
            self.meter.arrived(now);
            self.meter.late(now, !self.has_capacity());
            return Entry::Full;
        }
        self.count_arrived(now);
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        let came = Came { at: now, cold: !self.has_capacity() };
        self.queue.push_back(Waiting { ticket, wish, came: Some(came), waiter: Some(waiter()) });
        self.count_waiting(now, 1);
        Entry::Queued(ticket)
    }

    /// An onlooker arrives: it gets a slot if one is free, and is no demand while it has it.
    pub fn look_on(&mut self, now: Instant) -> Option<Grant<R>> {
        // Counted before its slot is taken, so that the level never shows it.
        self.onlookers += 1;
        let grant = self.grant_arriving(now, None);
        if grant.is_none() {
            self.onlookers -= 1;
        }
        grant
    }

    /// An onlooker ends, or becomes a caller like others: to be followed by [`Gate::leave`] or [`Gate::swap`].
    pub fn look_away(&mut self) {
        self.onlookers -= 1;
        self.looked_away += 1;
    }

    /// A request's attempt failed before its response began: its slot is given back and it gets the next one, elsewhere
    /// if it can be, before all that wait. The queue's limit does not apply: it was admitted once.
    pub fn swap(
        &mut self,
        now: Instant,
        slot: SlotKey,
        report: Report,
        waiter: impl FnOnce() -> W,
    ) -> (TicketId, Left<R, W>) {
        if self.was_onlooker() {
            self.meter.arrived(now);
        }
        let broken = self.count(now, report);
        let (at, ejected) = self.give_back(now, slot, report);
        self.next_early -= 1;
        let ticket = TicketId(self.next_early);
        let failed = self.find(slot).ok().map(|at| Wish::Not(self.slots[at].seen.name));
        self.queue.push_front(Waiting { ticket, wish: failed, came: None, waiter: Some(waiter()) });
        self.waiting += 1;
        let grants = self.settle(now);
        (ticket, Left { grants, drained: at.is_some_and(|at| self.slots[at].is_drained()), ejected, broken })
    }

    /// Whether a request may be tried once more; counts it if so.
    pub fn retry(&mut self, now: Instant) -> bool {
        self.budget.retry(now)
    }

    /// A second slot for a request that holds this one already: on another replica, and only where nobody waits.
    pub fn spare(&mut self, now: Instant, held: SlotKey) -> Option<Grant<R>> {
        let name = self.slots[self.find(held).ok()?].seen.name;
        if self.waiting > 0 {
            return None;
        }
        let draw = self.draw(now);
        let index = balancer::affinity::pick(&self.slots, draw, Wish::Not(name), f64::INFINITY, self.share)?;
        let grant = self.take(index);
        self.measure(now);
        Some(grant)
    }

    /// A request has ended and gives its slot back; `report` says how its attempt went.
    pub fn leave(&mut self, now: Instant, slot: SlotKey, report: Report) -> Left<R, W> {
        if !self.was_onlooker() {
            self.meter.ended(now);
        }
        let broken = self.count(now, report);
        let (at, ejected) = self.give_back(now, slot, report);
        let grants = self.settle(now);
        Left { grants, drained: at.is_some_and(|at| self.slots[at].is_drained()), ejected, broken }
    }

    /// A waiting request gives its ticket back. False if it is not waiting any more.
    pub fn cancel(&mut self, now: Instant, ticket: TicketId) -> bool {
        let Ok(index) = self.queue.binary_search_by_key(&ticket, |waiting| waiting.ticket) else {
            return false;
        };
        if self.queue[index].waiter.take().is_none() {
            return false;
        }
        self.note_wait(now, self.queue[index].came);
        self.pass_over();
        self.count_waiting(now, -1);
        true
    }

    /// Sets how many requests at once a replica may run here: 0 for one that drains. New keys are appended as youngest.
    pub fn set_slots(&mut self, now: Instant, key: SlotKey, replica: &R, capacity: u32) -> Grants<R, W> {
        match self.find(key) {
            Ok(at) => self.slots[at].seen.set_capacity(capacity),
            Err(at) => {
                let mut seen = Candidate::new(replica.name(), capacity, now);
                seen.adapt(now, self.rules.balance.adaptive.as_ref());
                self.fresh_until = now + self.rules.balance.slow_start;
                self.slots.insert(at, Slot { key, replica: replica.clone(), seen, failures: 0 });
            }
        }
        self.pardon();
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
    pub fn remove(&mut self, now: Instant, key: SlotKey) -> Grants<R, W> {
        self.slots.retain(|slot| slot.key != key);
        self.pardon();
        self.settle(now)
    }

    /// A connect to the replica failed: it gets nothing for a while. Returns when to call [`Gate::resume`].
    pub fn suspend(&mut self, now: Instant, key: SlotKey) -> Option<Instant> {
        let at = self.find(key).ok()?;
        let slot = &mut self.slots[at];
        let pause = SUSPEND_FIRST.saturating_mul(1 << slot.failures.min(10)).min(SUSPEND_MOST);
        slot.failures += 1;
        let until = now + pause;
        slot.seen.suspend(until);
        Some(until)
    }

    /// The replica answered: its next failure is its first, and a suspension or probation ends now.
    pub fn answered(&mut self, now: Instant, key: SlotKey) -> Grants<R, W> {
        if let Some(circuit) = &mut self.circuit {
            circuit.answered();
        }
        let Ok(at) = self.find(key) else { return Vec::new() };
        let slot = &mut self.slots[at];
        slot.failures = 0;
        slot.seen.answered(now);
        self.settle(now)
    }

    /// Hands out what became free because a suspension or an ejection ended.
    pub fn resume(&mut self, now: Instant) -> Grants<R, W> {
        self.settle(now)
    }

    /// Refuses what waits and what comes while no replica has slots; returns those who waited.
    pub fn close(&mut self, now: Instant) -> Vec<W> {
        self.closed = true;
        if self.has_capacity() {
            return Vec::new();
        }
        let mut refused = Vec::new();
        for waiting in std::mem::take(&mut self.queue) {
            if let Some(waiter) = waiting.waiter {
                self.note_wait(now, waiting.came);
                refused.push(waiter);
            }
        }
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

    /// Takes new rules.
    pub fn set_rules(&mut self, now: Instant, rules: Rules) -> Grants<R, W> {
        self.circuit = match (self.circuit.take(), rules.balance.circuit.clone()) {
            (Some(mut circuit), Some(rules)) => {
                circuit.set_rules(rules);
                Some(circuit)
            }
            (_, rules) => rules.map(|rules| Box::new(Circuit::new(now, rules))),
        };
        for slot in &mut self.slots {
            slot.seen.adapt(now, rules.balance.adaptive.as_ref());
        }
        self.fresh_until = now + rules.balance.slow_start;
        self.rules = rules;
        self.pardon();
        self.settle(now)
    }

    /// What the control loop wants to know; seconds are handed out once.
    pub fn sample(&mut self, now: Instant) -> Sample {
        let (samples, flow) = self.meter.sample(now);
        let demand = Demand {
            in_flight: self.in_flight - self.onlookers,
            queued: self.waiting,
            idle_since: self.meter.idle_since(),
            samples,
            flow,
            arriving: self.meter.arriving(),
        };
        Sample {
            demand,
            per_slot: self.slots.iter().map(|slot| (slot.key, slot.seen.in_flight)).collect(),
            learned: self.learned(),
        }
    }

    /// An arriving request may pass only if nobody waits before it.
    fn grant_arriving(&mut self, now: Instant, wish: Option<Wish>) -> Option<Grant<R>> {
        if self.waiting > 0 {
            return None;
        }
        let grant = self.take_slot(now, wish)?;
        self.measure(now);
        Some(grant)
    }

    /// Where a slot is, or would be.
    fn find(&self, key: SlotKey) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&key, |slot| slot.key)
    }

    /// Where the slot is, and until when its replica is ejected, if it now is.
    fn give_back(&mut self, now: Instant, key: SlotKey, report: Report) -> (Option<usize>, Option<Instant>) {
        self.in_flight -= 1;
        let Ok(at) = self.find(key) else { return (None, None) };
        let (slots, balance) = (&mut self.slots, &self.rules.balance);
        let ejects = slots[at].seen.learn(now, report, balance);
        slots[at].seen.in_flight -= 1;
        if !ejects {
            return (Some(at), None);
        }
        let may = |rules| {
            let again = slots[at].seen.out().is_some();
            again || balancer::may_eject(slots.iter().map(|slot| &slot.seen), rules)
        };
        let rules = balance.ejection.as_ref().filter(|rules| may(rules));
        (Some(at), rules.map(|rules| slots[at].seen.eject(now, rules)))
    }

    /// Counts an attempt for the circuit; true if it opens.
    fn count(&mut self, now: Instant, report: Report) -> bool {
        let Some(circuit) = &mut self.circuit else { return false };
        match report {
            Report::Unknown | Report::Overtaken { .. } => false,
            Report::Failed | Report::Answered { how: Answer::Failure, .. } => circuit.count(now, true),
            Report::Answered { how: Answer::Good | Answer::Error, .. } => circuit.count(now, false),
        }
    }

    fn learned(&self) -> Option<u32> {
        let limits = self.slots.iter().filter(|slot| slot.seen.serves()).map(|slot| slot.seen.limit());
        let limits = limits.collect::<Option<Vec<u32>>>().filter(|limits| !limits.is_empty())?;
        let count = u32::try_from(limits.len()).unwrap_or(u32::MAX);
        Some(limits.into_iter().fold(0, u32::saturating_add) / count)
    }

    /// Where replicas have gone, more may be ejected of those that are left than is allowed: some come back.
    fn pardon(&mut self) {
        let rules = self.rules.balance.ejection.as_ref();
        let serving = self.slots.iter().filter(|slot| slot.seen.serves()).count();
        let most = rules.map_or(0, |rules| balancer::ejection::most(serving, rules));
        let out = |slot: &&mut Slot<R>| slot.seen.serves() && slot.seen.out().is_some();
        for slot in self.slots.iter_mut().filter(out).skip(most) {
            slot.seen.pardon();
        }
    }

    fn take_slot(&mut self, now: Instant, wish: Option<Wish>) -> Option<Grant<R>> {
        let draw = self.draw(now);
        let (slots, share) = (&self.slots, self.share);
        let wished = wish.and_then(|wish| balancer::affinity::pick(slots, draw, wish, self.bound(), share));
        let index = wished.or_else(|| match share {
            100 => balancer::pick(slots, draw, |_| true),
            share => balancer::pick_by_share(slots, draw, share),
        })?;
        Some(self.take(index))
    }

    fn draw(&mut self, now: Instant) -> Draw {
        self.chance = next_chance(self.chance);
        let fresh = now < self.fresh_until;
        let slow_start = if fresh { self.rules.balance.slow_start } else { Duration::ZERO };
        Draw { now, chance: self.chance, slow_start }
    }

    fn take(&mut self, index: usize) -> Grant<R> {
        let several = self.slots.len() > 1;
        let slot = &mut self.slots[index];
        slot.seen.take();
        self.in_flight += 1;
        let tried = self.circuit.as_ref().is_some_and(|circuit| circuit.is_tried());
        let probation = tried || slot.seen.out().is_some();
        let timed = slot.seen.is_unlimited() && (several || slot.seen.limit().is_some());
        Grant { slot: slot.key, replica: slot.replica.clone(), probation, timed }
    }

    /// Hands free slots to waiting requests, oldest first, until one or the other is used up.
    fn settle(&mut self, now: Instant) -> Grants<R, W> {
        let mut grants = Vec::new();
        while self.waiting > 0 {
            self.pass_over();
            let wish = self.queue.front().and_then(|first| first.wish);
            let Some(grant) = self.take_slot(now, wish) else { break };
            let first = self.queue.pop_front().expect("as many in the queue as are counted");
            self.note_wait(now, first.came);
            self.waiting -= 1;
            grants.push((first.waiter.expect("those who left are passed over"), grant));
        }
        self.measure(now);
        grants
    }

    /// Forgets tickets at the head of the queue that were given back.
    fn pass_over(&mut self) {
        while self.queue.front().is_some_and(|first| first.waiter.is_none()) {
            self.queue.pop_front();
        }
    }

    /// A wait is over, one way or the other.
    fn note_wait(&mut self, now: Instant, came: Option<Came>) {
        if let Some(Came { cold, .. }) = came.filter(|came| came.is_late(now, self.rules.late_after)) {
            self.meter.late(now, cold);
        }
    }

    /// How much more than the average a favourite may run.
    fn bound(&self) -> f64 {
        self.rules.balance.affinity.as_ref().map_or(f64::INFINITY, |affinity| affinity.bound)
    }

    fn count_waiting(&mut self, now: Instant, change: i32) {
        self.waiting = self.waiting.saturating_add_signed(change);
        self.measure(now);
    }

    fn count_arrived(&mut self, now: Instant) {
        self.budget.request(now);
        self.meter.arrived(now);
    }

    /// Whether it is an onlooker that gives its slot back.
    fn was_onlooker(&mut self) -> bool {
        let was = self.looked_away > 0;
        self.looked_away -= u32::from(was);
        was
    }

    fn measure(&mut self, now: Instant) {
        let running = self.in_flight - self.onlookers;
        self.meter.set(now, Level { waiting: self.waiting, running });
    }
}

/// One step of a 64-bit xorshift (Marsaglia 2003): chance enough for a balancer, and the same for the same seed.
pub(crate) fn next_chance(mut x: u64) -> u64 {
    x |= u64::from(x == 0);
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

#[cfg(test)]
mod tests {
    use tidegate_autoscaler::snapshot::Flow;
    use tidegate_config::model;

    use super::*;

    const LATE_AFTER: Duration = Duration::from_millis(500);

    impl Replica for &'static str {
        fn name(&self) -> u64 {
            balancer::affinity::hash(self.as_bytes())
        }
    }

    struct World {
        now: Instant,
        gate: Gate<&'static str, u32>,
        next: u32,
    }

    fn world(limit: usize) -> World {
        let now = crate::clock::now();
        let rules = Rules { queue: limit, late_after: LATE_AFTER, balance: model::Balance::default() };
        World { now, gate: Gate::new(now, rules, 1), next: 0 }
    }

    impl World {
        fn enter(&mut self) -> Entry<&'static str> {
            self.next += 1;
            let waiter = self.next;
            self.gate.enter(self.now, None, || waiter)
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

    fn left(w: &mut World, key: u64, report: Report) -> Vec<(u32, &'static str)> {
        named(w.gate.leave(w.now, SlotKey(key), report).grants)
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
        assert_eq!(left(&mut w, 1, Report::Unknown), [(3, "a")]);
        assert_eq!(left(&mut w, 1, Report::Unknown), []);
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
        let (_, left) = w.gate.swap(w.now, SlotKey(1), Report::Failed, || 99);
        assert_eq!(named(left.grants), [], "its only replica is suspended");
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
        assert_eq!(left(&mut w, 1, Report::Unknown), []);
        assert!(w.gate.is_drained(SlotKey(1)));
        assert_eq!(w.gate.remove(w.now, SlotKey(1)), []);
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
    fn a_failed_attempt_is_made_again_elsewhere_if_it_can_be() {
        let mut w = world(5);
        for (key, replica) in [(1, "a"), (2, "b")] {
            w.slots(key, replica, 1);
        }
        w.enter();
        let (_, left) = w.gate.swap(w.now, SlotKey(1), Report::Failed, || 99);
        assert_eq!(named(left.grants), [(99, "b")], "the oldest has just failed it");
        let (_, left) = w.gate.swap(w.now, SlotKey(2), Report::Failed, || 99);
        assert_eq!(named(left.grants), [(99, "a")]);
        assert_eq!(w.slots(2, "b", 0), []);
        let (_, left) = w.gate.swap(w.now, SlotKey(1), Report::Failed, || 99);
        assert_eq!(named(left.grants), [(99, "a")], "there is nobody else");
    }

    #[test]
    fn who_waits_gets_its_favourite_where_it_is_free() {
        let mut w = world(5);
        let b = Wish::Named("b".name());
        for waiter in [50, 51] {
            assert!(matches!(w.gate.enter(w.now, Some(b), || waiter), Entry::Queued(_)));
        }
        w.slots(1, "a", 0);
        assert_eq!(w.slots(2, "b", 1), [(50, "b")]);
        assert_eq!(w.slots(1, "a", 1), [(51, "a")], "nobody waits for a favourite");
        assert!(w.gate.serves("b".name()) && !w.gate.serves("c".name()));
    }

    #[test]
    fn a_second_slot_is_on_another_replica_and_takes_nobodys_turn() {
        let mut w = world(5);
        w.slots(1, "a", 3);
        w.enter();
        assert_eq!(w.gate.spare(w.now, SlotKey(1)), None, "there is no other");
        w.slots(2, "b", 1);
        assert_eq!(w.gate.spare(w.now, SlotKey(1)).map(|grant| grant.replica), Some("b"));
        assert_eq!(w.gate.counts(), (0, 2));
        assert_eq!(w.gate.spare(w.now, SlotKey(1)), None, "it is full");
        assert_eq!(left(&mut w, 2, Report::Unknown), []);
        for _ in 0..3 {
            w.enter();
        }
        w.ticket();
        assert_eq!(w.gate.spare(w.now, SlotKey(1)), None, "somebody waits");
    }

    /// Fails so often on a replica; tells until when it is ejected.
    fn fail(w: &mut World, key: u64, times: u32) -> Option<Instant> {
        (0..times).fold(None, |_, _| {
            w.gate.in_flight += 1;
            let at = w.gate.find(SlotKey(key)).expect("a slot");
            w.gate.slots[at].seen.in_flight += 1;
            w.gate.leave(w.now, SlotKey(key), Report::Failed).ejected
        })
    }

    #[test]
    fn who_fails_again_and_again_gets_nothing_and_then_one_request() {
        let mut w = world(5);
        for (key, replica) in [(1, "a"), (2, "b")] {
            w.slots(key, replica, 2);
        }
        assert_eq!(fail(&mut w, 1, 4), None);
        let until = fail(&mut w, 1, 1).expect("an ejection");
        assert_eq!(fail(&mut w, 2, 9), None, "the last one stays");
        for _ in 0..2 {
            assert!(matches!(w.enter(), Entry::Granted(grant) if grant.replica == "b"));
        }
        w.ticket();
        w.ticket();
        w.now = until;
        assert_eq!(named(w.gate.resume(w.now)), [(3, "a")], "one tries");
        let answers = Report::Answered { after: None, how: balancer::Answer::Good };
        assert_eq!(left(&mut w, 1, answers), [(4, "a")]);
    }

    #[test]
    fn where_others_go_the_ejected_come_back() {
        let mut w = world(5);
        for (key, replica) in [(1, "a"), (2, "b")] {
            w.slots(key, replica, 1);
        }
        fail(&mut w, 1, 5).expect("an ejection");
        w.enter();
        w.ticket();
        assert_eq!(w.slots(2, "b", 0), [(w.next, "a")]);
    }

    #[test]
    fn demand_is_measured_where_it_changes() {
        let mut w = world(5);
        w.slots(1, "a", 1);
        w.enter();
        w.ticket();
        w.now += Duration::from_secs(1);
        let sample = w.gate.sample(w.now);
        let Demand { in_flight, queued, idle_since, samples, .. } = sample.demand;
        assert_eq!((in_flight, queued, idle_since), (1, 1, None));
        assert_eq!(samples, [2.0]);
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
        assert_eq!(w.gate.sample(w.now).demand.in_flight, 0);
        assert_eq!(w.slots(1, "a", 0), []);
        assert!(!w.gate.is_drained(SlotKey(1)), "and yet it is not cut off");
        w.gate.look_away();
        assert_eq!(left(&mut w, 1, Report::Unknown), []);
        assert!(w.gate.is_drained(SlotKey(1)));
        assert_eq!((w.gate.idle_since(), w.gate.counts()), (idle, (0, 0)));
        w.now += Duration::from_secs(1);
        let went = w.gate.sample(w.now).demand.flow;
        assert!(
            went.iter().all(|second| (second.arrived, second.ended) == (0, 0)),
            "nor is it work: {went:?}"
        );
    }

    #[test]
    fn who_comes_and_ends_is_counted_once() {
        let mut w = world(5);
        w.slots(1, "a", 1);
        w.enter();
        w.ticket();
        assert_eq!(w.gate.sample(w.now).demand.arriving, 2, "who waits has come too");
        left(&mut w, 1, Report::Unknown);
        w.now += Duration::from_secs(1);
        let went = w.gate.sample(w.now).demand.flow;
        assert_eq!(went.iter().map(|second| (second.arrived, second.ended)).collect::<Vec<_>>(), [(2, 1)]);
    }

    #[test]
    fn who_waits_longer_than_is_borne_is_late_however_it_ends() {
        let mut w = world(10);
        let came = w.now;
        // Before any replica serves: one leaves in time, one does not, one gets its slot late.
        let tickets = [w.ticket(), w.ticket(), w.ticket()];
        w.gate.cancel(came + LATE_AFTER, tickets[0]);
        w.now = came + 2 * LATE_AFTER;
        w.gate.cancel(w.now, tickets[1]);
        w.slots(1, "a", 1);
        // While one serves: one is in time, the other is not, and an attempt that failed is nobody's wait.
        w.ticket();
        w.now += LATE_AFTER;
        left(&mut w, 1, Report::Unknown);
        w.ticket();
        w.now += 2 * LATE_AFTER;
        let (_, failed) = w.gate.swap(w.now, SlotKey(1), Report::Failed, || 99);
        assert_eq!(named(failed.grants), [(99, "a")]);
        w.now += 2 * LATE_AFTER;
        w.slots(1, "a", 0);
        left(&mut w, 1, Report::Unknown);
        w.gate.close(w.now);
        w.now += Duration::from_secs(1);
        let flow = w.gate.sample(w.now).demand.flow;
        let sum = |of: fn(&Flow) -> u32| flow.iter().map(of).sum::<u32>();
        assert_eq!((sum(|second| second.late), sum(|second| second.cold)), (3, 2), "{flow:?}");
    }

    #[test]
    fn who_finds_the_queue_full_came_and_was_late() {
        let mut w = world(1);
        w.slots(1, "a", 1);
        w.enter();
        w.ticket();
        assert_eq!(w.enter(), Entry::Full);
        w.now += Duration::from_secs(1);
        let flow = w.gate.sample(w.now).demand.flow;
        let counted: Vec<_> = flow.iter().map(|second| (second.arrived, second.late, second.cold)).collect();
        assert_eq!(counted, [(3, 1, 0)]);
    }
}
