//! Replicas fail: connections that close, addresses that pass on, processes that stand still, too much load.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use bollard::models::NetworkDisconnectRequest;
use e2e::chaos::{
    leaks,
    load::{Aim, Load, Tally},
    verdict::Verdict,
};
use http::Method;
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, close_local, gateway, ready, running, service};

/// Replicas that close idle connections after 1, 5 and 50 ms; GETs must not notice, POSTs are counted apart.
pub(super) async fn stale_connections(_: &Stage) -> Result<Verdict> {
    let mut config = String::new();
    for idle in [1, 5, 50] {
        config +=
            &service(&format!("close-{idle}"), &format!("env = {{ IDLE_CLOSE_MS = \"{idle}\" }}"), "min = 1");
    }
    config += &service("lasting", "env = { IDLE_CLOSE_MS = \"2000\" }", "min = 1");
    let gateway = gateway(config).await?;
    for name in ["close-1", "close-5", "close-50", "lasting"] {
        ready(&gateway, name, 1).await?;
    }
    let fault = Instant::now();
    let hosts: Vec<String> =
        ["close-1", "close-5", "close-50"].map(|name| format!("{name}.localhost")).to_vec();
    let mut gets = Aim::at(gateway.address(), "close-1").rate(200.0);
    gets.hosts = hosts.clone();
    let mut heads = Aim { method: Method::HEAD, ..gets.clone() }.rate(50.0);
    heads.workers = 31;
    let posts =
        Aim { hosts, workers: 31, ..Aim::at(gateway.address(), "close-1").post("a body").rate(100.0) };
    let safe = Aim::at(gateway.address(), "lasting").post("a body").rate(20.0);
    let loads = [gets, heads, posts, safe].map(Load::start);
    sleep(Duration::from_secs(20)).await;
    let mut tallies = Vec::new();
    for load in loads {
        tallies.push(load.stop().await);
    }
    let (safe, posts) = (tallies.pop().unwrap_or_default(), tallies.pop().unwrap_or_default());
    let mut verdict = Verdict::default();
    let replayable = tallies.into_iter().fold(Tally::default(), Tally::and);
    verdict.load(&replayable.and(safe), fault);
    verdict.figure("posts", posts.requests()).figure("unretryable", posts.errors());
    let others = posts.reasons().into_keys().filter(|why| why != "502 upstream_reset").collect::<Vec<_>>();
    verdict.require(others.is_empty(), format!("POSTs fail with upstream_reset alone: {others:?}"));
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// Two services take turns in waking and sleeping, so that one gets the address that the other had; nobody may be
/// answered by the wrong one.
pub(super) async fn reused_addresses(_: &Stage) -> Result<Verdict> {
    let named = |name: &str| service(name, &format!("env = {{ ECHO_NAME = \"i-am-{name}\" }}"), "max = 1");
    let gateway = gateway(named("odd") + &named("even")).await?;
    let fault = Instant::now();
    let aim = |name: &str| {
        let mut aim = Aim::at(gateway.address(), name).rate(200.0).workers(16);
        aim.expect = Some(format!("i-am-{name} "));
        aim
    };
    let (mut tally, mut owners, mut reused) = (Tally::default(), BTreeMap::new(), 0);
    for round in 0..24 {
        let (wakes, sleeps) = if round % 2 == 0 { ("odd", "even") } else { ("even", "odd") };
        gateway.post(&format!("/v1/services/{sleeps}/sleep")).await?;
        tally = tally.and(Load::start(aim(wakes)).run(Duration::from_millis(700)).await);
        for replica in gateway.service(wakes).await?.replicas {
            let before = owners.insert(replica.address.unwrap_or_default(), wakes);
            reused += u32::from(before.is_some_and(|before| before != wakes));
        }
    }
    let mut verdict = Verdict::default();
    verdict.load(&tally, fault).figure("reused", reused).require(reused > 0, "no address was used again");
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// One replica of three stands still, then one loses its network; GETs must not notice.
pub(super) async fn half_open(_: &Stage) -> Result<Verdict> {
    // A process that stands still accepts connections all the same: only an answer tells.
    let health = "[services.web.health]\nprobe = \"http:/health\"\ninterval = \"1s\"\ntimeout = \"1s\"\nfailures = 2\n";
    let gateway = gateway(service("web", "", "min = 3\nmax = 3") + health).await?;
    ready(&gateway, "web", 3).await?;
    let engines = leaks::local()?;
    let docker = &engines["local"];
    let (mut verdict, begun) = (Verdict::default(), Instant::now());
    let load = Load::start(Aim::at(gateway.address(), "web").workers(64));
    let posts = Load::start(Aim::at(gateway.address(), "web").post("a body").rate(10.0));
    sleep(Duration::from_secs(2)).await;
    let paused = Instant::now();
    if let Some((_, name)) = running(&gateway, &engines, "web").await?.first() {
        docker.pause_container(name).await?;
    }
    sleep(Duration::from_secs(12)).await;
    ready(&gateway, "web", 3).await?;
    let cut = Instant::now();
    if let Some((_, name)) = running(&gateway, &engines, "web").await?.first() {
        let network = format!("tg-{}", &gateway.instance()?[..8]);
        let request = NetworkDisconnectRequest { container: name.clone(), force: Some(true) };
        docker.disconnect_network(&network, request).await?;
    }
    sleep(Duration::from_secs(12)).await;
    let (gets, posts) = (load.stop().await, posts.stop().await);
    let (first, second) = (gets.recovered_before(paused, Some(cut)), gets.recovered(cut));
    verdict.load(&gets, begun).millis("paused_ms", first).millis("cut_ms", second);
    verdict.figure("posts", posts.requests()).figure("unretryable", posts.errors());
    verdict.require(first.max(second) < Duration::from_secs(8), "noticed within 8 s");
    ready(&gateway, "web", 3).await?;
    // What was paused takes no signal; as a person would, let it go on.
    for (_, name) in running(&gateway, &engines, "web").await? {
        let _ = docker.unpause_container(&name).await;
    }
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// More load than there is room for, then all replicas stand still for 10 s, then less load than there is room for.
pub(super) async fn retry_storm(_: &Stage) -> Result<Verdict> {
    let patient = "[services.web.health]\ninterval = \"60s\"\n";
    let config =
        service("web", "env = { SERVICE_MS = \"50\" }", "concurrency = 4\nmin = 2\nmax = 2") + patient;
    let gateway = gateway(config).await?;
    ready(&gateway, "web", 2).await?;
    let engines = leaks::local()?;
    let capacity = 160.0;
    let aim = |rate: f64| {
        let mut aim = Aim::at(gateway.address(), "web").rate(rate).workers(1200);
        aim.timeout = Duration::from_secs(5);
        aim
    };
    let begun = Instant::now();
    let over = Load::start(aim(capacity * 1.1));
    sleep(Duration::from_secs(10)).await;
    for (_, name) in running(&gateway, &engines, "web").await? {
        engines["local"].pause_container(&name).await?;
    }
    sleep(Duration::from_secs(10)).await;
    for (_, name) in running(&gateway, &engines, "web").await? {
        drop(engines["local"].unpause_container(&name).await);
    }
    let stormy = over.stop().await;
    let calm = Instant::now();
    let after = Load::start(aim(capacity * 0.7)).run(Duration::from_secs(30)).await;
    let good = after.recovered(calm);
    let retries = gateway.metric("tidegate_retries_total", &[]).await?;
    let requests = stormy.requests() + after.requests();
    let late: Vec<_> =
        after.samples.iter().filter(|sample| sample.begun > calm + Duration::from_secs(20)).collect();
    let goodput = late.iter().filter(|sample| sample.error.is_none()).count() * 100 / late.len().max(1);
    let mut verdict = Verdict::default();
    verdict.figure("requests", requests).figure("errors", after.errors()).millis("recovered_ms", good);
    verdict
        .figure("refused_or_late", stormy.errors())
        .figure("retries", retries)
        .figure("goodput_percent", goodput);
    verdict.require(goodput >= 95, "95 % are answered in the last 10 s of 30");
    #[expect(clippy::cast_precision_loss, reason = "a few thousand requests")]
    let allowed = 0.2 * requests as f64 + 10.0 * begun.elapsed().as_secs_f64();
    verdict.require(retries <= allowed, format!("{retries} retries; {allowed} are allowed"));
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}
