//! A real gateway process with a state directory of its own, for what must be seen from outside: the demo, the benches, the
//! suites on real engines. [`Gateway::stop`] ends it and removes its containers and network; where it is dropped instead,
//! what the embedded engine left goes as well.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tidegate::control::status::{Explanation, ServiceStatus};
use tidegate_config::model::{Gateway as Settings, Host};
use tidegate_runner::{
    InstanceId, Runner,
    docker::{self, Docker},
    embedded::{self, Embedded, ShimProgram},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{engine::Engine, eventually::eventually, remains};

/// How long a gateway may take to say that it is ready, images included.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_secs(60);

/// A real gateway process.
pub struct Gateway {
    engine: Engine,
    child: Child,
    state: TempDir,
    config: PathBuf,
    address: SocketAddr,
    /// The processes that have taken over, one from the other.
    successors: Vec<Pid>,
}

impl Gateway {
    /// Starts `tidegate up` with this file, on ports that are free, and waits until it is ready. Its engine is that of the
    /// file's first host.
    ///
    /// # Errors
    /// When it ends instead; its own words are on standard error.
    pub async fn start(config: &Path) -> anyhow::Result<Self> {
        let model = tidegate_config::load(config, std::iter::empty());
        let engine = Engine::of(&model.map_err(|problems| anyhow::anyhow!("{problems}"))?);
        engine.check()?;
        let state = tempfile::Builder::new().prefix("tidegate-").tempdir().context("a state directory")?;
        match launch(config, state.path()).await {
            Ok((child, address)) => {
                Ok(Self { engine, child, state, config: config.to_owned(), address, successors: Vec::new() })
            }
            Err(error) => {
                clean_up(engine, state.path());
                Err(error)
            }
        }
    }

    /// Starts it again on the same state directory, as after a crash.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.successors.clear();
        (self.child, self.address) = launch(&self.config, self.state.path()).await?;
        Ok(())
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What runs its containers.
    #[must_use]
    pub fn runs_on(&self) -> Engine {
        self.engine
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self.successors.last() {
            Some(pid) => u32::try_from(pid.as_raw()).expect("a process's number"),
            None => self.child.id().expect("a running process"),
        }
    }

    /// Sends SIGQUIT: it starts itself again, and the new process takes over. Returns once that one is the gateway; the
    /// old one may still finish what it has.
    ///
    /// # Errors
    /// When none takes over.
    pub async fn upgrade(&mut self) -> anyhow::Result<()> {
        let before = self.pid();
        kill(Pid::from_raw(i32::try_from(before)?), Signal::SIGQUIT)?;
        let lock = self.state.path().join("lock");
        let mut successor = None;
        eventually("another process is the gateway", async || {
            let holder = std::fs::read_to_string(&lock)?.trim().parse::<u32>().ok();
            successor = holder.filter(|holder| *holder != before);
            // Its own word, over the socket that it bound when it had the state.
            Ok(successor.is_some() && self.ask(Method::GET, "/readyz").await.is_ok())
        })
        .await?;
        self.successors.extend(successor.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        Ok(())
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// What `tidegate ps` shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn services(&self) -> anyhow::Result<Vec<ServiceStatus>> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, "/v1/services").await?)?)
    }

    /// What `tidegate explain` shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn explain(&self, service: &str) -> anyhow::Result<Explanation> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, &format!("/v1/services/{service}")).await?)?)
    }

    /// `tidegate sleep`: returns when nothing is left of the service.
    ///
    /// # Errors
    /// When it cannot be put to sleep.
    pub async fn sleep(&self, service: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, &format!("/v1/services/{service}/sleep")).await.map(drop)
    }

    /// `tidegate wake`.
    ///
    /// # Errors
    /// When it cannot be woken.
    pub async fn wake(&self, service: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, &format!("/v1/services/{service}/wake")).await.map(drop)
    }

    /// The sum of all samples of a metric whose line contains all of `labels`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let text = String::from_utf8(self.ask(Method::GET, "/metrics").await?.to_vec())?;
        let mine = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let mine = mine.filter(|line| labels.iter().all(|label| line.contains(label)));
        Ok(mine.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let socket = tokio::net::UnixStream::connect(self.state.path().join("admin.sock")).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let exchange = async {
            let response = sender.send_request(request.body(Full::<Bytes>::default())?).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            ensure!(status == StatusCode::OK, "{path}: {status}: {}", String::from_utf8_lossy(&body));
            Ok(body)
        };
        // The connection runs until the exchange is over, whichever way it ends.
        tokio::select! {
            answer = exchange => answer,
            ended = connection => bail!("{path}: the admin connection ended: {ended:?}"),
        }
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        match self.successors.last() {
            Some(pid) => {
                kill(*pid, Signal::SIGKILL)?;
                self.ended(*pid).await
            }
            None => self.child.kill().await.context("kill -9"),
        }
    }

    /// Sends SIGTERM and waits for the end; the exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?;
        if let Some(pid) = self.successors.last().copied() {
            // How a grandchild ends is known to nobody here.
            self.ended(pid).await?;
            return Ok(Some(0));
        }
        let ended = tokio::time::timeout(END_WITHIN, self.child.wait()).await.context("it does not end")?;
        Ok(ended?.code())
    }

    /// Waits until a process has ended that is no child of ours (or no longer).
    async fn ended(&self, pid: Pid) -> anyhow::Result<()> {
        eventually("the gateway has ended", async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let ended = stat.is_empty() || stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
            // Its first thread may be gone before the others, which still hold what it held.
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            Ok(ended && threads <= 1)
        })
        .await
    }

    /// Terminates it and removes its containers and its network.
    ///
    /// # Errors
    /// When something could not be removed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let runs = self.child.try_wait()?.is_none() || !self.successors.is_empty();
        let code = if runs { self.terminate().await? } else { Some(0) };
        match self.engine {
            Engine::Docker => clear_docker(self.state.path()).await?,
            Engine::Embedded => {
                let instance = self.instance()?;
                remains::purge(self.state.path(), &instance).await?;
                let left = remains::Remains::of(&instance, self.state.path());
                ensure!(left.is_empty(), "left over on this machine: {left:?}");
            }
        }
        ensure!(code == Some(0), "the gateway ended with {code:?}");
        Ok(())
    }

    /// Whose replicas its are.
    ///
    /// # Errors
    /// When it has not said so.
    pub fn instance(&self) -> anyhow::Result<InstanceId> {
        instance(self.state.path())
    }

    /// The engine as this gateway's instance sees it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn engine(&self) -> anyhow::Result<Arc<dyn Runner>> {
        match self.engine {
            Engine::Docker => Ok(Arc::new(self.docker().await?)),
            Engine::Embedded => Ok(Arc::new(Embedded::open(self.options()?).await?)),
        }
    }

    async fn docker(&self) -> anyhow::Result<Docker> {
        let instance = self.instance()?;
        Ok(Docker::connect(docker::Options::of(&Host::local(), instance, None)).await?)
    }

    fn options(&self) -> anyhow::Result<embedded::Options> {
        let settings = Settings::default();
        Ok(embedded::Options {
            host: Host::local().name,
            instance: self.instance()?,
            folder: self.state.path().join(remains::FOLDER),
            subnet: settings.subnet,
            allow_metadata: settings.allow_metadata,
            images: Default::default(),
            shim: ShimProgram { path: binary()?, args: vec!["shim".into()] },
        })
    }
}

fn instance(state: &Path) -> anyhow::Result<InstanceId> {
    Ok(std::fs::read_to_string(state.join("instance"))?.trim().parse()?)
}

/// Removes what the gateway of this state directory has in Docker.
///
/// # Errors
/// When Docker does not answer.
pub async fn clear_docker(state: &Path) -> anyhow::Result<()> {
    let options = docker::Options::of(&Host::local(), instance(state)?, None);
    Ok(Docker::connect(options).await?.clear().await?)
}

/// Removes what a gateway that is gone left on this machine; nothing can be told to anybody here.
fn clean_up(engine: Engine, state: &Path) {
    let Ok(instance) = instance(state) else { return };
    if engine == Engine::Docker {
        return;
    }
    let state = state.to_owned();
    // A runtime of its own: this may run inside another one, and while a test panics.
    let purged = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(remains::purge(&state, &instance))
    });
    match purged.join() {
        Ok(Ok(())) => {}
        other => eprintln!("something may be left over on this machine: {other:?}"),
    }
}

/// Whether a process that has this number is still a gateway: numbers are used again.
fn runs_tidegate(pid: Pid) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| name.trim() == "tidegate")
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Also one that took over although nobody waited for it to the end.
        let lock = std::fs::read_to_string(self.state.path().join("lock")).unwrap_or_default();
        let holder = lock.trim().parse().ok().map(Pid::from_raw);
        for pid in self.successors.iter().copied().chain(holder).filter(|pid| runs_tidegate(*pid)) {
            // It may end by itself in this moment.
            let _ = kill(pid, Signal::SIGKILL);
        }
        // One that was stopped has left nothing.
        let _ = self.child.start_kill();
        if self.engine == Engine::Embedded && self.state.path().join(remains::FOLDER).exists() {
            clean_up(self.engine, self.state.path());
        }
    }
}

async fn launch(config: &Path, state: &Path) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = Command::new(binary()?)
        .args(["up", "--config"])
        .arg(config)
        .arg("--state")
        .arg(state)
        .env("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:0")
        .env("TIDEGATE_GATEWAY__METRICS", "127.0.0.1:0")
        .env("TIDEGATE_LOG", std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| "error".into()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("tidegate up")?;
    let said = child.stdout.take().context("its standard output")?;
    let ready = tokio::time::timeout(READY_WITHIN, ready(said)).await.context("it does not get ready")??;
    Ok((child, ready))
}

/// Reads until the line that says where it is ready. The pipe stays open: what is printed later is small.
///
/// # Errors
/// When it ends before.
pub async fn ready(said: tokio::process::ChildStdout) -> anyhow::Result<SocketAddr> {
    let mut lines = BufReader::new(said).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(rest) = line.strip_prefix("tidegate: ready on ") {
            let address = rest.split([';', ',']).next().unwrap_or(rest);
            return address.parse().with_context(|| format!("an address in {line:?}"));
        }
    }
    bail!("the gateway ended before it was ready")
}

/// The binary that was built beside this program.
///
/// # Errors
/// When it was not built.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("TIDEGATE") {
        return Ok(named.into());
    }
    let own = std::env::current_exe()?;
    let beside = own.ancestors().skip(1).take(3).map(|folder| folder.join("tidegate"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .context("no tidegate binary beside this one: cargo build -p tidegate")
}
