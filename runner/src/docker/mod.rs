//! [`Runner`] on the Docker Engine API, Podman's included.
//! A start is one create, one start and one inspect, and nothing else: it is the cold-start path. Where a replica is
//! reached is told at once, without waiting for the engine's own event.
//! Holds: only what `labels::read` calls ours is seen or touched; every call has a deadline (`call::Api`); an engine that
//! does not answer is no reason to give up this value, which finds it again by itself.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod connect;
pub(crate) mod endpoint;
mod events;
pub(crate) mod images;
mod inner;
pub(crate) mod labels;
mod line;
pub(crate) mod logs;
pub(crate) mod mounts;
mod network;
mod options;
mod reach;
pub(crate) mod secrets;
mod start;

use std::{sync::Arc, time::Duration};

use bollard::{
    container::LogOutput,
    exec::{CreateExecOptions, StartExecResults},
    query_parameters::{
        ListContainersOptions, LogsOptions, RemoveContainerOptions, StartContainerOptions, StatsOptions,
        StopContainerOptions,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use tidegate_config::{
    name::ReplicaId,
    spec::{Capabilities, Observed, ObservedState, Pull, StartSpec},
    units::Bytes,
};
use tokio::{task::JoinSet, time::timeout};

pub use options::Options;

use crate::{
    Cpu, Error, Event, Executed, Inventory, Kind, LogLine, LogOptions, Prepared, Progress, Reached, Result,
    Runner, Stats,
    call::{Failed, READ, WRITE},
};
use endpoint::Endpoint;
use inner::Inner;

/// How much of a command's output is kept.
const EXEC_OUTPUT: usize = 4096;
/// Look-ups of a list under way at once.
const LOOKUPS: usize = 8;

/// A Docker engine.
pub struct Docker {
    inner: Arc<Inner>,
    endpoint: Endpoint,
    /// The task that follows the engine's events; ends with this value.
    _events: JoinSet<()>,
}

impl Docker {
    /// Removes every replica of this instance and its network: for runs that leave nothing behind.
    ///
    /// # Errors
    /// The first thing that could not be removed.
    pub async fn clear(&self) -> Result<()> {
        for observed in self.list().await? {
            self.remove(&observed.id).await?;
        }
        self.inner.network.remove(&self.inner.api).await
    }

    /// A container of ours, or the error that it is gone.
    async fn ours(&self, id: &ReplicaId) -> Result<inner::Container> {
        self.inner
            .find(id)
            .await?
            .ok_or_else(|| Error::new(Kind::Gone, format!("there is no container of replica {id}")))
    }
}

#[async_trait::async_trait]
impl Runner for Docker {
    async fn prepare(&self, image: &str, pull: Pull, progress: Progress) -> Result<Prepared> {
        // Made here so that the first start does not have to.
        self.inner.ready().await?;
        self.inner.images.prepare(image, pull, &progress).await
    }

    async fn start(&self, spec: &StartSpec) -> Result<()> {
        start::start(&self.inner, spec).await
    }

    async fn freeze(&self, id: &ReplicaId) -> Result<()> {
        let found = self.ours(id).await?;
        if found.state == Some(ObservedState::Frozen) {
            return Ok(());
        }
        self.inner.changing(&found.container);
        let call = self.inner.api.pause_container(&found.container);
        self.inner.api.call("pause", WRITE, call).await.map_err(|f| f.during(format!("freeze {id}")))
    }

    async fn thaw(&self, id: &ReplicaId) -> Result<()> {
        let found = self.ours(id).await?;
        if found.state != Some(ObservedState::Frozen) {
            return Ok(());
        }
        self.unpause(id, &found.container).await
    }

    async fn stop(&self, id: &ReplicaId, grace: Duration, keep: bool) -> Result<()> {
        let Some(found) = self.inner.find(id).await? else { return Ok(()) };
        if found.state == Some(ObservedState::Frozen) {
            // A frozen process cannot hear SIGTERM.
            self.unpause(id, &found.container).await?;
        }
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let t = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        let options = StopContainerOptions { t, ..StopContainerOptions::default() };
        let call = self.inner.api.stop_container(&found.container, Some(options));
        match self.inner.api.stop(grace + WRITE, call).await {
            // 304: it is stopped already.
            Err(failed) if !failed.is(304) && !failed.is(404) => {
                return Err(failed.during(format!("stop {id}")));
            }
            _ => {}
        }
        if keep { Ok(()) } else { self.inner.remove(id, &found.container).await }
    }

    async fn restart(&self, id: &ReplicaId) -> Result<()> {
        let found = self.ours(id).await?;
        if found.state == Some(ObservedState::Frozen) {
            self.unpause(id, &found.container).await?;
        }
        // Told below, so the engine's own word of it is not needed, whoever made the container.
        self.inner.made(&found.container);
        let mut started = self.again(&found.container).await;
        // The engine learns late of what it did itself: right after a thaw, a freeze may not be seen above.
        if started.as_ref().is_err_and(|failed| failed.words.contains("paused")) {
            self.unpause(id, &found.container).await?;
            started = self.again(&found.container).await;
        }
        match started {
            Err(failed) if start::network_gone(&failed) => {
                // It can never start again.
                self.inner.network.forget();
                self.inner.remove(id, &found.container).await?;
                return Err(Error::new(Kind::Gone, format!("restart {id}: {}", failed.words)));
            }
            Err(failed) if !failed.is(304) => return Err(start::refused(&self.inner, id, failed)),
            _ => {}
        }
        match self.inner.inspect_event(&found.container).await? {
            Some(event) => self.inner.events.tell(event),
            None => return Err(Error::new(Kind::Gone, format!("{id} went away while it was restarted"))),
        }
        Ok(())
    }

    async fn remove(&self, id: &ReplicaId) -> Result<()> {
        let Some(found) = self.inner.find(id).await? else { return Ok(()) };
        self.inner.remove(id, &found.container).await
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        self.inner.settle().await?;
        let label = format!("{}={}", labels::INSTANCE, self.inner.instance);
        let options = ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), vec![label])].into()),
            ..ListContainersOptions::default()
        };
        let call = self.inner.api.list_containers(Some(options));
        let found =
            self.inner.api.call("list", READ, call).await.map_err(|f| f.during("list the containers"))?;
        let observed = futures_util::stream::iter(found)
            .map(|summary| self.inner.observe(summary))
            .buffered(LOOKUPS)
            .try_filter_map(|observed| std::future::ready(Ok(observed)));
        observed.try_collect().await
    }

    fn events(&self) -> BoxStream<'static, Event> {
        self.inner.events.listen()
    }

    async fn logs(&self, id: &ReplicaId, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>> {
        let found = self.ours(id).await?;
        let asked: LogsOptions = logs::options(options);
        let frames = self.inner.api.logs(&found.container, Some(asked)).boxed();
        Ok(logs::lines(frames, options.follow))
    }

    async fn exec(&self, id: &ReplicaId, command: &[String], limit: Duration) -> Result<Executed> {
        let found = self.ours(id).await?;
        let run = self.run(&found.container, command);
        timeout(limit, run).await.map_err(|_| {
            let line = command.join(" ");
            Error::new(Kind::Retryable, format!("`{line}` did not end in {id} within {limit:?}"))
        })?
    }

    async fn stats(&self, id: &ReplicaId) -> Result<Stats> {
        let found = self.ours(id).await?;
        let options = StatsOptions { stream: false, one_shot: true };
        let mut answers = std::pin::pin!(self.inner.api.stats(&found.container, Some(options)));
        let call = async { answers.next().await.transpose() };
        let seen =
            self.inner.api.call("stats", READ, call).await.map_err(|f| f.during(format!("measure {id}")))?;
        let seen = seen.ok_or_else(|| Error::new(Kind::Gone, format!("{id} does not run")))?;
        let cpu = seen.cpu_stats.and_then(|c| c.cpu_usage?.total_usage).unwrap_or(0);
        let memory = seen.memory_stats.map_or(0, |m| {
            let stats = m.stats.unwrap_or_default();
            let cache = stats.get("total_inactive_file").or_else(|| stats.get("inactive_file"));
            m.usage.unwrap_or(0).saturating_sub(cache.copied().unwrap_or(0))
        });
        Ok(Stats { cpu: Cpu::Time(Duration::from_nanos(cpu)), memory: Bytes(memory) })
    }

    async fn ping(&self) -> Result<()> {
        self.inner.api.ping().await.map_err(|f| f.during("ask whether it is there"))
    }

    fn resolve_at(&self, resolver: Option<std::net::IpAddr>) {
        self.inner.resolvers.set(resolver, self.inner.reaching.local);
    }

    async fn inventory(&self) -> Result<Inventory> {
        let call = self.inner.api.info();
        let info = self
            .inner
            .api
            .call("info", READ, call)
            .await
            .map_err(|f| f.during("ask what the host offers"))?;
        // There from the beginning, so that the first containers know whom to ask for names.
        self.inner.network.ensure(&self.inner.api).await?;
        let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let labels = info.labels.unwrap_or_default();
        let pair = |label: String| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (label, String::new()),
        };
        Ok(Inventory {
            engine: format!("docker {}", info.server_version.as_deref().unwrap_or("of unknown version")),
            cpu: f64::from(u32::try_from(positive(info.ncpu)).unwrap_or(u32::MAX)),
            memory: Bytes(positive(info.mem_total)),
            labels: labels.into_iter().map(pair).collect(),
            bridge: self.inner.bridge().await?,
        })
    }

    fn reach(&self) -> Reached {
        self.inner.reaching.reached()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { freeze: true, keep_stopped: true, exec: true, logs: true, stats: true, places: false }
    }
}

impl Docker {
    async fn unpause(&self, id: &ReplicaId, container: &str) -> Result<()> {
        self.inner.changing(container);
        let call = self.inner.api.unpause_container(container);
        match self.inner.api.call("unpause", WRITE, call).await {
            // Somebody else was faster.
            Err(failed) if !failed.words.contains("not paused") => Err(failed.during(format!("thaw {id}"))),
            _ => Ok(()),
        }
    }

    async fn again(&self, container: &str) -> std::result::Result<(), Failed> {
        let call = self.inner.api.start_container(container, None::<StartContainerOptions>);
        self.inner.api.call("start", WRITE, call).await
    }

    async fn run(&self, container: &str, command: &[String]) -> Result<Executed> {
        let what = || format!("run `{}`", command.join(" "));
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..CreateExecOptions::default()
        };
        let call = self.inner.api.create_exec(container, options);
        let exec = self.inner.api.call("exec create", READ, call).await.map_err(|f| f.during(what()))?;
        let call = self.inner.api.start_exec(&exec.id, None);
        let mut output = Vec::new();
        match self.inner.api.call("exec start", READ, call).await.map_err(|f| f.during(what()))? {
            StartExecResults::Attached { output: mut frames, .. } => {
                // Read to the end, or the command would block on a full pipe.
                while let Some(frame) = frames.next().await {
                    let frame = frame.map_err(|e| call::failed(e).during(what()))?;
                    keep(&mut output, &frame);
                }
            }
            StartExecResults::Detached => {}
        }
        let call = self.inner.api.inspect_exec(&exec.id);
        let ended = self.inner.api.call("exec inspect", READ, call).await.map_err(|f| f.during(what()))?;
        let code = ended.exit_code.ok_or_else(|| {
            Error::new(Kind::Retryable, format!("{}: the engine gave no exit code", what()))
        })?;
        Ok(Executed { code, output: String::from_utf8_lossy(&output).into_owned() })
    }
}

fn keep(output: &mut Vec<u8>, frame: &LogOutput) {
    let room = EXEC_OUTPUT - output.len();
    let bytes = frame.as_ref();
    output.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// How a container of ours is removed: whatever its state, with the volumes that only it had.
fn removal() -> RemoveContainerOptions {
    RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() }
}
