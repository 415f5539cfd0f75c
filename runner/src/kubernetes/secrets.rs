//! A replica's secrets, as one Secret object that goes with its pod.
//! Holds: it is there before the pod is; no value is in the pod's own description, in an error or in a log.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tidegate_config::{name::ReplicaId, spec::StartSpec};

use super::{body::variable_key, inner::Inner, labels, volumes::file_key};
use crate::{Error, Kind, Result, call::WRITE, docker};

/// What Kubernetes takes, all secrets of a replica together.
const LARGEST: usize = 1024 * 1024;

/// Makes the object, where a replica has secrets; whether it has. One that is there already is another call's.
pub(super) async fn make(inner: &Inner, spec: &StartSpec, owner: &OwnerReference) -> Result<bool> {
    let data = values(spec).await?;
    if data.is_empty() {
        return Ok(false);
    }
    let metadata = labels::metadata(&inner.options.instance, spec, owner);
    let secret = Secret { metadata, data: Some(data), immutable: Some(true), ..Secret::default() };
    match inner.call("secret create", WRITE, inner.secrets.create(&PostParams::default(), &secret)).await {
        Err(failed) if !failed.is(409) => Err(failed.during(format!("make the secrets of {}", spec.id))),
        _ => Ok(true),
    }
}

/// Has the object go when its pod does, whoever deletes that.
pub(super) async fn bind(inner: &Inner, pod: &Pod) -> Result<()> {
    let (name, uid) = pod.metadata.name.clone().zip(pod.metadata.uid.clone()).unwrap_or_default();
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid }]);
    let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": owner } }));
    let how = PatchParams::default();
    let patched = inner.call("secret patch", WRITE, inner.secrets.patch(&name, &how, &patch)).await;
    patched.map(drop).map_err(|f| f.during(format!("bind the secrets of {name} to it")))
}

/// Removes the object of a replica that has no pod.
pub(super) async fn remove(inner: &Inner, id: &ReplicaId) -> Result<()> {
    let name = labels::name(&inner.options.instance, id);
    let how = DeleteParams::default();
    match inner.call("secret delete", WRITE, inner.secrets.delete(&name, &how)).await {
        Err(failed) if !failed.is(404) => Err(failed.during(format!("remove the secrets of {id}"))),
        _ => Ok(()),
    }
}

async fn values(spec: &StartSpec) -> Result<BTreeMap<String, ByteString>> {
    let mut data = BTreeMap::new();
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
