//! What becomes of a replica when its node is wanted for something else, or is not well.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    chaos::{
        burst::burst,
        gateway::Gateway,
        load::{Aim, Load},
        verdict::Verdict,
    },
    eventually::eventually,
};
use kube::api::EvictParams;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{
    estate::{Estate, NAMESPACE},
    local,
    node::{apply, ctl},
    waits_for,
};
use crate::steps::{end, ready, replicas};

/// The node's only place for a pod that wants so much.
const MOST: &str = "1200m";

/// Another pod has more right to the node. The replica has it again when that one is gone.
pub(super) async fn preempts(estate: &mut Estate) -> Result<Verdict> {
    let tried = is_preempted(estate).await;
    ctl(&format!("delete --namespace {NAMESPACE} --ignore-not-found --grace-period 1 pod urgent"))?;
    ctl("delete --ignore-not-found priorityclass urgent")?;
    tried
}

async fn is_preempted(estate: &mut Estate) -> Result<Verdict> {
    let keys = "resources = { cpu = 2.0, reserve = { cpu = 1.2 } }";
    let gateway = one(estate, keys).await?;
    apply(
        NAMESPACE,
        "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: { name: urgent }\nvalue: 1000\n",
    )?;
    apply(
        NAMESPACE,
        &format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: urgent }}\nspec:\n  priorityClassName: urgent\n  \
             terminationGracePeriodSeconds: 1\n  containers: [{{ name: urgent, image: \"{}\", imagePullPolicy: Never, \
             resources: {{ requests: {{ cpu: {MOST} }} }} }}]\n",
            e2e::chaos::IMAGE
        ),
    )?;
    explained(&gateway, "preempted by a pod of higher priority").await?;
    waits_for(&gateway, "Insufficient cpu").await?;
    ctl(&format!("delete --namespace {NAMESPACE} --grace-period 1 pod urgent"))?;
    comes_back(gateway).await
}

/// Whoever may not stay goes, is said to wait, and comes back.
pub(super) async fn is_tainted(estate: &mut Estate) -> Result<Verdict> {
    let gateway = one(estate, "").await?;
    ctl("taint node node1 maintenance=now:NoExecute")?;
    let tried = async {
        explained(&gateway, "evicted from a node that is not ready or is tainted").await?;
        waits_for(&gateway, "untolerated taint").await
    }
    .await;
    ctl("taint node node1 maintenance-")?;
    tried?;
    comes_back(gateway).await
}

/// As whoever looks after the node does it: no new pods, and those of services go by the eviction API.
pub(super) async fn is_drained(estate: &mut Estate) -> Result<Verdict> {
    let gateway = one(estate, "").await?;
    let tried = async {
        let ours = format!("--pod-selector dev.tidegate.instance={}", gateway.instance()?);
        ctl(&format!("drain node1 {ours} --force --ignore-daemonsets --timeout 60s"))?;
        explained(&gateway, "evicted, as when a node is drained").await?;
        waits_for(&gateway, "unschedulable").await
    }
    .await;
    ctl("uncordon node1")?;
    tried?;
    comes_back(gateway).await
}

/// As when one node after another is drained: that says nothing about the service, and each time another pod comes at once.
pub(super) async fn is_evicted_again_and_again(estate: &mut Estate) -> Result<Verdict> {
    let gateway = one(estate, "").await?;
    let instance = gateway.instance()?;
    for _ in 0..4 {
        let before = replicas(&gateway, "web").await?;
        for replica in &before {
            estate.pods.evict(&Estate::name_of(&instance, replica), &EvictParams::default()).await?;
        }
        eventually("another one is ready", async || {
            let seen = gateway.service("web").await?;
            ensure!(!seen.reason.contains("crash_looping"), "{}", seen.reason);
            Ok(gateway.in_phase("web", "ready").await? == 1
                && replicas(&gateway, "web").await?.is_disjoint(&before))
        })
        .await?;
    }
    let mut verdict = Verdict::default();
    verdict.faultless(&burst(&Aim::at(gateway.address(), "web"), 1).await);
    end(gateway).await?;
    Ok(verdict)
}

/// The kubelet hangs: what runs there serves on, `ps` says that its node is not ready, and nothing is replaced.
pub(super) async fn is_not_ready(estate: &mut Estate) -> Result<Verdict> {
    let gateway = one(estate, "").await?;
    let before = replicas(&gateway, "web").await?;
    let load = Load::start(Aim::at(gateway.address(), "web").rate(5.0));
    estate.node.signal("kubelet", Signal::SIGSTOP)?;
    let tried = async {
        // As long as Kubernetes waits.
        sleep(Duration::from_secs(35)).await;
        eventually("ps says that its node is not ready", async || {
            let seen = gateway.service("web").await?.replicas;
            Ok(seen.iter().any(|replica| replica.trouble.as_deref() == Some("its node is not ready")))
        })
        .await
    }
    .await;
    estate.node.signal("kubelet", Signal::SIGCONT)?;
    tried?;
    eventually("the node is well again", async || {
        let seen = gateway.service("web").await?.replicas;
        Ok(seen.iter().all(|replica| replica.trouble.is_none()))
    })
    .await?;
    let mut verdict = Verdict::default();
    verdict.faultless(&load.stop().await);
    let after = replicas(&gateway, "web").await?;
    verdict.require(after == before, format!("{after:?} instead of {before:?}"));
    end(gateway).await?;
    Ok(verdict)
}

async fn one(estate: &mut Estate, keys: &str) -> Result<Gateway> {
    let config = estate.config() + &local("web", keys, "min = 1\nmax = 1");
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 1).await?;
    Ok(gateway)
}

/// There is room for it again.
async fn comes_back(gateway: Gateway) -> Result<Verdict> {
    let freed = Instant::now();
    ready(&gateway, "web", 1).await?;
    let mut verdict = Verdict::default();
    verdict.millis("back_ms", freed.elapsed());
    end(gateway).await?;
    Ok(verdict)
}

async fn explained(gateway: &Gateway, words: &str) -> Result<()> {
    let said = async || {
        let failure = gateway.explain("web").await?.last_failure;
        Ok(failure.is_some_and(|failure| failure.cause.contains(words)))
    };
    eventually(&format!("explain says {words}"), said).await.context("explain")
}
