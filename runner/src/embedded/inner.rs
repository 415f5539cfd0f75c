//! What the engine's calls and its watchers share: the folders of replicas, the store, the network, who listens.
//! Holds: one call at a time works on one replica; whatever ends is told, whoever ended it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
};

use parking_lot::{Mutex, RwLock};
use tidegate_config::{
    name::ReplicaId,
    spec::{Observed, ObservedState},
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Options,
    cgroup::Cgroup,
    images::Store,
    network::Network,
    process::{Running, Shims},
    record::{self, Doing, Folders, Record},
    task::Pid,
};
use crate::{Error, Event, Kind, Result, events::Events, resolver};

/// The engine.
pub(super) struct Inner {
    pub options: Options,
    pub folders: Folders,
    pub store: Arc<Store>,
    /// As it is now: made again if somebody removes it.
    network: RwLock<Arc<Network>>,
    mending: tokio::sync::Mutex<()>,
    pub shims: Shims,
    pub events: Events,
    /// What works beside the calls.
    pub tasks: TaskTracker,
    /// Ends that work.
    pub end: CancellationToken,
    /// Whom new replicas ask for names.
    servers: Mutex<Vec<IpAddr>>,
    /// Replicas that a call works on.
    busy: Mutex<HashMap<ReplicaId, Weak<tokio::sync::Mutex<()>>>>,
    /// Shims whose end is waited for.
    watched: Mutex<HashMap<ReplicaId, Pid>>,
}

impl Inner {
    pub(super) fn new(options: Options, store: Arc<Store>, network: Arc<Network>, shims: Shims) -> Arc<Self> {
        let folders = Folders::below(&options.folder);
        Arc::new(Self {
            options,
            folders,
            store,
            network: RwLock::new(network),
            mending: tokio::sync::Mutex::default(),
            shims,
            events: Events::default(),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            servers: Mutex::new(resolver::ours()),
            busy: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    pub(super) fn network(&self) -> Arc<Network> {
        Arc::clone(&self.network.read())
    }

    /// Makes the network again if somebody has removed its bridge or its folder.
    pub(super) async fn mend_network(&self) -> Result<()> {
        if self.network().is_whole() {
            return Ok(());
        }
        let _one_at_a_time = self.mending.lock().await;
        let broken = self.network();
        if broken.is_whole() {
            return Ok(());
        }
        tracing::warn!(
            "somebody has removed the bridge of the replicas' network or its folder; making it again"
        );
        broken.close().await;
        let made = Network::open(super::network_options(&self.options)).await?;
        *self.network.write() = made;
        Ok(())
    }

    /// Whom a new replica asks for names.
    pub(super) fn servers(&self) -> Vec<IpAddr> {
        self.servers.lock().clone()
    }

    pub(super) fn resolve_at(&self, resolver: Option<IpAddr>) {
        *self.servers.lock() = resolver.map_or_else(resolver::ours, |ip| resolver::servers(ip, true));
    }

    /// Waits until no other call works on the replica.
    pub(super) async fn alone(&self, id: &ReplicaId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock();
            busy.retain(|_, lock| lock.strong_count() > 0);
            let known = busy.get(id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                busy.insert(id.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    pub(super) fn cgroup(&self, id: &ReplicaId) -> Cgroup {
        Cgroup::of(&super::build::cgroup(&self.options.instance, id))
    }

    /// The replica's record, or the error that it is gone.
    pub(super) fn ours(&self, id: &ReplicaId) -> Result<Record> {
        let gone = || Error::new(Kind::Gone, format!("there is no replica {id}"));
        self.find(id)?.ok_or_else(gone)
    }

    pub(super) fn find(&self, id: &ReplicaId) -> Result<Option<Record>> {
        self.folders.find(id).map_err(|error| unreadable(id, error))
    }

    pub(super) fn doing(&self, id: &ReplicaId) -> Doing {
        self.folders.doing(id)
    }

    /// Whether anything at all is left of the replica.
    pub(super) fn has_traces(&self, id: &ReplicaId) -> bool {
        let folders = self.cgroup(id).folders();
        self.folders.of(id).path().exists()
            || self.network().of(id).is_some()
            || folders.iter().any(|folder| folder.exists())
    }

    /// The replica as a list shows it.
    pub(super) fn observed(&self, record: Record, doing: &Doing) -> Observed {
        let state = record::state(doing, &self.cgroup(&record.id));
        let place = self.network().of(&record.id).filter(|_| matches!(doing, Doing::Running(_)));
        Observed {
            address: place.map(|place| SocketAddr::from((place.address, record.port))),
            id: record.id,
            revision: record.revision,
            digest: record.digest,
            state,
            created: record.created,
            healthcheck: record.healthcheck,
        }
    }

    /// Tells what the replica is doing.
    pub(super) fn tell_of(&self, record: Record, doing: &Doing) {
        let observed = self.observed(record, doing);
        match observed.state {
            ObservedState::Exited(exit) => self.events.tell(Event::Exited { id: observed.id, exit }),
            ObservedState::Running | ObservedState::Frozen => self.events.tell(Event::Running(observed)),
            ObservedState::Created => {}
        }
    }

    /// Sees to it that the end of the replica's process is told, once.
    pub(super) fn watch(self: &Arc<Self>, id: &ReplicaId, running: Running) {
        let shim = running.run.shim;
        if self.watched.lock().insert(id.clone(), shim) == Some(shim) {
            return;
        }
        let (inner, id) = (Arc::clone(self), id.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = inner.end.cancelled() => return,
                _ = running.ended() => {}
            }
            let last = inner.watched.lock().get(&id) == Some(&shim);
            if last {
                inner.watched.lock().remove(&id);
                inner.tell_end(&id);
            }
        });
    }

    fn tell_end(&self, id: &ReplicaId) {
        match self.doing(id) {
            Doing::Exited(exit) => self.events.tell(Event::Exited { id: id.clone(), exit }),
            // It was removed, or is started again.
            Doing::Nothing | Doing::Running(_) => {}
        }
    }
}

pub(super) fn unreadable(id: &ReplicaId, error: std::io::Error) -> Error {
    Error::because(Kind::Retryable, format!("the files of replica {id} cannot be read: {error}"), error)
}
