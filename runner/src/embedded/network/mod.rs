//! The replicas' network on this machine: a bridge per instance, and network namespaces that are ready before they are
//! needed. Called by the engine.
//! Holds: a place is one replica's until it is released, also between two gateways and across `kill -9`; replicas reach
//! the bridge and, with the tools, the world, but never each other.

mod bridge;
mod leftovers;
mod messages;
mod names;
mod nat;
mod netlink;
mod places;
mod pool;
mod repair;
#[cfg(test)]
mod tests;
mod wiring;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use tidegate_config::name::ReplicaId;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::leftovers::{Leftover, leftovers, purge};
use self::{netlink::explain, places::Places, pool::Pool, wiring::Wiring};
use crate::{Error, InstanceId, Kind, Result};

/// Longer than removing a whole bridge full of places takes.
const SETTLE: Duration = Duration::from_secs(30);

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
    pool: Arc<Pool>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Network {
    /// Makes or adopts the bridge, repairs what a crash left half made, and starts to fill the pool.
    pub(crate) async fn open(options: Options) -> Result<Arc<Self>> {
        let (size, allow_metadata) = (options.pool, options.allow_metadata);
        let (wiring, places) = blocking(move || prepare(&options)).await?;
        let (tasks, stop, names) = (TaskTracker::new(), CancellationToken::new(), wiring.names.clone());
        let pool = Arc::new(Pool::new(wiring, places, size));
        pool.repair().await?;
        if nat::open(&names, allow_metadata).await {
            tasks.spawn(nat::keep(names, allow_metadata, stop.clone()));
        }
        tasks.spawn(Arc::clone(&pool).keep_full(stop.clone()));
        tasks.spawn(Arc::clone(&pool).keep_clean(stop.clone()));
        tasks.close();
        Ok(Arc::new(Self { pool, tasks, stop }))
    }

    /// A place for this replica; the same one each time until it is released.
    pub(crate) async fn take(&self, id: &ReplicaId) -> Result<Place> {
        self.pool.take(id).await
    }

    /// The place that this replica holds.
    pub(crate) fn of(&self, id: &ReplicaId) -> Option<Place> {
        self.pool.of(id)
    }

    /// The replicas that hold a place.
    pub(crate) fn held(&self) -> Vec<ReplicaId> {
        self.pool.held()
    }

    /// Gives a replica's place back; fine if it holds none. The namespace itself goes a little later.
    pub(crate) async fn release(&self, id: &ReplicaId) -> Result<()> {
        self.pool.release(id).await
    }

    /// Whether all of it is still there. If not, [`Network::open`] makes it again.
    pub(crate) fn is_whole(&self) -> bool {
        self.pool.is_whole()
    }

    /// The gateway's address on the bridge.
    pub(crate) fn bridge(&self) -> Ipv4Addr {
        self.pool.gateway()
    }

    /// Ends when what has been released is really gone, or does not go.
    pub(crate) async fn settled(&self) {
        if tokio::time::timeout(SETTLE, self.pool.settled()).await.is_err() {
            tracing::warn!("some network namespaces are still not removed");
        }
    }

    /// Stops the tasks; the pool stays for a successor, and so do places of replicas.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Stops the tasks and gives back the pool; what replicas hold stays.
    pub(crate) async fn give_back(&self) -> Result<()> {
        self.close().await;
        self.pool.empty().await?;
        self.settled().await;
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Everything that is needed before the first place can be made. Blocking.
fn prepare(options: &Options) -> Result<(Wiring, Places)> {
    let root = options.run.join(options.instance.short());
    let pins = pins(&root);
    fs::create_dir_all(&pins).map_err(|e| explain(&format!("make the folder {}", pins.display()), e))?;
    let places = Places::open(root.join("places"), options.allow_metadata)
        .map_err(|e| explain(&format!("open the folder {}", root.display()), e))?;
    let bridge = bridge::open(&options.instance, options.subnet, &options.run)?;
    let allow_metadata = options.allow_metadata;
    let wiring = Wiring { names: bridge.names, bridge: bridge.index, allow_metadata, pins };
    Ok((wiring, places))
}

/// Where an instance's namespaces are pinned.
fn pins(root: &Path) -> PathBuf {
    root.join("net")
}

/// Runs what waits for the kernel or for files where it holds up nobody.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(|e| {
        Error::because(Kind::Retryable, "the network was stopped in the middle of its work", e)
    })?
}
