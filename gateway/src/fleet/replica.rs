//! One replica as the data plane sees it: where it is, and its own connections. Dropping it drops them, so a reused
//! address can never reach the wrong app.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tidegate_config::{name::ReplicaId, spec::Protocol};

use crate::request::upstream::Pool;

/// One replica as the data plane sees it.
#[derive(Debug)]
pub struct Replica {
    /// Its name.
    pub id: ReplicaId,
    /// When its start was asked for and when it was ready; `None` if it was adopted.
    start: Option<(Instant, Instant)>,
    /// Its connections.
    pub(crate) pool: Pool,
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
        Self { id, start, pool: Pool::new(address, protocol) }
    }

    /// How long this replica's start took, if a request that arrived at `arrived` waited for it.
    pub(crate) fn cold_start_for(&self, arrived: Instant) -> Option<Duration> {
        self.start
            .filter(|(_, ready)| arrived < *ready)
            .map(|(asked, ready)| ready.saturating_duration_since(asked))
    }
}
