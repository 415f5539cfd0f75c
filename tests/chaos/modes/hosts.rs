//! Hosts fail: cut off from the network, slow, lost with everything on them.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    chaos::{
        gateway::Gateway,
        host::{Host, Options},
        load::{Aim, Load, Tally},
        verdict::Verdict,
    },
    eventually::eventually,
};
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, close, engines, gateway, ready, service};

/// From a loss to the last request that felt it.
const BOUND: Duration = Duration::from_secs(8);

/// Two hosts: the one with the only replica of a service is cut off and comes back, then is slow, then is lost.
pub(super) async fn partition(stage: &Stage) -> Result<Verdict> {
    let mut hosts = [stage.host(1, Options::default()).await?, stage.host(2, Options::default()).await?];
    let config = hosts[0].config()
        + &hosts[1].config()
        + &service("web", "", "min = 4\nmax = 4")
        + &service("late", "", "initial = 4\nmax = 4\nidle = \"1h\"")
        + &service("single", "", "min = 1\nmax = 1\nhold = \"30s\"");
    let gateway = gateway(config).await?;
    ready(&gateway, "web", 4).await?;
    ready(&gateway, "single", 1).await?;
    let (begun, mut verdict) = (Instant::now(), Verdict::default());
    let gets = Load::start(Aim::at(gateway.address(), "web").workers(64));
    let posts = Load::start(Aim::at(gateway.address(), "web").post("a body").rate(10.0));
    let single = Load::start(Aim::at(gateway.address(), "single").rate(20.0));
    sleep(Duration::from_secs(2)).await;

    let victim = usize::from(only(&gateway).await? == hosts[1].name());
    let cut = Instant::now();
    hosts[victim].cut()?;
    sleep(Duration::from_secs(15)).await;
    let mended = Instant::now();
    ready_elsewhere(&gateway, &hosts[victim], 4).await?;
    hosts[victim].mend()?;
    none_twice(&gateway).await?;
    spread(&gateway).await?;
    let late = Load::start(Aim::at(gateway.address(), "late").rate(50.0).workers(64));

    hosts[victim].shape(Some("64kbit"))?;
    sleep(Duration::from_secs(8)).await;
    hosts[victim].shape(None)?;
    sleep(Duration::from_secs(4)).await;

    let victim = usize::from(only(&gateway).await? == hosts[1].name());
    let lost = Instant::now();
    hosts[victim].lose()?;
    sleep(Duration::from_secs(15)).await;
    let (gets, posts, single) = (gets.stop().await, posts.stop().await, single.stop().await);
    let late = late.stop().await;
    // Those that wait are counted too: they have all ended by now.
    let felt = |load: &Tally| load.recovered_before(cut, Some(mended));
    let after_cut = felt(&gets).max(felt(&single));
    let after_loss = gets.recovered(lost).max(single.recovered(lost)).max(late.recovered(lost));
    verdict
        .load(&gets.and(single).and(late), begun)
        .millis("cut_ms", after_cut)
        .millis("lost_ms", after_loss);
    verdict.figure("posts", posts.requests()).figure("unretryable", posts.errors());
    verdict.require(after_cut <= BOUND && after_loss <= BOUND, "recovered within 8 s");
    hosts[victim].mend()?;
    hosts[victim].start().await?;
    ready(&gateway, "web", 4).await?;
    close(gateway, &engines(&[&hosts[0], &hosts[1]])?, &mut verdict).await?;
    Ok(verdict)
}

/// The host of the only replica of a service.
async fn only(gateway: &Gateway) -> Result<String> {
    let replicas = gateway.service("single").await?.replicas;
    Ok(replicas
        .into_iter()
        .find(|replica| replica.phase == "ready")
        .map(|replica| replica.host)
        .unwrap_or_default())
}

/// What was started elsewhere is drained once its host is back.
async fn none_twice(gateway: &Gateway) -> Result<()> {
    eventually("none runs twice", async || {
        let services = gateway.services().await?;
        let counts: Vec<usize> = services.iter().map(|service| service.replicas.len()).collect();
        Ok(counts.iter().sum::<usize>() == 5)
    })
    .await
}

/// Wakes a service that slept so far: what ran before stays where it is, new replicas are laid over both hosts.
async fn spread(gateway: &Gateway) -> Result<()> {
    gateway.post("/v1/services/late/wake").await?;
    eventually("replicas are on both hosts", async || {
        let replicas = gateway.service("late").await?.replicas;
        let on = |host: &str| replicas.iter().any(|replica| replica.host == host && replica.phase == "ready");
        Ok(on("h1") && on("h2"))
    })
    .await
}

/// Waits until so many replicas are ready on other hosts.
async fn ready_elsewhere(gateway: &Gateway, lost: &Host, count: usize) -> Result<()> {
    let name = lost.name();
    eventually("replicas were started elsewhere", async || {
        let replicas = gateway.service("web").await?.replicas;
        Ok(replicas.iter().filter(|replica| replica.phase == "ready" && replica.host != name).count()
            >= count)
    })
    .await
}
