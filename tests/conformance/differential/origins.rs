//! The origins: nginx, Apache httpd, Node and gunicorn, each on a free port, each noting what it sees as lines of JSON.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use e2e::eventually::eventually;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

/// A kind of origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Apache,
    Node,
    Gunicorn,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Nginx, Self::Apache, Self::Node, Self::Gunicorn];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Node => "node",
            Self::Gunicorn => "gunicorn",
        }
    }
}

/// A request as an origin notes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Noted {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) forwarded: String,
    pub(super) hop: String,
    pub(super) body: String,
}

/// A running origin; it ends when dropped.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Origin {
    /// Starts one in `folder`, which daemons that run as other users can read.
    pub(super) async fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join(kind.name());
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let log = folder.join("noted.log");
        fs::write(&log, "")?;
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
        let mut command = command(kind, &folder, &log, address.port())?;
        let said = fs::File::create(folder.join("said.log"))?;
        command.env("LOG", &log).env("PORT", address.port().to_string());
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).process_group(0);
        let child = command.spawn().with_context(|| format!("{} does not start", kind.name()))?;
        let mut origin = Self { address, log, child };
        eventually("the origin listens", async || {
            ensure!(origin.child.try_wait()?.is_none(), fs::read_to_string(folder.join("said.log"))?);
            Ok(TcpStream::connect(address).await.is_ok())
        })
        .await
        .with_context(|| format!("{} does not listen", kind.name()))?;
        Ok(origin)
    }

    /// Everything that it has noted.
    pub(super) fn noted(&self) -> anyhow::Result<Vec<Noted>> {
        let text = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&text);
        let noted =
            |line: &str| serde_json::from_str(line).with_context(|| format!("a noted request: {line}"));
        text.lines().map(noted).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Its own group: all but Node have workers. It may have ended by itself.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

fn command(kind: Kind, folder: &Path, log: &Path, port: u16) -> anyhow::Result<Command> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/differential/origins");
    let fill = |name: &str| {
        let text = fs::read_to_string(sources.join(name))?
            .replace("{folder}", &folder.to_string_lossy())
            .replace("{log}", &log.to_string_lossy())
            .replace("{modules}", "/usr/lib/apache2/modules")
            .replace("{port}", &port.to_string());
        let filled = folder.join(name);
        fs::write(&filled, text)?;
        Ok::<_, anyhow::Error>(filled)
    };
    let mut command = match kind {
        Kind::Nginx => Command::new("nginx"),
        Kind::Apache => Command::new("apache2"),
        Kind::Node => Command::new("node"),
        Kind::Gunicorn => Command::new("gunicorn"),
    };
    match kind {
        Kind::Nginx => command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(fill("nginx.conf")?),
        Kind::Apache => {
            // Under a user who may not read the sources.
            let program = folder.join("noting.cgi");
            let text = fs::read_to_string(sources.join("noting.py"))?;
            fs::write(&program, format!("#!/usr/bin/python3\n{text}"))?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            command.args(["-X", "-f"]).arg(fill("apache.conf")?)
        }
        Kind::Node => command.arg(sources.join("node.js")),
        Kind::Gunicorn => {
            command.arg("--chdir").arg(&sources).args(["--bind", &format!("127.0.0.1:{port}")]);
            command.args(["--worker-class", "gthread", "--threads", "4", "--keep-alive", "5"]);
            command.args(["--log-level", "critical", "noting:application"])
        }
    };
    Ok(command)
}
