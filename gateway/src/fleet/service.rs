//! One service as both planes see it: its gate, its settings, its counters.
//! The request path calls [`Service::enter`]; the control loop sets slots, closes and samples.
//! Holds: a lease is given back exactly once, by `Drop`; grants are delivered outside the gate's lock.
//! Absent: phases, probes, decisions.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::StatusCode;
use parking_lot::Mutex;
use tidegate_config::{model, name::ServiceName};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{
    admission::{Entry, Form, Gate, Grant, Grants, Left, Rules, Sample, SlotKey, TicketId},
    awake::Awake,
    balancer::{Answer, Report, Wish},
    bell::Bell,
    hedges::Hedges,
    replica::Replica,
    tap::Tap,
};
use crate::{clock, middleware::Limits, request::Refusal, telemetry::ServiceMetrics};

/// What a waiting request is told.
type Waiter = oneshot::Sender<Result<Lease, Refusal>>;

/// How a request counts at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is demand.
    Caller,
    /// It neither wakes the service nor keeps it awake.
    Onlooker,
}

/// One service as both planes see it.
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its counters.
    pub metrics: ServiceMetrics,
    /// Whether it is awake, and what is known of it while it is not.
    pub(crate) awake: Awake,
    /// Who listens to its requests.
    pub(crate) tap: Tap,
    /// How often it may be called, by its routes.
    pub(crate) limits: Limits,
    /// When a request is sent a second time, and what that may cost.
    pub(crate) hedges: Mutex<Hedges>,
    settings: ArcSwap<model::Service>,
    gate: Mutex<Gate<Arc<Replica>, Waiter>>,
    refusal: ArcSwap<Refusal>,
    bell: Bell,
    tasks: TaskTracker,
}

impl Service {
    /// A service without replicas.
    #[must_use]
    pub fn new(settings: Arc<model::Service>, bell: Bell, tasks: TaskTracker, seed: u64) -> Self {
        let now = clock::now();
        Self {
            name: settings.name.clone(),
            metrics: ServiceMetrics::new(&settings.name),
            awake: Awake::new(now),
            tap: Tap::default(),
            limits: Limits::default(),
            hedges: Mutex::new(Hedges::new(now)),
            gate: Mutex::new(Gate::new(now, Rules::of(&settings), seed)),
            settings: ArcSwap::new(settings),
            refusal: ArcSwap::from_pointee(Refusal::ShuttingDown),
            bell,
            tasks,
        }
    }

    /// The settings as of now.
    pub fn settings(&self) -> Arc<model::Service> {
        self.settings.load_full()
    }

    /// Takes new settings; running requests keep what they have begun with.
    pub fn set_settings(self: &Arc<Self>, settings: Arc<model::Service>) {
        let grants = self.gate.lock().set_rules(clock::now(), Rules::of(&settings));
        self.deliver(grants);
        self.settings.store(settings);
    }

    /// Asks for a lease, on the replica of its wish if that has room; waits for one until `deadline`. Tells when it was had, too. Dropping the future gives the ticket back at once.
    ///
    /// # Errors
    /// The refusal to answer with: the queue is full, the service is closed, or nothing came free in time.
    pub async fn enter(
        self: &Arc<Self>,
        arrived: Instant,
        deadline: Instant,
        standing: Standing,
        wish: Option<Wish>,
    ) -> Result<(Lease, Instant), Refusal> {
        if standing == Standing::Onlooker {
            let grant = self.gate.lock().look_on(arrived);
            if let Some(grant) = grant {
                let mut lease = self.lease(grant);
                lease.standing = standing;
                return Ok((lease, arrived));
            }
            // No slot is free: others keep the service awake, and this one may wait with them.
        }
        let mut waiting = None;
        let entry = self.gate.lock().enter(arrived, wish, || {
            let (waiter, lease) = oneshot::channel();
            waiting = Some(lease);
            waiter
        });
        match (entry, waiting) {
            (Entry::Granted(grant), _) => Ok((self.lease(grant), arrived)),
            (Entry::Queued(ticket), Some(lease)) => {
                let lease = Box::pin(self.wait(ticket, lease, deadline)).await?;
                Ok((lease, clock::now()))
            }
            (Entry::Queued(_), None) => unreachable!("the gate makes a waiter for each ticket"),
            (Entry::Full, _) => Err(Refusal::QueueFull),
            (Entry::Broken(again), _) => Err(Refusal::CircuitOpen { again }),
            (Entry::Closed, _) => Err((**self.refusal.load()).clone()),
        }
    }

    /// A lease for a second attempt beside this one, if it is within the budgets and another replica has room now.
    pub(crate) fn hedge(self: &Arc<Self>, lease: SlotKey, rules: &model::Hedge) -> Option<Lease> {
        let now = clock::now();
        if !self.hedges.lock().hedge(now, rules) {
            return None;
        }
        let mut gate = self.gate.lock();
        let grant = if gate.retry(now) { gate.spare(now, lease)? } else { return None };
        drop(gate);
        self.metrics.hedges.increment(1);
        Some(self.lease(grant))
    }

    /// Whether a request may be tried once more; counts it if so.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        self.gate.lock().retry(now)
    }

    /// Swaps the lease of a failed attempt for the next one, before all that wait.
    ///
    /// # Errors
    /// As [`Service::enter`].
    pub async fn swap(self: &Arc<Self>, lease: Lease, deadline: Instant) -> Result<Lease, Refusal> {
        if lease.standing == Standing::Onlooker {
            if !self.awake.is_awake() {
                return Err(Refusal::UpstreamRefused);
            }
            self.gate.lock().look_away();
        }
        let (waiter, next) = oneshot::channel();
        let ticket = self.queue_first(lease, waiter);
        self.wait(ticket, next, deadline).await
    }

    /// Gives a slot back and waits before all others.
    fn queue_first(self: &Arc<Self>, mut lease: Lease, waiter: Waiter) -> TicketId {
        lease.spent = true;
        let (ticket, left) = self.gate.lock().swap(clock::now(), lease.slot, lease.report, || waiter);
        self.handed_back(left, &lease.replica);
        ticket
    }

    async fn wait(
        self: &Arc<Self>,
        ticket: TicketId,
        lease: oneshot::Receiver<Result<Lease, Refusal>>,
        deadline: Instant,
    ) -> Result<Lease, Refusal> {
        let _ticket = Ticket { service: self, id: ticket };
        // A law that acts on events is told of each that waits; the others only where nothing could serve it.
        if self.settings.load().scaling.acts_on_events() || !self.gate.lock().has_capacity() {
            self.bell.ring(&self.name);
        }
        match tokio::time::timeout_at(deadline.into(), lease).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::ShuttingDown),
            Err(_) => Err(self.hold_refusal()),
        }
    }

    /// What a request is told whose hold deadline has passed.
    fn hold_refusal(&self) -> Refusal {
        match &**self.refusal.load() {
            known @ (Refusal::Pulling { .. } | Refusal::NoUpstream { .. }) => known.clone(),
            _ => Refusal::HoldDeadline,
        }
    }

    /// Sets how many requests at once a replica may run: 0 for one that drains.
    pub fn set_slots(self: &Arc<Self>, key: SlotKey, replica: &Arc<Replica>, capacity: u32) {
        let mut gate = self.gate.lock();
        let grants = gate.set_slots(clock::now(), key, replica, capacity);
        let awake = gate.has_capacity();
        drop(gate);
        self.awake.set(awake);
        self.deliver(grants);
    }

    /// The replicas in `trial` get `percent` of the requests together, as long as both they and others have room.
    pub fn share(&self, trial: &[SlotKey], percent: u8) {
        self.gate.lock().share(trial, percent);
    }

    /// The replicas that the gate knows, oldest first.
    pub fn slots(&self) -> Vec<(SlotKey, Arc<Replica>)> {
        self.gate.lock().slots().map(|(key, replica)| (key, Arc::clone(replica))).collect()
    }

    /// Since when nothing runs or waits; `None` while something does.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        self.gate.lock().idle_since()
    }

    /// Forgets a replica.
    pub fn remove_slots(self: &Arc<Self>, key: SlotKey) {
        let mut gate = self.gate.lock();
        let grants = gate.remove(clock::now(), key);
        let awake = gate.has_capacity();
        drop(gate);
        self.awake.set(awake);
        self.deliver(grants);
    }

    /// Why requests are refused, if they are.
    pub(crate) fn refuses(&self) -> Option<Refusal> {
        self.gate.lock().is_closed().then(|| (**self.refusal.load()).clone())
    }

    /// Somebody comes while no replica takes requests. `cause`: a `call` that is held, or a `page` that waits.
    ///
    /// # Errors
    /// The refusal to answer with, if that would be one wake too many.
    pub(crate) fn knock(
        &self,
        now: Instant,
        client: IpAddr,
        limits: &model::Wake,
        cause: &'static str,
    ) -> Result<(), Refusal> {
        // Where requests are refused nothing is woken, and the reason for that is the better answer.
        if self.refuses().is_none() && self.awake.knock(now, client, limits)? {
            self.metrics.woken(cause);
        }
        Ok(())
    }

    /// Whether what is waited for is a download.
    pub(crate) fn is_pulling(&self) -> bool {
        matches!(**self.refusal.load(), Refusal::Pulling { .. })
    }

    /// Why requests are refused, or why the last start failed, if either is so.
    #[must_use]
    pub fn trouble(&self) -> Option<Refusal> {
        self.refuses().or_else(|| self.awake.trouble())
    }

    /// Whether the replica of this name takes requests.
    pub(crate) fn serves(&self, name: u64) -> bool {
        self.gate.lock().serves(name)
    }

    /// Until when the circuit is open; `None`: it is not.
    #[must_use]
    pub fn broken_until(&self) -> Option<Instant> {
        self.gate.lock().broken_until(clock::now())
    }

    /// How the replicas are doing, as the balancer has it.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        self.gate.lock().forms(clock::now())
    }

    /// The replica of `lease` did not take a connection: it gets nothing for a moment.
    pub(crate) fn suspend(self: &Arc<Self>, lease: &Lease) {
        let until = self.gate.lock().suspend(clock::now(), lease.slot);
        self.gets_nothing(until, &lease.replica);
    }

    /// The replica is out until then: it is probed now, and those who wait look again when its time has passed.
    fn gets_nothing(self: &Arc<Self>, until: Option<Instant>, replica: &Replica) {
        let Some(until) = until else { return };
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            let grants = service.gate.lock().resume(clock::now());
            service.deliver(grants);
        });
        self.bell.suspect(&replica.id);
    }

    /// The replica of `lease`, which had been suspended or ejected, answered.
    fn answered(self: &Arc<Self>, lease: &Lease) {
        let grants = self.gate.lock().answered(clock::now(), lease.slot);
        self.deliver(grants);
    }

    /// Refuses what waits and what comes while no replica takes requests.
    pub fn close(&self, refusal: Refusal) {
        self.refusal.store(Arc::new(refusal.clone()));
        self.awake.rests();
        if matches!(refusal, Refusal::StartFailed { .. } | Refusal::CrashLooping { .. }) {
            self.awake.failed(refusal.clone());
        }
        let refused = self.gate.lock().close(clock::now());
        for waiter in refused {
            // One that has left meanwhile needs no answer.
            drop(waiter.send(Err(refusal.clone())));
        }
    }

    /// Undoes [`Service::close`]. `late`: what to say if the hold deadline passes meanwhile.
    pub fn open(&self, late: Option<Refusal>) {
        self.refusal.store(Arc::new(late.unwrap_or(Refusal::HoldDeadline)));
        self.gate.lock().open();
    }

    /// What the control loop wants to know; see [`Gate::sample`].
    pub fn sample(&self, now: Instant) -> Sample {
        self.gate.lock().sample(now)
    }

    /// Requests that wait and requests that run.
    pub fn counts(&self) -> (u32, u32) {
        self.gate.lock().counts()
    }

    /// Requests that one replica runs.
    pub fn in_flight_of(&self, key: SlotKey) -> u32 {
        self.gate.lock().in_flight_of(key)
    }

    fn lease(self: &Arc<Self>, grant: Grant<Arc<Replica>>) -> Lease {
        let Grant { slot, replica, probation, timed } = grant;
        let (standing, report) = (Standing::Caller, Report::Unknown);
        Lease { service: Arc::clone(self), slot, replica, standing, probation, timed, report, spent: false }
    }

    fn deliver(self: &Arc<Self>, grants: Grants<Arc<Replica>, Waiter>) {
        for (waiter, grant) in grants {
            // A waiter that has just left hands the lease back in the error, and its drop returns the slot.
            drop(waiter.send(Ok(self.lease(grant))));
        }
    }

    fn leave(self: &Arc<Self>, now: Instant, lease: &Lease) {
        let mut gate = self.gate.lock();
        if lease.standing == Standing::Onlooker {
            gate.look_away();
        }
        let left = gate.leave(now, lease.slot, lease.report);
        drop(gate);
        self.handed_back(left, &lease.replica);
    }

    /// A slot was given back: others may have got it, a draining replica may have become empty, a failing one be out.
    fn handed_back(self: &Arc<Self>, left: Left<Arc<Replica>, Waiter>, replica: &Replica) {
        self.deliver(left.grants);
        if left.drained {
            self.bell.ring(&self.name);
        }
        if left.broken {
            tracing::info!(service = %self.name, "circuit opened: too many requests fail");
            self.metrics.circuit_opened.increment(1);
        }
        if left.ejected.is_some() {
            tracing::info!(service = %self.name, replica = %replica.id, "ejected: it fails again and again");
            self.metrics.ejections.increment(1);
            self.gets_nothing(left.ejected, replica);
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service({})", self.name)
    }
}

/// A place in the queue; given back when the request leaves before its turn.
struct Ticket<'s> {
    service: &'s Arc<Service>,
    id: TicketId,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.service.gate.lock().cancel(clock::now(), self.id);
    }
}

/// The right to send one request attempt to one replica; given back when dropped.
#[must_use = "dropping a lease gives it back"]
pub struct Lease {
    service: Arc<Service>,
    slot: SlotKey,
    standing: Standing,
    /// How the attempt went, as far as is known.
    report: Report,
    /// Its replica had failed; whether it answers is to be told at once.
    probation: bool,
    /// It is of use to know how long the answer takes.
    timed: bool,
    spent: bool,
    /// The replica that it is for.
    pub replica: Arc<Replica>,
}

impl Lease {
    /// The replica began to answer the attempt that began at `begun`; `again`: other attempts failed before.
    pub fn answered(&mut self, status: StatusCode, begun: Instant, again: bool) {
        let how = match status.as_u16() {
            ..500 => Answer::Good,
            status => Answer::of_error(status, &self.service.settings.load().balance),
        };
        let after = self.timed.then(|| clock::now().saturating_duration_since(begun));
        self.report = Report::Answered { after, how };
        if (again || self.probation) && how != Answer::Failure {
            self.service.answered(self);
        }
    }

    /// Its slot.
    pub(crate) fn slot(&self) -> SlotKey {
        self.slot
    }

    /// Another attempt was answered first; this one began at `begun`.
    pub(crate) fn overtaken(&mut self, begun: Instant) {
        self.report = Report::Overtaken { after: clock::now().saturating_duration_since(begun) };
    }

    /// The replica failed the attempt.
    pub(crate) fn failed(&mut self) {
        self.report = Report::Failed;
    }

    /// Gives the lease back, as of now.
    pub fn leave(mut self, now: Instant) {
        self.spent = true;
        self.service.leave(now, &self);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.spent {
            self.service.leave(clock::now(), self);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.replica.id)
    }
}

/// When a request that arrives `now` has waited long enough.
#[must_use]
pub fn hold_deadline(now: Instant, hold: Duration) -> Instant {
    // A hold of years overflows nothing: far enough is far enough.
    now.checked_add(hold).unwrap_or(now + Duration::from_secs(86_400 * 365))
}
