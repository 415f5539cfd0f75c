//! `tidegate explain`: why a service is as it is, in the order in which one asks: what, why, since when, what failed.

mod law;

use std::{fmt::Write, process::ExitCode, time::SystemTime};

use clap::Args;
use serde_json::Value;

use super::{
    Gateway,
    client::Client,
    output::{print, print_json},
    replicas::{self, age, aligned},
};
use crate::control::{
    history::{Entry, What},
    status::{Explanation, FailureStatus},
};

/// Decisions that are shown; `--json` has all.
const SHOWN: usize = 15;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The service
    service: String,
    /// Print JSON, with all that is remembered
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Explain) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.gateway);
    if args.json {
        print_json(&client.service::<Value>(&args.service).await?)?;
    } else {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        print(&text(&client.service(&args.service).await?, now))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The text at an instant, in seconds since 1970.
fn text(explanation: &Explanation, now: u64) -> String {
    let Explanation { status, history, last_failure, .. } = explanation;
    let mut blocks = vec![summary(explanation)];
    if !status.replicas.is_empty() {
        blocks.push(block("replicas", replicas::lines(&status.replicas)));
    }
    blocks.extend(last_failure.as_ref().map(|failure| failed(failure, now)));
    if !history.is_empty() {
        blocks.push(block("last decisions and events", decisions(history, now)));
    }
    blocks.join("\n")
}

fn summary(explanation: &Explanation) -> String {
    let Explanation { status, no_fit, waits, learned, .. } = explanation;
    let ready = status.replicas.iter().filter(|replica| replica.phase == "ready").count();
    let absent = || "not known yet".to_owned();
    let outside = !status.upstreams.is_empty();
    let rows = [
        ("why", Some(status.reason.clone())),
        // The reason may be just that.
        ("no room", no_fit.clone().filter(|why| *why != status.reason)),
        ("requests", Some(format!("{} in flight, {} waiting", status.in_flight, status.queued))),
        ("waits", waits.as_ref().map(law::waits)),
        ("goal", waits.as_ref().and_then(|waits| law::goal(waits, learned.as_ref()))),
        ("learned", learned.as_ref().and_then(law::learned)),
        ("upstreams", outside.then(|| status.upstreams.join(", "))),
        ("image", (!outside).then(|| status.image.clone())),
        ("digest", (!outside).then(|| status.digest.clone().unwrap_or_else(absent))),
        ("revision", (!outside).then(|| status.revision.clone().unwrap_or_else(absent))),
        ("rollout", status.rollout.clone()),
        (
            "newer image",
            status
                .newer
                .as_ref()
                .map(|digest| format!("{digest}; `tidegate restart {}` takes it", status.service)),
        ),
        ("earlier", (!status.earlier.is_empty()).then(|| status.earlier.join(", "))),
        ("routes", Some(if status.routes.is_empty() { "none".into() } else { status.routes.join(", ") })),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?]));
    let of = if outside { addresses_of(status.want) } else { format!("{} wanted", replicas_of(status.want)) };
    let head = format!("{}: {}, {ready} of {of} ready", status.service, status.state);
    block(&head, aligned(rows, &[]).into_iter().map(|line| format!("  {line}")).collect())
}

fn replicas_of(count: u32) -> String {
    format!("{count} replica{}", if count == 1 { "" } else { "s" })
}

fn addresses_of(count: u32) -> String {
    format!("{count} address{}", if count == 1 { "" } else { "es" })
}

fn failed(failure: &FailureStatus, now: u64) -> String {
    let FailureStatus { replica, at, cause, log } = failure;
    let mut lines = vec![format!("  {cause}")];
    lines.extend(log.iter().map(|line| format!("  | {line}")));
    block(&format!("last failure: {replica}, {}", ago(*at, now)), lines)
}

fn decisions(history: &[Entry], now: u64) -> Vec<String> {
    let last = &history[history.len().saturating_sub(SHOWN)..];
    let row = |entry: &Entry| {
        let times = if entry.times > 1 { format!(" ({} times)", entry.times) } else { String::new() };
        vec![ago(entry.at, now), what(&entry.what), format!("{}{times}", entry.reason)]
    };
    aligned(last.iter().map(row), &[0]).into_iter().map(|line| format!("  {line}")).collect()
}

fn what(what: &What) -> String {
    match what {
        What::Want { replicas, because } => format!("want {replicas} ({because})"),
        What::Phase { replica, to } => format!("{replica} {to}"),
        What::Image => "image".into(),
        What::Rollout => "version".into(),
        What::Asked => "by hand".into(),
    }
}

/// Stamps do not depend on anybody's time zone.
fn ago(at: u64, now: u64) -> String {
    format!("{} ago", age(now.saturating_sub(at)))
}

fn block(head: &str, lines: Vec<String>) -> String {
    let mut text = format!("{head}\n");
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{LearnedStatus, ServiceStatus, WaitsStatus};

    fn explanation() -> Explanation {
        let entry = |at, what, reason: &str, times| Entry { at, what, reason: reason.into(), times };
        let want = |replicas, because: &str| What::Want { replicas, because: because.into() };
        Explanation {
            status: ServiceStatus {
                service: "api".into(),
                state: "failing".into(),
                image: "api:1".into(),
                upstreams: Vec::new(),
                digest: Some("sha256:4f06".into()),
                revision: None,
                rollout: None,
                newer: None,
                earlier: Vec::new(),
                want: 1,
                in_flight: 0,
                queued: 3,
                circuit_open: None,
                reason: "3 requests wait".into(),
                routes: vec!["api.localhost/".into(), "*/v1".into()],
                replicas: Vec::new(),
            },
            history: vec![
                entry(900, want(0, "idle"), "nobody called for 60 s", 30),
                entry(990, want(1, "demand"), "3 requests wait", 1),
                entry(998, What::Phase { replica: "api-1-1".into(), to: "failed".into() }, "exit code 1", 1),
            ],
            last_failure: Some(FailureStatus {
                replica: "api-1-1".into(),
                at: 998,
                cause: "exited with code 1".into(),
                log: vec!["no such table: users".into()],
            }),
            no_fit: Some("local has 12 MiB left".into()),
            waits: Some(WaitsStatus {
                requests: 200,
                late: 30,
                cold: 5,
                late_after: 0.05,
                allowed: Some(0.1),
            }),
            learned: Some(LearnedStatus {
                request: Some(0.25),
                start: None,
                peakedness: 1.5,
                worth: Some(31.0),
            }),
        }
    }

    #[test]
    fn it_reads_well() {
        let want = "\
api: failing, 0 of 1 replica wanted ready
  why       3 requests wait
  no room   local has 12 MiB left
  requests  0 in flight, 3 waiting
  waits     15 % of 200 requests in the last hour waited longer than 50 ms (2.5 % came while no replica was ready)
  goal      at most 10 %: missed in the last hour; a late request is worth 31 s of a replica now
  learned   a request takes 250 ms; what runs at once varies 1.5 times as much as by chance
  image     api:1
  digest    sha256:4f06
  revision  not known yet
  routes    api.localhost/, */v1

last failure: api-1-1, 2 s ago
  exited with code 1
  | no such table: users

last decisions and events
  1 min ago  want 0 (idle)    nobody called for 60 s (30 times)
   10 s ago  want 1 (demand)  3 requests wait
    2 s ago  api-1-1 failed   exit code 1
";
        assert_eq!(text(&explanation(), 1000), want);
    }

    #[test]
    fn only_the_last_are_shown() {
        let mut explanation = explanation();
        let entry = |at| Entry { at, what: What::Asked, reason: format!("number {at}."), times: 1 };
        explanation.history = (0..100).map(entry).collect();
        let text = text(&explanation, 100);
        assert!(text.contains("number 85.") && !text.contains("number 84."), "{text}");
    }
}
