//! Starting a replica: one pod, and before it what it needs. Holds: a start that fails leaves neither behind, as far as the
//! API answers at all; what exists already is a state, not an error; what a quota has no room for waits, and is tried again.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use tidegate_config::spec::{Exit, StartSpec};

use super::{body, call::is_over_quota, images::Known, inner::Inner, labels, owner, secrets, volumes};
use crate::{
    Error, Event, Kind, Result,
    call::{Failed, READ, WRITE},
    docker::body::refuse_root,
};

/// Makes a replica's pod. Where it runs is told by the watch.
pub(super) async fn start(inner: &Inner, spec: &StartSpec) -> Result<()> {
    let host = spec.target.host();
    if *host != inner.options.host {
        let words = format!("{} is to run on {host}, and this cluster is {}", spec.id, inner.options.host);
        return Err(Error::new(Kind::Permanent, words));
    }
    let image = inner.images.known(spec)?;
    if let Some(user) = &image.user {
        refuse_root(&spec.launch, user)?;
    }
    look_for_maps(inner, spec).await?;
    let owner = owner::reference(inner).await?;
    let pod = body(inner, spec, &image, &owner)?;
    let has_secrets = match secrets::make(inner, spec, &owner).await {
        Ok(has_secrets) => has_secrets,
        Err(error) => {
            forget_secrets(inner, spec).await;
            return Err(error);
        }
    };
    create(inner, spec, &pod, has_secrets).await
}

/// Tries again what waits for room. What fails for another reason has ended.
pub(super) async fn retry(inner: &Inner) {
    for spec in inner.waiting() {
        let outcome = start(inner, &spec).await;
        let Err(error) = outcome else { continue };
        if !error.kind.may_pass() && inner.wait_no_more(&spec.id) {
            let exit = Exit { code: -1, out_of_memory: false, message: Some(error.message) };
            inner.events.tell(Event::Exited { id: spec.id, exit });
        }
    }
}

/// Refuses a ConfigMap that is not there: its pod would wait for it and say nothing. Secrets are nothing that we may read.
async fn look_for_maps(inner: &Inner, spec: &StartSpec) -> Result<()> {
    for name in volumes::config_maps(&spec.launch) {
        let found = inner.call("map get", READ, inner.maps.get_opt(name)).await;
        if found.map_err(|f| f.during(format!("look for the ConfigMap {name}")))?.is_none() {
            let words =
                format!("there is no ConfigMap {name} in {}, which is to be mounted", inner.namespace);
            return Err(Error::new(Kind::Retryable, words));
        }
    }
    Ok(())
}

fn body(
    inner: &Inner,
    spec: &StartSpec,
    image: &Known,
    owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
) -> Result<Pod> {
    let (cluster, resolvers) = (&inner.options.cluster, inner.resolvers.now());
    let from = body::Given {
        image: &image.name,
        may_fetch: image.may_fetch,
        owner: owner.clone(),
        pull_secrets: &cluster.pull_secrets,
        priority_class: cluster.priority_class.as_deref(),
        resolvers: &resolvers,
        namespace: &inner.namespace,
    };
    body::pod(&inner.options.instance, spec, &from)
}

async fn create(inner: &Inner, spec: &StartSpec, pod: &Pod, has_secrets: bool) -> Result<()> {
    let retried = inner.is_waiting(&spec.id);
    match inner.call("pod create", WRITE, inner.pods.create(&PostParams::default(), pod)).await {
        Ok(made) => {
            // Removed while it was being made; else it waits until the watch has told of its pod.
            if retried && !inner.is_waiting(&spec.id) {
                return super::delete(inner, &spec.id, &made, 0).await;
            }
            if has_secrets && let Err(error) = secrets::bind(inner, &made).await {
                tracing::warn!(replica = %spec.id, %error, "its secrets stay when its pod is deleted by others");
            }
            Ok(())
        }
        Err(failed) if failed.is(409) => existing(inner, spec, failed, has_secrets).await,
        Err(failed) if is_over_quota(&failed) => {
            // One that was removed meanwhile waits no more.
            if !retried || inner.is_waiting(&spec.id) {
                inner.wait(spec, failed.words, SystemTime::now());
            }
            Ok(())
        }
        Err(failed) => {
            if has_secrets {
                forget_secrets(inner, spec).await;
            }
            let what = format!("start {}", spec.id);
            // What the file is at fault for never passes by itself.
            Err(if failed.is(422) { failed.permanent(what) } else { failed.during(what) })
        }
    }
}

/// The name is taken: by an earlier call for the same replica, or by somebody else.
async fn existing(inner: &Inner, spec: &StartSpec, failed: Failed, has_secrets: bool) -> Result<()> {
    if inner.find(&spec.id).await?.is_some() {
        return Ok(());
    }
    if has_secrets {
        forget_secrets(inner, spec).await;
    }
    let name = labels::name(&inner.options.instance, &spec.id);
    let taken = inner.call("pod get", WRITE, inner.pods.get_opt(&name)).await;
    let what = format!("start {}", spec.id);
    // One that is gone by now was on its way out.
    let taken = taken.map_err(|f| f.during(&what))?.is_some();
    Err(if taken { failed.permanent(what) } else { failed.during(what) })
}

async fn forget_secrets(inner: &Inner, spec: &StartSpec) {
    if spec.launch.secrets.is_empty() && spec.launch.secret_files.is_empty() {
        return;
    }
    // Those of a pod that is there are its own.
    if matches!(inner.find(&spec.id).await, Ok(Some(_))) {
        return;
    }
    if let Err(left) = secrets::remove(inner, &spec.id).await {
        tracing::warn!(replica = %spec.id, error = %left, "a start failed and its secrets could not be removed");
    }
}
