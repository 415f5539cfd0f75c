//! One replica as the data plane sees it: where it is, and its own connections. Dropping it drops them, so a reused
//! address can never reach the wrong app.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tidegate_autoscaler::snapshot::Tally;
use tidegate_config::{
    name::ReplicaId,
    spec::{Protocol, Revision},
};
use tokio_util::sync::CancellationToken;

use super::{admission, balancer::affinity};
use crate::request::upstream::Pool;

/// One replica as the data plane sees it.
#[derive(Debug)]
pub struct Replica {
    /// Its name.
    pub id: ReplicaId,
    /// Where it answers.
    pub address: SocketAddr,
    /// The same as a number, by which requests that belong to it name it.
    pub(crate) name: u64,
    /// When its start was asked for and when it was ready; `None` if it was adopted.
    start: Option<(Instant, Instant)>,
    /// What it was started from, where that is known.
    revision: Option<Revision>,
    /// Its connections.
    pub(crate) pool: Pool,
    /// Cancelled when it is about to be stopped: what still runs there takes its leave in good order.
    pub(crate) cut: CancellationToken,
    requests: AtomicU64,
    errors: AtomicU64,
    /// Whether its start has got a span.
    told: AtomicBool,
}

impl Replica {
    /// A replica that answers at `address`.
    #[must_use]
    pub fn new(
        id: ReplicaId,
        start: Option<(Instant, Instant)>,
        address: SocketAddr,
        protocol: Protocol,
    ) -> Self {
        let (requests, errors) = (AtomicU64::new(0), AtomicU64::new(0));
        let name = affinity::hash(id.to_string().as_bytes());
        Self {
            id,
            address,
            name,
            start,
            revision: None,
            pool: Pool::new(address, protocol),
            cut: CancellationToken::new(),
            requests,
            errors,
            told: AtomicBool::new(false),
        }
    }

    /// The same, started from this revision.
    #[must_use]
    pub fn of(self, revision: Revision) -> Self {
        Self { revision: Some(revision), ..self }
    }

    /// The same, which sessions know by this name: it outlives the gateway, and the id does not.
    #[must_use]
    pub(crate) fn called(self, name: u64) -> Self {
        Self { name, ..self }
    }

    /// What it was started from, where that is known.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_ref().map(|revision| &*revision.0)
    }

    /// Counts an answer, or that there was none.
    pub(crate) fn count(&self, failed: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it has answered so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        // Errors first: read the other way round there could be more of them than requests.
        let errors = self.errors.load(Ordering::Relaxed);
        Tally { requests: self.requests.load(Ordering::Relaxed), errors }
    }

    /// When its start was asked for and when it was ready, if a request that arrived at `arrived` waited for it.
    pub(crate) fn start_for(&self, arrived: Instant) -> Option<(Instant, Instant)> {
        self.start.filter(|(_, ready)| arrived < *ready)
    }

    /// Whether nobody has told of its start before.
    pub(crate) fn tell_start(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// How long this replica's start took, if a request that arrived at `arrived` waited for it.
    pub(crate) fn cold_start_for(&self, arrived: Instant) -> Option<Duration> {
        self.start_for(arrived).map(|(asked, ready)| ready.saturating_duration_since(asked))
    }
}

impl admission::Replica for Arc<Replica> {
    fn name(&self) -> u64 {
        self.name
    }
}
