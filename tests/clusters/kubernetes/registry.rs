//! A registry that the gateway and the node reach, with the sample's image in it. Dropping it ends it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use e2e::chaos::{
    IMAGE, ROOT,
    run::{attempt, run},
};
use tempfile::TempDir;

/// This machine's end of the link to the node.
const HERE: &str = "10.90.0.2";

/// Debian's `docker-registry`.
pub(super) struct Registry {
    child: Child,
    /// `ADDRESS:PORT`.
    host: String,
    _folder: TempDir,
}

impl Registry {
    /// Starts one; this machine's engine has the image by its name there, too.
    pub(super) fn up() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // The engine speaks plain HTTP to loopback only.
        let (mut child, host) = serve(&folder, "127.0.0.1")?;
        let pushed = run(&format!("docker tag {IMAGE} {host}/{IMAGE}"))
            .and_then(|_| run(&format!("docker push --quiet {host}/{IMAGE}")));
        attempt(&format!("docker image rm {host}/{IMAGE}"));
        child.kill()?;
        child.wait()?;
        pushed.context("push the sample's image")?;
        let (child, host) = serve(&folder, HERE)?;
        let registry = Self { child, host, _folder: folder };
        run(&format!("docker tag {IMAGE} {}", registry.image()))?;
        let told = format!("{ROOT}/kubernetes/registries/{}", registry.host);
        fs::create_dir_all(&told)?;
        let host = &registry.host;
        let how = format!(
            "server = \"http://{host}\"\n[host.\"http://{host}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(format!("{told}/hosts.toml"), how)?;
        Ok(registry)
    }

    /// What a file calls the image.
    pub(super) fn image(&self) -> String {
        format!("{}/{IMAGE}", self.host)
    }

    /// The file's words about it.
    pub(super) fn config(&self) -> String {
        format!("[images]\ninsecure_registries = [\"{}\"]\n", self.host)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        attempt(&format!("docker image rm {}", self.image()));
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Serves what is in the folder; where.
fn serve(folder: &TempDir, address: &str) -> Result<(Child, String)> {
    let at = folder.path().display();
    let file = folder.path().join("config.yml");
    let config = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\nhttp: {{addr: \"{address}:0\"}}\n"
    );
    fs::write(&file, config)?;
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("docker-registry: scripts/setup clusters installs it")?;
    let mut lines = BufReader::new(child.stderr.take().context("piped")?).lines();
    let listening = lines.by_ref().map_while(std::result::Result::ok).find_map(|line| {
        let (_, after) = line.split_once("listening on ")?;
        Some(after.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect())
    });
    // It would stop at a pipe that is full.
    std::thread::spawn(move || lines.for_each(drop));
    Ok((child, listening.context("the registry listens")?))
}
