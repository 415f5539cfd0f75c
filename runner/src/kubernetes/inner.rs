//! What the runner and the task that follows the cluster share: the connection, what waits for room, and one look at all
//! that is ours. Holds: ours is what has the instance's label and its name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, ContainerState, Node, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, api::ListParams};
use parking_lot::Mutex;
use tidegate_config::{
    name::ReplicaId,
    spec::{Observed, StartSpec},
};
use tokio::sync::Notify;

use super::{Options, call::failed, images::Images, judge, labels, metrics::Metrics};
use crate::{
    Error, Kind, Result,
    call::{Failed, READ, within},
    cluster::{Seen, Standing},
    docker::labels::Stamp,
    events::Events,
    resolver::Resolvers,
};

/// One connection to one Kubernetes.
pub(super) struct Inner {
    pub client: Client,
    pub pods: Api<Pod>,
    pub secrets: Api<Secret>,
    pub maps: Api<ConfigMap>,
    pub nodes: Api<Node>,
    pub namespace: String,
    pub options: Options,
    pub images: Images,
    pub events: Events,
    /// A call was not answered: the watch may be as dead.
    pub unheard: Notify,
    /// Who owns our objects, once that is known.
    pub owner: tokio::sync::Mutex<Option<OwnerReference>>,
    /// Replicas that the namespace's quota has no room for.
    waiting: Mutex<BTreeMap<ReplicaId, Waiting>>,
    /// Pods whose end is our own doing.
    ending: Mutex<BTreeSet<ReplicaId>>,
    /// Whom new pods ask for names.
    pub resolvers: Resolvers,
    pub metrics: Metrics,
}

/// A replica that could not be made yet, and why.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub spec: StartSpec,
    pub why: String,
    pub since: SystemTime,
    /// Whether its pod has been seen since.
    seen: bool,
}

/// A pod that is ours.
pub(super) struct Found {
    pub pod: Pod,
    pub standing: Standing,
}

impl Inner {
    pub(super) fn new(client: Client, namespace: String, options: Options) -> Arc<Self> {
        Arc::new(Self {
            pods: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client.clone(), &namespace),
            maps: Api::namespaced(client.clone(), &namespace),
            nodes: Api::all(client.clone()),
            client,
            namespace,
            images: Images::new(options.images.clone()),
            options,
            events: Events::default(),
            unheard: Notify::new(),
            owner: tokio::sync::Mutex::default(),
            waiting: Mutex::default(),
            ending: Mutex::default(),
            resolvers: Resolvers::default(),
            metrics: Metrics::default(),
        })
    }

    /// Runs one call; one that is not answered puts the watch in doubt.
    pub(super) async fn call<T>(
        &self,
        name: &'static str,
        limit: std::time::Duration,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> std::result::Result<T, Failed> {
        // Boxed, because the client's futures are big and each caller would hold them several times over.
        let outcome = within(name, limit, Box::pin(asked), failed).await;
        if outcome.as_ref().is_err_and(|failed| failed.status.is_none()) {
            self.unheard.notify_one();
        }
        outcome
    }

    /// What finds our objects.
    pub(super) fn ours(&self) -> String {
        labels::selector(&self.options.instance)
    }

    /// Our pods, and the version of the whole from which changes can be followed.
    pub(super) async fn list(&self) -> Result<(Vec<Pod>, String)> {
        let options = ListParams::default().labels(&self.ours());
        let listed = self.call("pod list", READ, self.pods.list(&options)).await;
        let listed = listed.map_err(|f| f.during("list the pods"))?;
        Ok((listed.items, listed.metadata.resource_version.unwrap_or_default()))
    }

    /// Everything of ours, as it is now.
    pub(super) async fn look(&self) -> Result<Vec<Seen>> {
        let (pods, _) = self.list().await?;
        Ok(with_waiting(pods.iter().filter_map(|pod| self.see(pod)), self.waits()))
    }

    /// A pod in the words of every engine, if it is ours.
    pub(super) fn see(&self, pod: &Pod) -> Option<Seen> {
        let stamp = self.stamp(pod)?;
        let standing = judge::standing(pod, stamp.port);
        let created = pod.metadata.creation_timestamp.as_ref();
        let observed = Observed {
            state: standing.state(),
            address: standing.address(),
            created: created.map_or(SystemTime::UNIX_EPOCH, |at| at.0.into()),
            healthcheck: None,
            id: stamp.id,
            revision: stamp.revision,
            digest: stamp.digest,
        };
        let trouble = judge::trouble(pod);
        Some(Seen { observed, standing, trouble })
    }

    /// The pod of a replica, if there is one and it is ours.
    pub(super) async fn find(&self, id: &ReplicaId) -> Result<Option<Found>> {
        let name = labels::name(&self.options.instance, id);
        let found = self.call("pod get", READ, self.pods.get_opt(&name)).await;
        let found = found.map_err(|f| f.during(format!("look for {id}")))?;
        Ok(found.and_then(|pod| {
            let standing = judge::standing(&pod, self.stamp(&pod)?.port);
            Some(Found { pod, standing })
        }))
    }

    fn stamp(&self, pod: &Pod) -> Option<Stamp> {
        labels::read(&self.options.instance, pod)
    }

    /// Notes that there is no room for a replica.
    pub(super) fn wait(&self, spec: &StartSpec, why: String, now: SystemTime) {
        let mut waiting = self.waiting.lock();
        let since = waiting.get(&spec.id).map_or(now, |known| known.since);
        waiting.insert(spec.id.clone(), Waiting { spec: spec.clone(), why, since, seen: false });
    }

    /// Notes that a replica waits no more; whether it did.
    pub(super) fn wait_no_more(&self, id: &ReplicaId) -> bool {
        self.waiting.lock().remove(id).is_some()
    }

    /// Notes that there is a pod of a replica that waited. It counts as one that waits until the next round of tries: whoever
    /// makes the pod right now must not take it for one that was removed meanwhile.
    pub(super) fn note_seen(&self, id: &ReplicaId) {
        if let Some(waiting) = self.waiting.lock().get_mut(id) {
            waiting.seen = true;
        }
    }

    /// What waits for room, at the beginning of a round of tries.
    pub(super) fn waiting(&self) -> Vec<StartSpec> {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, waiting| !waiting.seen);
        waiting.values().map(|waiting| waiting.spec.clone()).collect()
    }

    /// Whether a replica waits for room and was not removed.
    pub(super) fn is_waiting(&self, id: &ReplicaId) -> bool {
        self.waiting.lock().contains_key(id)
    }

    /// The same as replicas that no node takes.
    pub(super) fn waits(&self) -> Vec<Seen> {
        let seen = |waiting: &Waiting| {
            let standing = Standing::Stuck(waiting.why.clone());
            let observed = Observed {
                id: waiting.spec.id.clone(),
                revision: waiting.spec.revision.clone(),
                digest: waiting.spec.digest.clone(),
                state: standing.state(),
                address: None,
                created: waiting.since,
                healthcheck: None,
            };
            Seen { observed, standing, trouble: None }
        };
        self.waiting.lock().values().filter(|waiting| !waiting.seen).map(seen).collect()
    }

    /// Notes that a pod's end will be our doing.
    pub(super) fn will_end(&self, id: &ReplicaId) {
        self.ending.lock().insert(id.clone());
    }

    /// Whether a pod ends because of us, which says nothing new.
    pub(super) fn is_ending(&self, id: &ReplicaId) -> bool {
        self.ending.lock().contains(id)
    }

    /// Forgets that; whether it was so.
    pub(super) fn ends_no_more(&self, id: &ReplicaId) -> bool {
        self.ending.lock().remove(id)
    }
}

impl Found {
    /// Whether somebody deleted it, and its process has not ended yet.
    pub(super) fn is_left_to_others(&self) -> bool {
        let status = self.pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let runs = |state: &ContainerState| state.running.is_some();
        let runs = status.into_iter().flatten().any(|container| container.state.as_ref().is_some_and(runs));
        self.pod.metadata.deletion_timestamp.is_some() && runs
    }
}

/// Pods, and what waits for room; what waits may have a pod already, which waits for its secrets.
pub(super) fn with_waiting(pods: impl Iterator<Item = Seen>, waits: Vec<Seen>) -> Vec<Seen> {
    let is_waiting = |pod: &Seen| waits.iter().any(|waits| waits.observed.id == pod.observed.id);
    let mut seen: Vec<_> = pods.filter(|pod| !is_waiting(pod)).collect();
    seen.extend(waits);
    seen
}

/// That a replica is not there.
pub(super) fn absent(id: &ReplicaId) -> Error {
    Error::new(Kind::Gone, format!("there is no pod of replica {id}"))
}
