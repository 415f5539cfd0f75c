//! The gateway itself goes: killed at any instant, reloaded, upgraded.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    chaos::{
        burst::burst,
        gateway::{Gateway, Setup},
        load::{Aim, Load, Tally},
        run::signal,
        verdict::Verdict,
    },
    client::Wire,
    eventually::eventually,
};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, timeout};

use crate::stage::{Stage, close_local, count, gateway, ready, service};

/// Killed at random points of starts and stops; each next start must find its way, and nothing may be left over.
pub(super) async fn kill_at_random(_: &Stage) -> Result<Verdict> {
    let config = service("a", "", "idle = \"1s\"\nmax = 2")
        + &service("b", "", "idle = \"1s\"\ninitial = 2\nmax = 3")
        + &service("c", "command = [\"/nowhere\"]", "hold = \"5s\"");
    let mut gateway = Gateway::start(Setup::new(config)).await?;
    let (rounds, mut chance, mut verdict) = (count("N", 40), SmallRng::seed_from_u64(9), Verdict::default());
    let (mut gaps, mut begun) = (Vec::new(), Tally::default());
    for round in 0..rounds {
        let mut aim = Aim::at(gateway.address(), "a");
        aim.hosts = ["a", "b", "c"].map(|name| format!("{name}.localhost")).to_vec();
        aim.timeout = Duration::from_secs(3);
        let pause = Duration::from_millis(chance.random_range(0..900));
        let requests = burst(&aim, 6);
        let killed = async {
            sleep(pause).await;
            gateway.crash().await?;
            let gone = Instant::now();
            gateway.launch()?;
            gateway.ready().await.with_context(|| format!("start {round}"))?;
            anyhow::Ok(gone.elapsed())
        };
        let (tally, gap) = tokio::join!(requests, killed);
        begun = begun.and(tally);
        gaps.push(gap?);
    }
    let after = burst(&Aim::at(gateway.address(), "a"), 20)
        .await
        .and(burst(&Aim::at(gateway.address(), "b"), 20).await);
    gaps.sort();
    verdict.figure("requests", begun.requests() + after.requests()).figure("errors", after.errors());
    verdict.figure("kills", rounds).millis("ready_again_ms", gaps[gaps.len() / 2]);
    verdict.require(after.errors() == 0, format!("after the last start: {:?}", after.reasons()));
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// A thousand routes read again every 200 ms, bad files among them, then upgrades in place, under load and a tunnel.
pub(super) async fn reload_and_upgrade(_: &Stage) -> Result<Verdict> {
    let gateway = gateway(routes(0)).await?;
    ready(&gateway, "web", 2).await?;
    let fault = Instant::now();
    let kept = Load::start(Aim::at(gateway.address(), "web"));
    let mut fresh = Aim::at(gateway.address(), "web").rate(50.0);
    fresh.fresh = true;
    let fresh = Load::start(fresh);
    let mut wire = tunnel(&gateway).await?;
    let (mut verdict, mut bad) = (Verdict::default(), 0);
    for round in 0..50_u32 {
        if round % 10 == 9 {
            bad += 1;
            gateway.write("[services.web]\nimage = 7\n")?;
        } else {
            gateway.write(&routes(round))?;
        }
        gateway.signal(Signal::SIGHUP)?;
        sleep(Duration::from_millis(200)).await;
    }
    // A new process reads the file as well: it needs a good one.
    gateway.write(&routes(50))?;
    gateway.signal(Signal::SIGHUP)?;
    sleep(Duration::from_millis(500)).await;
    verdict.figure("reloads", 50).figure("bad_files", bad);
    let upgrades = upgrade(&gateway, count("UPGRADES", 20), &mut verdict).await?;
    verdict.figure("upgrades", upgrades);
    wire.send("ping").await;
    let echoed = timeout(Duration::from_secs(5), wire.exactly(4)).await.unwrap_or_default();
    verdict.require(&echoed[..] == b"ping", "the tunnel was closed");
    drop(wire);
    let tally = kept.stop().await.and(fresh.stop().await);
    verdict.load(&tally, fault);
    eventually("the old process ends", async || Ok(gateway.pids().len() == 1)).await?;
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// Upgrades one after another; how many came about. Each is over when a younger process is ready.
async fn upgrade(gateway: &Gateway, wanted: u32, verdict: &mut Verdict) -> Result<u32> {
    for done in 0..wanted {
        let old = gateway.pid()?;
        signal(old, Signal::SIGQUIT)?;
        let younger = eventually("a younger process has taken over", async || {
            sleep(Duration::from_millis(50)).await;
            ensure!(!gateway.pids().is_empty(), "SIGQUIT ended the gateway");
            // The old one answers no more and the new one not yet: that is no failure here.
            Ok(gateway.pid()? != old && gateway.services().await.is_ok())
        });
        if let Err(error) = younger.await {
            verdict.problem(format!("upgrade {}: {error:#}", done + 1));
            return Ok(done);
        }
        sleep(Duration::from_millis(300)).await;
    }
    Ok(wanted)
}

async fn tunnel(gateway: &Gateway) -> Result<Wire> {
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /ws HTTP/1.1\r\nhost: web.localhost\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n").await;
    let head = wire.head().await.unwrap_or_default();
    ensure!(head.starts_with("HTTP/1.1 101"), "no tunnel: {head}");
    Ok(wire)
}

/// A service with two replicas and a thousand routes, of which some change from round to round.
fn routes(round: u32) -> String {
    let mut config = service("web", "", "min = 2\nmax = 2");
    config.push_str("[[services.web.routes]]\nhost = \"web.localhost\"\n");
    for number in 0..999 {
        let number = if number % 10 == 0 { number + 1000 * (round + 1) } else { number };
        config.push_str(&format!("[[services.web.routes]]\nhost = \"r{number}.example.org\"\n"));
    }
    config
}
