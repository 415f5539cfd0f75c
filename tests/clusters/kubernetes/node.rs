//! The node: brought up and taken down by the scripts in this folder, and reached by them.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use e2e::chaos::{
    ROOT,
    run::{attempt, run},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SCRIPTS: &str = "tests/clusters/kubernetes";

/// A Kubernetes of one node. Dropping it ends it.
pub(super) struct Node;

impl Node {
    /// Brings it up with these images.
    pub(super) fn up(images: &[PathBuf]) -> Result<Self> {
        let node = Self;
        let images: Vec<_> = images.iter().map(|image| image.display().to_string()).collect();
        run(&format!("{SCRIPTS}/up {}", images.join(" "))).context("bring up a Kubernetes")?;
        Ok(node)
    }

    /// The administrator's kubeconfig.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        PathBuf::from(ROOT).join("kubernetes/certs/admin.conf")
    }

    /// The authority of its API, for kubeconfigs of others.
    pub(super) fn authority(&self) -> PathBuf {
        PathBuf::from(ROOT).join("kubernetes/certs/authority.crt")
    }

    /// Sends a signal to one of Kubernetes' own processes.
    pub(super) fn signal(&self, part: &str, signal: Signal) -> Result<()> {
        let program = format!("clusters/kubernetes/bin/{part}");
        let found = processes()?
            .into_iter()
            .find(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(&program)));
        let pid = found.with_context(|| format!("{part} does not run"))?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {part}"))
    }

    /// Ends the process of a pod's container, as SIGKILL does; whether there was one.
    pub(super) fn kill_pod(&self, uid: &str) -> Result<bool> {
        let group = format!("pod{uid}");
        let mut killed = false;
        for pid in processes()? {
            let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            // What holds the pod's namespaces has no port.
            if read("cgroup").contains(&group) && read("environ").contains("PORT=") {
                killed |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
            }
        }
        Ok(killed)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        attempt(&format!("{SCRIPTS}/down"));
    }
}

/// Runs `kubectl`; what it prints.
pub(super) fn ctl(line: &str) -> Result<String> {
    run(&format!("{SCRIPTS}/ctl {line}"))
}

/// Gives `kubectl` a description.
pub(super) fn apply(namespace: &str, description: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), description)?;
    let done = Command::new(format!("{SCRIPTS}/ctl"))
        .args(["apply", "--namespace", namespace, "--filename"])
        .arg(file.path())
        .output()?;
    ensure!(done.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn processes() -> Result<Vec<i32>> {
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}
