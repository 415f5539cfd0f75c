//! `tidegate ps`: services, and below each its replicas. In a pipe lines are as long as they are; on a terminal they are
//! cut to its width.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::Value;

use super::{
    Gateway,
    client::Client,
    output::{Misuse, fit, print, print_json},
    replicas,
};
use crate::control::status::ServiceStatus;

/// Below this many columns for the reason, the digest makes room.
const REASON_NEEDS: usize = 30;

/// Hexadecimal digits of a digest that are shown.
const DIGEST_SHOWN: usize = 12;

/// Stands below what was last known while the gateway does not answer.
const AWAY: &str = "\nno answer; asking again every second\n";

#[derive(Debug, Args)]
pub(super) struct Ps {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again every second, until interrupted
    #[arg(short, long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Ps) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.gateway);
    if args.json {
        print_json(&client.services::<Value>().await?)?;
    } else if args.watch {
        watch(&client).await?;
    } else {
        print(&text(&client.services::<Vec<ServiceStatus>>().await?, width()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws over what was drawn before, until Ctrl-C.
async fn watch(client: &Client) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() {
        let words = "--watch needs a terminal; without one, call `tidegate ps --json` again and again";
        return Err(Misuse(words.into()).into());
    }
    let mut shown = text(&client.services::<Vec<ServiceStatus>>().await?, width());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    print("\x1b[2J")?;
    loop {
        // Home, each line up to its end, then what is below: nothing flickers.
        print(&format!("\x1b[H{}\x1b[J", shown.replace('\n', "\x1b[K\n")))?;
        tokio::select! {
            _ = ticks.tick() => {}
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        }
        match client.services::<Vec<ServiceStatus>>().await {
            Ok(services) => shown = text(&services, width()),
            // One that restarts comes back: what was last known stays until then.
            Err(_) if shown.ends_with(AWAY) => {}
            Err(_) => shown.push_str(AWAY),
        }
    }
}

/// The terminal's width; `None` in a pipe.
fn width() -> Option<usize> {
    comfy_table::Table::new().width().map(usize::from)
}

fn text(services: &[ServiceStatus], width: Option<usize>) -> String {
    if services.is_empty() {
        return "no services\n".into();
    }
    let full = lines(services, true);
    let reason_at = full[0].find("REASON").unwrap_or_default();
    let lines = match width {
        Some(width) if reason_at + REASON_NEEDS > width => lines(services, false),
        _ => full,
    };
    let mut replicas = replicas::lines(services.iter().flat_map(|service| &service.replicas)).into_iter();
    let mut lines = lines.into_iter();
    let mut out = Vec::from_iter(lines.next());
    for (service, line) in services.iter().zip(lines) {
        out.push(line);
        out.extend(replicas.by_ref().take(service.replicas.len()));
    }
    let width = width.unwrap_or(usize::MAX);
    out.iter().map(|line| fit(line, width) + "\n").collect()
}

/// The head and a line for each service.
fn lines(services: &[ServiceStatus], with_digest: bool) -> Vec<String> {
    let head = ["SERVICE", "STATE", "REPLICAS", "IN-FLIGHT", "QUEUE", "IMAGE", "DIGEST", "REASON"];
    let rows =
        std::iter::once(head.map(str::to_owned).to_vec()).chain(services.iter().map(row)).map(|mut row| {
            if !with_digest {
                row.remove(6);
            }
            row
        });
    replicas::aligned(rows, &[2, 3, 4])
}

fn row(service: &ServiceStatus) -> Vec<String> {
    let ready = service.replicas.iter().filter(|replica| replica.phase == "ready").count();
    vec![
        service.service.clone(),
        service.state.clone(),
        format!("{ready}/{}", service.want),
        service.in_flight.to_string(),
        service.queued.to_string(),
        if service.image.is_empty() { service.upstreams.join(", ") } else { service.image.clone() },
        service.digest.as_deref().map_or_else(|| "-".into(), short),
        words(service),
    ]
}

/// The reason, and what else one should know.
fn words(service: &ServiceStatus) -> String {
    let newer = service.newer.as_ref().map(|digest| format!("a newer image is present: {}", short(digest)));
    let circuit = service.circuit_open.map(|seconds| format!("circuit open for {seconds} s"));
    let all = [circuit, Some(service.reason.clone()), service.rollout.clone(), newer];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// As much of a digest as tells images apart.
fn short(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or_default().chars().take(DIGEST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{BalanceStatus, ReplicaStatus};

    fn service(name: &str, replicas: Vec<ReplicaStatus>) -> ServiceStatus {
        ServiceStatus {
            service: name.into(),
            state: if replicas.is_empty() { "cold" } else { "ready" }.into(),
            image: "shop/api:1.2".into(),
            upstreams: Vec::new(),
            digest: Some(format!("sha256:{}", "0123456789abcdef".repeat(4))),
            revision: None,
            rollout: None,
            newer: None,
            earlier: Vec::new(),
            want: 2,
            in_flight: 7,
            queued: 0,
            circuit_open: None,
            reason: "14 requests at once, 7 per replica".into(),
            routes: Vec::new(),
            replicas,
        }
    }

    fn replica(id: &str, phase: &str) -> ReplicaStatus {
        ReplicaStatus {
            id: id.into(),
            phase: phase.into(),
            host: "local".into(),
            address: (phase == "ready").then(|| "172.20.0.3:8080".into()),
            revision: "r".into(),
            digest: "d".into(),
            in_flight: 7,
            balance: BalanceStatus::default(),
            age: 95,
            waits_for: None,
            trouble: None,
        }
    }

    #[test]
    fn replicas_stand_below_their_service() {
        let api = service("api", vec![replica("api-1-1", "ready"), replica("api-1-2", "starting")]);
        let services = [service("a-long-name", Vec::new()), api];
        let want = "\
SERVICE      STATE  REPLICAS  IN-FLIGHT  QUEUE  IMAGE         DIGEST        REASON
a-long-name  cold        0/2          7      0  shop/api:1.2  0123456789ab  14 requests at once, 7 per replica
api          ready       1/2          7      0  shop/api:1.2  0123456789ab  14 requests at once, 7 per replica
  api-1-1  ready     local  172.20.0.3:8080  7 in flight  1 min
  api-1-2  starting  local  -                7 in flight  1 min
";
        assert_eq!(text(&services, None), want);
    }

    #[test]
    fn who_gets_nothing_is_named() {
        let balance = BalanceStatus { ejected: Some(3), ..BalanceStatus::default() };
        let ejected = ReplicaStatus { balance, ..replica("api-1-1", "ready") };
        let text = text(&[service("api", vec![ejected])], None);
        assert!(text.ends_with("7 in flight  1 min  ejected for 3 s\n"), "{text}");
    }

    #[test]
    fn what_has_no_place_says_why() {
        let why = Some("no suitable node (insufficient resources on 3 nodes)".to_owned());
        let waiting = ReplicaStatus { waits_for: why, ..replica("api-1-1", "starting") };
        let text = text(&[service("api", vec![waiting])], None);
        assert!(
            text.ends_with("1 min  no place: no suitable node (insufficient resources on 3 nodes)\n"),
            "{text}"
        );
    }

    #[test]
    fn trouble_of_a_node_is_said() {
        let trouble = Some("its node is not ready".to_owned());
        let troubled = ReplicaStatus { trouble, ..replica("api-1-1", "ready") };
        let text = text(&[service("api", vec![troubled])], None);
        assert!(text.ends_with("7 in flight  1 min  its node is not ready\n"), "{text}");
    }

    #[test]
    fn a_terminal_is_never_overrun() {
        let services = [service("api", vec![replica("api-1-1", "ready")])];
        for (width, digest) in [(200, true), (110, true), (100, false), (40, false), (2, false)] {
            let text = text(&services, Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width.max(3)), "{width}:\n{text}");
            assert_eq!(text.contains("0123456789ab"), digest, "{width}:\n{text}");
        }
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(text(&[], None), "no services\n");
    }
}
