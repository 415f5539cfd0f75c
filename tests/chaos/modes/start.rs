//! Cold starts: a herd of first requests, replicas that are not what they seem, starts that fail, clients that leave.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    chaos::{
        burst::burst,
        load::{Aim, Load},
        verdict::Verdict,
    },
    eventually::eventually,
};
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, close_local, gateway, ready, service};

const HERD: usize = 1000;

/// A thousand first requests at once to a service that takes two seconds to start, then more than a short queue holds.
pub(super) async fn herd(_: &Stage) -> Result<Verdict> {
    let delay = "env = { START_DELAY_MS = \"2000\" }";
    let config = service("herd", delay, "concurrency = 100\nmax = 20")
        + &service("short", delay, "concurrency = 100\nmax = 1\nqueue = 100");
    let gateway = gateway(config).await?;
    let (fault, mut verdict) = (Instant::now(), Verdict::default());
    let all = burst(&Aim::at(gateway.address(), "herd"), HERD).await;
    verdict.load(&all, fault);
    let starts = gateway.metric("tidegate_engine_calls_total", &["call=\"start\""]).await?;
    // A thousand at 70 of 100 for each replica; one that answers fast may be enough.
    verdict.figure("starts", starts).require((1.0..=15.0).contains(&starts), "1 to 15 starts are needed");
    let over = burst(&Aim::at(gateway.address(), "short"), 300).await;
    let refused = over.reasons().remove("503 queue_full with Retry-After").unwrap_or(0);
    verdict.figure("refused", refused);
    verdict.require(
        refused == 200 && over.errors() == 200,
        format!("200 of 300 are refused: {:?}", over.reasons()),
    );
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// One replica that listens three seconds after its start, one that listens at once and answers 503 for three seconds.
pub(super) async fn not_ready_yet(_: &Stage) -> Result<Verdict> {
    let probe = |name| format!("[services.{name}.health]\nprobe = \"http:/health\"\n");
    let config = service("late", "env = { START_DELAY_MS = \"3000\" }", "max = 2")
        + &service("liar", "env = { UNREADY_MS = \"3000\" }", "max = 2")
        + &probe("liar");
    let gateway = gateway(config).await?;
    let fault = Instant::now();
    let mut aim = Aim::at(gateway.address(), "late");
    aim.hosts.push("liar.localhost".into());
    let tally = Load::start(aim).run(Duration::from_secs(8)).await;
    let mut verdict = Verdict::default();
    verdict.load(&tally, fault);
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// One service never starts, one runs out of memory; a third must not notice, and both must say what is wrong.
pub(super) async fn crash_loop(_: &Stage) -> Result<Verdict> {
    let config = service("good", "", "min = 1")
        + &service("broken", "env = { FAIL_START = \"1\" }", "hold = \"10s\"")
        + &service("hungry", "", "min = 1\n[services.hungry.resources]\nmemory = \"32MiB\"");
    let gateway = gateway(config).await?;
    ready(&gateway, "good", 1).await?;
    ready(&gateway, "hungry", 1).await?;
    let (fault, mut verdict) = (Instant::now(), Verdict::default());
    let good = Load::start(Aim::at(gateway.address(), "good"));
    let broken = Load::start(Aim::at(gateway.address(), "broken").rate(5.0));
    let eaten = burst(&Aim::at(gateway.address(), "hungry").path("/alloc?mb=200"), 1).await;
    sleep(Duration::from_secs(15)).await;
    let broken = broken.stop().await;
    verdict.load(&good.stop().await, fault);
    verdict.figure("refused", broken.errors()).figure("out_of_memory", eaten.errors());
    verdict.require(broken.errors() == broken.requests(), "a service that never starts answered");
    let told =
        broken.reasons().keys().all(|why| why.contains("start_failed") || why.contains("crash_looping"));
    verdict.require(told, format!("refusals say why: {:?}", broken.reasons()));
    let failures = gateway.metric("tidegate_replica_failures_total", &["service=\"broken\""]).await?;
    // Doubling pauses from a second on: a handful in fifteen seconds.
    verdict.figure("starts", failures).require(failures <= 12.0, "starts back off");
    let cause =
        gateway.explain("hungry").await?.last_failure.map(|failure| failure.cause).unwrap_or_default();
    verdict.require(cause.contains("memory"), format!("the cause of the second is memory: {cause:?}"));
    ready(&gateway, "hungry", 1).await?;
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// Five hundred clients give up one second into a start of four.
pub(super) async fn impatient_clients(_: &Stage) -> Result<Verdict> {
    let config =
        service("slow", "env = { START_DELAY_MS = \"4000\" }", "concurrency = 10\nmax = 3\nidle = \"2s\"");
    let gateway = gateway(config).await?;
    let mut aim = Aim::at(gateway.address(), "slow");
    aim.timeout = Duration::from_secs(1);
    let gone = burst(&aim, 500).await;
    let left = Instant::now();
    eventually("the queue is empty", async || Ok(gateway.service("slow").await?.queued == 0)).await?;
    let mut verdict = Verdict::default();
    verdict.figure("requests", gone.requests()).figure("errors", 0).millis("freed_ms", left.elapsed());
    verdict.require(gone.errors() == 500, "all clients gave up");
    verdict.require(left.elapsed() < Duration::from_secs(1), "the queue is free within a second");
    eventually("nothing is left of it", async || Ok(gateway.service("slow").await?.replicas.is_empty()))
        .await?;
    let served = gateway.metric("tidegate_requests_total", &["service=\"slow\"", "code=\"2xx\""]).await?
        + gateway.metric("tidegate_requests_total", &["service=\"slow\"", "status=\"2xx\""]).await?;
    verdict.require(served == 0.0, format!("{served} requests of clients that left were sent"));
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}
