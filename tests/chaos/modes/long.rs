//! What only time shows: a count that swings, memory and descriptors that grow.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    chaos::{
        gateway::Gateway,
        leaks,
        load::{Aim, Load, Tally},
        verdict::Verdict,
    },
    eventually::eventually,
};
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, close_local, gateway, kill, ready, running, service};

/// Constant rates one after another; within each, the wanted count may settle, not swing.
pub(super) async fn steps(_: &Stage) -> Result<Verdict> {
    let scaling = "concurrency = 4\nmax = 8\nstable_window = \"10s\"\nidle = \"5s\"";
    let gateway = gateway(service("web", "env = { SERVICE_MS = \"20\" }", scaling)).await?;
    let (fault, mut verdict, mut all) = (Instant::now(), Verdict::default(), Tally::default());
    let (mut turns, mut changes) = (0, 0);
    for rate in [50.0, 400.0, 100.0, 250.0, 50.0] {
        let load = Load::start(Aim::at(gateway.address(), "web").rate(rate).workers(64));
        let wants = watch(&gateway, Duration::from_secs(20)).await?;
        all = all.and(load.stop().await);
        let moves: Vec<bool> =
            wants.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[0] < pair[1]).collect();
        changes += moves.len();
        let turned = moves.windows(2).filter(|pair| pair[0] != pair[1]).count();
        turns += turned;
        verdict.require(turned <= 2, format!("at {rate}/s the count swings: {wants:?}"));
    }
    verdict.load(&all, fault).figure("changes", changes).figure("turns", turns);
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// The wanted count, twice a second.
async fn watch(gateway: &Gateway, time: Duration) -> Result<Vec<u32>> {
    let (until, mut wants) = (Instant::now() + time, Vec::new());
    while Instant::now() < until {
        wants.push(gateway.service("web").await?.want);
        sleep(Duration::from_millis(500)).await;
    }
    Ok(wants)
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    kilobytes: u64,
    descriptors: usize,
}

fn held(pid: u32) -> Held {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    Held { kilobytes: rss.unwrap_or(0), descriptors }
}

/// Services come and go, replicas are killed, a thousand hosts and paths are asked for; in the end it holds no more
/// than in the beginning.
pub(super) async fn soak(stage: &Stage) -> Result<Verdict> {
    let mut config = service("web", "", "min = 2\nmax = 4");
    config += "[[services.web.routes]]\nhost = \"web.localhost\"\n[[services.web.routes]]\nhost = \"*.example.org\"\n";
    for number in 0..8 {
        config += &service(&format!("nap-{number}"), "", "idle = \"2s\"\nmax = 2");
    }
    let gateway = gateway(config).await?;
    ready(&gateway, "web", 2).await?;
    let (engines, begun, mut verdict) = (leaks::local()?, Instant::now(), Verdict::default());
    let quarter = stage.soak() / 4;
    let (mut all, mut readings) = (Tally::default(), Vec::new());
    for part in 0..4 {
        let loads = loads(&gateway, part).map(Load::start);
        let until = Instant::now() + quarter;
        while Instant::now() < until {
            // Far enough apart that a replica that is killed has started well: else it would be a crash loop.
            sleep(Duration::from_secs(15)).await;
            if let Some((host, name)) = running(&gateway, &engines, "web").await?.first() {
                kill(&engines[host], name).await?;
            }
        }
        for load in loads {
            all = all.and(load.stop().await);
        }
        eventually("the naps are over", async || {
            let services = gateway.services().await?;
            Ok(services.iter().all(|service| service.service == "web" || service.replicas.is_empty()))
        })
        .await?;
        readings.push(held(gateway.pid()?));
    }
    let (first, last) = (readings[1], readings[3]);
    verdict.load(&all, begun).figure("rss_kb", last.kilobytes).figure("descriptors", last.descriptors);
    verdict.figure("seconds", begun.elapsed().as_secs());
    // The second half may need no more than the first, but for what the allocator keeps.
    verdict.require(
        last.kilobytes < first.kilobytes + first.kilobytes / 10 + 4096,
        format!("memory grows: {readings:?}"),
    );
    verdict.require(last.descriptors <= first.descriptors + 16, format!("descriptors grow: {readings:?}"));
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

fn loads(gateway: &Gateway, part: usize) -> [Aim; 3] {
    let address = gateway.address();
    let steady = Aim::at(address, "web").rate(60.0);
    let mut many = Aim::at(address, "web").rate(60.0).path(format!("/echo?part={part}"));
    many.hosts = (0..1000).map(|number| format!("h{number}.example.org")).collect();
    let mut naps = Aim::at(address, "web").rate(1.0).workers(4);
    naps.hosts = (0..8).map(|number| format!("nap-{number}.localhost")).collect();
    [steady, many, naps]
}
