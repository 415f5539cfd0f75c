//! What a gateway lives on fails: descriptors, disks, the clock, those who read its figures, its own code.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use e2e::chaos::{
    burst::burst,
    gateway::{Gateway, Setup},
    host::Options,
    load::{Aim, Load},
    verdict::Verdict,
};
use nix::sys::signal::Signal;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::stage::{Stage, close, close_local, engines, gateway, ready, service, span};

/// Processor time that a process has used, in hundredths of a second.
fn used(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

/// More connections than descriptors: no spinning, and all is well when they have gone.
pub(super) async fn descriptors(_: &Stage) -> Result<Verdict> {
    let wrapper = vec!["prlimit".to_owned(), "--nofile=256".to_owned()];
    let setup = Setup { wrapper, ..Setup::new(service("web", "", "min = 2\nmax = 2")) };
    let gateway = Gateway::start(setup).await?;
    ready(&gateway, "web", 2).await?;
    let begun = Instant::now();
    let load = Load::start(Aim::at(gateway.address(), "web").workers(8));
    sleep(Duration::from_secs(2)).await;
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.extend(
            timeout(Duration::from_millis(100), TcpStream::connect(gateway.address()))
                .await
                .ok()
                .and_then(Result::ok),
        );
    }
    let (cpu, fault) = (used(gateway.pid()?), Instant::now());
    sleep(Duration::from_secs(5)).await;
    let spun = used(gateway.pid()?) - cpu;
    let opened = crowd.len();
    drop(crowd);
    let freed = Instant::now();
    let after = burst(&Aim::at(gateway.address(), "web"), 50).await;
    let recovered = freed.elapsed();
    let tally = load.stop().await;
    let mut verdict = Verdict::default();
    verdict.load(&tally.and(after), begun).figure("crowd", opened).figure("cpu_percent", spun / 5);
    verdict.millis("free_again_ms", recovered);
    verdict.require(spun / 5 < 60, "it spins").require(recovered < Duration::from_secs(5), "it recovers");
    verdict.require(fault.elapsed() > Duration::from_secs(5), "it was crowded");
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// The engine's disk is full, then the gateway's own: what runs is served, failures are told, nothing is corrupt.
pub(super) async fn full_disks(stage: &Stage) -> Result<Verdict> {
    let host = stage.host(1, Options { megabytes: Some(64), ..Options::default() }).await?;
    let config = host.config()
        + &service("warm", "", "min = 1\nmax = 1")
        + &service("cold", "", "idle = \"1s\"\nhold = \"5s\"");
    let setup = Setup { state_kilobytes: Some(1024), ..Setup::new(config) };
    let mut gateway = Gateway::start(setup).await?;
    ready(&gateway, "warm", 1).await?;
    let (fault, mut verdict) = (Instant::now(), Verdict::default());
    let load = Load::start(Aim::at(gateway.address(), "warm"));
    host.fill()?;
    let refused = burst(&Aim::at(gateway.address(), "cold"), 5).await;
    verdict.figure("refused_on_a_full_disk", refused.errors());
    host.empty()?;
    sleep(Duration::from_secs(5)).await;
    let again = burst(&Aim::at(gateway.address(), "cold"), 5).await;
    verdict.require(again.errors() == 0, format!("cold starts after room was made: {:?}", again.reasons()));
    // Now the state directory: what has to be written is written in parts, or not at all.
    let full = gateway.state().join("ballast");
    drop(std::fs::write(&full, vec![0; 2 << 20]));
    // What hosts were told is something to remember.
    for order in ["cordon", "uncordon"] {
        gateway.post(&format!("/v1/hosts/h1/{order}")).await?;
        sleep(Duration::from_secs(1)).await;
    }
    for _ in 0..3 {
        sleep(Duration::from_millis(1500)).await;
        verdict.problems(burst(&Aim::at(gateway.address(), "cold"), 1).await.reasons().into_keys());
    }
    let loud = gateway.metric("tidegate_state_write_failures_total", &[]).await?;
    verdict
        .figure("write_failures", loud.abs())
        .require(loud > 0.0, "a state that cannot be written is told");
    drop(std::fs::remove_file(&full));
    verdict.load(&load.stop().await, fault);
    gateway.crash().await?;
    gateway.launch()?;
    gateway.ready().await.context("after a full state directory")?;
    ready(&gateway, "warm", 1).await?;
    close(gateway, &engines(&[&host])?, &mut verdict).await?;
    Ok(verdict)
}

/// The wall clock jumps an hour forth and two back, then the process stands still; nothing falls asleep early.
pub(super) async fn clock(_: &Stage) -> Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("clock");
    std::fs::write(&file, "+0\n")?;
    let env = [
        ("LD_PRELOAD", library()?),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let setup = Setup {
        env,
        ..Setup::new(service("web", "", "idle = \"60s\"") + &service("rare", "", "idle = \"10m\""))
    };
    let gateway = Gateway::start(setup).await?;
    let begun = Instant::now();
    let woken = burst(&Aim::at(gateway.address(), "rare"), 1).await;
    let load = Load::start(Aim::at(gateway.address(), "web"));
    let mut verdict = Verdict::default();
    for jump in ["+1h", "-1h", "+0"] {
        sleep(Duration::from_secs(3)).await;
        std::fs::write(&file, format!("{jump}\n"))?;
        sleep(Duration::from_secs(5)).await;
        let asleep = gateway.service("rare").await?.replicas.is_empty();
        verdict.require(!asleep, format!("a jump of {jump} put a service to sleep"));
    }
    let pause = span("PAUSE", Duration::from_secs(60));
    gateway.signal(Signal::SIGSTOP)?;
    sleep(pause.min(Duration::from_secs(60))).await;
    gateway.signal(Signal::SIGCONT)?;
    let on = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let tally = load.stop().await;
    verdict.require(woken.errors() == 0, "the first request");
    verdict.load(&tally, begun).millis("after_standstill_ms", tally.recovered(on));
    verdict
        .require(!gateway.service("web").await?.replicas.is_empty(), "a standstill put a service to sleep");
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

fn library() -> Result<String> {
    let found = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path().join("faketime/libfaketimeMT.so.1");
        path.is_file().then(|| path.display().to_string())
    });
    found.context("no libfaketime; scripts/setup chaos installs it")
}

/// Scrapers that ask for the metrics and read nothing, or do not even finish asking.
pub(super) async fn stalled_scraper(_: &Stage) -> Result<Verdict> {
    let gateway = gateway(service("web", "", "min = 2\nmax = 2")).await?;
    ready(&gateway, "web", 2).await?;
    let begun = Instant::now();
    let load = Load::start(Aim::at(gateway.address(), "web").rate(200.0));
    sleep(Duration::from_secs(6)).await;
    let fault = Instant::now();
    let mut scrapers = Vec::new();
    for number in 0..60 {
        let mut scraper = TcpStream::connect(gateway.metrics_address()).await?;
        let ask = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
        // A thousand answers that nobody reads fill every buffer on the way.
        let text = if number % 3 == 0 { "GET /metrics HTTP/1.1\r\nho".to_owned() } else { ask.repeat(200) };
        drop(timeout(Duration::from_millis(200), scraper.write_all(text.as_bytes())).await);
        scrapers.push(scraper);
    }
    let stalled = Instant::now();
    sleep(Duration::from_secs(8)).await;
    let told = gateway.metric("tidegate_requests_total", &[]).await;
    let tally = load.stop().await;
    let (before, with) = (tally.quantile(0.99, begun, fault), tally.quantile(0.99, stalled, Instant::now()));
    let mut verdict = Verdict::default();
    verdict.load(&tally, fault).figure("scrapers", scrapers.len());
    verdict.figure("p99_before_us", before.as_micros()).figure("p99_with_us", with.as_micros());
    verdict.require(with < before * 2 + Duration::from_millis(5), "requests are slower while scrapers stall");
    verdict.require(told.is_ok(), "the admin socket does not answer");
    drop(scrapers);
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// One request in a thousand panics inside the gateway: it gets a 500, nobody else notices, and nothing leaks. Only a
/// debug build can be told to panic.
pub(super) async fn panics(_: &Stage) -> Result<Verdict> {
    let env = vec![("FAILPOINTS".to_owned(), "request.panic=1000".to_owned())];
    let gateway = Gateway::start(Setup {
        env,
        binary: debug_binary(),
        ..Setup::new(service("web", "", "min = 1\nmax = 1"))
    })
    .await?;
    ready(&gateway, "web", 1).await?;
    let fault = Instant::now();
    let tally = Load::start(Aim::at(gateway.address(), "web").rate(400.0)).run(Duration::from_secs(15)).await;
    let mut verdict = Verdict::default();
    let panicked = tally.reasons().remove("500 internal").unwrap_or(0);
    verdict
        .figure("requests", tally.requests())
        .figure("errors", tally.errors() - panicked)
        .figure("panics", panicked);
    verdict.millis("recovered_ms", tally.recovered(fault));
    verdict.require(panicked > 0, "nothing panicked: this binary has no failpoint `request.panic`");
    verdict.require(tally.errors() == panicked, format!("others failed too: {:?}", tally.reasons()));
    let left = gateway.service("web").await?;
    verdict.require(
        left.in_flight == 0 && left.queued == 0,
        format!("{} in flight, {} queued", left.in_flight, left.queued),
    );
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// The debug build, as `scripts/chaos` names it.
fn debug_binary() -> Option<PathBuf> {
    std::env::var_os("CHAOS_DEBUG_BINARY").map(PathBuf::from)
}
