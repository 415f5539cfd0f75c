//! The cases over Kubernetes.

mod estate;
mod inside;
mod measured;
mod mounts;
mod node;
mod nodes;
mod registry;
pub(crate) mod wake;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use e2e::{
    chaos::{
        IMAGE,
        burst::burst,
        gateway::Gateway,
        load::{Aim, Load},
        run::run,
        verdict::Verdict,
    },
    eventually::eventually,
    process::binary,
};
use kube::api::{DeleteParams, EvictParams};
use nix::sys::signal::Signal;
use tidegate_config::spec::{Launch, Pull, Target};
use tidegate_runner::{Runner, contract, kubernetes::Kubernetes};
use tokio::time::{Instant, sleep};

pub(crate) use estate::Estate;

use crate::{
    Case,
    steps::{end, ready, replicas, service},
};
use estate::{BUSYBOX, NAMESPACE};
use node::{apply, ctl};
use registry::Registry;

/// All of them, in the order in which they run.
pub(crate) const CASES: &[Case<Estate>] = &[
    ("K1", "the contract of engines, with a gateway's rights", |estate| Box::pin(keeps_the_contract(estate))),
    ("K2", "from zero to several pods and back", |estate| Box::pin(scales(estate))),
    ("K3", "kill -9 of the gateway", |estate| Box::pin(adopts(estate))),
    ("K4", "a replica is killed under load", |estate| Box::pin(loses_a_replica(estate))),
    ("K5", "a pod is evicted under load", |estate| Box::pin(is_evicted(estate))),
    ("K6", "a pod is deleted by somebody under load", |estate| Box::pin(is_deleted(estate))),
    ("K7", "a replica runs out of memory", |estate| Box::pin(runs_out_of_memory(estate))),
    ("K8", "an image that the node does not have", |estate| Box::pin(lacks_the_image(estate))),
    ("K9", "an image from a registry", |estate| Box::pin(fetches_an_image(estate))),
    ("K10", "quotas are exceeded, and raised", |estate| Box::pin(exceeds_its_quota(estate))),
    ("K11", "no place: the next host takes over", |estate| Box::pin(spills_over(estate))),
    ("K12", "no place anywhere, until a node has the label", |estate| Box::pin(has_no_place(estate))),
    ("K13", "the API server hangs for 20 s", |estate| Box::pin(loses_the_api(estate))),
    ("K14", "the watch is cut", |estate| Box::pin(loses_the_watch(estate))),
    ("K15", "secrets, a command as a probe, logs", |estate| Box::pin(has_secrets(estate))),
    ("K16", "the owner goes, and takes all pods along", |estate| Box::pin(is_uninstalled(estate))),
    ("K17", "the gateway itself in a pod", |estate| Box::pin(inside::runs(estate))),
    ("K18", "a ConfigMap, a Secret and an empty folder", |estate| Box::pin(mounts::arrive(estate))),
    ("K19", "replicas are measured, where there is an API", |estate| Box::pin(measured::counts(estate))),
    ("K20", "a pod of higher priority takes the place", |estate| Box::pin(nodes::preempts(estate))),
    ("K21", "a node is tainted, and untainted", |estate| Box::pin(nodes::is_tainted(estate))),
    ("K22", "a node is drained, and let go", |estate| Box::pin(nodes::is_drained(estate))),
    ("K23", "a node that is not ready, and back", |estate| Box::pin(nodes::is_not_ready(estate))),
    ("K24", "evicted again and again", |estate| Box::pin(nodes::is_evicted_again_and_again(estate))),
    ("K25", "a new version has no room for a while", |estate| Box::pin(has_no_room_for_a_version(estate))),
];

/// How long the API server hangs.
const HANG: Duration = Duration::from_secs(20);
/// Only a node that has been given it has the label.
const RACK: &str = "constraints = { rack = \"a\" }";

/// A service whose image is on the node.
fn local(name: &str, keys: &str, scaling: &str) -> String {
    service(name, &format!("pull = \"never\"\n{keys}"), scaling)
}

async fn keeps_the_contract(estate: &mut Estate) -> Result<Verdict> {
    let instance = estate.instance(rand::random());
    let options = estate.options(instance.clone(), false);
    let runner: Arc<dyn Runner> = Arc::new(Kubernetes::connect(options.clone()).await?);
    let target = Target::EngineChooses { host: options.host.clone(), constraints: Default::default() };
    let (kills, mut killed) = tokio::sync::mpsc::channel(1);
    let check = contract::World {
        launch: Launch { pull: Pull::Never, ..Launch::of(IMAGE) },
        target,
        again: Box::new(move || {
            let options = options.clone();
            Box::pin(async move {
                let again: Arc<dyn Runner> = Arc::new(Kubernetes::connect(options).await.expect("connected"));
                again
            })
        }),
        kill: Box::new(move |id| {
            let kills = kills.clone();
            Box::pin(async move {
                let (done, is_done) = tokio::sync::oneshot::channel();
                kills.send((id, done)).await.expect("somebody listens");
                is_done.await.expect("it is killed");
            })
        }),
    };
    let (estate, owner) = (&*estate, instance.to_string());
    let killer = async {
        while let Some((id, done)) = killed.recv().await {
            estate.kill(&owner, &id.to_string()).await.expect("it is killed");
            done.send(()).expect("it waits for this");
        }
    };
    tokio::join!(contract::check(runner, check), killer);
    Ok(Verdict::default())
}

/// A cold start, one replica for each request at once, and nothing left when nobody calls any more.
async fn scales(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config()
        + &local("web", "env = { SERVICE_MS = \"500\" }", "concurrency = 1\nmax = 4\nidle = \"3s\"");
    let gateway = estate.gateway(config).await?;
    let mut verdict = Verdict::default();
    let begun = Instant::now();
    let first = burst(&Aim::at(gateway.address(), "web"), 1).await;
    verdict.millis("cold_ms", begun.elapsed()).faultless(&first);
    let load = Load::start(Aim::at(gateway.address(), "web").workers(4).rate(20.0));
    ready(&gateway, "web", 4).await?;
    let instance = gateway.instance()?;
    verdict.figure("pods", estate.pods_of(&instance).await?.len());
    let tally = load.stop().await;
    verdict.figure("requests", tally.requests()).faultless(&tally);
    eventually("nothing is left", async || Ok(estate.pods_of(&instance).await?.is_empty())).await?;
    let again = burst(&Aim::at(gateway.address(), "web"), 1).await;
    verdict.faultless(&again);
    end(gateway).await?;
    Ok(verdict)
}

/// What ran before the crash serves after it; nothing is started twice.
async fn adopts(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &local("web", "", "min = 3\nmax = 3");
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
    let pods = estate.pods_of(&gateway.instance()?).await?.len();
    verdict.require(pods == 3, format!("{pods} pods"));
    end(gateway).await?;
    Ok(verdict)
}

/// Two replicas under load, of which one is lost by `how`; the other serves on, and a new one takes its place.
async fn loses_one(
    estate: &mut Estate,
    how: impl AsyncFnOnce(&Estate, &str, &str) -> Result<()>,
    words: &[&str],
) -> Result<Verdict> {
    let config = estate.config() + &local("web", "", "min = 2\nmax = 2");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 2).await?;
    let victim = replicas(&gateway, "web").await?.pop_first().context("a replica")?;
    let load = Load::start(Aim::at(gateway.address(), "web").rate(50.0));
    sleep(Duration::from_secs(1)).await;
    let lost = Instant::now();
    how(estate, &gateway.instance()?, &victim).await?;
    eventually("another one is ready", async || {
        let now = replicas(&gateway, "web").await?;
        Ok(!now.contains(&victim) && gateway.in_phase("web", "ready").await? == 2)
    })
    .await?;
    let mut verdict = Verdict::default();
    verdict.millis("replaced_ms", lost.elapsed()).load(&load.stop().await, lost);
    let failure = gateway.explain("web").await?.last_failure.map(|failure| failure.cause).unwrap_or_default();
    let said = words.iter().any(|words| failure.contains(words));
    verdict.require(said, format!("explain says {failure:?} instead of {words:?}"));
    end(gateway).await?;
    Ok(verdict)
}

async fn loses_a_replica(estate: &mut Estate) -> Result<Verdict> {
    let how = async |estate: &Estate, instance: &str, replica: &str| estate.kill(instance, replica).await;
    // What a request meets first is told first.
    loses_one(estate, how, &["exit code 137", "no connection"]).await
}

async fn is_evicted(estate: &mut Estate) -> Result<Verdict> {
    let how = async |estate: &Estate, instance: &str, replica: &str| {
        let name = Estate::name_of(instance, replica);
        estate.pods.evict(&name, &EvictParams::default()).await.map(drop).context("evict it")
    };
    loses_one(estate, how, &["evicted"]).await
}

async fn is_deleted(estate: &mut Estate) -> Result<Verdict> {
    let how = async |estate: &Estate, instance: &str, replica: &str| {
        let name = Estate::name_of(instance, replica);
        estate.pods.delete(&name, &DeleteParams::default()).await.map(drop).context("delete it")
    };
    loses_one(estate, how, &["somebody deleted its pod"]).await
}

async fn runs_out_of_memory(estate: &mut Estate) -> Result<Verdict> {
    let keys = "resources = { memory = \"32MiB\", reserve = { memory = \"16MiB\" } }";
    let config = estate.config() + &local("web", keys, "min = 1\nmax = 1");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 1).await?;
    let before = replicas(&gateway, "web").await?;
    let greedy = burst(&Aim::at(gateway.address(), "web").path("/alloc?mb=256"), 1).await;
    let mut verdict = Verdict::default();
    verdict.require(greedy.errors() == 1, "it cannot have been served");
    eventually("explain says why", async || {
        let failure = gateway.explain("web").await?.last_failure;
        Ok(failure.is_some_and(|failure| failure.cause.contains("out of memory")))
    })
    .await?;
    eventually("another one is ready", async || {
        Ok(replicas(&gateway, "web").await? != before && gateway.in_phase("web", "ready").await? == 1)
    })
    .await?;
    verdict.faultless(&burst(&Aim::at(gateway.address(), "web"), 1).await);
    end(gateway).await?;
    Ok(verdict)
}

async fn lacks_the_image(estate: &mut Estate) -> Result<Verdict> {
    let service = "[services.web]\nimage = \"nobody/has-it:1\"\npull = \"never\"\n[services.web.scaling]\nhold = \"20s\"\n";
    let gateway = estate.gateway(estate.config() + service).await?;
    let refused = burst(&Aim::at(gateway.address(), "web"), 1).await;
    let mut verdict = Verdict::default();
    verdict.require(refused.errors() == 1, "it cannot have been served");
    eventually("explain says why", async || {
        let failure = gateway.explain("web").await?.last_failure;
        Ok(failure.is_some_and(|failure| failure.cause.contains("does not have the image")))
    })
    .await?;
    end(gateway).await?;
    Ok(verdict)
}

/// What there is no room for waits, `ps` says for what, and it is served as soon as there is.
async fn exceeds_its_quota(estate: &mut Estate) -> Result<Verdict> {
    let tried = waits_for_its_quota(estate).await;
    ctl(&format!("delete --namespace {NAMESPACE} resourcequota small"))?;
    tried
}

async fn waits_for_its_quota(estate: &mut Estate) -> Result<Verdict> {
    // The foreign pod is one.
    quota("pods: \"1\"")?;
    let used =
        format!("get --namespace {NAMESPACE} resourcequota small --output jsonpath={{.status.used.pods}}");
    eventually("the quota is counted", async || Ok(ctl(&used)? == "1")).await?;
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    std::fs::write(&key, "s3cret")?;
    let secret = format!("secrets = {{ KEY = {{ file = \"{}\" }} }}", key.display());
    let config = estate.config() + &local("web", &secret, "hold = \"60s\"\nmax = 1");
    let gateway = estate.gateway(config).await?;
    let aim = Aim::at(gateway.address(), "web");
    let waiting = burst(&aim, 1);
    let helped = async {
        waits_for(&gateway, "requested: pods=1").await?;
        quota("pods: \"5\", secrets: \"0\"")?;
        waits_for(&gateway, "requested: secrets=1").await?;
        quota("pods: \"5\"")
    };
    let (tally, helped) = tokio::join!(waiting, helped);
    helped?;
    let mut verdict = Verdict::default();
    verdict.faultless(&tally);
    end(gateway).await?;
    Ok(verdict)
}

/// The old version serves on, and that there is no room is held against the new one for no length of time.
async fn has_no_room_for_a_version(estate: &mut Estate) -> Result<Verdict> {
    let tried = waits_for_room(estate).await;
    ctl(&format!("delete --namespace {NAMESPACE} resourcequota small"))?;
    tried
}

async fn waits_for_room(estate: &mut Estate) -> Result<Verdict> {
    let version = |version: u32| {
        let keys = format!("env = {{ VERSION = \"{version}\" }}\nhealth = {{ start_deadline = \"3s\" }}");
        estate.config() + &local("web", &keys, "min = 1\nmax = 1")
    };
    let (old, new) = (version(1), version(2));
    let gateway = estate.gateway(old).await?;
    ready(&gateway, "web", 1).await?;
    // Ours, and the foreign one.
    quota("pods: \"2\"")?;
    let before = replicas(&gateway, "web").await?;
    gateway.write(&new)?;
    for _ in 0..3 {
        waits_for(&gateway, "exceeded quota").await?;
        eventually("its start is given up", async || {
            Ok(gateway.service("web").await?.replicas.iter().all(|replica| replica.waits_for.is_none()))
        })
        .await?;
    }
    let seen = gateway.service("web").await?;
    let mut verdict = Verdict::default();
    let rollout = seen.rollout.unwrap_or_default();
    verdict.require(!rollout.contains("taken back"), format!("its rollout: {rollout}"));
    verdict.faultless(&burst(&Aim::at(gateway.address(), "web"), 1).await);
    quota("pods: \"5\"")?;
    eventually("the new version runs", async || {
        Ok(gateway.in_phase("web", "ready").await? == 1
            && replicas(&gateway, "web").await?.is_disjoint(&before))
    })
    .await?;
    end(gateway).await?;
    Ok(verdict)
}

/// Allows so many of each.
fn quota(hard: &str) -> Result<()> {
    let spec = format!("spec: {{ hard: {{ {hard} }} }}");
    apply(NAMESPACE, &format!("apiVersion: v1\nkind: ResourceQuota\nmetadata: {{ name: small }}\n{spec}\n"))
}

/// Nodes are told which image exactly, and fetch it.
async fn fetches_an_image(estate: &mut Estate) -> Result<Verdict> {
    let registry = Registry::up()?;
    let service = format!("[services.web]\nimage = \"{}\"\nscaling = {{ max = 1 }}\n", registry.image());
    let gateway = estate.gateway(estate.config() + &registry.config() + &service).await?;
    let begun = Instant::now();
    let served = burst(&Aim::at(gateway.address(), "web"), 1).await;
    let mut verdict = Verdict::default();
    verdict.millis("served_ms", begun.elapsed()).faultless(&served);
    let pod = estate.pods_of(&gateway.instance()?).await?.pop().and_then(|pod| pod.spec).context("a pod")?;
    let image = pod.containers[0].image.clone().unwrap_or_default();
    verdict.require(image.contains("@sha256:"), format!("its image is {image}"));
    end(gateway).await?;
    Ok(verdict)
}

/// No node has the label; this machine has, and is next.
async fn spills_over(estate: &mut Estate) -> Result<Verdict> {
    let registry = Registry::up()?;
    let beside = "[[hosts]]\nname = \"local\"\nengine = \"docker\"\nlabels = { rack = \"a\" }\n";
    let service = format!(
        "[services.web]\nimage = \"{}\"\n{RACK}\nrun_on = [\"kubernetes\", \"local\"]\nscaling = {{ idle = \"1h\" }}\n",
        registry.image()
    );
    let gateway = estate.gateway(estate.config() + beside + &registry.config() + &service).await?;
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

async fn has_no_place(estate: &mut Estate) -> Result<Verdict> {
    let keys = "constraints = { rack = [\"a\", \"b\"], disk = \"!hdd\" }";
    let other = local("other", "", "max = 1");
    let config = estate.config() + &local("web", keys, "hold = \"60s\"\nmax = 1") + &other;
    let gateway = estate.gateway(config).await?;
    let aim = Aim::at(gateway.address(), "web");
    let waiting = burst(&aim, 1);
    let helped = async {
        waits_for(&gateway, "didn't match Pod's node affinity/selector").await?;
        // It keeps nobody else from starting.
        let beside = burst(&Aim::at(gateway.address(), "other"), 1).await;
        ctl("label node node1 rack=b")?;
        Ok::<_, anyhow::Error>(beside)
    };
    let (tally, beside) = tokio::join!(waiting, helped);
    let mut verdict = Verdict::default();
    verdict.faultless(&tally).faultless(&beside?);
    end(gateway).await?;
    ctl("label node node1 rack-")?;
    Ok(verdict)
}

/// Warm traffic does not need the API, and nothing is started or removed because of its silence.
async fn loses_the_api(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &local("web", "", "min = 3\nmax = 3");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 3).await?;
    let before = replicas(&gateway, "web").await?;
    let load = Load::start(Aim::at(gateway.address(), "web"));
    let hung = Instant::now();
    estate.node.signal("kube-apiserver", Signal::SIGSTOP)?;
    sleep(HANG).await;
    estate.node.signal("kube-apiserver", Signal::SIGCONT)?;
    eventually("the API answers", async || Ok(ctl("get --raw /readyz").is_ok())).await?;
    sleep(Duration::from_secs(3)).await;
    let mut verdict = Verdict::default();
    verdict.faultless(&load.stop().await).millis("hung_ms", hung.elapsed());
    ready(&gateway, "web", 3).await?;
    let kept = replicas(&gateway, "web").await?.intersection(&before).count();
    verdict.figure("kept", kept).require(kept == 3, "replicas were replaced");
    end(gateway).await?;
    Ok(verdict)
}

/// The API server is killed and comes back: what happens afterwards is noticed, and what ran before runs on.
async fn loses_the_watch(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &local("web", "", "min = 2\nmax = 2");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 2).await?;
    let before = replicas(&gateway, "web").await?;
    let load = Load::start(Aim::at(gateway.address(), "web"));
    estate.node.signal("kube-apiserver", Signal::SIGKILL)?;
    // Its process has gone before the next one answers.
    sleep(Duration::from_secs(1)).await;
    eventually("the API answers", async || Ok(ctl("get --raw /readyz").is_ok())).await?;
    let mut verdict = Verdict::default();
    verdict.faultless(&load.stop().await);
    let after = replicas(&gateway, "web").await?;
    verdict.require(after == before, format!("{after:?} instead of {before:?}"));
    let victim = before.first().context("a replica")?.clone();
    estate.kill(&gateway.instance()?, &victim).await?;
    eventually("another one is ready", async || {
        let now = replicas(&gateway, "web").await?;
        Ok(!now.contains(&victim) && gateway.in_phase("web", "ready").await? == 2)
    })
    .await?;
    end(gateway).await?;
    Ok(verdict)
}

/// A replica of the strict profile writes its secrets into a page; a command in it says when that is there.
async fn has_secrets(estate: &mut Estate) -> Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    std::fs::write(&key, "s3cret\n")?;
    let key = key.display();
    let page = "echo $KEY $(/bin/busybox cat /run/secrets/key) >/tmp/index.html; echo written; \
                exec /bin/busybox httpd -f -p 8080 -h /tmp";
    let config = format!(
        "{}[services.web]\nimage = \"{BUSYBOX}\"\npull = \"never\"\nport = 8080\nprofile = \"strict\"\nuser = \"1000\"\n\
         command = [\"/bin/busybox\", \"sh\", \"-c\"]\nargs = [\"{page}\"]\n\
         secrets = {{ KEY = {{ file = \"{key}\" }} }}\nsecret_files = {{ key = {{ file = \"{key}\" }} }}\n\
         health.probe = {{ exec = [\"/bin/busybox\", \"test\", \"-s\", \"/tmp/index.html\"] }}\nscaling = {{ min = 1, max = 1 }}\n",
        estate.config()
    );
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 1).await?;
    let mut verdict = Verdict::default();
    let aim = Aim { expect: Some("s3cret s3cret".to_owned()), ..Aim::at(gateway.address(), "web") };
    verdict.faultless(&burst(&aim, 1).await);
    let state = gateway.state();
    let log = run(&format!("{} logs web --state {}", binary()?.display(), state.display()))?;
    verdict.require(log.contains("written"), format!("its log is {log:?}"));
    end(gateway).await?;
    Ok(verdict)
}

/// Who deletes the ConfigMap that owns everything has nothing left of this installation.
async fn is_uninstalled(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &local("web", "", "min = 2\nmax = 2");
    let mut gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 2).await?;
    let instance = gateway.instance()?;
    // So that nobody makes new ones.
    gateway.crash().await?;
    ctl(&format!("delete --namespace {NAMESPACE} configmap tg-{}", &instance[..8]))?;
    eventually("nothing is left", async || Ok(estate.pods_of(&instance).await?.is_empty())).await?;
    Ok(Verdict::default())
}

/// Waits until `ps` says that a replica waits, and why.
async fn waits_for(gateway: &Gateway, why: &str) -> Result<()> {
    eventually(&format!("ps says {why}"), async || {
        let seen = gateway.service("web").await?.replicas;
        Ok(seen.iter().any(|replica| replica.waits_for.as_deref().is_some_and(|words| words.contains(why))))
    })
    .await
}
