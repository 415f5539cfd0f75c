//! The replicas' network on this machine: a bridge per instance, and network namespaces that are ready before they are
//! needed. Called by the engine.
//! Holds: a place is one replica's until it is released, also between two gateways and across `kill -9`; replicas reach
//! the bridge and, with the tools, the world, but never each other.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::Ipv4Net;
use tidegate_config::name::ReplicaId;

use crate::{Error, InstanceId, Kind, Result};

/// What the network of an instance is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Whose network.
    pub instance: InstanceId,
    /// The subnet; `None`: a free private one.
    pub subnet: Option<Ipv4Net>,
    /// Where what does not survive a reboot is kept: `/run/tidegate`.
    pub run: PathBuf,
    /// Whether replicas may reach 169.254.0.0/16.
    pub allow_metadata: bool,
    /// How many namespaces are kept ready.
    pub pool: usize,
}

/// A replica's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The pinned namespace.
    pub namespace: PathBuf,
    /// Its address on the bridge.
    pub address: Ipv4Addr,
}

/// The network of one instance.
pub(crate) struct Network {
    bridge: Ipv4Addr,
}

impl Network {
    /// Makes or adopts the bridge, repairs what a crash left half made, and starts to fill the pool.
    pub(crate) async fn open(options: Options) -> Result<Arc<Self>> {
        let _ = options;
        Err(building())
    }

    /// A place for this replica; the same one each time until it is released.
    pub(crate) async fn take(&self, id: &ReplicaId) -> Result<Place> {
        let _ = id;
        Err(building())
    }

    /// The place that this replica holds.
    pub(crate) fn of(&self, id: &ReplicaId) -> Option<Place> {
        let _ = id;
        None
    }

    /// The replicas that hold a place.
    pub(crate) fn held(&self) -> Vec<ReplicaId> {
        Vec::new()
    }

    /// Gives a replica's place back; fine if it holds none. The namespace itself goes a little later.
    pub(crate) async fn release(&self, id: &ReplicaId) -> Result<()> {
        let _ = id;
        Err(building())
    }

    /// The gateway's address on the bridge.
    pub(crate) fn bridge(&self) -> Ipv4Addr {
        self.bridge
    }

    /// Ends when what was released by then is really gone.
    pub(crate) async fn settled(&self) {}

    /// Stops the tasks; the pool stays for a successor.
    pub(crate) async fn close(&self) {}
}

fn building() -> Error {
    Error::new(Kind::Permanent, "the network is being built")
}

/// What kind of thing was left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftoverKind {
    /// Rules of the packet filter.
    Rules,
    /// A pair of virtual network cards, by its end on this machine.
    Veth,
    /// A pinned network namespace.
    Pin,
    /// A bridge.
    Bridge,
    /// A folder of claims.
    Folder,
}

/// Something on this machine whose name says that an instance of Tidegate made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The first 8 digits of the instance's id (6 where the thing's name has no more).
    pub instance: String,
    /// What it is, for people.
    pub what: String,
    /// Its kind.
    pub kind: LeftoverKind,
    name: String,
}

/// Everything on this machine that is named as ours, of whatever instance.
pub async fn leftovers(run: &Path) -> Result<Vec<Leftover>> {
    let _ = run;
    Ok(Vec::new())
}

impl Leftover {
    /// Removes it; fine if it is gone.
    pub async fn remove(&self, run: &Path) -> Result<()> {
        let _ = (run, &self.name);
        Ok(())
    }
}

/// Removes everything of an instance: namespaces, cards, bridge, rules, folder.
pub async fn purge(run: &Path, short: &str) -> Result<()> {
    let _ = (run, short);
    Ok(())
}
