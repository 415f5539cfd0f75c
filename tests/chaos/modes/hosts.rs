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

/// Two hosts: one is cut off and comes back, then is slow, then is lost with the only replica of a service.
pub(super) async fn partition(stage: &Stage) -> Result<Verdict> {
    let first = stage.host(1, Options::default()).await?;
    let mut second = stage.host(2, Options::default()).await?;
    let config = first.config()
        + &second.config()
        + &service("web", "", "min = 4\nmax = 4")
        + &service("single", "", "min = 1\nmax = 1\nhold = \"30s\"");
    let gateway = gateway(config).await?;
    ready(&gateway, "web", 4).await?;
    ready(&gateway, "single", 1).await?;
    let (begun, mut verdict) = (Instant::now(), Verdict::default());
    let gets = Load::start(Aim::at(gateway.address(), "web").workers(64));
    let posts = Load::start(Aim::at(gateway.address(), "web").post("a body").rate(10.0));
    let single = Load::start(Aim::at(gateway.address(), "single").rate(20.0));
    sleep(Duration::from_secs(2)).await;

    let cut = Instant::now();
    second.cut()?;
    sleep(Duration::from_secs(15)).await;
    let mended = Instant::now();
    ready_elsewhere(&gateway, &second, 4).await?;
    second.mend()?;
    eventually("none runs twice", async || Ok(gateway.service("web").await?.replicas.len() == 4)).await?;

    second.shape(Some("64kbit"))?;
    sleep(Duration::from_secs(8)).await;
    second.shape(None)?;
    sleep(Duration::from_secs(4)).await;

    let lost = Instant::now();
    let victim = gateway.service("single").await?.replicas.first().map(|replica| replica.host.clone());
    verdict.figure("single_was_on", victim.unwrap_or_default());
    second.lose()?;
    sleep(Duration::from_secs(15)).await;
    let (gets, posts, single) = (gets.stop().await, posts.stop().await, single.stop().await);
    // Those that wait are counted too: they have all ended by now.
    let felt = |load: &Tally| load.recovered_before(cut, Some(mended));
    let after_cut = felt(&gets).max(felt(&single));
    let after_loss = gets.recovered(lost).max(single.recovered(lost));
    let unretryable = posts.errors();
    verdict.load(&gets.and(single), begun).millis("cut_ms", after_cut).millis("lost_ms", after_loss);
    verdict.figure("posts", posts.requests()).figure("unretryable", unretryable);
    verdict.require(after_cut <= BOUND && after_loss <= BOUND, "recovered within 8 s");
    second.mend()?;
    second.start().await?;
    ready(&gateway, "web", 4).await?;
    close(gateway, &engines(&[&first, &second])?, &mut verdict).await?;
    Ok(verdict)
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
