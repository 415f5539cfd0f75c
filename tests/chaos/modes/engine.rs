//! The engine fails: it restarts, lies about events, hangs, answers what nobody expects.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    chaos::{
        burst::burst,
        gateway::{Gateway, Setup},
        host::Options,
        leaks,
        load::{Aim, Load, Tally},
        stub::{Act, Events, Stub},
        verdict::Verdict,
    },
    eventually::eventually,
};
use http::Method;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, close, close_local, engines, gateway, kill, ready, running, service};

/// The engine is ended and started again under load, with and without containers that outlive it.
pub(super) async fn restart(stage: &Stage) -> Result<Verdict> {
    let (mut all, mut longest, mut verdict) = (Tally::default(), Duration::ZERO, Verdict::default());
    let fault = Instant::now();
    for live_restore in [true, false] {
        let mut host = stage.host(1, Options { live_restore, ..Options::default() }).await?;
        let gateway = gateway(host.config() + &service("web", "", "min = 2\nmax = 2")).await?;
        ready(&gateway, "web", 2).await?;
        let load = Load::start(Aim::at(gateway.address(), "web"));
        for by in [Signal::SIGTERM, Signal::SIGKILL] {
            // Long enough for replicas to count as well started.
            sleep(Duration::from_secs(12)).await;
            host.end(by).await?;
            sleep(Duration::from_secs(2)).await;
            host.start().await?;
            let back = Instant::now();
            ready(&gateway, "web", 2).await?;
            longest = longest.max(back.elapsed());
        }
        sleep(Duration::from_secs(3)).await;
        let tally = load.stop().await;
        let kind = if live_restore { "outliving_errors" } else { "errors_without" };
        verdict.figure(kind, tally.errors());
        all = all.and(tally);
        close(gateway, &engines(&[&host])?, &mut verdict).await?;
    }
    verdict.load(&all, fault).millis("reconciled_ms", longest);
    verdict.require(longest < Duration::from_secs(5), "replicas are there 5 s after the engine");
    Ok(verdict)
}

/// Three replicas, of which one is killed again and again while the engine lies about what happens.
pub(super) async fn lying_events(_: &Stage) -> Result<Verdict> {
    let stub = Stub::before("/var/run/docker.sock".as_ref(), 6)?;
    let host = format!("[[hosts]]\nname = \"local\"\nendpoint = \"{}\"\n", stub.endpoint());
    let gateway = Gateway::start(Setup::new(host + &service("web", "", "min = 3\nmax = 3"))).await?;
    ready(&gateway, "web", 3).await?;
    let (engines, mut verdict) = (leaks::local()?, Verdict::default());
    let load = Load::start(Aim::at(gateway.address(), "web"));
    let fault = Instant::now();
    stub.events(Events { lost: 30, twice: 30, late: Some(Duration::from_millis(500)), silent: false });
    for round in 0..8 {
        if let Some((host, name)) = running(&gateway, &engines, "web").await?.first() {
            kill(&engines[host], name).await?;
        }
        sleep(Duration::from_millis(1500)).await;
        if round == 5 {
            stub.cut_events();
            stub.events(Events { silent: true, ..Events::default() });
        }
    }
    let quiet = Instant::now();
    ready(&gateway, "web", 3).await?;
    let differences = leaks::check(&gateway, &engines).await?;
    verdict.load(&load.stop().await, fault).millis("agreed_ms", quiet.elapsed()).problems(differences);
    verdict.require(quiet.elapsed() < Duration::from_secs(32), "gateway and engine agree after one listing");
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// The engine stands still for 15 s: warm traffic goes on, a cold start waits for it.
pub(super) async fn hang(stage: &Stage) -> Result<Verdict> {
    let host = stage.host(1, Options::default()).await?;
    let config = host.config() + &service("warm", "", "min = 2\nmax = 2") + &service("cold", "", "");
    let gateway = gateway(config).await?;
    ready(&gateway, "warm", 2).await?;
    let load = Load::start(Aim::at(gateway.address(), "warm"));
    sleep(Duration::from_secs(2)).await;
    let fault = Instant::now();
    host.signal(Signal::SIGSTOP)?;
    let aim = Aim::at(gateway.address(), "cold");
    let cold = burst(&aim, 10);
    let heal = async {
        sleep(Duration::from_secs(15)).await;
        let asked = Instant::now();
        let told = gateway.services().await.map(|_| asked.elapsed());
        host.signal(Signal::SIGCONT)?;
        anyhow::Ok((Instant::now(), told?))
    };
    let (cold, healed) = tokio::join!(cold, heal);
    let (healed, told) = healed?;
    let woke = cold.recovered(healed);
    sleep(Duration::from_secs(5)).await;
    let warm = load.stop().await;
    let mut verdict = Verdict::default();
    let p99 = warm.quantile(0.99, fault, healed);
    verdict
        .load(&warm.and(cold), fault)
        .millis("warm_p99_ms", p99)
        .millis("cold_after_ms", woke)
        .millis("ps_ms", told);
    verdict.require(p99 < Duration::from_millis(100), "warm traffic is not slowed");
    ready(&gateway, "warm", 2).await?;
    close(gateway, &engines(&[&host])?, &mut verdict).await?;
    Ok(verdict)
}

/// Each step of a replica's life meets each code that engines are known to answer, once, each in a service of its own.
pub(super) async fn odd_answers(_: &Stage) -> Result<Verdict> {
    let stub = Stub::before("/var/run/docker.sock".as_ref(), 8)?;
    let mut config = format!("[[hosts]]\nname = \"local\"\nendpoint = \"{}\"\n", stub.endpoint());
    let steps = steps();
    for number in 0..steps.len() {
        config += &service(&format!("odd-{number}"), "", "idle = \"1h\"");
    }
    let gateway = Gateway::start(Setup::new(config)).await?;
    let (mut tally, mut verdict) = (Tally::default(), Verdict::default());
    let fault = Instant::now();
    for (number, (method, path, act)) in steps.iter().enumerate() {
        stub.fault(method.clone(), path, *act, 1);
        let problems = odd_answer(&gateway, &stub, &format!("odd-{number}"), &mut tally).await?;
        verdict.problems(problems.into_iter().map(|problem| format!("{method} {path} {act:?}: {problem}")));
        verdict.require(stub.left() == 0, format!("{method} {path} {act:?} was never called"));
        stub.heal();
    }
    verdict
        .figure("requests", tally.requests())
        .figure("errors", tally.errors())
        .figure("codes", steps.len());
    verdict.millis("recovered_ms", fault.elapsed() / u32::try_from(steps.len())?);
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// One life of a replica beside a fault that waits for it: woken, asked, put to sleep; what went wrong.
async fn odd_answer(gateway: &Gateway, stub: &Stub, name: &str, tally: &mut Tally) -> Result<Vec<String>> {
    let before = stub.calls(&Method::POST, "/containers/create");
    let round = burst(&Aim::at(gateway.address(), name), 3).await;
    let mut problems: Vec<String> =
        round.reasons().into_iter().map(|(reason, count)| format!("{count} x {reason}")).collect();
    *tally = std::mem::take(tally).and(round);
    let starts = stub.calls(&Method::POST, "/containers/create") - before;
    if starts > 4 {
        problems.push(format!("{starts} starts for one replica"));
    }
    if let Err(error) = gateway.post(&format!("/v1/services/{name}/sleep")).await {
        problems.push(format!("sleep: {error:#}"));
    }
    let gone =
        eventually("nothing is left", async || Ok(gateway.service(name).await?.replicas.is_empty())).await;
    if gone.is_err() {
        problems.push("a replica stays for ever".into());
    }
    Ok(problems)
}

fn steps() -> Vec<(Method, &'static str, Act)> {
    let mut steps = Vec::new();
    for act in [Act::Refuse(500), Act::Refuse(409), Act::Deny(500)] {
        steps.push((Method::POST, "/containers/create", act));
    }
    for act in [Act::Refuse(500), Act::Refuse(404), Act::Deny(304), Act::Deny(500), Act::Stall] {
        steps.push((Method::POST, "/start", act));
    }
    for act in [Act::Refuse(500), Act::Deny(404), Act::Deny(304), Act::Refuse(409)] {
        steps.push((Method::POST, "/stop", act));
    }
    for act in [Act::Refuse(500), Act::Refuse(409), Act::Deny(404)] {
        steps.push((Method::DELETE, "/containers/", act));
    }
    steps
}
