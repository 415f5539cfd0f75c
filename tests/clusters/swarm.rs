//! The cases over Swarm.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use e2e::{
    chaos::{
        IMAGE,
        burst::burst,
        gateway::Gateway,
        leaks,
        load::{Aim, Load},
        verdict::Verdict,
    },
    eventually::eventually,
};
use nix::sys::signal::Signal;
use tidegate_config::spec::{Launch, Target};
use tidegate_runner::{Runner, contract, swarm::Swarm};
use tokio::time::{Instant, sleep};

use crate::{
    Case,
    estate::Estate,
    steps::{end, ready, replicas, service},
};

/// All of them, in the order in which they run.
pub(crate) const CASES: &[Case<Estate>] = &[
    ("S1", "the contract of engines over three nodes", |estate| Box::pin(keeps_the_contract(estate))),
    ("S2", "from zero to several nodes and back", |estate| Box::pin(scales(estate))),
    ("S3", "kill -9 of the gateway", |estate| Box::pin(adopts(estate))),
    ("S4", "a replica is killed under load", |estate| Box::pin(loses_a_replica(estate))),
    ("S5", "an image that the nodes do not have", |estate| Box::pin(lacks_the_image(estate))),
    ("S6", "no place: the next host takes over", |estate| Box::pin(spills_over(estate))),
    ("S7", "no place anywhere", |estate| Box::pin(has_no_place(estate))),
    ("S8", "the manager hangs for 20 s", |estate| Box::pin(loses_the_manager(estate))),
    ("S9", "a node is lost and comes back", |estate| Box::pin(loses_a_node(estate))),
];

/// How long the manager hangs.
const HANG: Duration = Duration::from_secs(20);
/// From the loss of a node to the last request that felt it.
const BOUND: Duration = Duration::from_secs(10);

async fn keeps_the_contract(estate: &mut Estate) -> Result<Verdict> {
    let instance = estate.instance(rand::random());
    let options = estate.options(instance.clone());
    let runner: Arc<dyn Runner> = Arc::new(Swarm::connect(options.clone()).await?);
    let (engines, owner) = (Arc::new(estate.engines()?), instance.to_string());
    let check = contract::World {
        launch: Launch::of(IMAGE),
        target: Target::EngineChooses { host: options.host.clone(), constraints: Default::default() },
        again: Box::new(move || {
            let options = options.clone();
            Box::pin(async move {
                let again: Arc<dyn Runner> = Arc::new(Swarm::connect(options).await.expect("a swarm"));
                again
            })
        }),
        kill: Box::new(move |id| {
            let (engines, owner) = (Arc::clone(&engines), owner.clone());
            Box::pin(async move {
                Estate::kill(engines, &owner, &id.to_string()).await.expect("it is killed");
            })
        }),
    };
    contract::check(runner, check).await;
    Ok(Verdict::default())
}

/// A cold start, one replica for each request at once, and nothing left when nobody calls any more.
async fn scales(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config()
        + &service("web", "env = { SERVICE_MS = \"500\" }", "concurrency = 1\nmax = 4\nidle = \"3s\"");
    let gateway = estate.gateway(config).await?;
    let mut verdict = Verdict::default();
    let begun = Instant::now();
    let first = burst(&Aim::at(gateway.address(), "web"), 1).await;
    verdict.millis("cold_ms", begun.elapsed()).faultless(&first);
    let load = Load::start(Aim::at(gateway.address(), "web").workers(4).rate(20.0));
    ready(&gateway, "web", 4).await?;
    let places = nodes(estate, &gateway).await?;
    verdict.figure("nodes", places.len()).require(places.len() > 1, "all on one node");
    let tally = load.stop().await;
    verdict.figure("requests", tally.requests()).faultless(&tally);
    eventually("nothing is left", async || Ok(nodes(estate, &gateway).await?.is_empty())).await?;
    let again = burst(&Aim::at(gateway.address(), "web"), 1).await;
    verdict.faultless(&again);
    end(gateway).await?;
    Ok(verdict)
}

/// What ran before the crash serves after it; nothing is started twice.
async fn adopts(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &service("web", "", "min = 3\nmax = 3");
    let mut gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 3).await?;
    let before = replicas(&gateway, "web").await?;
    gateway.crash().await?;
    gateway.launch()?;
    gateway.ready().await?;
    ready(&gateway, "web", 3).await?;
    let mut verdict = Verdict::default();
    let after = replicas(&gateway, "web").await?;
    verdict.require(after == before, format!("{after:?} instead of {before:?}"));
    verdict.faultless(&burst(&Aim::at(gateway.address(), "web"), 30).await);
    end(gateway).await?;
    Ok(verdict)
}

async fn loses_a_replica(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &service("web", "", "min = 2\nmax = 2");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 2).await?;
    let victim = replicas(&gateway, "web").await?.pop_first().context("a replica")?;
    let load = Load::start(Aim::at(gateway.address(), "web").rate(50.0));
    sleep(Duration::from_secs(1)).await;
    let killed = Instant::now();
    Estate::kill(Arc::new(estate.engines()?), &gateway.instance()?, &victim).await?;
    eventually("another one is ready", async || {
        let now = replicas(&gateway, "web").await?;
        Ok(!now.contains(&victim) && gateway.in_phase("web", "ready").await? == 2)
    })
    .await?;
    let mut verdict = Verdict::default();
    verdict.load(&load.stop().await, killed);
    end(gateway).await?;
    Ok(verdict)
}

/// An archive is loaded by the manager alone; the nodes say that they have not got it, and so does `explain`.
async fn lacks_the_image(estate: &mut Estate) -> Result<Verdict> {
    for worker in &estate.nodes[1..] {
        let engine = worker.docker()?;
        // Containers of the case before may still be ending.
        eventually("the image is gone", async || {
            drop(engine.remove_image(IMAGE, Some(forced()), None).await);
            let image = estate.manager()?.inspect_image(IMAGE).await?.id.context("its id")?;
            drop(engine.remove_image(&image, Some(forced()), None).await);
            Ok(engine.inspect_image(&image).await.is_err())
        })
        .await?;
    }
    let keys = "constraints = { \"node.role\" = \"worker\", disk = [\"!hdd\", \"!tape\"] }";
    let config = estate.config() + &service("web", keys, "hold = \"20s\"");
    let gateway = estate.gateway(config).await?;
    let refused = burst(&Aim::at(gateway.address(), "web"), 1).await;
    let mut verdict = Verdict::default();
    verdict.require(refused.errors() == 1, "it cannot have been served");
    eventually("explain says why", async || {
        let failure = gateway.explain("web").await?.last_failure;
        Ok(failure.is_some_and(|failure| failure.cause.contains("No such image")))
    })
    .await?;
    end(gateway).await?;
    let archive = std::path::Path::new(e2e::chaos::ROOT).join("echo.tar");
    for worker in &estate.nodes[1..] {
        worker.load(&archive)?;
    }
    Ok(verdict)
}

/// No node has the label; this machine has, and is next.
async fn spills_over(estate: &mut Estate) -> Result<Verdict> {
    let local = "[[hosts]]\nname = \"local\"\nengine = \"docker\"\nlabels = { rack = \"a\" }\n";
    let keys = "constraints = { rack = \"a\" }\nrun_on = [\"swarm\", \"local\"]";
    let config = estate.config() + local + &service("web", keys, "idle = \"1h\"");
    let gateway = estate.gateway(config).await?;
    let begun = Instant::now();
    let served = burst(&Aim::at(gateway.address(), "web"), 1).await;
    let mut verdict = Verdict::default();
    verdict.millis("served_ms", begun.elapsed()).faultless(&served);
    let hosts: BTreeSet<_> =
        gateway.service("web").await?.replicas.into_iter().map(|replica| replica.host).collect();
    verdict.require(hosts == BTreeSet::from(["local".to_owned()]), format!("it runs on {hosts:?}"));
    end(gateway).await?;
    Ok(verdict)
}

/// It waits, and `ps` says for what; as soon as a node has the label it is served.
async fn has_no_place(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &service("web", "constraints = { rack = \"a\" }", "hold = \"60s\"");
    let gateway = estate.gateway(config).await?;
    let aim = Aim::at(gateway.address(), "web");
    let waiting = burst(&aim, 1);
    let helped = async {
        eventually("ps says why", async || {
            let seen = gateway.service("web").await?.replicas;
            let words = seen.iter().find_map(|replica| replica.waits_for.clone()).unwrap_or_default();
            Ok(words.contains("scheduling constraints not satisfied"))
        })
        .await?;
        label(estate, "a").await
    };
    let (tally, helped) = tokio::join!(waiting, helped);
    helped?;
    let mut verdict = Verdict::default();
    verdict.faultless(&tally);
    end(gateway).await?;
    Ok(verdict)
}

/// Warm traffic does not need the manager, and nothing is started or removed because of its silence.
async fn loses_the_manager(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &service("web", "", "min = 3\nmax = 3");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 3).await?;
    let before = replicas(&gateway, "web").await?;
    let load = Load::start(Aim::at(gateway.address(), "web"));
    let hung = Instant::now();
    estate.nodes[0].signal(Signal::SIGSTOP)?;
    sleep(HANG).await;
    estate.nodes[0].signal(Signal::SIGCONT)?;
    estate.ready(3).await?;
    sleep(Duration::from_secs(3)).await;
    let mut verdict = Verdict::default();
    verdict.load(&load.stop().await, hung);
    ready(&gateway, "web", 3).await?;
    let after = replicas(&gateway, "web").await?;
    verdict.figure("kept", after.intersection(&before).count());
    end(gateway).await?;
    Ok(verdict)
}

/// Its replicas are replaced on the other nodes; when it is back there are as many as there should be.
async fn loses_a_node(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &service("web", "", "min = 3\nmax = 3");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 3).await?;
    let load = Load::start(Aim::at(gateway.address(), "web").workers(64));
    sleep(Duration::from_secs(1)).await;
    let lost = Instant::now();
    estate.nodes[2].lose()?;
    estate.ready(2).await?;
    ready(&gateway, "web", 3).await?;
    let replaced = lost.elapsed();
    estate.nodes[2].mend()?;
    // The link has lost its routes; other nodes are behind this machine.
    estate.nodes[2].inside("ip route replace default via 10.78.3.1")?;
    estate.nodes[2].start().await?;
    estate.ready(3).await?;
    let mut verdict = Verdict::default();
    let tally = load.stop().await;
    verdict.millis("replaced_ms", replaced).load(&tally, lost);
    let recovered = tally.recovered(lost);
    verdict.require(recovered < BOUND, format!("requests felt it for {recovered:?}"));
    eventually("there are three, and no more", async || {
        Ok(leaks::containers(&estate.engines()?, &gateway.instance()?)
            .await?
            .iter()
            .filter(|found| found.state == "running")
            .count()
            == 3)
    })
    .await?;
    end(gateway).await?;
    Ok(verdict)
}

/// The nodes on which containers of the gateway's run.
async fn nodes(estate: &Estate, gateway: &Gateway) -> Result<BTreeSet<String>> {
    let found = leaks::containers(&estate.engines()?, &gateway.instance()?).await?;
    Ok(found.into_iter().filter(|one| one.state == "running").map(|one| one.host).collect())
}

/// Gives the second node a label.
async fn label(estate: &Estate, rack: &str) -> Result<()> {
    let manager = estate.manager()?;
    let nodes = manager.list_nodes(None::<bollard::query_parameters::ListNodesOptions>).await?;
    let address = estate.nodes[1].address().to_string();
    let node = nodes.into_iter().find(|node| {
        node.status.as_ref().and_then(|status| status.addr.as_deref()) == Some(address.as_str())
    });
    let node = node.context("the second node")?;
    let (id, version) = (node.id.context("its id")?, node.version.and_then(|version| version.index));
    let mut spec = node.spec.context("its settings")?;
    spec.labels = Some([("rack".to_owned(), rack.to_owned())].into());
    let version = i64::try_from(version.context("its version")?)?;
    let options = bollard::query_parameters::UpdateNodeOptions { version };
    manager.update_node(&id, spec, options).await.context("label a node")
}

fn forced() -> bollard::query_parameters::RemoveImageOptions {
    bollard::query_parameters::RemoveImageOptions { force: true, ..Default::default() }
}
