//! A replica's secrets, as one Secret object that its pod owns, so that it goes with the pod however that goes.
//! Holds: no node takes the pod before the object is there; no value is in the pod's own description, in an error or in a
//! log.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, PodSchedulingGate, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tidegate_config::spec::{Launch, StartSpec};

use super::{body::variable_key, inner::Inner, labels, volumes::file_key};
use crate::{
    Error, Kind, Result,
    call::{Failed, WRITE},
    docker,
};

/// What Kubernetes takes, all secrets of a replica together.
const LARGEST: usize = 1024 * 1024;
/// Why a pod waits that has no secrets yet.
const GATE: &str = "dev.tidegate/secrets";

/// The values of a replica's secrets, by their keys.
pub(super) type Values = BTreeMap<String, ByteString>;

/// Whether a replica has secrets.
pub(super) fn has(launch: &Launch) -> bool {
    !launch.secrets.is_empty() || !launch.secret_files.is_empty()
}

/// What keeps nodes from a pod until it has its secrets.
pub(super) fn gates(launch: &Launch) -> Option<Vec<PodSchedulingGate>> {
    has(launch).then(|| vec![PodSchedulingGate { name: GATE.to_owned() }])
}

/// Whether a pod still waits for its secrets.
pub(super) fn are_missing(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    gates.into_iter().flatten().any(|gate| gate.name == GATE)
}

/// Makes the object for a pod that was made without, and lets nodes take the pod. One that is there is of an earlier try.
pub(super) async fn give(
    inner: &Inner,
    spec: &StartSpec,
    pod: &Pod,
    values: Values,
) -> std::result::Result<(), Failed> {
    let (api_version, kind) = ("v1".to_owned(), "Pod".to_owned());
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let owner = OwnerReference { api_version, kind, name: name.clone(), uid, ..OwnerReference::default() };
    let metadata = labels::metadata(&inner.options.instance, spec, &owner);
    let secret = Secret { metadata, data: Some(values), immutable: Some(true), ..Secret::default() };
    match inner.call("secret create", WRITE, inner.secrets.create(&PostParams::default(), &secret)).await {
        Err(failed) if !failed.is(409) => return Err(failed),
        _ => {}
    }
    let (how, open) = (PatchParams::default(), Patch::Merge(json!({ "spec": { "schedulingGates": null } })));
    inner.call("pod patch", WRITE, inner.pods.patch(&name, &how, &open)).await.map(drop)
}

/// Reads the values of a replica's secrets; empty where it has none.
///
/// # Errors
/// [`Kind::Permanent`]: a file that cannot be read, more than Kubernetes takes.
pub(super) async fn read(spec: &StartSpec) -> Result<Values> {
    let mut data = Values::new();
    for (name, value) in docker::secrets::read(&spec.launch.secrets).await? {
        data.insert(variable_key(&name), ByteString(value.into_bytes()));
    }
    for (name, secret) in &spec.launch.secret_files {
        let read = tokio::fs::read(&secret.file).await;
        let value = read.map_err(|error| {
            let file = secret.file.display();
            let words = format!("the secret file {name} cannot be read from {file}: {error}");
            Error::new(Kind::Permanent, words)
        })?;
        data.insert(file_key(name), ByteString(value));
    }
    let size: usize = data.values().map(|value| value.0.len()).sum();
    if size > LARGEST {
        let words = format!("the secrets of {} are larger than Kubernetes takes (1 MiB)", spec.id);
        return Err(Error::new(Kind::Permanent, words));
    }
    Ok(data)
}
