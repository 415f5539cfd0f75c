//! Commands of the system (`ip`, `iptables`, `tc`, `nsenter`), run to their end. They are quick and stand at the edges
//! of a fault, so they are waited for in place; that also lets `Drop` use them.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Runs a command line of plain words; what it prints.
///
/// # Errors
/// When it cannot be run or fails; with its own words.
pub fn run(line: &str) -> anyhow::Result<String> {
    let output = output(line)?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same where failing is fine: what is to be undone may never have been done.
pub fn attempt(line: &str) {
    drop(output(line));
}

fn output(line: &str) -> anyhow::Result<Output> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    Command::new(program)
        .args(words)
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}; scripts/setup chaos installs what is needed"))
}

/// The search path with the folders of daemons, which an ordinary user's lacks.
#[must_use]
pub fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Sends a signal to a process that this run started.
///
/// # Errors
/// When it has gone.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let raw = i32::try_from(pid).context("a process id")?;
    kill(Pid::from_raw(raw), signal).with_context(|| format!("{signal} to process {pid}"))
}

/// Whether a process is there and has not ended.
#[must_use]
pub fn alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which is in brackets and may hold anything.
    status.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}
