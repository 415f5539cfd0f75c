//! What must hold after every event, whatever the scenario. Keeps its own books from notes; asks the world only for the
//! gate's counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tidegate::simulate::{
    record::{Note, Outcome, RequestId},
    world::{Step, World},
};
use tidegate_autoscaler::Phase;
use tidegate_config::{
    model::{Idle, Law},
    name::{ReplicaId, ServiceName},
};

use super::{
    rules,
    shadow::{Check, Shadow, ensure},
};

/// The books of a whole world.
#[derive(Debug)]
pub struct Checks {
    shadows: BTreeMap<ServiceName, Shadow>,
    of_request: Vec<ServiceName>,
    ended: BTreeSet<RequestId>,
    started: BTreeSet<ReplicaId>,
    running: BTreeSet<ReplicaId>,
    /// The first gateway has started.
    begun: bool,
    /// When a replica failed before it had proved itself, per service.
    failed: BTreeMap<ServiceName, Instant>,
    ready_since: BTreeMap<ReplicaId, Instant>,
    /// When anything was last done or changed a phase, but for services that have learned when the last replica goes.
    pub moved: Duration,
    /// Decisions looked at.
    pub looked: u64,
}

impl Checks {
    /// Books of a world at its beginning.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let of_request: Vec<ServiceName> = world.requests().map(|request| request.service.clone()).collect();
        let names: BTreeSet<ServiceName> = world.figures().into_keys().collect();
        let origin = world.at(Duration::ZERO);
        Self {
            shadows: names.into_iter().map(|name| (name, Shadow::new(origin))).collect(),
            of_request,
            ended: BTreeSet::new(),
            started: BTreeSet::new(),
            running: BTreeSet::new(),
            begun: false,
            failed: BTreeMap::new(),
            ready_since: BTreeMap::new(),
            moved: Duration::ZERO,
            looked: 0,
        }
    }

    /// Takes a step into the books and checks what must hold.
    ///
    /// # Errors
    /// What does not hold.
    pub fn after(&mut self, world: &World, step: &Step) -> Check {
        let now = world.at(step.at);
        for (index, note) in step.notes.iter().enumerate() {
            let next = step.notes.get(index + 1);
            self.note(world, note, next, step.at, now)?;
        }
        for (name, shadow) in &mut self.shadows {
            shadow.at_rest(world.counts(name), now).map_err(|what| format!("{name}: {what}"))?;
        }
        Ok(())
    }

    fn note(&mut self, world: &World, note: &Note, next: Option<&Note>, at: Duration, now: Instant) -> Check {
        match note {
            Note::GatewayStarted => self.gateway_started(now),
            Note::Evaluated(looked) => {
                self.looked += 1;
                let name = &looked.seen.service.name;
                self.shadow(name)?.seen(&looked.seen)?;
                rules::hold(looked, self.failed.get(name).copied())
            }
            Note::Phase(id, from, to) => {
                self.moves(world, id, at);
                self.remember_failure(id, from.as_ref(), to, now);
                let drain = world.settings(id.service()).map_or(Duration::ZERO, |s| s.scaling.drain);
                self.shadow(id.service())?.phase(id, from.as_ref(), to, drain, now)
            }
            Note::Slots(id, capacity) => {
                self.shadow(id.service())?.slots(id, *capacity);
                Ok(())
            }
            Note::Suspended(id, until) => {
                self.shadow(id.service())?.suspended(id, Some(*until));
                Ok(())
            }
            Note::Out(id, out) => self.shadow(id.service())?.out(id, *out),
            Note::Learned(id, limit) => {
                self.shadow(id.service())?.learned(id, *limit);
                Ok(())
            }
            Note::Resumed(id) => {
                self.shadow(id.service())?.suspended(id, None);
                Ok(())
            }
            Note::Waits(request) => self.of(*request)?.waits(*request, now),
            Note::WaitsNoMore(request) => {
                let granted = matches!(next, Some(Note::Granted(who, _)) if who == request);
                self.of(*request)?.waits_no_more(*request, now, granted)
            }
            Note::Granted(request, replica) => self.of(*request)?.granted(*request, replica, now),
            Note::GaveBack(request, replica) => self.of(*request)?.gave_back(*request, replica, now),
            Note::Ended(request, outcome) => self.ended(*request, outcome),
            Note::Called(_, what, id) => {
                id.iter().for_each(|id| self.moves(world, id, at));
                let again =
                    *what == "start" && id.as_ref().is_some_and(|id| !self.started.insert(id.clone()));
                ensure(!again, || format!("{id:?} is started twice"))
            }
            Note::Container(id, true) => {
                ensure(self.running.insert(id.clone()), || format!("{id} runs twice"))
            }
            Note::Container(id, false) => {
                ensure(self.running.remove(id), || format!("{id} ends and did not run"))
            }
            Note::Acted(_) => Ok(()),
        }
    }

    /// Everything that was on its way has been lost; every book begins anew. The first start is at the beginning.
    fn gateway_started(&mut self, now: Instant) -> Check {
        for shadow in self.shadows.values_mut().filter(|_| self.begun) {
            *shadow = Shadow::new(now);
        }
        self.begun = true;
        self.failed.clear();
        Ok(())
    }

    fn remember_failure(&mut self, id: &ReplicaId, from: Option<&Phase>, to: &Phase, now: Instant) {
        match to {
            Phase::Ready if from == Some(&Phase::Starting) => drop(self.ready_since.insert(id.clone(), now)),
            Phase::Failed(_) => {
                let proven = Duration::from_secs(10);
                let ready = self.ready_since.get(id).is_some_and(|since| *since + proven <= now);
                if !ready {
                    self.failed.insert(id.service().clone(), now);
                }
            }
            Phase::Ready
            | Phase::Starting
            | Phase::Draining
            | Phase::Freezing
            | Phase::Frozen
            | Phase::Thawing
            | Phase::Stopping
            | Phase::Stopped
            | Phase::Lost
            | Phase::Gone => {}
        }
    }

    fn ended(&mut self, request: RequestId, outcome: &Outcome) -> Check {
        ensure(self.ended.insert(request), || format!("{request:?} ends twice"))?;
        let open = self.of(request)?.has(request);
        ensure(!open || *outcome == Outcome::Lost, || format!("{request:?} ended and still has a place"))
    }

    fn of(&mut self, request: RequestId) -> Result<&mut Shadow, String> {
        let name = self.of_request.get(request.0 as usize).ok_or("an unknown request")?;
        self.shadows.get_mut(name).ok_or_else(|| format!("unknown service {name}"))
    }

    fn shadow(&mut self, name: &ServiceName) -> Result<&mut Shadow, String> {
        self.shadows.get_mut(name).ok_or_else(|| format!("unknown service {name}"))
    }

    /// Something happens to a replica.
    fn moves(&mut self, world: &World, id: &ReplicaId, at: Duration) {
        if !learns(world, id.service()) {
            self.moved = at;
        }
    }

    /// What must hold once the load has ended and nothing is broken any more. `tight`: there may be no room for all.
    ///
    /// # Errors
    /// What does not hold.
    pub fn at_the_end(&self, world: &World, still_from: Duration, tight: bool) -> Check {
        ensure(self.moved < still_from, || format!("something still happens at {:?}", self.moved))?;
        let open = world.requests().find(|request| request.end.is_none());
        ensure(open.is_none(), || format!("never ended: {open:?}"))?;
        let at_rest = |id: &&ReplicaId| !learns(world, id.service());
        let members: BTreeSet<&ReplicaId> = world.members().filter(at_rest).collect();
        let containers: BTreeSet<&ReplicaId> = world.containers().filter(at_rest).collect();
        ensure(members == containers, || format!("in the books {members:?}, on the hosts {containers:?}"))?;
        for name in self.shadows.keys() {
            let scaling = world.settings(name).map(|settings| &settings.scaling);
            let (min, max) = scaling.map_or((0, 0), |scaling| (scaling.min as usize, scaling.max as usize));
            let most = if learns(world, name) { max } else { min };
            let own = world.members().filter(|id| id.service() == name).count();
            ensure((min..=most).contains(&own) || (tight && own < min), || {
                format!("{name} ends with {own} replicas, its minimum is {min}")
            })?;
        }
        Ok(())
    }
}

/// Whether a service has learned when its last replica goes and when surges come back: it may keep one for hours, or start some.
fn learns(world: &World, name: &ServiceName) -> bool {
    let scaling = world.settings(name).map(|settings| &settings.scaling);
    scaling.is_some_and(|scaling| (scaling.law, scaling.idle) == (Law::Work, Idle::Auto))
}
