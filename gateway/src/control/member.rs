//! One replica as the control loop keeps it: phase, place, and what it handed to the data plane.
//! Changed only by [`Control`](super::Control).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tidegate_autoscaler::{
    Phase,
    snapshot::{self, Tally},
};
use tidegate_config::{
    model::Service,
    name::{HostName, ReplicaId},
    spec::{Digest, Observed, ObservedState, Revision, StartSpec},
};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::measure::Measured;
use crate::fleet::{Replica, admission::SlotKey};

/// One replica as the control loop keeps it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: ReplicaId,
    pub(crate) revision: Revision,
    pub(crate) digest: Digest,
    pub(crate) host: HostName,
    pub(crate) phase: Phase,
    pub(crate) since: Instant,
    /// When its start was asked for, or when it was adopted.
    pub(crate) started: Instant,
    /// When the engine made it, for people.
    pub(crate) created: SystemTime,
    pub(crate) adopted: bool,
    /// When the engine answered its start.
    pub(crate) accepted: Option<Instant>,
    /// Calls off a start that still waits for its turn.
    pub(crate) cancel: CancellationToken,
    /// The settings that it is probed and spoken to by: those that it was started with, and later health settings as
    /// long as its launch settings are the current ones.
    pub(crate) settings: Arc<Service>,
    pub(crate) address: Option<SocketAddr>,
    /// Its place in the gate: the oldest first.
    pub(crate) slot: SlotKey,
    /// Its connections, once it has been ready.
    pub(crate) replica: Option<Arc<Replica>>,
    /// Requests that it ran when the gate was last sampled.
    pub(crate) in_flight: u32,
    /// What probes it now.
    pub(crate) prober: Option<AbortHandle>,
    /// A call that ends it is under way.
    pub(crate) ending: bool,
    /// Its container stays when it has ended.
    pub(crate) kept: bool,
    /// Why its cluster has no place for it, as long as it has none.
    pub(crate) waits_for: Option<String>,
    /// What is wrong with its node, and when its cluster said so last.
    pub(crate) trouble: Option<(String, Instant)>,
    /// It did not take a connection and is being probed: no requests meanwhile.
    pub(crate) suspected: bool,
    /// It had been stopped and kept before this start.
    pub(crate) again: bool,
    /// Slots of it that other gateways have, where it has a hard limit.
    pub(crate) lent: u32,
    /// What it uses.
    pub(crate) load: Measured,
    /// What it had answered when it was last looked at.
    counted: Tally,
}

/// For so long a cluster's word on a replica's trouble holds: it says so again every second.
const TROUBLED: Duration = Duration::from_secs(5);

impl Member {
    /// What is wrong with its node now, if anything.
    pub(crate) fn trouble(&self, now: Instant) -> Option<String> {
        let (why, at) = self.trouble.as_ref()?;
        (now.saturating_duration_since(*at) < TROUBLED).then(|| why.clone())
    }

    /// A replica that is about to be started.
    pub(crate) fn starting(
        spec: &StartSpec,
        settings: Arc<Service>,
        host: HostName,
        slot: SlotKey,
        now: Instant,
    ) -> Self {
        Self::new((&spec.id, &spec.revision, &spec.digest), settings, host, slot, now)
    }

    /// A replica that an earlier run of the gateway started. One that runs counts once it passes its probe.
    pub(crate) fn adopted(
        seen: &Observed,
        settings: Arc<Service>,
        host: HostName,
        slot: SlotKey,
        now: Instant,
    ) -> Self {
        let phase = match seen.state {
            ObservedState::Frozen => Phase::Frozen,
            ObservedState::Exited(_) => Phase::Stopped,
            ObservedState::Created | ObservedState::Running => Phase::Starting,
        };
        Self {
            phase,
            created: seen.created,
            adopted: true,
            accepted: Some(now),
            address: seen.address,
            ..Self::new((&seen.id, &seen.revision, &seen.digest), settings, host, slot, now)
        }
    }

    fn new(
        (id, revision, digest): (&ReplicaId, &Revision, &Digest),
        settings: Arc<Service>,
        host: HostName,
        slot: SlotKey,
        now: Instant,
    ) -> Self {
        Self {
            id: id.clone(),
            revision: revision.clone(),
            digest: digest.clone(),
            host,
            phase: Phase::Starting,
            since: now,
            started: now,
            created: SystemTime::now(),
            settings,
            adopted: false,
            accepted: None,
            cancel: CancellationToken::new(),
            address: None,
            slot,
            replica: None,
            in_flight: 0,
            prober: None,
            ending: false,
            kept: false,
            waits_for: None,
            trouble: None,
            suspected: false,
            again: false,
            lent: 0,
            load: Measured::default(),
            counted: Tally::default(),
        }
    }

    /// Starts again what was stopped and kept: as a new replica of the same name, in a new place in the gate, because
    /// requests of its former life may still be counted on the old one.
    pub(crate) fn begin_again(&mut self, slot: SlotKey, now: Instant) {
        (self.slot, self.started) = (slot, now);
        (self.address, self.replica, self.accepted) = (None, None, None);
        (self.adopted, self.again, self.counted) = (false, true, Tally::default());
        self.load = Measured::default();
        self.cancel = CancellationToken::new();
    }

    /// Adds what it has answered since the last look.
    pub(crate) fn count_into(&mut self, tallies: &mut BTreeMap<Revision, Tally>) {
        let Some(now) = self.replica.as_ref().map(|replica| replica.tally()) else { return };
        let sum = tallies.entry(self.revision.clone()).or_default();
        sum.requests += now.requests - self.counted.requests;
        sum.errors += now.errors - self.counted.errors;
        self.counted = now;
    }

    /// What decisions see of it.
    pub(crate) fn seen(&self) -> snapshot::Replica {
        snapshot::Replica {
            id: self.id.clone(),
            revision: self.revision.clone(),
            phase: self.phase.clone(),
            since: self.since,
            started: self.started,
            host: self.host.clone(),
            in_flight: self.in_flight,
            usage: self.load.usage,
        }
    }

    /// Stops probing it.
    pub(crate) fn stop_probing(&mut self) {
        if let Some(prober) = self.prober.take() {
            prober.abort();
        }
    }
}
