//! [`Runner`] on a Docker swarm, which places by itself: one replica is one service of one task, which Swarm never
//! restarts. It is reached at the port that its node publishes for it.
//! Holds: only what carries the instance's label and name is seen or touched; every call has a deadline (`call::Api`, the
//! Docker engine's). Absent: exec, stats, freezing and keeping, which Swarm has not; restarts, which are the gateway's.

mod body;
mod follow;
mod inner;
mod judge;
mod options;
mod secrets;
mod start;

use std::{sync::Arc, time::Duration};

use bollard::{models::NodeState, query_parameters::LogsOptions};
use futures_util::{StreamExt, stream::BoxStream};
use tidegate_config::{
    name::ReplicaId,
    spec::{Capabilities, Observed, Pull, StartSpec},
    units::Bytes,
};
use tokio::{task::JoinSet, time::sleep};

pub use options::Options;

use crate::{
    Error, Event, Executed, Inventory, Kind, LogLine, LogOptions, Prepared, Progress, Reached, Result,
    Runner, Stats,
    call::{READ, WRITE},
    docker::{connect, logs},
};
use inner::{Found, Inner};

/// Between two looks whether a replica has stopped.
const STOPPING: Duration = Duration::from_millis(100);

/// A Docker swarm.
pub struct Swarm {
    inner: Arc<Inner>,
    /// The task that follows the swarm; ends with this value.
    _follower: JoinSet<()>,
}

impl Swarm {
    /// Makes ready to speak to a manager, and follows the swarm from now on, whether or not it answers yet.
    ///
    /// # Errors
    /// `Kind::Permanent`, for what no waiting cures: an endpoint that is none, plain TCP to another machine, PEM files
    /// that cannot be used, no `ssh` program.
    pub async fn connect(options: Options) -> Result<Self> {
        let (endpoint, api) = connect::api(options.endpoint.as_deref(), options.tls.as_ref())?;
        let inner = Inner::new(api, endpoint, options);
        let mut follower = JoinSet::new();
        follower.spawn(follow::follow(Arc::clone(&inner)));
        Ok(Self { inner, _follower: follower })
    }

    /// Removes every replica of this instance: for runs that leave nothing behind.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub async fn clear(&self) -> Result<()> {
        for observed in self.list().await? {
            self.remove(&observed.id).await?;
        }
        Ok(())
    }

    async fn ours(&self, id: &ReplicaId) -> Result<Found> {
        let found = self.inner.find(id).await?;
        found.ok_or_else(|| Error::new(Kind::Gone, format!("there is no service of replica {id}")))
    }

    /// What Swarm has not, for a replica that there is.
    async fn cannot<T>(&self, id: &ReplicaId, what: &str) -> Result<T> {
        self.ours(id).await?;
        Err(Error::new(Kind::Permanent, format!("Swarm cannot {what}: {id}")))
    }
}

#[async_trait::async_trait]
impl Runner for Swarm {
    async fn prepare(&self, image: &str, pull: Pull, progress: Progress) -> Result<Prepared> {
        let prepared = self.inner.images.prepare(image, pull, &progress).await?;
        // No node of a swarm runs commands for us.
        Ok(Prepared { healthcheck: None, ..prepared })
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
        let Some(found) = self.inner.find(id).await? else { return Ok(()) };
        let runs = self.inner.runs_on(&found.service).await?;
        if keep {
            return if runs { self.cannot(id, "keep what is stopped").await } else { Ok(()) };
        }
        self.remove(id).await?;
        let stopped = async {
            // A swarm that does not answer will not say, either.
            while matches!(self.inner.runs_on(&found.service).await, Ok(true)) {
                sleep(STOPPING).await;
            }
        };
        // What takes longer ends by itself: the service is gone.
        let _ = tokio::time::timeout(grace + READ, stopped).await;
        Ok(())
    }

    async fn restart(&self, id: &ReplicaId) -> Result<()> {
        self.cannot(id, "restart").await
    }

    async fn remove(&self, id: &ReplicaId) -> Result<()> {
        if let Some(found) = self.inner.find(id).await? {
            let call = self.inner.api.delete_service(&found.service);
            match self.inner.api.call("service remove", WRITE, call).await {
                Err(failed) if !failed.is(404) => return Err(failed.during(format!("remove {id}"))),
                _ => self.inner.events.tell(Event::Gone(id.clone())),
            }
        }
        // Also of a start that was never answered, or of a removal that got no further.
        secrets::remove(&self.inner, id).await
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        Ok(self.inner.look().await?.into_iter().map(|seen| seen.observed).collect())
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.inner.events.listen()
    }

    async fn logs(&self, id: &ReplicaId, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        let found = self.ours(id).await?;
        let asked: LogsOptions = logs::options(options);
        let frames = self.inner.api.service_logs(&found.service, Some(asked)).boxed();
        Ok(logs::lines(frames, options.follow))
    }

    async fn exec(&self, id: &ReplicaId, _command: &[String], _limit: Duration) -> Result<Executed> {
        self.cannot(id, "run commands in containers").await
    }

    async fn stats(&self, id: &ReplicaId) -> Result<Stats> {
        self.cannot(id, "measure").await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.api.ping().await.map_err(|f| f.during("ask whether it is there"))
    }

    fn resolve_at(&self, resolver: Option<std::net::IpAddr>) {
        self.inner.resolvers.set(resolver, false);
    }

    async fn inventory(&self) -> Result<Inventory> {
        let info = self.inner.api.call("info", READ, self.inner.api.info()).await;
        let version = info.map_err(|f| f.during("ask what the swarm offers"))?.server_version;
        self.inner.forbids_new_privileges().await?;
        let nodes = self.inner.nodes().await?;
        let ready = |node: &&bollard::models::Node| {
            node.status.as_ref().and_then(|status| status.state) == Some(NodeState::READY)
        };
        let offered: Vec<_> = nodes
            .iter()
            .filter(ready)
            .filter_map(|node| node.description.as_ref()?.resources.clone())
            .collect();
        let sum = |amount: fn(&bollard::models::ResourceObject) -> Option<i64>| {
            let amounts = offered.iter().filter_map(amount);
            amounts.filter_map(|amount| u64::try_from(amount).ok()).sum::<u64>()
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of cores for people")]
        let cpu = sum(|r| r.nano_cpus) as f64 / 1e9;
        Ok(Inventory {
            engine: format!(
                "swarm of {} nodes, docker {}",
                nodes.len(),
                version.as_deref().unwrap_or("of unknown version")
            ),
            cpu,
            memory: Bytes(sum(|r| r.memory_bytes)),
            labels: Default::default(),
            bridge: None,
        })
    }

    fn reach(&self) -> Reached {
        Reached::Published
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            freeze: false,
            keep_stopped: false,
            exec: false,
            logs: true,
            stats: false,
            places: true,
        }
    }
}
