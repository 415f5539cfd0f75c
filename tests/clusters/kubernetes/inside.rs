//! The gateway in a pod, from deploy/kubernetes as it is: its file in a ConfigMap, its rights those of its account.

use anyhow::{Result, bail};
use e2e::{
    chaos::{IMAGE, ROOT, verdict::Verdict},
    eventually::eventually,
};
use tokio::time::Instant;

use super::{
    estate::Estate,
    node::{apply, ctl},
};

/// Where it is, and its replicas with it.
const NAMESPACE: &str = "tidegate";

/// It serves the sample service from zero, takes a new file over, and has nothing left when it is deleted.
pub(super) async fn runs(_estate: &mut Estate) -> Result<Verdict> {
    if std::env::var_os("GATEWAY_IMAGE").is_none() {
        bail!("GATEWAY_IMAGE names no archive of the gateway: scripts/test-clusters makes one");
    }
    ctl(&format!("create namespace {NAMESPACE}"))?;
    let tried = serves().await;
    let state = ctl(&format!("logs --namespace {NAMESPACE} deployment/tidegate --tail 20"));
    let removed = ctl(&format!("delete namespace {NAMESPACE} --timeout 60s"))
        .and_then(|_| ctl("delete persistentvolume tidegate-state"));
    let verdict = tried.map_err(|error| error.context(state.unwrap_or_default()))?;
    removed?;
    Ok(verdict)
}

async fn serves() -> Result<Verdict> {
    let state = format!("{ROOT}/kubernetes/state");
    std::fs::create_dir_all(&state)?;
    apply(NAMESPACE, &volume(&state))?;
    ctl(&format!("apply --namespace {NAMESPACE} --filename deploy/kubernetes"))?;
    apply(NAMESPACE, &file(""))?;
    let mut verdict = Verdict::default();
    ctl(&format!("rollout --namespace {NAMESPACE} status deployment/tidegate --timeout 100s"))?;
    let begun = Instant::now();
    eventually("it serves from zero", async || Ok(get("").is_ok_and(|page| page.contains("echo on tg-"))))
        .await?;
    verdict.millis("served_ms", begun.elapsed());
    // The kubelet swaps the folder's link, within a minute or so.
    apply(NAMESPACE, &file("env = { ECHO_NAME = \"another\" }"))?;
    eventually("the file is taken over", async || {
        Ok(get("").is_ok_and(|page| page.contains("another on tg-")))
    })
    .await?;
    Ok(verdict)
}

/// Asks the gateway's Service for a page, by the API's own proxy.
fn get(path: &str) -> Result<String> {
    ctl(&format!("get --raw /api/v1/namespaces/{NAMESPACE}/services/tidegate:http/proxy/{path}"))
}

fn file(keys: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: tidegate-file }}\ndata:\n  tidegate.toml: |\n    \
         [[hosts]]\n    name = \"cluster\"\n    engine = \"kubernetes\"\n    [services.hello]\n    image = \"{IMAGE}\"\n    \
         pull = \"never\"\n    {keys}\n"
    )
}

/// What a cluster elsewhere makes by itself.
fn volume(path: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: tidegate-state }}\nspec:\n  \
         capacity: {{ storage: 1Gi }}\n  accessModes: [ReadWriteOnce]\n  local: {{ path: {path} }}\n  \
         nodeAffinity: {{ required: {{ nodeSelectorTerms: [{{ matchExpressions: [{{ key: kubernetes.io/hostname, \
         operator: In, values: [node1] }}] }}] }} }}\n"
    )
}
