//! Scaling by what replicas use. The node has no metrics-server: objects of its kind stand in for what one would serve, in the API
//! server's own store, at the same addresses and behind the same rights.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{
    chaos::{
        load::{Aim, Load},
        verdict::Verdict,
    },
    eventually::eventually,
};
use kube::ResourceExt;
use tokio::time::sleep;

use super::{
    estate::{Estate, NAMESPACE},
    local,
    node::{apply, ctl},
};
use crate::steps::{end, ready};

/// One core is to be used by half.
const KEYS: &str = "resources = { cpu = 1.0 }";
const SCALING: &str = "min = 1\nmax = 3\nidle = \"1h\"\ntarget_cpu = 0.5";
/// The kind, as a metrics API serves it.
const KIND: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: pods.metrics.k8s.io
  annotations: { api-approved.kubernetes.io: \"unapproved, for a test\" }
spec:
  group: metrics.k8s.io
  scope: Namespaced
  names: { plural: pods, singular: pod, kind: PodMetrics, listKind: PodMetricsList }
  versions:
    - name: v1beta1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
";

/// Without the API nothing happens, and that is said; with it, there are as many replicas as its numbers ask for.
pub(super) async fn counts(estate: &mut Estate) -> Result<Verdict> {
    let config = estate.config() + &local("web", KEYS, SCALING);
    let gateway = estate.gateway(config.clone()).await?;
    ready(&gateway, "web", 1).await?;
    let mut verdict = Verdict::default();
    let said = || -> Result<usize> {
        Ok(std::fs::read_to_string(gateway.log())?.matches("does not measure its pods").count())
    };
    eventually("it is said that nobody measures", async || Ok(said()? > 0)).await?;
    // Long enough for what is measured to be asked for twice.
    sleep(Duration::from_secs(11)).await;
    let said = said()?;
    verdict.require(said == 1, format!("it is said {said} times"));
    end(gateway).await?;
    let tried = scales(estate, config, verdict).await;
    ctl("delete --ignore-not-found customresourcedefinition pods.metrics.k8s.io")?;
    tried
}

async fn scales(estate: &mut Estate, config: String, mut verdict: Verdict) -> Result<Verdict> {
    apply(NAMESPACE, KIND)?;
    eventually("the API has the kind", async || {
        Ok(ctl(&format!("get --raw /apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods")).is_ok())
    })
    .await?;
    let gateway = estate.gateway(config).await?;
    ready(&gateway, "web", 1).await?;
    let load = Load::start(Aim::at(gateway.address(), "web").rate(5.0));
    let instance = gateway.instance()?;
    let pod = estate.pods_of(&instance).await?.pop().context("a pod")?.name_any();
    apply(
        NAMESPACE,
        &format!(
            "apiVersion: metrics.k8s.io/v1beta1\nkind: PodMetrics\nmetadata: {{ name: {pod}, labels: {{ dev.tidegate.instance: \"{instance}\" }} }}\n\
             timestamp: \"2026-01-01T00:00:00Z\"\nwindow: 15s\n\
             containers: [{{ name: replica, usage: {{ cpu: 1400000000n, memory: 12Mi }} }}]\n"
        ),
    )?;
    ready(&gateway, "web", 3).await?;
    verdict.faultless(&load.stop().await);
    end(gateway).await?;
    Ok(verdict)
}
