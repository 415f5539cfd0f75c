//! A machine with a container engine of its own: a network namespace, a mount namespace, a veth pair to this one, and a
//! `dockerd` that listens on a Unix socket (for us) and on TCP with mutual TLS (for gateways).
//! Holds: faults act inside the host's own namespaces; nothing of this machine's network or engine changes.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use bollard::Docker;
use nix::sys::signal::Signal;

use super::{
    ROOT,
    certs::Authority,
    run::{alive, attempt, path, run, signal},
};
use crate::eventually::eventually;

/// Starts of an engine that ends at once.
const STARTS: u32 = 10;

/// How an engine is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Containers outlive the engine.
    pub live_restore: bool,
    /// The engine's data is on a file system of this many megabytes in memory.
    pub megabytes: Option<u32>,
}

/// A host. Dropping it removes it.
pub struct Host {
    number: u8,
    options: Options,
    holder: Child,
    engine: Option<Child>,
}

impl Host {
    /// Makes a host and starts its engine; `number` is 1 to 9. Certificates for it are in [`certs`].
    ///
    /// # Errors
    /// When something that it needs is missing; the engine's own words are in its log.
    pub async fn up(number: u8, authority: &Authority, options: Options) -> anyhow::Result<Self> {
        authority.engine(&format!("h{number}"), address(number))?;
        fs::create_dir_all(folder(number).join("data"))?;
        lay_network(number).with_context(|| format!("the network of host {number}"))?;
        let holder = hold_mounts(number, options)?;
        let mut host = Self { number, options, holder, engine: None };
        host.start().await?;
        Ok(host)
    }

    /// Its name in configuration files.
    #[must_use]
    pub fn name(&self) -> String {
        format!("h{}", self.number)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// The `[[hosts]]` table for a gateway.
    #[must_use]
    pub fn config(&self) -> String {
        let (name, address, certs) = (self.name(), self.address(), certs());
        let certs = certs.display();
        format!(
            "[[hosts]]\nname = \"{name}\"\nengine = \"docker\"\nendpoint = \"tcp://{address}:2376\"\n\
             address = \"{address}\"\nreach = \"published\"\n\
             tls = {{ ca = \"{certs}/ca.pem\", cert = \"{certs}/gateway.pem\", key = \"{certs}/gateway.key\" }}\n"
        )
    }

    /// The engine over its Unix socket, which no network fault touches.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn docker(&self) -> anyhow::Result<Docker> {
        let socket = self.socket();
        Ok(Docker::connect_with_unix(&socket.to_string_lossy(), 20, bollard::API_DEFAULT_VERSION)?)
    }

    /// The engine's Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        folder(self.number).join("docker.sock")
    }

    /// Starts the engine and waits until it answers; as a service manager would, it tries again when the engine ends at
    /// once, for what an earlier one held may not be free yet.
    ///
    /// # Errors
    /// When it ends instead, or does not answer.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.engine = Some(self.launch()?);
        let mut starts = 1;
        let started = eventually("the engine answers", async || {
            if let Some(ended) = self.engine.as_mut().and_then(|engine| engine.try_wait().ok().flatten()) {
                ensure!(starts < STARTS, "the engine ended {starts} times: {ended}");
                starts += 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
                self.engine = Some(self.launch()?);
            }
            // A socket of an earlier engine may still be there; there is none before the first.
            Ok(self.socket().exists() && self.docker()?.ping().await.is_ok())
        });
        started.await.with_context(|| format!("see {}", folder(self.number).join("log").display()))
    }

    /// Loads an image from what `docker save` wrote.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub fn load(&self, archive: &Path) -> anyhow::Result<()> {
        let socket = self.socket();
        run(&format!("docker --host unix://{} load --quiet --input {}", socket.display(), archive.display()))
            .map(drop)
    }

    fn launch(&self) -> anyhow::Result<Child> {
        let number = self.number;
        let (at, certs, pid) = (folder(number), certs(), self.holder.id());
        let log = File::options().create(true).append(true).open(at.join("log"))?;
        let (at, certs, address) = (at.display(), certs.display(), self.address());
        let mut line = format!(
            "nsenter --target {pid} --net --mount -- dockerd --data-root {at}/data --exec-root /run/docker \
             --pidfile /run/dockerd.pid --host unix://{at}/docker.sock --host tcp://{address}:2376 \
             --tlsverify --tlscacert {certs}/ca.pem --tlscert {certs}/h{number}.pem --tlskey {certs}/h{number}.key \
             --bip 172.31.{number}.1/24 \
             --cgroup-parent /tgchaos{number}"
        );
        if self.options.live_restore {
            line.push_str(" --live-restore");
        }
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env("PATH", path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C is for us; what becomes of the engine is for us to say.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().context("dockerd")
    }

    /// The engine's process. `nsenter` becomes it: no fork.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.engine.as_ref().map(Child::id).context("the engine does not run")
    }

    /// Sends the engine a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, what: Signal) -> anyhow::Result<()> {
        signal(self.pid()?, what)
    }

    /// Ends the engine by this signal and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(&mut self, by: Signal) -> anyhow::Result<()> {
        self.signal(by)?;
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        eventually("the engine has ended", async || Ok(engine.try_wait()?.is_some())).await
    }

    /// The machine fails: the engine and all containers end at once, and nothing answers at its address.
    ///
    /// # Errors
    /// When the network cannot be changed.
    pub fn lose(&mut self) -> anyhow::Result<()> {
        self.cut()?;
        if let Some(mut engine) = self.engine.take() {
            engine.kill()?;
            engine.wait()?;
        }
        self.kill_containers();
        Ok(())
    }

    /// No packet passes any more; nobody is told.
    ///
    /// # Errors
    /// When the link cannot be changed.
    pub fn cut(&self) -> anyhow::Result<()> {
        run(&format!("ip -n tgchaos{} link set eth0 down", self.number)).map(drop)
    }

    /// Undoes [`Host::cut`].
    ///
    /// # Errors
    /// When the link cannot be changed.
    pub fn mend(&self) -> anyhow::Result<()> {
        run(&format!("ip -n tgchaos{} link set eth0 up", self.number)).map(drop)
    }

    /// Limits what the host sends and receives, as in `64kbit`; `None` lifts it.
    ///
    /// # Errors
    /// When the queue cannot be changed.
    pub fn shape(&self, rate: Option<&str>) -> anyhow::Result<()> {
        let number = self.number;
        for (tc, device) in
            [("tc".to_owned(), format!("tgc{number}")), (format!("tc -n tgchaos{number}"), "eth0".into())]
        {
            match rate {
                Some(rate) => run(&format!(
                    "{tc} qdisc replace dev {device} root tbf rate {rate} burst 4kb latency 400ms"
                ))?,
                None => run(&format!("{tc} qdisc del dev {device} root"))?,
            };
        }
        Ok(())
    }

    /// Runs a command inside the host's network, such as `iptables ...`.
    ///
    /// # Errors
    /// When it fails.
    pub fn inside(&self, line: &str) -> anyhow::Result<String> {
        run(&format!("nsenter --net=/run/netns/tgchaos{} -- {line}", self.number))
    }

    /// Fills the engine's disk; only for hosts with one of their own.
    ///
    /// # Errors
    /// When it could not even begin.
    pub fn fill(&self) -> anyhow::Result<()> {
        // `dd` fails when it is done: that is what it is for.
        attempt(&self.within(&format!("dd if=/dev/zero of={} bs=64k", self.ballast())));
        run(&self.within(&format!("test -s {}", self.ballast()))).map(drop).context("the ballast")
    }

    /// Undoes [`Host::fill`].
    ///
    /// # Errors
    /// When it cannot be undone.
    pub fn empty(&self) -> anyhow::Result<()> {
        run(&self.within(&format!("rm -f {}", self.ballast()))).map(drop)
    }

    fn ballast(&self) -> String {
        folder(self.number).join("data/ballast").display().to_string()
    }

    /// A command line inside the host's mounts.
    fn within(&self, line: &str) -> String {
        format!("nsenter --target {} --mount -- {line}", self.holder.id())
    }

    /// Kills every process of every container, as a power cut would.
    fn kill_containers(&self) {
        for group in containers_of(self.number) {
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| line.parse().ok()) {
                drop(signal(pid, Signal::SIGKILL));
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A stopped engine takes no signal but this one and SIGKILL.
        if let Some(engine) = &mut self.engine {
            drop(engine.kill());
            drop(engine.wait());
        }
        self.kill_containers();
        attempt(&format!("scripts/chaos --clean-host {}", self.number));
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Where certificates are.
#[must_use]
pub fn certs() -> PathBuf {
    Path::new(ROOT).join("certs")
}

fn folder(number: u8) -> PathBuf {
    Path::new(ROOT).join(format!("h{number}"))
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, number, 2)
}

fn containers_of(number: u8) -> Vec<PathBuf> {
    let group = Path::new("/sys/fs/cgroup").join(if Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
        format!("tgchaos{number}")
    } else {
        format!("pids/tgchaos{number}")
    });
    let entries = fs::read_dir(group).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn lay_network(number: u8) -> anyhow::Result<()> {
    let name = format!("tgchaos{number}");
    run(&format!("ip netns add {name}"))?;
    run(&format!("ip link add tgc{number} type veth peer name eth0 netns {name}"))?;
    run(&format!("ip addr add 10.78.{number}.1/24 dev tgc{number}"))?;
    run(&format!("ip link set tgc{number} up"))?;
    run(&format!("ip -n {name} addr add {}/24 dev eth0", address(number)))?;
    run(&format!("ip -n {name} link set lo up"))?;
    run(&format!("ip -n {name} link set eth0 up"))?;
    run(&format!("ip -n {name} route add default via 10.78.{number}.1"))?;
    // What is meant for a host that is cut off must not leave this machine.
    attempt("ip route replace blackhole 10.78.0.0/16");
    Ok(())
}

/// A process that keeps the host's mount namespace while engines in it come and go.
fn hold_mounts(number: u8, options: Options) -> anyhow::Result<Child> {
    let data = folder(number).join("data");
    let tmpfs = options
        .megabytes
        .map_or_else(String::new, |size| format!("mount -t tmpfs -o size={size}m tmpfs {};", data.display()));
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/docker /run/containerd && {tmpfs} \
         echo nameserver 127.0.0.1 >/run/resolv.conf && mount --bind /run/resolv.conf /etc/resolv.conf; \
         echo ready; exec sleep infinity"
    );
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/tgchaos{number}")).args(["unshare", "-m", "sh", "-c", &script]);
    command.env("PATH", path()).stdin(Stdio::null()).stdout(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut holder = command.spawn().context("nsenter")?;
    fs::write(folder(number).join("holder"), holder.id().to_string())?;
    let mut said = [0; 5];
    std::io::Read::read_exact(&mut holder.stdout.take().context("its output")?, &mut said)
        .with_context(|| format!("the mounts of host {number}"))?;
    Ok(holder)
}

/// Waits until a process has gone.
///
/// # Errors
/// When it does not.
pub async fn gone(pid: u32) -> anyhow::Result<()> {
    let waited = eventually("the process has ended", async || Ok(!alive(pid)));
    tokio::time::timeout(Duration::from_secs(60), waited).await?
}
