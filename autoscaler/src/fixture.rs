//! What the tests of this crate start from: a service with one host that has its image, at a moment long after the
//! gateway's start.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tidegate_config::{
    model::{ScalingPolicy, Service},
    name::{HostName, ReplicaId},
    spec::{Capabilities, Digest, Exit, Launch, Revision, Version},
};

use crate::{
    replica::{Cause, Phase},
    snapshot::{Asked, Demand, Host, HostOrder, HostState, Image, Replica, Room, Snapshot},
};

/// The moment that tests count from.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made otherwise; only differences matter")]
pub(crate) fn origin() -> Instant {
    Instant::now() + secs(100_000)
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Idle since an hour ago, nothing there, `now` = [`origin`].
pub(crate) fn snapshot(scaling: ScalingPolicy) -> Snapshot {
    let now = origin();
    let mut service = Service::of("api".parse().expect("a valid name"), "api:1");
    service.scaling = scaling;
    Snapshot {
        now,
        wall: Timestamp::UNIX_EPOCH,
        tick: false,
        gateway_started: now - secs(50_000),
        service: Arc::new(service),
        learned: None,
        demand: vec![Demand::none(now - secs(3600))],
        replicas: Vec::new(),
        hosts: vec![host("local")],
        asked: Asked::default(),
        tallies: BTreeMap::new(),
        pinned: None,
        generation: 2,
        next_number: 100,
    }
}

/// An engine that can do everything.
const CAN: Capabilities =
    Capabilities { freeze: true, keep_stopped: true, exec: true, logs: true, stats: true, places: false };

pub(crate) fn host(name: &str) -> Host {
    Host {
        name: host_name(name),
        state: HostState::Up,
        order: HostOrder::Open,
        can: CAN,
        labels: BTreeMap::new(),
        capacity: Room::default(),
        reserved: Room::default(),
        full: None,
        said: None,
        image: present("r1"),
        has: BTreeMap::new(),
    }
}

pub(crate) fn host_name(name: &str) -> HostName {
    name.parse().expect("a valid name")
}

pub(crate) fn present(revision: &str) -> Image {
    Image::Present { digest: Digest("sha256:1".into()), revision: Revision(revision.into()), port: 8080 }
}

/// What a host has where [`present`] is.
pub(crate) fn version(revision: &str) -> Version {
    Version {
        revision: Revision(revision.into()),
        launch: Launch::of("api:1"),
        digest: Digest("sha256:1".into()),
        port: 8080,
    }
}

/// The same replica, of another revision.
pub(crate) fn of(revision: &str, replica: Replica) -> Replica {
    Replica { revision: Revision(revision.into()), ..replica }
}

pub(crate) fn id(number: u64) -> ReplicaId {
    ReplicaId::new("api".parse().expect("a valid name"), 2, number)
}

/// A replica of revision `r1` on `local`, in its phase since `at`.
pub(crate) fn replica(number: u64, phase: Phase, at: Instant) -> Replica {
    Replica {
        id: id(number),
        revision: Revision("r1".into()),
        phase,
        since: at,
        started: at,
        host: host_name("local"),
        in_flight: 0,
        usage: None,
    }
}

pub(crate) fn exited() -> Cause {
    Cause::Exited(Exit { code: 1, out_of_memory: false, disrupted: false, message: None })
}

/// Its cluster has taken it away.
pub(crate) fn disrupted() -> Cause {
    Cause::Exited(Exit { code: -1, out_of_memory: false, disrupted: true, message: Some("evicted".into()) })
}

/// Sets what waits and runs.
pub(crate) fn load(seen: &mut Snapshot, queued: u32, in_flight: u32) {
    let now = seen.now;
    let demand = &mut seen.demand[0];
    (demand.queued, demand.in_flight) = (queued, in_flight);
    demand.idle_since = if queued + in_flight > 0 { None } else { demand.idle_since.or(Some(now)) };
}
