//! [`Runner`] without a daemon: Tidegate's own engine, which runs OCI images on this machine.
//! What a replica is stands in its folder ([`record`]); a small process of its own watches over it ([`shim`]), so that it
//! outlives the gateway and its end is known to the next one. Holds: whatever is made carries the instance's id in its name,
//! and mounts are made where they vanish with the shim, so that `doctor` finds all that a crash may leave.

mod build;
pub mod cgroup;
pub mod doctor;
pub(crate) mod images;
mod inner;
mod life;
mod logs;
mod network;
mod options;
mod process;
mod record;
pub mod shim;
mod task;
#[cfg(feature = "test-util")]
pub mod trial;
mod volumes;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration, time::SystemTime};

use futures_util::stream::BoxStream;
use nix::sys::sysinfo::sysinfo;
use tidegate_config::{
    name::ReplicaId,
    spec::{Capabilities, Digest, Observed, Pull, StartSpec},
    units::Bytes,
};
use tokio::time::{MissedTickBehavior, interval};

pub use images::{Prune, Pruned, Store, Stored};
pub use options::{Options, ShimProgram};

use crate::{
    Error, Event, Executed, Inventory, Kind, LogLine, LogOptions, Prepared, Progress, Result, Runner, Stats,
};
use inner::Inner;
use record::{Doing, Folders};

/// What must not outlive a restart of the machine.
const RUN: &str = "/run/tidegate";
/// Namespaces that wait for a replica: as many as start at once, twice.
const POOL: usize = 8;
/// Between two looks at images that nothing needs.
const TIDY_EVERY: Duration = Duration::from_secs(3600);
/// Folders that are being made or removed and are older than this were left by a gateway that died.
const ABANDONED: Duration = Duration::from_secs(600);

/// The engine of this machine.
pub struct Embedded {
    inner: Arc<Inner>,
}

impl Embedded {
    /// Opens the engine's folder, and makes or takes over its network.
    ///
    /// # Errors
    /// Whatever this machine lacks, with what to do about it.
    pub async fn open(options: Options) -> Result<Self> {
        let folders = Folders::below(&options.folder);
        prepare_folders(&options, &folders)?;
        let store = Store::open(&options.folder.join("images"), options.images.clone())?;
        let shims = process::Shims::new(&options.shim)?;
        let network = network::Network::open(network_options(&options)).await?;
        let inner = Inner::new(options, store, network, shims);
        sweep(&inner).await?;
        inner.tasks.spawn(tidy(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Removes every replica of this instance and the places that wait for one; the bridge stays until [`doctor`] purges it.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub async fn clear(&self) -> Result<()> {
        for observed in self.list().await? {
            self.remove(&observed.id).await?;
        }
        self.inner.network().give_back().await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.inner.end.cancel();
        self.inner.tasks.close();
    }
}

/// The images that replicas below this folder were started from.
///
/// # Errors
/// When the folder cannot be read.
pub fn in_use(folder: &Path) -> std::io::Result<BTreeSet<Digest>> {
    match Folders::below(folder).all() {
        Ok((records, _)) => Ok(records.into_iter().map(|record| record.digest).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

#[async_trait::async_trait]
impl Runner for Embedded {
    async fn prepare(&self, image: &str, pull: Pull, progress: Progress) -> Result<Prepared> {
        let image = self.inner.store.prepare(image, pull, progress).await?;
        let (exposed, healthcheck) = (image.config.exposed(), image.config.healthcheck());
        Ok(Prepared { digest: image.digest, exposed, healthcheck })
    }

    async fn start(&self, spec: &StartSpec) -> Result<()> {
        life::start(&self.inner, spec).await
    }

    async fn freeze(&self, id: &ReplicaId) -> Result<()> {
        let _alone = self.inner.alone(id).await;
        self.running(id)?;
        self.inner.cgroup(id).freeze().await.map_err(|error| failed(format!("freeze {id}"), error))
    }

    async fn thaw(&self, id: &ReplicaId) -> Result<()> {
        let _alone = self.inner.alone(id).await;
        self.running(id)?;
        self.inner.cgroup(id).thaw().map_err(|error| failed(format!("thaw {id}"), error))
    }

    async fn stop(&self, id: &ReplicaId, grace: Duration, keep: bool) -> Result<()> {
        life::stop(&self.inner, id, grace, keep).await
    }

    async fn restart(&self, id: &ReplicaId) -> Result<()> {
        life::restart(&self.inner, id).await
    }

    async fn remove(&self, id: &ReplicaId) -> Result<()> {
        life::remove(&self.inner, id).await
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        sweep(&self.inner).await?;
        let inner = Arc::clone(&self.inner);
        let listed = tokio::task::spawn_blocking(move || list(&inner)).await;
        listed.map_err(|error| Error::because(Kind::Retryable, "the list was broken off", error))?
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.inner.events.listen()
    }

    async fn logs(&self, id: &ReplicaId, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.inner.ours(id)?;
        logs::lines(self.inner.folders.of(id), options).await
    }

    async fn exec(&self, id: &ReplicaId, command: &[String], limit: Duration) -> Result<Executed> {
        self.running(id)?;
        self.inner.shims.exec(&self.inner.folders.of(id), command, limit).await
    }

    async fn stats(&self, id: &ReplicaId) -> Result<Stats> {
        self.running(id)?;
        self.inner.cgroup(id).stats().map_err(|error| failed(format!("measure {id}"), error))
    }

    async fn ping(&self) -> Result<()> {
        let folder = self.inner.folders.path();
        let words = || format!("the engine's folder {}", folder.display());
        tokio::fs::metadata(folder).await.map_err(|error| failed(words(), error))?;
        self.inner.mend_network().await
    }

    fn resolve_at(&self, resolver: Option<std::net::IpAddr>) {
        self.inner.resolve_at(resolver);
    }

    async fn inventory(&self) -> Result<Inventory> {
        let memory =
            sysinfo().map_err(|error| failed("ask how much memory there is".to_owned(), error.into()))?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Inventory {
            engine: format!("embedded {}", env!("CARGO_PKG_VERSION")),
            cpu: f64::from(u32::try_from(cores).unwrap_or(u32::MAX)),
            memory: Bytes(memory.ram_total()),
            labels: std::collections::BTreeMap::new(),
            bridge: Some(self.inner.network().bridge().into()),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { freeze: true, keep_stopped: true, exec: true, logs: true, stats: true, places: false }
    }
}

impl Embedded {
    /// Whether the replica's process runs, or the error that says what is the matter.
    fn running(&self, id: &ReplicaId) -> Result<()> {
        self.inner.ours(id)?;
        match self.inner.doing(id) {
            Doing::Running(_) => Ok(()),
            Doing::Nothing | Doing::Exited(_) => {
                Err(Error::new(Kind::Permanent, format!("the process of {id} does not run")))
            }
        }
    }
}

fn list(inner: &Arc<Inner>) -> Result<Vec<Observed>> {
    let unlisted = |error| failed("list the replicas".to_owned(), error);
    let mut listed = Vec::new();
    let (records, _) = inner.folders.all().map_err(unlisted)?;
    for record in records {
        let doing = inner.doing(&record.id);
        let observed = inner.observed(record, &doing);
        if let Doing::Running(running) = doing {
            // It may be another gateway's, or an earlier one's.
            inner.watch(&observed.id, running);
        }
        listed.push(observed);
    }
    Ok(listed)
}

/// Removes what nobody knows any more: replicas whose record is gone or cannot be read, control groups and places in the
/// network without a folder. A start makes the folder first, so none that is under way is taken for one.
async fn sweep(inner: &Arc<Inner>) -> Result<()> {
    let unknown = |id: &ReplicaId| !inner.folders.of(id).path().exists();
    let groups = cgroup::Cgroup::of(&build::cgroup_of(&inner.options.instance)).children();
    let groups = groups.into_iter().filter_map(|name| name.parse().ok());
    let mut strays: Vec<ReplicaId> =
        inner.network().held().into_iter().chain(groups).filter(unknown).collect();
    let (_, broken) = inner.folders.all().map_err(|error| failed("look for replicas".to_owned(), error))?;
    strays.extend(broken);
    for id in strays {
        let _alone = inner.alone(&id).await;
        if !matches!(inner.find(&id), Ok(Some(_))) && inner.has_traces(&id) {
            tracing::warn!(%id, "removing what is left of a replica that nobody knows any more");
            life::clear(inner, &id).await?;
        }
    }
    Ok(())
}

fn network_options(options: &Options) -> network::Options {
    network::Options {
        instance: options.instance.clone(),
        subnet: options.subnet,
        run: RUN.into(),
        allow_metadata: options.allow_metadata,
        pool: POOL,
    }
}

fn prepare_folders(options: &Options, folders: &Folders) -> Result<()> {
    let cannot = |error| {
        let words = format!("the engine's folder {} cannot be used", options.folder.display());
        Error::because(Kind::Permanent, format!("{words}: {error}"), error)
    };
    std::fs::create_dir_all(folders.path()).map_err(cannot)?;
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    std::fs::set_permissions(&options.folder, private).map_err(cannot)?;
    for left in folders.abandoned(SystemTime::now(), ABANDONED).map_err(cannot)? {
        life::delete(&left);
    }
    let run = Path::new(RUN).join(options.instance.short());
    let owner = options.folder.as_os_str().as_encoded_bytes();
    std::fs::create_dir_all(&run).and_then(|()| std::fs::write(run.join("owner"), owner)).map_err(|error| {
        let words = format!("{} cannot be written (the embedded engine needs root)", run.display());
        Error::because(Kind::Permanent, format!("{words}: {error}"), error)
    })
}

/// Removes images that nothing has needed for long, now and then.
async fn tidy(inner: Arc<Inner>) {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = inner.end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let pruned = async {
            let used =
                in_use(&inner.options.folder).map_err(|e| failed("look what is in use".to_owned(), e))?;
            inner.store.prune(&used, Prune::from(&inner.options.images)).await
        };
        match pruned.await {
            Ok(pruned) => tracing::debug!(?pruned, "looked at the images"),
            Err(error) => tracing::warn!(%error, "cannot remove images that nothing needs"),
        }
    }
}

fn failed(what: String, error: std::io::Error) -> Error {
    Error::because(Kind::Retryable, format!("{what}: {error}"), error)
}
