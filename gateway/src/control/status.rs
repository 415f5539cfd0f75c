//! What the admin API tells of services: plain serde values, the same for `--json` and for tables.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};
use tidegate_autoscaler::Findings;

use super::history::Entry;
use crate::fleet::{
    admission::{Form, SlotKey},
    balancer::Out,
};

/// One service, for `tidegate ps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: String,
    /// `ready`, `starting`, `draining`, `cold` (asleep, image present), `pulling`, `failing`, ...
    pub state: String,
    /// The image as the file names it; empty if nothing is run.
    pub image: String,
    /// The addresses that it has instead, as the file names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<String>,
    /// The image's digest, once it is known.
    pub digest: Option<String>,
    /// The revision that new replicas get.
    pub revision: Option<String>,
    /// A change of version that is under way or was taken back, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// The digest that the image has by now, if it is not the one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<String>,
    /// The earlier revisions that `tidegate rollback` can go back to, latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
    /// Replicas that the last decision wants.
    pub want: u32,
    /// Requests that run.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Seconds for which the circuit stays open, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_open: Option<u64>,
    /// Why that many, or what is wrong.
    pub reason: String,
    /// Host names and paths that lead to it.
    pub routes: Vec<String>,
    /// Its replicas, oldest first.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its name.
    pub id: String,
    /// Its phase.
    pub phase: String,
    /// Where it runs.
    pub host: String,
    /// Where it is reached.
    pub address: Option<String>,
    /// Its revision.
    pub revision: String,
    /// Its image's digest.
    pub digest: String,
    /// Requests that it runs.
    pub in_flight: u32,
    /// How it stands with the balancer.
    #[serde(flatten)]
    pub balance: BalanceStatus,
    /// Seconds since the engine made it.
    pub age: u64,
    /// Why its cluster has no place for it, while it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// What is wrong with its node, while it runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How a replica stands with the balancer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BalanceStatus {
    /// Milliseconds until it answers; `None` while nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// Requests at once that it has shown to bear, where that is learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Seconds for which it gets no requests because it failed again and again; 0: one request is about to try it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected: Option<u64>,
}

impl BalanceStatus {
    /// What is told of how the slot's replica is doing.
    pub(super) fn of(forms: &[Form], slot: SlotKey, now: Instant) -> Self {
        let Some(form) = forms.iter().find(|form| form.slot == slot) else {
            return Self::default();
        };
        let ejected = form.out.map(|out| match out {
            Out::Until(until) => seconds_until(until, now),
            Out::Tried => 0,
        });
        let latency = form.latency.map(|latency| latency.as_secs_f64() * 1e3);
        Self { latency, limit: form.limit, ejected }
    }
}

/// Whole seconds, the last one too.
pub(super) fn seconds_until(at: Instant, now: Instant) -> u64 {
    let left = at.saturating_duration_since(now);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// One host, for `tidegate host list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// `up`, `silent` or `lost`.
    pub state: String,
    /// Seconds for which it has been silent; 0 if it is up.
    pub silent: u64,
    /// What it said when it did not do what it was asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// `open`, `cordoned` or `draining`.
    pub order: String,
    /// The engine and its version, once it has told.
    pub engine: Option<String>,
    /// Labels that constraints look at.
    pub labels: BTreeMap<String, String>,
    /// Cores that may be reserved; 0: not known, no limit.
    pub cpu: f64,
    /// Cores that are reserved.
    pub cpu_reserved: f64,
    /// Bytes of memory that may be reserved; 0: not known, no limit.
    pub memory: u64,
    /// Bytes of memory that are reserved.
    pub memory_reserved: u64,
    /// Replicas there, by phase.
    pub replicas: BTreeMap<String, u32>,
}

/// Why a service is as it is, for `tidegate explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// As in `ps`.
    pub status: ServiceStatus,
    /// The last decisions and events, oldest first.
    pub history: Vec<Entry>,
    /// The last replica that failed.
    pub last_failure: Option<FailureStatus>,
    /// Why no host takes another replica, if none does.
    pub no_fit: Option<String>,
    /// How requests of the last hour waited, if there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsStatus>,
    /// What the law has learned, where it learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedStatus>,
}

/// Requests of the last hour that waited for too long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitsStatus {
    /// All that came.
    pub requests: u64,
    /// Those that waited longer than `late_after`.
    pub late: u64,
    /// Those of them that came while no replica was ready.
    pub cold: u64,
    /// In seconds.
    pub late_after: f64,
    /// The share that may be late, as a fraction, if the file has a goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<f64>,
}

/// What the law `work` has learned of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnedStatus {
    /// Seconds that a request takes; `None`: too few have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<f64>,
    /// Seconds that a start takes, on average; `None`: none was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<f64>,
    /// Variance of what would run if nobody waited, over that of as many requests that come by chance; above 1: in clumps.
    pub peakedness: f64,
    /// Under a goal: the seconds of a replica that one late request less is held to be worth so that the goal comes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<f64>,
}

/// A replica that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// Which.
    pub replica: String,
    /// When; seconds since 1970.
    pub at: u64,
    /// Why.
    pub cause: String,
    /// The last lines that it printed.
    pub log: Vec<String>,
}

impl From<Findings> for LearnedStatus {
    fn from(Findings { request, start, peakedness, worth }: Findings) -> Self {
        Self { request, start, peakedness, worth }
    }
}
