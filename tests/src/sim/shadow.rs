//! A second, independent book of one service's gate, kept from notes alone, and what must agree with it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use tidegate::{fleet::balancer::Out, simulate::record::RequestId};
use tidegate_autoscaler::{Phase, Snapshot};
use tidegate_config::name::ReplicaId;

/// What went wrong, in words.
pub type Check = Result<(), String>;

/// Fails with a message unless something holds.
pub fn ensure(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message()) }
}

/// One service's book.
#[derive(Debug)]
pub struct Shadow {
    queue: VecDeque<RequestId>,
    running: BTreeMap<RequestId, ReplicaId>,
    slots: BTreeMap<ReplicaId, Slot>,
    pub(super) phases: BTreeMap<ReplicaId, (Phase, Instant)>,
    /// The request that gave its slot back last: if it waits next, it waits at the head.
    swapping: Option<RequestId>,
    /// Demand since the last whole second that was sampled.
    from: Instant,
    levels: Vec<(Instant, u32)>,
    /// Since when there has been none; `None` while there is some.
    idle_since: Option<Instant>,
    /// When requests ended pauses, with each of which a second begins,
    begins: VecDeque<Instant>,
    /// and what was left out before them.
    left_out: Duration,
}

const SECOND: Duration = Duration::from_secs(1);
/// After so long the next request begins a second, and so does the first one.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Slot {
    capacity: u32,
    suspended_until: Option<Instant>,
    out: Option<Out>,
    learned: Option<u32>,
}

impl Slot {
    /// Whether it may run one more than so many.
    fn has_room(&self, running: u32) -> bool {
        running < self.capacity && self.learned.is_none_or(|most| running < most)
    }

    /// Whether it is neither suspended nor ejected.
    fn is_open(&self, reached: impl Fn(Instant) -> bool) -> bool {
        let ejected = match self.out {
            None => false,
            Some(Out::Until(until)) => !reached(until),
            Some(Out::Tried) => true,
        };
        !ejected && self.suspended_until.is_none_or(reached)
    }
}

impl Shadow {
    /// The book of a gate that is made now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            slots: BTreeMap::new(),
            phases: BTreeMap::new(),
            swapping: None,
            from: now,
            levels: vec![(now, 0)],
            idle_since: now.checked_sub(PAUSE),
            begins: VecDeque::new(),
            left_out: Duration::ZERO,
        }
    }

    /// Requests on their way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }

    /// Whether a request waits or runs.
    #[must_use]
    pub fn has(&self, request: RequestId) -> bool {
        self.running.contains_key(&request) || self.queue.contains(&request)
    }

    /// Requests that run on a replica.
    #[must_use]
    pub fn in_flight(&self, replica: &ReplicaId) -> u32 {
        u32::try_from(self.running.values().filter(|on| *on == replica).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn phase(
        &mut self,
        id: &ReplicaId,
        from: Option<&Phase>,
        to: &Phase,
        drain: Duration,
        now: Instant,
    ) -> Check {
        let known = self.phases.get(id);
        ensure(known.map(|(phase, _)| phase) == from, || format!("{id} was {known:?}, not {from:?}"))?;
        if let (Some((Phase::Draining, since)), Phase::Stopping) = (known, to) {
            let left = self.in_flight(id);
            ensure(left == 0 || *since + drain <= now, || format!("{id} is stopped with {left} requests"))?;
        }
        ensure(!(from == Some(&Phase::Ready) && *to == Phase::Stopping), || {
            format!("{id} is stopped undrained")
        })?;
        if *to == Phase::Gone {
            self.phases.remove(id);
        } else {
            self.phases.insert(id.clone(), (to.clone(), now));
        }
        Ok(())
    }

    pub(super) fn slots(&mut self, id: &ReplicaId, capacity: Option<u32>) {
        match capacity {
            Some(capacity) => self.slots.entry(id.clone()).or_default().capacity = capacity,
            None => drop(self.slots.remove(id)),
        }
    }

    pub(super) fn suspended(&mut self, id: &ReplicaId, until: Option<Instant>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.suspended_until = until;
        }
    }

    pub(super) fn out(&mut self, id: &ReplicaId, out: Option<Out>) -> Check {
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        slot.out = out;
        let serving = self.slots.values().filter(|slot| slot.capacity > 0);
        let ejected = serving.clone().filter(|slot| slot.out.is_some()).count();
        let serving = serving.count();
        ensure(ejected == 0 || ejected < serving, || format!("all {serving} that serve are ejected"))
    }

    pub(super) fn learned(&mut self, id: &ReplicaId, limit: Option<u32>) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.learned = limit;
        }
    }

    pub(super) fn waits(&mut self, request: RequestId, now: Instant) -> Check {
        ensure(!self.has(request), || format!("{request:?} waits twice"))?;
        match self.swapping.take() {
            Some(swapping) if swapping == request => self.queue.push_front(request),
            Some(_) | None => self.queue.push_back(request),
        }
        self.level(now);
        Ok(())
    }

    /// A request waits no more; `granted`: because it is its turn.
    pub(super) fn waits_no_more(&mut self, request: RequestId, now: Instant, granted: bool) -> Check {
        let place = self.queue.iter().position(|waiting| *waiting == request);
        ensure(place.is_some(), || format!("{request:?} did not wait"))?;
        ensure(!granted || place == Some(0), || format!("{request:?} goes before {:?}", self.queue.front()))?;
        self.queue.retain(|waiting| *waiting != request);
        self.level(now);
        Ok(())
    }

    pub(super) fn granted(&mut self, request: RequestId, replica: &ReplicaId, now: Instant) -> Check {
        let phase = self.phases.get(replica).map(|(phase, _)| phase);
        ensure(phase == Some(&Phase::Ready), || {
            format!("{request:?} is sent to {replica}, which is {phase:?}")
        })?;
        let running = self.in_flight(replica);
        let slot = self.slots.get(replica);
        ensure(slot.is_some_and(|slot| slot.has_room(running)), || {
            format!("{replica} runs {running} and gets {request:?}: {slot:?}")
        })?;
        let tried = slot.is_some_and(|slot| slot.out == Some(Out::Tried));
        let open = tried || slot.is_some_and(|slot| slot.is_open(|until| until <= now));
        ensure(open, || format!("{replica} is out and gets {request:?}: {slot:?}"))?;
        ensure(!self.has(request), || format!("{request:?} has two places"))?;
        self.running.insert(request, replica.clone());
        self.level(now);
        Ok(())
    }

    pub(super) fn gave_back(&mut self, request: RequestId, replica: &ReplicaId, now: Instant) -> Check {
        let held = self.running.remove(&request);
        self.swapping = Some(request);
        self.level(now);
        ensure(held.as_ref() == Some(replica), || {
            format!("{request:?} gives back {replica} but held {held:?}")
        })
    }

    /// What holds between two events.
    pub(super) fn at_rest(&mut self, counts: (u32, u32), now: Instant) -> Check {
        self.swapping = None;
        let own = (count(self.queue.len()), count(self.running.len()));
        ensure(counts == own, || {
            format!("the gate counts {counts:?} (waiting, running), there are {own:?}")
        })?;
        for (id, slot) in &self.slots {
            let phase = self.phases.get(id).map(|(phase, _)| phase);
            ensure(slot.capacity == 0 || phase == Some(&Phase::Ready), || {
                format!("{id} has slots and is {phase:?}")
            })?;
        }
        if self.queue.is_empty() {
            return Ok(());
        }
        for (id, slot) in &self.slots {
            // At the very instant when a suspension ends, its end may be the next event.
            let free = slot.is_open(|until| until < now) && slot.has_room(self.in_flight(id));
            ensure(!free, || format!("{:?} wait although {id} is free: {slot:?}", self.queue.front()))?;
        }
        Ok(())
    }

    /// What a decision sees of the gate.
    pub(super) fn seen(&mut self, seen: &Snapshot) -> Check {
        let own = (count(self.queue.len()), count(self.running.len()));
        let counts = (seen.queued(), seen.in_flight());
        ensure(counts == own, || {
            format!("a decision sees {counts:?} (waiting, running), there are {own:?}")
        })?;
        for replica in &seen.replicas {
            let known = self.phases.get(&replica.id).map(|(phase, _)| phase);
            ensure(known == Some(&replica.phase), || {
                format!("{} seen as {:?}, is {known:?}", replica.id, replica.phase)
            })?;
            if self.slots.contains_key(&replica.id) {
                let (found, right) = (replica.in_flight, self.in_flight(&replica.id));
                ensure(found == right, || format!("{} seen with {found}, runs {right}", replica.id))?;
            }
        }
        let samples = &seen.demand[0].samples;
        for (index, sample) in samples.iter().enumerate() {
            let right = self.second();
            ensure((sample - right).abs() < 1e-6, || format!("sample {index} of {samples:?} is {right}"))?;
        }
        let missing = self.begin_anew().is_some() || self.from + SECOND <= seen.now;
        ensure(!missing, || format!("a sample is missing: {samples:?}"))
    }

    fn level(&mut self, now: Instant) {
        let level = count(self.queue.len() + self.running.len());
        self.levels.push((now, level));
        if level == 0 {
            self.idle_since.get_or_insert(now);
        } else if self.idle_since.take().is_some_and(|since| since + PAUSE <= now) {
            self.begins.push_back(now);
        }
    }

    /// The idle second that those make together which were not over when a pause was, if they do.
    fn begin_anew(&mut self) -> Option<f64> {
        let begins = *self.begins.front().filter(|begins| **begins < self.from + SECOND)?;
        self.begins.pop_front();
        self.left_out += begins - self.from;
        self.from = begins;
        self.left_out = self.left_out.checked_sub(SECOND)?;
        Some(0.0)
    }

    /// Average demand of the next second.
    fn second(&mut self) -> f64 {
        if let Some(idle) = self.begin_anew() {
            return idle;
        }
        let (from, to) = (self.from, self.from + SECOND);
        let ends = self.levels.iter().skip(1).map(|(at, _)| *at).chain([to]);
        let parts = self.levels.iter().zip(ends).map(|((at, level), end)| {
            let span = end.min(to).saturating_duration_since((*at).max(from));
            f64::from(*level) * span.as_secs_f64()
        });
        let area = parts.sum();
        let past = self.levels.iter().take_while(|(at, _)| *at <= to).count();
        self.levels.drain(..past.saturating_sub(1));
        self.from = to;
        area
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
