//! What is done to a replica behind the gateway's back, and seen of it there: the same on each engine.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use bollard::Docker;
use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};
use serde_json::Value;
use tidegate_runner::Executed;

use crate::{engine::Engine, process::Gateway, remains};

/// How long a command in a replica may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Ends a replica's process.
///
/// # Errors
/// When there is none.
pub async fn kill(gateway: &Gateway, replica: &str) -> anyhow::Result<()> {
    signal(gateway, replica, Signal::SIGKILL).await
}

/// Sends a replica's first process a signal.
///
/// # Errors
/// When there is none.
pub async fn signal(gateway: &Gateway, replica: &str, signal: Signal) -> anyhow::Result<()> {
    Ok(send(Pid::from_raw(init(gateway, replica).await?), signal)?)
}

/// The number of a replica's first process, as this machine sees it.
///
/// # Errors
/// When there is none.
pub async fn init(gateway: &Gateway, replica: &str) -> anyhow::Result<i32> {
    let pid = match gateway.runs_on() {
        Engine::Docker => {
            let seen = docker()?.inspect_container(&container(gateway, replica)?, None).await?;
            seen.state.and_then(|state| state.pid)
        }
        Engine::Embedded => told(gateway, replica, "run.json")?["init"]["pid"].as_i64(),
    };
    Ok(i32::try_from(pid.filter(|pid| *pid > 0).context("the number of its process")?)?)
}

/// With which code a replica's process ended that is kept.
///
/// # Errors
/// When it runs, or is not known.
pub async fn exit_code(gateway: &Gateway, replica: &str) -> anyhow::Result<i64> {
    let code = match gateway.runs_on() {
        Engine::Docker => {
            let seen = docker()?.inspect_container(&container(gateway, replica)?, None).await?;
            seen.state.filter(|state| state.running == Some(false)).and_then(|state| state.exit_code)
        }
        Engine::Embedded => told(gateway, replica, "exit.json")?["exit"]["code"].as_i64(),
    };
    code.context("the exit code")
}

/// Runs a command in a replica.
///
/// # Errors
/// When it could not be run.
pub async fn exec(gateway: &Gateway, replica: &str, command: &[&str]) -> anyhow::Result<Executed> {
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    Ok(gateway.engine().await?.exec(&replica.parse()?, &command, WITHIN).await?)
}

fn docker() -> anyhow::Result<Docker> {
    Ok(Docker::connect_with_local_defaults()?)
}

fn container(gateway: &Gateway, replica: &str) -> anyhow::Result<String> {
    Ok(format!("tg-{}-{replica}", gateway.instance()?.short()))
}

/// A file that a shim has written about its replica.
fn told(gateway: &Gateway, replica: &str, file: &str) -> anyhow::Result<Value> {
    let folder: PathBuf = gateway.state().join(remains::FOLDER).join("replicas").join(replica);
    let path = folder.join(file);
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes)?)
}
