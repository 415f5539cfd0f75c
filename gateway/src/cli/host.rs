//! `tidegate host`: the machines that replicas run on, and what they are told: take no more, give up what you have.

use std::{process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use tidegate_config::name::HostName;
use tokio::time::timeout;

use super::{
    Gateway,
    client::Client,
    output::{print, print_json},
    replicas::{age, aligned},
};
use crate::control::status::HostStatus;

#[derive(Debug, Args)]
pub(super) struct Host {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the hosts: whether they answer, what is reserved there
    List(List),
    /// Start nothing more there; what runs stays
    Cordon(Order),
    /// Start replicas there again
    Uncordon(Order),
    /// Start nothing more there, move what runs elsewhere, and wait until the host is empty
    Drain(Order),
}

#[derive(Debug, Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
struct Order {
    /// The host, as the file names it
    host: String,
    /// How long to wait for it to be empty
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Host) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(&args).await?,
        Command::Cordon(args) => order(&args, "cordon", "cordoned").await?,
        Command::Uncordon(args) => order(&args, "uncordon", "open").await?,
        Command::Drain(args) => order(&args, "drain", "empty").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &List) -> anyhow::Result<()> {
    let client = Client::new(&args.gateway);
    if args.json {
        return print_json(&client.hosts::<Value>().await?);
    }
    print(&text(&client.hosts::<Vec<HostStatus>>().await?))
}

async fn order(args: &Order, order: &str, done: &str) -> anyhow::Result<()> {
    let client = Client::new(&args.gateway);
    let host = &args.host;
    // What cannot be a name would not be a path either.
    if host.parse::<HostName>().is_err() {
        bail!("no host is called {host:?}; `tidegate host list` has them all");
    }
    if order == "drain" {
        print(&format!("{host}: moving what it has elsewhere (`tidegate ps` shows what is left) ...\n"))?;
    }
    timeout(args.timeout, client.order(host, order)).await.map_err(|_| {
        let patience = humantime::format_duration(args.timeout);
        anyhow!(
            "{host} was not {done} within {patience}; it goes on; `tidegate ps` shows what is still there"
        )
    })??;
    print(&format!("{host}: {done}\n"))
}

fn text(hosts: &[HostStatus]) -> String {
    let head = ["HOST", "STATE", "ORDER", "CPU", "MEMORY", "REPLICAS", "ENGINE", "LABELS"].map(str::to_owned);
    let rows = std::iter::once(head.to_vec()).chain(hosts.iter().map(row));
    let said = hosts.iter().filter_map(|host| Some(format!("{}: {}", host.host, host.said.as_ref()?)));
    aligned(rows, &[]).into_iter().chain(said).map(|line| line + "\n").collect()
}

fn row(host: &HostStatus) -> Vec<String> {
    let join = |parts: Vec<String>| if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
    let state = match host.silent {
        0 => host.state.clone(),
        silent => format!("{} for {}", host.state, age(silent)),
    };
    // A limit of 0 is one that nobody knows.
    let of = |used: String, all: String, known: bool| if known { format!("{used}/{all}") } else { used };
    vec![
        host.host.clone(),
        state,
        host.order.clone(),
        of(host.cpu_reserved.to_string(), host.cpu.to_string(), host.cpu > 0.0),
        of(rounded(host.memory_reserved), rounded(host.memory), host.memory > 0),
        join(host.replicas.iter().map(|(phase, count)| format!("{count} {phase}")).collect()),
        host.engine.clone().unwrap_or_else(|| "-".into()),
        join(host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect()),
    ]
}

/// Bytes in the largest unit of which there is one, to a tenth.
pub(super) fn rounded(bytes: u64) -> String {
    let (unit, name) = if bytes >= 1 << 30 { (1 << 30, "GiB") } else { (1 << 20, "MiB") };
    let tenths = bytes / (unit / 10);
    if tenths.is_multiple_of(10) {
        format!("{}{name}", tenths / 10)
    } else {
        format!("{}.{}{name}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lines() {
        let host = |name: &str, silent| HostStatus {
            host: name.into(),
            state: if silent > 0 { "lost" } else { "up" }.into(),
            silent,
            said: (silent > 0).then(|| "list the pods: Unauthorized".into()),
            order: "open".into(),
            engine: (silent == 0).then(|| "docker 20.10".into()),
            labels: [("host".to_owned(), name.to_owned())].into(),
            cpu: if silent == 0 { 4.0 } else { 0.0 },
            cpu_reserved: 0.5,
            memory: if silent == 0 { 8 << 30 } else { 0 },
            memory_reserved: 64 << 20,
            replicas: [("ready".to_owned(), 2)].into(),
        };
        let want = "\
HOST  STATE          ORDER  CPU    MEMORY      REPLICAS  ENGINE        LABELS
a     up             open   0.5/4  64MiB/8GiB  2 ready   docker 20.10  host=a
b     lost for 40 s  open   0.5    64MiB       2 ready   -             host=b
b: list the pods: Unauthorized
";
        assert_eq!(text(&[host("a", 0), host("b", 40)]), want);
    }
}
