//! Everything that one decision about one service may see. Built by the control loop (and by the simulator) in one go.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use jiff::Timestamp;
use tidegate_config::{
    model::Service,
    name::{HostName, ReplicaId},
    spec::{Capabilities, Digest, Revision},
    units::{Bytes, Count},
};

use crate::replica::Phase;

/// Everything that one decision may see.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub now: Instant,
    /// The same on the clocks of people, for what they ask for by the clock.
    pub wall: Timestamp,
    /// Whether the policy's tick is due; otherwise the last answer of the policy is planned on.
    pub tick: bool,
    /// When this gateway started: until one stable window later nothing that it adopted is scaled down.
    pub gateway_started: Instant,
    /// The service's settings.
    pub service: Arc<Service>,
    /// What waits and runs, one entry per gateway.
    pub demand: Vec<Demand>,
    /// Requests at once that a replica has shown to bear, where the file leaves that to be learned.
    pub learned: Option<u32>,
    /// Its replicas, oldest first, gone ones left out.
    pub replicas: Vec<Replica>,
    /// The hosts, in the file's order.
    pub hosts: Vec<Host>,
    /// What somebody asked for by hand.
    pub asked: Asked,
    /// What the replicas of each revision have answered so far, gone ones included.
    pub tallies: BTreeMap<Revision, Tally>,
    /// The only host that it may run on, because its data is there.
    pub pinned: Option<HostName>,
    /// For the names of new replicas: this start of the gateway, and the next free number.
    pub generation: u64,
    /// The next free replica number.
    pub next_number: u64,
}

impl Snapshot {
    /// Requests waiting in all gateways.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.demand.iter().map(|d| d.queued).sum()
    }

    /// Requests running in all gateways.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.demand.iter().map(|d| d.in_flight).sum()
    }

    /// The whole seconds since the last snapshot, of all gateways together; the latest are the same ones everywhere.
    #[must_use]
    pub fn flow(&self) -> Vec<Flow> {
        together(self.demand.iter().map(|gateway| &*gateway.flow), |sum, second| {
            sum.arrived += second.arrived;
            sum.later += second.later;
            sum.pairs = std::array::from_fn(|at| sum.pairs[at].saturating_add(second.pairs[at]));
            sum.ended += second.ended;
            sum.running += second.running;
            sum.late += second.late;
            sum.cold += second.cold;
        })
    }

    /// Whether whoever comes finds a replica.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.replicas.iter().any(|replica| replica.phase == Phase::Ready)
    }

    /// Since when nothing has been running or waiting anywhere; `None` while something is.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let times: Option<Vec<Instant>> = self.demand.iter().map(|d| d.idle_since).collect();
        times?.into_iter().max()
    }
}

/// Several gateways' seconds as one row, oldest first. The latest seconds are the same ones everywhere.
pub(crate) fn together<'a, T: Clone + Default + 'a>(
    rows: impl Iterator<Item = &'a [T]> + Clone,
    add: impl Fn(&mut T, &T),
) -> Vec<T> {
    let longest = rows.clone().map(<[T]>::len).max().unwrap_or(0);
    let mut sums = vec![T::default(); longest];
    for row in rows {
        for (sum, second) in sums.iter_mut().rev().zip(row.iter().rev()) {
            add(sum, second);
        }
    }
    sums
}

/// What replicas have answered since they were first heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests that were answered or failed.
    pub requests: u64,
    /// Those of them with a status of 500 or above, or without a whole answer.
    pub errors: u64,
}

/// One gateway's view of a service's demand.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Requests that hold a lease.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Since when both are zero.
    pub idle_since: Option<Instant>,
    /// Demand (in flight plus queued), time-averaged over each whole second since the last snapshot, oldest first.
    pub samples: Vec<f64>,
    /// What came, ran and ended in each of those seconds; empty from a gateway that takes no new requests.
    pub flow: Vec<Flow>,
    /// Requests that have come in the second that is not over yet.
    pub arriving: u32,
}

impl Demand {
    /// None, since then.
    #[must_use]
    pub fn none(since: Instant) -> Self {
        Self {
            in_flight: 0,
            queued: 0,
            idle_since: Some(since),
            samples: Vec::new(),
            flow: Vec::new(),
            arriving: 0,
        }
    }
}

/// Parts of a second in which requests are counted together.
pub const PARTS: [u32; 3] = [64, 16, 4];

/// What went through one gateway's gate in one whole second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Flow {
    /// Requests that came, also those that had to wait or found the queue full.
    pub arrived: u32,
    /// Those of them that came in its second half.
    pub later: u32,
    /// Pairs of them that came within the same one of so many [`PARTS`] of the second: clumps make more than chance. Of several gateways, pairs
    /// across them are not seen.
    pub pairs: [u32; PARTS.len()],
    /// Requests that ran and ended.
    pub ended: u32,
    /// Requests that ran, time-averaged; those that waited are left out.
    pub running: f64,
    /// Requests whose wait ended and had been longer than `late_after`, however it ended, and those that found the queue full.
    pub late: u32,
    /// Those of them that had come while no replica served.
    pub cold: u32,
}

/// One replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    /// Its name.
    pub id: ReplicaId,
    /// What it was started with.
    pub revision: Revision,
    /// What it is doing.
    pub phase: Phase,
    /// Since when it is in that phase.
    pub since: Instant,
    /// When it was started (or adopted).
    pub started: Instant,
    /// Where it runs.
    pub host: HostName,
    /// Requests that it runs now.
    pub in_flight: u32,
    /// What it uses, where that is measured.
    pub usage: Option<Usage>,
}

/// What a replica uses, as of the last measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Cores, on average since the measurement before.
    pub cores: f64,
    /// Memory.
    pub memory: Bytes,
}

/// One host, as this service sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name.
    pub name: HostName,
    /// Whether its engine answers.
    pub state: HostState,
    /// What the operator wants of it.
    pub order: HostOrder,
    /// What its engine can do.
    pub can: Capabilities,
    /// What constraints look at.
    pub labels: BTreeMap<String, String>,
    /// What it has.
    pub capacity: Room,
    /// What all replicas there reserve, of all services.
    pub reserved: Room,
    /// Why its engine, which places by itself, had no place just now.
    pub full: Option<String>,
    /// What its engine said when it did not do what it was asked last, in words.
    pub said: Option<String>,
    /// The image that the service's settings name, there.
    pub image: Image,
    /// Whether other versions of the service can be started there, as far as anybody has looked.
    pub has: BTreeMap<Revision, bool>,
}

/// Whether a host's engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostState {
    /// It does.
    #[default]
    Up,
    /// Not any more, or not yet; what runs there may well serve on. Nothing is started there.
    Silent,
    /// Not for longer than the file allows.
    Lost,
}

/// What the operator wants of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostOrder {
    /// It takes replicas.
    #[default]
    Open,
    /// It gets no new ones.
    Cordoned,
    /// It gets no new ones, and those that it has are replaced elsewhere.
    Draining,
}

/// An amount of what placement counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Room {
    /// Cores.
    pub cpu: f64,
    /// Bytes.
    pub memory: Bytes,
    /// Containers.
    pub replicas: Count,
}

/// A service's image on a host.
#[derive(Debug, Clone, PartialEq)]
pub enum Image {
    /// Never looked.
    Unknown,
    /// Being looked up or downloaded.
    Pulling,
    /// Ready to start.
    Present {
        /// Its content.
        digest: Digest,
        /// Launch settings and content together.
        revision: Revision,
        /// The port that replicas listen on, after defaults.
        port: u16,
    },
    /// Not to be had.
    Failed {
        /// Why, for people.
        message: String,
        /// When it is worth another look; `None`: not before the file changes or somebody asks.
        retry_at: Option<Instant>,
    },
}

/// What somebody asked for by hand; each is a moment, and the latest of `wake` and `sleep` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// `tidegate wake`: as if a request had come and gone then.
    pub wake: Option<Instant>,
    /// `tidegate sleep`: as if `idle` had passed then, also below `min`, until the next request.
    pub sleep: Option<Instant>,
    /// `tidegate restart`: replicas started before then are replaced.
    pub restart: Option<Instant>,
    /// Its host ran short of memory and this was the idlest service there: as `sleep`, without the tiers that keep memory.
    pub squeeze: Option<Instant>,
    /// Other services are put to sleep since then to make room for this one: what waits is not refused for want of it yet.
    pub relief: Option<Instant>,
}
