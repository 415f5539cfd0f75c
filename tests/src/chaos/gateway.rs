//! A gateway process under attack: a port that stays the same over restarts, an environment and a wrapper of the mode's
//! choice, its words in a log file. Dropping it ends every process on its state directory, also those that an upgrade
//! started, and removes its containers from this machine's engine.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tidegate::control::status::{Explanation, ServiceStatus};
use tokio::process::{Child, Command};

use super::{
    ROOT,
    run::{alive, attempt, path, signal},
};
use crate::{eventually::eventually, process::binary};

/// How a gateway is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The file, without `listen` and `metrics`.
    pub config: String,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// A command that runs it, such as `prlimit --nofile=256`.
    pub wrapper: Vec<String>,
    /// Another binary than the one that was built beside this program.
    pub binary: Option<PathBuf>,
    /// The state directory is a file system of this many kilobytes in memory.
    pub state_kilobytes: Option<u32>,
}

impl Setup {
    /// With this file.
    #[must_use]
    pub fn new(config: impl Into<String>) -> Self {
        Self { config: config.into(), ..Self::default() }
    }
}

/// A gateway process.
pub struct Gateway {
    setup: Setup,
    folder: TempDir,
    child: Option<Child>,
    port: u16,
    metrics: u16,
}

impl Gateway {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead, with the end of its log.
    pub async fn start(setup: Setup) -> anyhow::Result<Self> {
        let mut gateway = Self::prepare(setup)?;
        gateway.launch()?;
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Everything but the process.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn prepare(setup: Setup) -> anyhow::Result<Self> {
        fs::create_dir_all(ROOT)?;
        let folder = tempfile::Builder::new().prefix("gateway-").tempdir_in(ROOT)?;
        let gateway = Self { setup, folder, child: None, port: free_port()?, metrics: free_port()? };
        fs::create_dir_all(gateway.state())?;
        if let Some(size) = gateway.setup.state_kilobytes {
            super::run::run(&format!("mount -t tmpfs -o size={size}k tmpfs {}", gateway.state().display()))?;
        }
        gateway.write(&gateway.setup.config)?;
        Ok(gateway)
    }

    /// Starts the process; does not wait for it.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut words: Vec<String> = self.setup.wrapper.clone();
        let program = self.setup.binary.clone().map_or_else(binary, Ok)?;
        words.push(program.to_string_lossy().into_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["up", "--config"])
            .arg(self.config())
            .arg("--state")
            .arg(self.state());
        command
            .env("PATH", path())
            .env("TIDEGATE_LOG", std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| "info".into()));
        command.envs(self.setup.env.iter().cloned());
        command.env("TIDEGATE_GATEWAY__LISTEN", self.address().to_string());
        command.env("TIDEGATE_GATEWAY__METRICS", self.metrics_address().to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).kill_on_drop(true);
        self.child = Some(command.spawn().context("tidegate up")?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends instead, or never is.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let ready = eventually("the gateway is ready", async || {
            if let Some(child) = &mut self.child
                && let Some(ended) = child.try_wait()?
            {
                bail!("it ended: {ended}");
            }
            Ok(probe(self.metrics_address()).await)
        });
        let waited = ready.await;
        waited.with_context(|| self.words())
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Replaces its file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, config: &str) -> anyhow::Result<()> {
        let fresh = self.folder.path().join("fresh.toml");
        fs::write(&fresh, config)?;
        Ok(fs::rename(fresh, self.config())?)
    }

    /// Its file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where its metrics are.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.metrics).into()
    }

    /// The instance's id.
    ///
    /// # Errors
    /// When it has none yet.
    pub fn instance(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.state().join("instance")).context("the instance's id")?.trim().to_owned())
    }

    /// Its processes, the oldest first: more than one during an upgrade.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        processes_of(&self.state())
    }

    /// Its newest process.
    ///
    /// # Errors
    /// When there is none.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.pids().last().copied().context("the gateway does not run")
    }

    /// Sends a signal to its newest process.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal(&self, what: Signal) -> anyhow::Result<()> {
        signal(self.pid()?, what)
    }

    /// Whether the process that was started has ended.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn ended(&mut self) -> anyhow::Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// Ends all its processes as a crash would, and waits until they have gone.
    ///
    /// # Errors
    /// When they do not end.
    pub async fn crash(&mut self) -> anyhow::Result<()> {
        for pid in self.pids() {
            drop(signal(pid, Signal::SIGKILL));
        }
        if let Some(mut child) = self.child.take() {
            child.wait().await?;
        }
        eventually("the gateway has ended", async || Ok(self.pids().is_empty())).await
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        for pid in self.pids() {
            signal(pid, Signal::SIGTERM)?;
        }
        if let Some(mut child) = self.child.take() {
            let ended = tokio::time::timeout(Duration::from_secs(60), child.wait())
                .await
                .context("it does not end")??;
            ensure!(ended.success(), "the gateway ended with {ended}: {}", self.words());
        }
        eventually("the gateway has ended", async || Ok(self.pids().is_empty())).await
    }

    /// What `tidegate ps --json` shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn services(&self) -> anyhow::Result<Vec<ServiceStatus>> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, "/v1/services").await?)?)
    }

    /// One service of it.
    ///
    /// # Errors
    /// When it does not answer, or has no such service.
    pub async fn service(&self, name: &str) -> anyhow::Result<ServiceStatus> {
        self.services().await?.into_iter().find(|status| status.service == name).context("no such service")
    }

    /// Replicas of a service in this phase.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn in_phase(&self, name: &str, phase: &str) -> anyhow::Result<usize> {
        Ok(self.service(name).await?.replicas.iter().filter(|replica| replica.phase == phase).count())
    }

    /// What `tidegate explain` shows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn explain(&self, service: &str) -> anyhow::Result<Explanation> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, &format!("/v1/services/{service}")).await?)?)
    }

    /// A POST such as `/v1/services/api/sleep`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn post(&self, path: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, path).await.map(drop)
    }

    /// The sum of all samples of a metric whose line contains all of `labels`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let text = String::from_utf8(self.ask(Method::GET, "/metrics").await?.to_vec())?;
        let mine = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        Ok(mine.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let socket = self.state().join("admin.sock");
        let asked = tokio::time::timeout(Duration::from_secs(30), ask(&socket, method, path));
        asked.await.with_context(|| format!("{path}: no answer in 30 s"))?
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for pid in self.pids() {
            drop(signal(pid, Signal::SIGCONT));
            drop(signal(pid, Signal::SIGKILL));
        }
        if let Ok(instance) = self.instance() {
            attempt(&format!("scripts/chaos --clean-instance {instance}"));
        }
        if self.setup.state_kilobytes.is_some() {
            attempt(&format!("umount -l {}", self.state().display()));
        }
        // Kept for whoever looks into a failure.
        let _ = fs::copy(self.log(), Path::new(ROOT).join("last-gateway.log"));
    }
}

async fn ask(socket: &Path, method: Method, path: &str) -> anyhow::Result<Bytes> {
    let socket = tokio::net::UnixStream::connect(socket).await.context("the admin socket")?;
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

/// Whether the readiness endpoint answers 200.
async fn probe(address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Ok(true)))
}

/// A port that nobody has at this moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Processes whose command line names this state directory. Its path is one of a kind, so they are ours.
fn processes_of(state: &Path) -> Vec<u32> {
    let state = state.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut mine: Vec<u32> = pids
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).split('\0').any(|word| word == state) && alive(*pid)
        })
        .collect();
    mine.sort_by_key(|pid| started(*pid));
    mine
}

/// When a process began, in ticks since the machine did.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(19).and_then(|field| field.parse().ok()).unwrap_or(0)
}
