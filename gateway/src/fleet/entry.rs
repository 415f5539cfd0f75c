//! What is said at a gate: values that go in and come out of a [`Gate`](super::admission::Gate), and no more than that. Pure.

use std::time::{Duration, Instant};

use tidegate_autoscaler::snapshot::Demand;
use tidegate_config::model;

use super::balancer::Out;

/// A slot's name within its gate; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey(pub u64);

/// A waiting request's name within its gate; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TicketId(pub(super) u64);

/// A slot handed to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<R> {
    /// To be given back with [`Gate::leave`](super::admission::Gate::leave).
    pub slot: SlotKey,
    /// The replica that the request goes to.
    pub replica: R,
    /// The replica or the service had failed; whether it answers is to be told at once, with [`Gate::answered`](super::admission::Gate::answered).
    pub probation: bool,
    /// It is of use to know how long the answer takes.
    pub timed: bool,
}

/// What a slot that was given back led to; to be done outside the lock.
#[must_use]
#[derive(Debug)]
pub struct Left<R, W> {
    /// Deliver these.
    pub grants: Grants<R, W>,
    /// The replica drains and has finished.
    pub drained: bool,
    /// The replica was ejected: it is to be probed now, and [`Gate::resume`](super::admission::Gate::resume) called then.
    pub ejected: Option<Instant>,
    /// The circuit has opened.
    pub broken: bool,
}

/// How one replica is doing, as the balancer has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// Its slot.
    pub slot: SlotKey,
    /// How long it takes to answer; `None` while nobody knows.
    pub latency: Option<Duration>,
    /// How it is ejected, if it is.
    pub out: Option<Out>,
    /// Requests at once that it has shown to bear, where that is learned.
    pub limit: Option<u32>,
}

/// What the file says of a gate.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How many requests may wait; those that wait already stay.
    pub queue: usize,
    /// Who waits longer is late.
    pub late_after: Duration,
    /// Which replica gets a request.
    pub balance: model::Balance,
}

impl Rules {
    /// Those of a service.
    #[must_use]
    pub fn of(service: &model::Service) -> Self {
        let scaling = &service.scaling;
        Self { queue: scaling.queue, late_after: scaling.work.late_after, balance: service.balance.clone() }
    }
}

/// What a gate hands out slots of.
pub trait Replica: Clone {
    /// Its name in every run of the gateway, as a number.
    fn name(&self) -> u64;
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
    /// The service is closed, see [`Gate::close`](super::admission::Gate::close).
    Closed,
    /// The circuit is open until then.
    Broken(Instant),
}

/// What the control loop sees of a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Without onlookers.
    pub demand: Demand,
    /// Requests per slot.
    pub per_slot: Vec<(SlotKey, u32)>,
    /// Requests at once that a replica has shown to bear on average, where that is learned.
    pub learned: Option<u32>,
}

/// The grants that a change led to; deliver them outside the lock.
pub type Grants<R, W> = Vec<(W, Grant<R>)>;
