//! [`Runner`] on a Kubernetes, which places by itself: one replica is one pod of ours, which the kubelet never restarts. It
//! is reached at the pod's own address.
//! Holds: only what carries the instance's label and name is seen or touched; every call has a deadline. Absent: freezing
//! and keeping, which Kubernetes has not; restarts, which are the gateway's.

mod body;
mod call;
mod connect;
mod exec;
mod follow;
mod images;
mod inner;
mod judge;
mod labels;
mod logs;
mod metrics;
mod nodes;
mod options;
mod owner;
mod quantity;
#[cfg(test)]
mod scripted;
mod secrets;
mod start;
mod volumes;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use tidegate_config::{
    model,
    name::ReplicaId,
    spec::{Capabilities, Observed, Pull, StartSpec},
    units::Bytes,
};
use tokio::{task::JoinSet, time::timeout};

pub use options::Options;

use crate::{
    Error, Event, Executed, Inventory, Kind, LogLine, LogOptions, Prepared, Progress, Result, Runner, Stats,
    call::{READ, WRITE},
    cluster::Standing,
};
use inner::{Found, Inner, absent};
use quantity::amount;

/// How long a node may take to say how a replica ended: a kubelet gives what ignores SIGTERM two seconds at least.
const HEARD: Duration = Duration::from_secs(4);

/// A Kubernetes.
pub struct Kubernetes {
    inner: Arc<Inner>,
    /// The tasks that follow the cluster; end with this value.
    _follower: JoinSet<()>,
}

impl Kubernetes {
    /// Makes ready to speak to the API, and follows the cluster from now on, whether or not it answers yet.
    ///
    /// # Errors
    /// `Kind::Permanent`, for what no waiting cures: a kubeconfig that is not there or cannot be used.
    pub async fn connect(options: Options) -> Result<Self> {
        let (client, namespace) = connect::client(&options.cluster).await?;
        let inner = Inner::new(client, namespace, options);
        let mut follower = JoinSet::new();
        follower.spawn(follow::follow(Arc::clone(&inner)));
        follower.spawn(start::retry(Arc::clone(&inner)));
        follower.spawn(metrics::look_out(Arc::clone(&inner)));
        Ok(Self { inner, _follower: follower })
    }

    /// Whether the file says how the cluster is reached, as far as that is known without asking it.
    ///
    /// # Errors
    /// `Kind::Permanent`: a kubeconfig that is not there or cannot be used.
    pub async fn check(cluster: &model::Kubernetes) -> Result<()> {
        connect::client(cluster).await.map(drop)
    }

    /// Removes every replica of this instance, and what owned them: for runs that leave nothing behind.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub async fn clear(&self) -> Result<()> {
        for observed in self.list().await? {
            self.remove(&observed.id).await?;
        }
        let name = labels::owner(&self.inner.options.instance);
        let how = DeleteParams::default();
        match self.inner.call("owner delete", WRITE, self.inner.maps.delete(&name, &how)).await {
            Err(failed) if !failed.is(404) => Err(failed.during(format!("remove the ConfigMap {name}"))),
            _ => Ok(()),
        }
    }

    async fn ours(&self, id: &ReplicaId) -> Result<Found> {
        self.inner.find(id).await?.ok_or_else(|| absent(id))
    }

    /// What Kubernetes has not, for a replica that there is.
    async fn cannot<T>(&self, id: &ReplicaId, what: &str) -> Result<T> {
        self.ours(id).await?;
        Err(Error::new(Kind::Permanent, format!("Kubernetes cannot {what}: {id}")))
    }

    /// Deletes a replica's pod, whatever it is doing. One that seems to run may have ended a moment ago: its node is heard
    /// about that first, briefly.
    async fn end(&self, id: &ReplicaId, found: &Found) -> Result<()> {
        if matches!(found.standing, Standing::Running(_)) {
            let events = self.events();
            delete(&self.inner, id, &found.pod, 1).await?;
            if self.gone(id, events, HEARD).await {
                return Ok(());
            }
        }
        delete(&self.inner, id, &found.pod, 0).await
    }

    /// Ends when a replica's pod is gone, or after `limit`.
    async fn gone(&self, id: &ReplicaId, mut events: BoxStream<'static, Event>, limit: Duration) -> bool {
        let gone = async {
            while let Some(event) = events.next().await {
                match event {
                    Event::Gone(other) if other == *id => return true,
                    Event::Resync if matches!(self.inner.find(id).await, Ok(None)) => return true,
                    _ => {}
                }
            }
            false
        };
        timeout(limit, gone).await.unwrap_or(false)
    }
}

/// Deletes a pod that is ours; `grace` in seconds, 0 for at once.
async fn delete(inner: &Inner, id: &ReplicaId, pod: &Pod, grace: u32) -> Result<()> {
    let options = DeleteParams {
        grace_period_seconds: Some(grace),
        // A name could change hands between two calls.
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    inner.will_end(id);
    match inner.call("pod delete", WRITE, inner.pods.delete(&pod.name_any(), &options)).await {
        Err(failed) if !failed.is(404) && !failed.is(409) => {
            inner.ends_no_more(id);
            Err(failed.during(format!("remove {id}")))
        }
        _ => Ok(()),
    }
}

#[async_trait::async_trait]
impl Runner for Kubernetes {
    async fn prepare(&self, image: &str, pull: Pull, _progress: Progress) -> Result<Prepared> {
        self.inner.images.prepare(image, pull).await
    }

    async fn start(&self, spec: &StartSpec) -> Result<()> {
        start::start(&self.inner, spec).await
    }

    async fn freeze(&self, id: &ReplicaId) -> Result<()> {
        self.cannot(id, "freeze").await
    }

    async fn thaw(&self, id: &ReplicaId) -> Result<()> {
        self.cannot(id, "thaw").await
    }

    async fn stop(&self, id: &ReplicaId, grace: Duration, keep: bool) -> Result<()> {
        let Some(found) = self.inner.find(id).await? else { return self.remove(id).await };
        let over = matches!(found.standing, Standing::Ended(_));
        if keep {
            return if over { Ok(()) } else { self.cannot(id, "keep what is stopped").await };
        }
        let seconds = u32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        if !over && seconds > 0 {
            let events = self.events();
            delete(&self.inner, id, &found.pod, seconds).await?;
            if self.gone(id, events, grace + READ).await {
                return Ok(());
            }
        }
        // What does not end in time is forgotten; its node ends it when it can.
        self.remove(id).await
    }

    async fn restart(&self, id: &ReplicaId) -> Result<()> {
        self.cannot(id, "restart").await
    }

    async fn remove(&self, id: &ReplicaId) -> Result<()> {
        let waited = self.inner.wait_no_more(id);
        let found = self.inner.find(id).await?;
        // What somebody else has asked to end has its time to finish what it does.
        if let Some(found) = &found
            && (!found.is_left_to_others() || self.inner.is_ending(id))
        {
            self.end(id, found).await?;
        }
        if found.is_some() || waited {
            self.inner.events.tell(Event::Gone(id.clone()));
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        Ok(self.inner.look().await?.into_iter().map(|seen| seen.observed).collect())
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.inner.events.listen()
    }

    async fn logs(&self, id: &ReplicaId, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        let found = self.ours(id).await?;
        let (name, asked) = (found.pod.name_any(), logs::options(options));
        let call = self.inner.pods.log_stream(&name, &asked);
        let bytes = self.inner.call("pod log", READ, call).await;
        Ok(logs::lines(bytes.map_err(|f| f.during(format!("read the logs of {id}")))?, options.follow))
    }

    async fn exec(&self, id: &ReplicaId, command: &[String], limit: Duration) -> Result<Executed> {
        let name = self.ours(id).await?.pod.name_any();
        timeout(limit, exec::exec(&self.inner, &name, command)).await.unwrap_or_else(|_| {
            let words = format!("the command did not end within {limit:?}");
            Err(Error::new(Kind::Retryable, words))
        })
    }

    async fn stats(&self, id: &ReplicaId) -> Result<Stats> {
        self.ours(id).await?;
        metrics::of(&self.inner, id).await
    }

    async fn ping(&self) -> Result<()> {
        let asked = self.inner.call("version", call::PING, self.inner.client.apiserver_version()).await;
        asked.map(drop).map_err(|f| f.during("ask whether it is there"))
    }

    fn resolve_at(&self, resolver: Option<std::net::IpAddr>) {
        self.inner.resolvers.set(resolver, false);
    }

    async fn inventory(&self) -> Result<Inventory> {
        let asked = self.inner.call("version", READ, self.inner.client.apiserver_version()).await;
        let version = asked.map_err(|f| f.during("ask what the cluster offers"))?.git_version;
        let listed = self.inner.call("node list", READ, self.inner.nodes.list(&ListParams::default())).await;
        let nodes = match listed {
            Ok(listed) => listed.items,
            // Who may make pods need not be let see the nodes.
            Err(failed) if failed.is(403) => Vec::new(),
            Err(failed) => return Err(failed.during("list the nodes")),
        };
        Ok(Inventory {
            engine: format!("kubernetes {version}{}", counted(nodes.len())),
            cpu: offered(&nodes, "cpu"),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bytes of memory, as a sum of what nodes have"
            )]
            memory: Bytes(offered(&nodes, "memory") as u64),
            labels: Default::default(),
            bridge: None,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            freeze: false,
            keep_stopped: false,
            exec: true,
            logs: true,
            stats: self.inner.metrics.are_there(),
            places: true,
        }
    }
}

fn counted(nodes: usize) -> String {
    if nodes == 0 { String::new() } else { format!(" of {nodes} nodes") }
}

/// How much of something pods may have, over all nodes.
fn offered(nodes: &[Node], what: &str) -> f64 {
    let each = nodes.iter().filter_map(|node| node.status.as_ref()?.allocatable.as_ref()?.get(what));
    each.filter_map(|quantity| amount(&quantity.0)).fold(0.0, |sum, each| sum + each)
}
