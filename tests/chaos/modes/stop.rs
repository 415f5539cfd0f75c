//! Ends of replicas: nothing that runs may be cut, nothing that arrives may be lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    chaos::{
        burst::burst,
        gateway::{Gateway, Setup},
        load::{Aim, Load, Tally},
        stub::{Act, Stub},
        verdict::Verdict,
    },
    client::Wire,
    eventually::eventually,
};
use http::Method;
use tokio::time::{Instant, sleep};

use crate::stage::{Stage, close_local, count, gateway, running, service, span};

/// The length of `/stream?chunks=N`.
fn stream_length(chunks: usize) -> usize {
    (0..chunks).map(|chunk| format!("chunk {chunk}\n").len()).sum()
}

/// Streams of 20 s while the service is scaled up and down all the time.
pub(super) async fn long_streams(_: &Stage) -> Result<Verdict> {
    let scaling = "concurrency = 4\nmax = 5\nidle = \"1s\"\nstable_window = \"6s\"\ndrain = \"40s\"";
    let gateway = gateway(service("flap", "", scaling)).await?;
    let fault = Instant::now();
    let mut streams =
        Aim::at(gateway.address(), "flap").path("/stream?chunks=20&ms=1000").rate(0.2).workers(8);
    streams.length = Some(stream_length(20));
    let streams = Load::start(streams);
    let (until, mut tally, mut most, mut least) =
        (fault + span("FLAP", Duration::from_secs(60)), Tally::default(), 0, 9);
    while Instant::now() < until {
        let wave = Load::start(Aim::at(gateway.address(), "flap").path("/sleep?ms=200").rate(50.0));
        sleep(Duration::from_secs(6)).await;
        most = most.max(gateway.in_phase("flap", "ready").await?);
        tally = tally.and(wave.stop().await);
        sleep(Duration::from_secs(8)).await;
        least = least.min(gateway.in_phase("flap", "ready").await?);
    }
    let streams = streams.stop().await;
    let mut verdict = Verdict::default();
    verdict.load(&tally, fault).figure("streams", streams.requests()).figure("cut", streams.errors());
    verdict.faultless(&streams);
    verdict.figure("replicas", format!("{least}..{most}")).require(most > least, "the service was scaled");
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// Requests around the instant at which the last replica is told to stop; the engine is slow to do so.
pub(super) async fn while_stopping(_: &Stage) -> Result<Verdict> {
    let stub = Stub::before("/var/run/docker.sock".as_ref(), 3)?;
    stub.fault(Method::POST, "/stop", Act::Late(Duration::from_millis(300)), u32::MAX);
    let host = format!("[[hosts]]\nname = \"local\"\nendpoint = \"{}\"\n", stub.endpoint());
    let idle = Duration::from_secs(1);
    let gateway = Gateway::start(Setup::new(host + &service("brief", "", "idle = \"1s\""))).await?;
    let (fault, mut tally, aim) = (Instant::now(), Tally::default(), Aim::at(gateway.address(), "brief"));
    for round in 0..count("ROUNDS", 24) {
        tally = tally.and(burst(&aim, 1).await);
        // From before the decision to well into the stop.
        sleep(idle.saturating_sub(Duration::from_millis(100)) + Duration::from_millis(40) * round).await;
    }
    tally = tally.and(burst(&aim, 1).await);
    let mut verdict = Verdict::default();
    verdict.load(&tally, fault).figure("stops", stub.calls(&Method::POST, "/stop"));
    verdict.require(stub.calls(&Method::POST, "/stop") > 0, "a replica was stopped");
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// A tunnel and a stream of four times the idle time; when both have ended the service sleeps.
pub(super) async fn open_streams(_: &Stage) -> Result<Verdict> {
    let gateway = gateway(service("calm", "", "idle = \"2s\"\nmax = 1")).await?;
    let mut streams =
        Aim::at(gateway.address(), "calm").path("/stream?chunks=9&ms=1000").rate(0.1).workers(1);
    streams.length = Some(stream_length(9));
    let stream = Load::start(streams);
    let mut wire = Wire::connect(gateway.address()).await;
    wire.send("GET /ws HTTP/1.1\r\nhost: calm.localhost\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n")
        .await;
    let head = wire.head().await.unwrap_or_default();
    ensure!(head.starts_with("HTTP/1.1 101"), "no tunnel: {head}");
    let (mut verdict, mut starts) = (Verdict::default(), 0);
    for _ in 0..9 {
        sleep(Duration::from_secs(1)).await;
        starts = starts.max(gateway.in_phase("calm", "ready").await?);
        verdict
            .require(gateway.in_phase("calm", "ready").await? == 1, "the replica was stopped under a tunnel");
    }
    wire.send("ping").await;
    verdict.require(&wire.exactly(4).await[..] == b"ping", "the tunnel does not answer");
    drop(wire);
    let stream = stream.stop().await;
    verdict.figure("requests", stream.requests()).figure("errors", stream.errors()).figure("tunnels", 1);
    verdict.faultless(&stream);
    let idle = Instant::now();
    eventually("the service sleeps", async || Ok(gateway.service("calm").await?.replicas.is_empty())).await?;
    verdict.millis("slept_ms", idle.elapsed());
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}

/// Many replicas that ignore SIGTERM are stopped at once beside a service that must not notice.
pub(super) async fn stop_storm(_: &Stage) -> Result<Verdict> {
    let many = count("STOPS", 40) as usize;
    let keys = "env = { IGNORE_TERM = \"1\" }";
    let scaling = format!(
        "concurrency = 1\nmax = {many}\ninitial = {many}\nstable_window = \"6s\"\nidle = \"3s\"\n\
        [services.stubborn.resources]\nmemory = \"16MiB\"\n[services.stubborn.resources.reserve]\nmemory = \"1MiB\""
    );
    let gateway = gateway(service("stubborn", keys, &scaling) + &service("good", "", "min = 1")).await?;
    let engines = e2e::chaos::leaks::local()?;
    let held = burst(&Aim::at(gateway.address(), "stubborn").path("/sleep?ms=20000"), many).await;
    let most = running(&gateway, &engines, "stubborn").await?.len();
    let fault = Instant::now();
    let good = Load::start(Aim::at(gateway.address(), "good"));
    eventually("all have ended", async || {
        sleep(Duration::from_millis(500)).await;
        Ok(gateway.service("stubborn").await?.replicas.is_empty())
    })
    .await?;
    let took = fault.elapsed();
    let good = good.stop().await;
    let mut verdict = Verdict::default();
    verdict.load(&good, fault).figure("replicas", most).millis("stopped_ms", took);
    verdict.millis("p99_ms", good.quantile(0.99, fault, Instant::now()));
    verdict.require(held.errors() == 0, format!("those that held it open: {:?}", held.reasons()));
    verdict.require(most > many / 2, format!("{most} of {many} replicas ran"));
    close_local(gateway, &mut verdict).await?;
    Ok(verdict)
}
