//! Other gateways that serve the same replicas (an older process that finishes its requests; later more): what they run
//! and have waiting comes in as [`Said`], what is ready goes out as a [`ReadySet`]. Level-triggered: each set is whole.
//! Holds: a replica's hard limit is never exceeded by all gateways together; nothing is stopped that one still uses.
//! Absent: sockets ([`handover`](crate::handover)'s), decisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tidegate_autoscaler::{
    Decision, Phase,
    refuse::{Refuse, RefuseReason},
    snapshot::Demand,
};
use tidegate_config::name::{ReplicaId, ServiceName};
use tokio::sync::{oneshot, watch};

use super::{
    Control, Ended, Handle, Loop, event::Event, member::Member, outside::Outside, publish, state::State,
};
use crate::{
    clock,
    handover::{
        share::{self, Loan},
        wire::{Closed, Demands, ReadySet, ReplicaReady, ServiceDemand, ServiceReady, Why},
    },
};

/// Samples that are kept for a service that nobody looks at: the longest stable window, one hour.
const KEPT: usize = 3600;

/// What a gateway may use that has not heard of any share yet.
const EVERYTHING: Loan = Loan { share: 0, held: u32::MAX, in_flight: 0 };

/// How long engine calls that are under way may take before the loop stands still without their ends.
const CALLS_WITHIN: Duration = Duration::from_secs(5);

/// A connection to another gateway: its generation, and a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId {
    pub(crate) generation: u64,
    pub(crate) number: u64,
}

/// What other gateways say.
#[derive(Debug)]
pub(crate) enum Said {
    /// One has come; it wants to know what is ready.
    Joined(LinkId, watch::Sender<ReadySet>),
    /// What it runs and has waiting.
    Told(LinkId, Demands),
    /// It has gone, and with it all that it ran.
    Left(LinkId),
    /// One of this generation is to come; what it runs is not known before.
    Expected(u64),
    /// Whether what an earlier start left is known by now.
    Known(oneshot::Sender<Known>),
}

/// What is known of what an earlier start left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// No engine has answered.
    Nothing,
    /// Some engines have not, or some replicas are still being probed.
    Some,
    /// All of it.
    All,
}

/// The gateways that serve the same replicas.
#[derive(Debug, Default)]
pub(super) struct Peers {
    links: BTreeMap<LinkId, Link>,
    /// The generation of one that is to come.
    expected: Option<u64>,
}

#[derive(Debug)]
struct Link {
    to: watch::Sender<ReadySet>,
    /// Replicas on which it runs something, of whatever service.
    busy: BTreeSet<ReplicaId>,
    /// A set of ours is in force there. Before, it may use every slot.
    begun: bool,
}

/// One service at the other gateways.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    parts: BTreeMap<LinkId, Part>,
    refuse: Option<Refuse>,
    late: Option<Refuse>,
}

#[derive(Debug)]
struct Part {
    demand: Demand,
    loans: BTreeMap<ReplicaId, Loan>,
    /// See [`Link::begun`].
    begun: bool,
}

impl Elsewhere {
    /// What the gate was told, to be told there too.
    pub(super) fn note(&mut self, decision: &Decision) {
        (self.refuse, self.late) = (decision.refuse.clone(), decision.late.clone());
    }

    /// The demand of each gateway, with as many samples as this one has: seconds that have not been told yet are taken
    /// to be like now, so that one second here is one second everywhere.
    pub(super) fn demand(&mut self, seconds: usize) -> Vec<Demand> {
        let take = |part: &mut Part| {
            let rest = part.demand.samples.split_off(seconds.min(part.demand.samples.len()));
            let mut demand = Demand { samples: Vec::new(), ..part.demand.clone() };
            demand.samples = std::mem::replace(&mut part.demand.samples, rest);
            let level = f64::from(demand.in_flight + demand.queued);
            demand.samples.resize(seconds, level);
            demand
        };
        self.parts.values_mut().map(take).collect()
    }

    /// What others run on a replica. One that drains counts as used until they have heard that it does.
    pub(super) fn in_flight_of(&self, member: &Member) -> u32 {
        let in_use = |part: &Part| {
            let loan = part.loan(&member.id);
            let maybe = member.phase == Phase::Draining && loan.is_out();
            loan.in_flight.max(u32::from(maybe))
        };
        self.parts.values().map(in_use).fold(0, u32::saturating_add)
    }

    /// Takes in what one gateway tells; true if it is something new. `in_force`: it has applied all that it was told.
    fn heard(&mut self, link: LinkId, told: Option<ServiceDemand>, in_force: bool, now: Instant) -> bool {
        let part = self.parts.entry(link).or_insert_with(|| Part::new(now));
        let before = part.level();
        let told = told.unwrap_or_else(|| part.idle(now));
        for id in told.replicas.keys() {
            part.loans.entry(id.clone()).or_default();
        }
        for (id, loan) in &mut part.loans {
            loan.heard(told.replicas.get(id).copied().unwrap_or(0), in_force);
        }
        part.loans.retain(|_, loan| *loan != Loan::default());
        part.begun |= in_force;
        let ago = |ms: u64| now.checked_sub(Duration::from_millis(ms)).unwrap_or(now);
        let demand = &mut part.demand;
        (demand.in_flight, demand.queued) = (told.in_flight, told.queued);
        demand.idle_since = told.idle_ms.map(ago);
        demand.samples.extend(told.seconds.into_iter().take(KEPT));
        let old = demand.samples.len().saturating_sub(KEPT);
        demand.samples.drain(..old);
        before != part.level()
    }

    /// What the followers want and hold of one replica; `waiting` is what each has waiting and is counted down.
    fn wishes(&self, id: &ReplicaId, limit: u32, waiting: &mut BTreeMap<LinkId, u32>) -> Vec<(u32, Loan)> {
        let wish = |(link, waiting): (&LinkId, &mut u32)| {
            let loan = self.parts.get(link).map_or(EVERYTHING, |part| part.loan(id));
            (share::wanted(limit, loan.in_flight, waiting), loan)
        };
        waiting.iter_mut().map(wish).collect()
    }

    fn waiting(&self, links: &[LinkId]) -> BTreeMap<LinkId, u32> {
        let queued = |link| self.parts.get(link).map_or(0, |part: &Part| part.demand.queued);
        links.iter().map(|link| (*link, queued(link))).collect()
    }

    /// A set with these shares is being sent.
    fn lent(&mut self, link: LinkId, replicas: &[ReplicaReady], now: Instant) {
        let loans = &mut self.parts.entry(link).or_insert_with(|| Part::new(now)).loans;
        loans.retain(|id, _| replicas.iter().any(|ready| ready.id == *id));
        for ready in replicas {
            loans.entry(ready.id.clone()).or_default().sent(ready.share);
        }
    }
}

impl Part {
    fn new(now: Instant) -> Self {
        Self { demand: Demand::none(now), loans: BTreeMap::new(), begun: false }
    }

    fn loan(&self, id: &ReplicaId) -> Loan {
        let loan = self.loans.get(id).copied().unwrap_or_default();
        if self.begun { loan } else { Loan { held: EVERYTHING.held, ..loan } }
    }

    fn level(&self) -> (u32, u32, u32) {
        let running = self.loans.values().map(|loan| loan.in_flight).sum();
        (self.demand.in_flight, self.demand.queued, running)
    }

    /// What a service says that is not named because nothing happens to it.
    fn idle(&self, now: Instant) -> ServiceDemand {
        let since = self.demand.idle_since.unwrap_or(now);
        let ms = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
        ServiceDemand { idle_ms: Some(ms), ..ServiceDemand::default() }
    }
}

impl Control {
    pub(super) fn peer_said(&mut self, said: Said) {
        match said {
            Said::Joined(link, to) => {
                tracing::info!(generation = link.generation, "another gateway serves on beside this one");
                self.peers.links.insert(link, Link { to, busy: BTreeSet::new(), begun: false });
                let now = clock::now();
                for state in self.states.values_mut() {
                    state.elsewhere.parts.insert(link, Part::new(now));
                }
            }
            Said::Expected(generation) => self.peers.expected = Some(generation),
            Said::Told(link, demands) => self.peer_told(link, demands),
            Said::Left(link) => self.peer_left(link),
            // Whoever asked may have gone.
            Said::Known(reply) => drop(reply.send(self.known())),
        }
    }

    fn peer_told(&mut self, link: LinkId, mut demands: Demands) {
        let Some(known) = self.peers.links.get_mut(&link) else { return };
        let in_force = demands.seq > 0 && demands.seq == known.to.borrow().seq;
        known.begun |= in_force;
        known.busy = demands.services.values().flat_map(|told| told.replicas.keys().cloned()).collect();
        let now = clock::now();
        let mut changed = Vec::new();
        for (name, state) in &mut self.states {
            if state.elsewhere.heard(link, demands.services.remove(name), in_force, now) {
                changed.push(name.clone());
            }
        }
        for id in &demands.suspects {
            self.probe_suspect(id);
        }
        self.evaluate_each(changed, false);
    }

    fn peer_left(&mut self, link: LinkId) {
        if self.peers.links.remove(&link).is_none() {
            return;
        }
        self.peers.expected = self.peers.expected.filter(|generation| *generation != link.generation);
        tracing::info!(generation = link.generation, "the other gateway has gone");
        for state in self.states.values_mut() {
            state.elsewhere.parts.remove(&link);
            lend(state, &[]);
        }
        let names: Vec<ServiceName> = self.states.keys().cloned().collect();
        self.evaluate_each(names, false);
    }

    fn known(&self) -> Known {
        let probing = |state: &State| {
            state.members.values().any(|member| member.phase == Phase::Starting && member.adopted)
        };
        let silent = !self.engines.is_empty() && self.engines.iter().all(|engine| !engine.is_up());
        let expected = |generation| {
            !self.peers.links.iter().any(|(link, known)| link.generation == generation && known.begun)
        };
        let missing = self.peers.expected.is_some_and(expected);
        let outside = self.outside.values().all(Outside::is_settled);
        match self.unlisted.is_empty() && outside && !missing && !self.states.values().any(probing) {
            _ if silent => Known::Nothing,
            true => Known::All,
            false => Known::Some,
        }
    }

    /// Whether another gateway still runs something on a replica, which is then not to be removed as a stranger.
    pub(super) fn is_busy_elsewhere(&self, id: &ReplicaId) -> bool {
        self.peers.links.values().any(|link| link.busy.contains(id))
    }

    /// Tells every other gateway what is ready, if that has changed.
    pub(super) fn tell_peers(&mut self) {
        if self.peers.links.is_empty() {
            return;
        }
        let (now, complete) = (clock::now(), self.known() == Known::All);
        let links: Vec<LinkId> = self.peers.links.keys().copied().collect();
        let mut sets: BTreeMap<LinkId, BTreeMap<ServiceName, ServiceReady>> = BTreeMap::new();
        for (name, state) in &mut self.states {
            for (link, replicas) in links.iter().zip(lend(state, &links)) {
                let closed = state.elsewhere.refuse.as_ref().map(|refuse| closed(refuse, now));
                let late = state.elsewhere.late.as_ref().map(closed_for_good);
                sets.entry(*link).or_default().insert(name.clone(), ServiceReady { replicas, closed, late });
            }
        }
        for (link, services) in sets {
            self.tell_peer(link, complete, services, now);
        }
    }

    fn tell_peer(
        &mut self,
        link: LinkId,
        complete: bool,
        services: BTreeMap<ServiceName, ServiceReady>,
        now: Instant,
    ) {
        let Some(known) = self.peers.links.get(&link) else { return };
        let seq = {
            let last = known.to.borrow();
            if last.seq > 0 && last.complete == complete && same(&last.services, &services) {
                return;
            }
            last.seq + 1
        };
        for (name, ready) in &services {
            if let Some(state) = self.states.get_mut(name) {
                state.elsewhere.lent(link, &ready.replicas, now);
            }
        }
        known.to.send_replace(ReadySet { generation: self.generation, seq, complete, services });
    }
}

/// Whether two sets say the same; the time that is left until another try passes by itself.
fn same(a: &BTreeMap<ServiceName, ServiceReady>, b: &BTreeMap<ServiceName, ServiceReady>) -> bool {
    let cause = |closed: &Option<Closed>| closed.as_ref().map(|closed| (closed.why, closed.cause.clone()));
    let alike = |a: &ServiceReady, b: &ServiceReady| {
        a.replicas == b.replicas && cause(&a.closed) == cause(&b.closed) && a.late == b.late
    };
    a.len() == b.len() && a.iter().zip(b).all(|((name, a), (other, b))| name == other && alike(a, b))
}

/// Divides each replica's slots between this gateway and the others; their shares, in the order of `links`.
fn lend(state: &mut State, links: &[LinkId]) -> Vec<Vec<ReplicaReady>> {
    let limit = publish::capacity(&state.fleet);
    let mut waiting = state.elsewhere.waiting(links);
    let mut ready = vec![Vec::new(); links.len()];
    for member in state.members.values_mut() {
        let (Some(replica), Some(address)) = (&member.replica, member.address) else { continue };
        let serving = member.phase == Phase::Ready && !member.suspected;
        let shares = match limit {
            _ if !serving => vec![0; links.len()],
            u32::MAX => vec![u32::MAX; links.len()],
            limit => {
                let wishes = state.elsewhere.wishes(&member.id, limit, &mut waiting);
                let own = share::own(limit, &wishes);
                if member.lent != limit - own {
                    member.lent = limit - own;
                    state.fleet.set_slots(member.slot, replica, own);
                }
                share::shares(limit, own, state.fleet.in_flight_of(member.slot), &wishes)
            }
        };
        // One that is being stopped is left out: what others still run there is closed.
        if matches!(member.phase, Phase::Stopping) {
            continue;
        }
        let protocol = member.settings.launch.protocol;
        for (ready, share) in ready.iter_mut().zip(shares) {
            ready.push(ReplicaReady { id: member.id.clone(), address, protocol, share });
        }
    }
    ready
}

fn closed(refuse: &Refuse, now: Instant) -> Closed {
    let left =
        |until: Instant| u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
    Closed { retry_ms: refuse.until.map(left), ..closed_for_good(refuse) }
}

fn closed_for_good(refuse: &Refuse) -> Closed {
    let why = match refuse.why {
        RefuseReason::StartFailed => Why::StartFailed,
        RefuseReason::CrashLooping => Why::CrashLooping,
        RefuseReason::OutOfResources => Why::OutOfResources,
        RefuseReason::NoCapacity => Why::NoCapacity,
        RefuseReason::Pulling => Why::Pulling,
    };
    Closed { why, cause: refuse.cause.clone(), retry_ms: None }
}

impl Handle {
    /// Hands on what another gateway says.
    ///
    /// # Errors
    /// When the loop has ended.
    pub(crate) async fn peer(&self, said: Said) -> Result<(), Ended> {
        self.events.send(Event::Peer(said)).await.map_err(|_| Ended)
    }

    /// What is known of what an earlier start left.
    ///
    /// # Errors
    /// When the loop has ended.
    pub(crate) async fn known(&self) -> Result<Known, Ended> {
        let (reply, answer) = oneshot::channel();
        self.peer(Said::Known(reply)).await?;
        answer.await.map_err(|_| Ended)
    }
}

impl Loop {
    /// Lets the engine calls that are under way end, for a moment; those that wait for their turn are called off.
    /// Called while the loop stands still, so that whoever takes over meets no call of ours.
    pub(crate) async fn quiesce(&mut self) {
        for member in self.control.members().filter(|member| member.accepted.is_none()) {
            member.cancel.cancel();
        }
        for engine in &self.control.engines {
            engine.handle.busy.close();
        }
        let quiet = async {
            for engine in &self.control.engines {
                engine.handle.busy.wait().await;
            }
        };
        if tokio::time::timeout(CALLS_WITHIN, quiet).await.is_err() {
            tracing::warn!("calls to an engine are still under way; what they leave is cleaned up later");
        }
        for engine in &self.control.engines {
            engine.handle.busy.reopen();
        }
    }

    /// What file it serves, as one word.
    pub(crate) fn fingerprint(&self) -> String {
        crate::handover::fingerprint(&self.control.model)
    }

    /// Makes the loop ready to run again after it stood still: as a later start, which adopts what happened meanwhile
    /// and scales nothing down before it has seen one stable window.
    pub(crate) fn resume(&mut self, generation: u64) {
        // Shares may have been set by others, or taken away.
        self.control.states.values().for_each(publish::slots);
        (self.control.generation, self.control.started) = (generation, clock::now());
        let hosts: Vec<_> = self.control.engines.iter().map(|engine| engine.name().clone()).collect();
        for host in hosts {
            self.control.list(&host);
        }
    }
}
