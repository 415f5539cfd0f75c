//! What a simulation tells: notes as it runs, records at its end.

use std::time::{Duration, Instant};

use tidegate_autoscaler::{Decision, Phase, Plan, Snapshot};
use tidegate_config::name::{HostName, ReplicaId, ServiceName};

use crate::fleet::balancer::Out;

/// A request's number: its place in the scenario's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// One request's life.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// Which.
    pub id: RequestId,
    /// Where to.
    pub service: ServiceName,
    /// When it came.
    pub arrived: Instant,
    /// How long it waited for its first slot; `None` if it never had one.
    pub waited: Option<Duration>,
    /// How often it was sent.
    pub attempts: u32,
    /// When it ended, and how; `None` if the simulation ended first.
    pub end: Option<(Instant, Outcome)>,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A replica answered.
    Answered(ReplicaId),
    /// The gateway refused it, with the word that its client got.
    Refused(&'static str),
    /// Its client gave up.
    Cancelled,
    /// The gateway went away under it.
    Lost,
}

/// One look at a service: what was seen, decided and planned.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// What the decision saw.
    pub seen: Snapshot,
    /// What it was.
    pub decision: Decision,
    /// Which steps follow.
    pub plan: Plan,
}

/// Something that happened, in the order in which it did.
#[derive(Debug, Clone)]
pub enum Note {
    /// A service was looked at.
    Evaluated(Box<Evaluation>),
    /// A replica changed its phase; `None`: it was started or adopted.
    Phase(ReplicaId, Option<Phase>, Phase),
    /// A replica may run so many requests at once; `None`: the gate forgot it.
    Slots(ReplicaId, Option<u32>),
    /// A replica gets nothing until then.
    Suspended(ReplicaId, Instant),
    /// A replica is ejected; `None`: no more.
    Out(ReplicaId, Option<Out>),
    /// What a replica can bear has been learned anew.
    Learned(ReplicaId, Option<u32>),
    /// A suspended replica answered.
    Resumed(ReplicaId),
    /// A request waits.
    Waits(RequestId),
    /// A waiting request waits no more.
    WaitsNoMore(RequestId),
    /// A request has a slot.
    Granted(RequestId, ReplicaId),
    /// A request gave its slot back.
    GaveBack(RequestId, ReplicaId),
    /// A request ended.
    Ended(RequestId, Outcome),
    /// An engine was called.
    Called(HostName, &'static str, Option<ReplicaId>),
    /// A container runs, or does not any more.
    Container(ReplicaId, bool),
    /// An act from outside took place.
    Acted(String),
    /// A gateway started: gates and books are empty.
    GatewayStarted,
}

/// A service's figures over a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Starts that engines were asked for.
    pub starts: u32,
    /// Seconds that its containers ran, in sum.
    pub replica_seconds: f64,
    /// When a decision differed from the one before: from the beginning, how many were wanted, and why.
    pub decisions: Vec<(Duration, u32, String)>,
}
