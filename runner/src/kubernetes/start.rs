//! Starting a replica: one pod, and then what it owns. Holds: a start that fails leaves nothing behind, as far as the API
//! answers at all; what exists already is a state, not an error; what a quota has no room for waits, and is tried again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use tidegate_config::spec::{Exit, StartSpec};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    body,
    call::is_over_quota,
    images::Known,
    inner::Inner,
    labels, owner,
    secrets::{self, Values},
    volumes,
};
use crate::{
    Error, Event, Kind, Result,
    call::{Failed, READ, WRITE},
    docker::body::refuse_root,
};

/// Between two tries to make what waits for room.
const AGAIN: Duration = Duration::from_secs(1);

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
    let values = secrets::read(spec).await?;
    let owner = owner::reference(inner).await?;
    let pod = body(inner, spec, &image, &owner)?;
    create(inner, spec, &pod, values).await
}

/// Tries to make what waits for room, again and again until the task is dropped. What fails for another reason has ended.
pub(super) async fn retry(inner: Arc<Inner>) {
    let mut ticks = interval(AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for spec in inner.waiting() {
            let Err(error) = start(&inner, &spec).await else { continue };
            if !error.kind.may_pass() && inner.wait_no_more(&spec.id) {
                let exit =
                    Exit { code: -1, out_of_memory: false, disrupted: false, message: Some(error.message) };
                inner.events.tell(Event::Exited { id: spec.id, exit });
            }
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
        user: image.user.as_deref(),
        owner: owner.clone(),
        pull_secrets: &cluster.pull_secrets,
        priority_class: cluster.priority_class.as_deref(),
        resolvers: &resolvers,
        namespace: &inner.namespace,
    };
    body::pod(&inner.options.instance, spec, &from)
}

async fn create(inner: &Inner, spec: &StartSpec, pod: &Pod, values: Values) -> Result<()> {
    let retried = inner.is_waiting(&spec.id);
    let made = match inner.call("pod create", WRITE, inner.pods.create(&PostParams::default(), pod)).await {
        Ok(made) => made,
        Err(failed) if failed.is(409) => return existing(inner, spec, failed, values).await,
        Err(failed) => return refused(inner, spec, retried, failed),
    };
    // Removed while it was being made; else it waits until the watch has told of its pod.
    if retried && !inner.is_waiting(&spec.id) {
        return super::delete(inner, &spec.id, &made, 0).await;
    }
    furnish(inner, spec, &made, values, retried).await
}

/// Gives a pod its secrets. It waits where a quota has no room for them, and goes where they cannot be made.
async fn furnish(inner: &Inner, spec: &StartSpec, pod: &Pod, values: Values, retried: bool) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let Err(failed) = secrets::give(inner, spec, pod, values).await else { return Ok(()) };
    if !is_over_quota(&failed)
        && let Err(left) = super::delete(inner, &spec.id, pod, 0).await
    {
        tracing::warn!(replica = %spec.id, error = %left, "a start failed and its pod could not be removed");
    }
    refused(inner, spec, retried, failed)
}

/// What becomes of a replica that the API did not make.
fn refused(inner: &Inner, spec: &StartSpec, retried: bool, failed: Failed) -> Result<()> {
    if is_over_quota(&failed) {
        // One that was removed meanwhile waits no more.
        if !retried || inner.is_waiting(&spec.id) {
            inner.wait(spec, failed.words, SystemTime::now());
        }
        return Ok(());
    }
    let what = format!("start {}", spec.id);
    // What the file is at fault for never passes by itself.
    Err(if failed.is(422) { failed.permanent(what) } else { failed.during(what) })
}

/// The name is taken: by an earlier call for the same replica, which may have got no further, or by somebody else.
async fn existing(inner: &Inner, spec: &StartSpec, failed: Failed, values: Values) -> Result<()> {
    if let Some(found) = inner.find(&spec.id).await? {
        let retried = inner.is_waiting(&spec.id);
        let values = if secrets::are_missing(&found.pod) { values } else { Values::new() };
        return furnish(inner, spec, &found.pod, values, retried).await;
    }
    let name = labels::name(&inner.options.instance, &spec.id);
    let taken = inner.call("pod get", WRITE, inner.pods.get_opt(&name)).await;
    let what = format!("start {}", spec.id);
    // One that is gone by now was on its way out.
    let taken = taken.map_err(|f| f.during(&what))?.is_some();
    Err(if taken { failed.permanent(what) } else { failed.during(what) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_config::spec::Secret;

    use super::*;
    use crate::kubernetes::scripted;

    fn owner() -> String {
        let labels = labels::common(&scripted::instance());
        let metadata = json!({ "name": labels::owner(&scripted::instance()), "uid": "u0", "labels": labels });
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }).to_string()
    }

    fn made(kind: &str) -> String {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "tg-x", "uid": "u1" } }).to_string()
    }

    fn refusal(code: u16, words: &str) -> (u16, String) {
        let status =
            json!({ "kind": "Status", "status": "Failure", "code": code, "message": words, "reason": "" });
        (code, status.to_string())
    }

    /// A replica with a secret, and the folder that the secret is in.
    fn with_secret() -> (tempfile::TempDir, StartSpec) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        std::fs::write(&file, "s3cret").expect("written");
        let mut spec = scripted::spec();
        spec.launch.secrets = [("KEY".to_owned(), Secret { file })].into();
        (folder, spec)
    }

    /// `METHOD kind` of each question, and what it said.
    fn told(asked: &[String]) -> Vec<(String, Value)> {
        let one = |asked: &String| {
            let mut parts = asked.splitn(3, ' ');
            let (method, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let kind = path.split(['?', '/']).skip_while(|part| *part != "apps").nth(1).unwrap_or_default();
            (
                format!("{method} {kind}"),
                serde_json::from_str(parts.next().unwrap_or_default()).unwrap_or_default(),
            )
        };
        asked.iter().map(one).collect()
    }

    fn steps(told: &[(String, Value)]) -> Vec<&str> {
        told.iter().map(|(step, _)| step.as_str()).collect()
    }

    #[tokio::test]
    async fn a_pod_owns_its_secrets_and_no_node_takes_it_before_they_are_there() {
        let (_folder, spec) = with_secret();
        let answers = [owner(), made("Pod"), made("Secret"), made("Pod")];
        let (inner, asked) = scripted::api(answers.map(|text| (200, text)).into());
        start(&inner, &spec).await.expect("started");
        let told = told(&asked.lock());
        assert_eq!(steps(&told), ["GET configmaps", "POST pods", "POST secrets", "PATCH pods"]);
        assert_eq!(told[1].1["spec"]["schedulingGates"][0]["name"], "dev.tidegate/secrets");
        let owners = told[2].1["metadata"]["ownerReferences"].as_array().expect("one");
        assert_eq!((owners.len(), &owners[0]["kind"], &owners[0]["uid"]), (1, &json!("Pod"), &json!("u1")));
        assert_eq!(told[3].1, json!({ "spec": { "schedulingGates": null } }));
    }

    #[tokio::test]
    async fn a_pod_without_secrets_waits_for_none() {
        let (inner, asked) = scripted::api(vec![(200, owner()), (200, made("Pod"))]);
        start(&inner, &scripted::spec()).await.expect("started");
        let told = told(&asked.lock());
        assert_eq!(steps(&told), ["GET configmaps", "POST pods"]);
        assert_eq!(told[1].1["spec"]["schedulingGates"], Value::Null);
    }

    #[tokio::test]
    async fn what_waited_is_removed_only_if_somebody_removed_it() {
        type Act = fn(&Inner, &StartSpec);
        let rows: [(Act, usize); 2] = [
            (|inner, spec| inner.note_seen(&spec.id), 2),
            (|inner, spec| assert!(inner.wait_no_more(&spec.id)), 3),
        ];
        for (act, questions) in rows {
            let (inner, asked) = scripted::api(vec![(200, owner()), (200, made("Pod")), (200, made("Pod"))]);
            let spec = scripted::spec();
            inner.wait(&spec, "exceeded quota".to_owned(), SystemTime::UNIX_EPOCH);
            let meanwhile = async {
                while asked.lock().len() < 2 {
                    tokio::task::yield_now().await;
                }
                act(&inner, &spec);
            };
            let (started, ()) = tokio::join!(start(&inner, &spec), meanwhile);
            started.expect("started");
            let asked = asked.lock().clone();
            assert_eq!(asked.len(), questions, "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_pod_that_gets_no_secrets_is_removed() {
        let (_folder, spec) = with_secret();
        let answers = vec![(200, owner()), (200, made("Pod")), refusal(500, "broken"), (200, made("Pod"))];
        let (inner, asked) = scripted::api(answers);
        assert!(start(&inner, &spec).await.is_err() && !inner.is_waiting(&spec.id));
        let told = told(&asked.lock());
        assert_eq!(steps(&told), ["GET configmaps", "POST pods", "POST secrets", "DELETE pods"]);
    }

    /// The pod of `spec` as the API has it.
    fn gated(spec: &StartSpec) -> String {
        let metadata = labels::metadata(&scripted::instance(), spec, &Default::default());
        let spec = json!({ "containers": [], "schedulingGates": secrets::gates(&spec.launch) });
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec }).to_string()
    }

    #[tokio::test]
    async fn a_pod_waits_while_a_quota_has_no_room_for_its_secrets() {
        let (_folder, spec) = with_secret();
        let full = || refusal(403, "exceeded quota: small");
        let taken = || refusal(409, "already exists");
        let answers = vec![
            (200, owner()),
            (200, made("Pod")),
            full(),
            taken(),
            (200, gated(&spec)),
            full(),
            taken(),
            (200, gated(&spec)),
            (200, made("Secret")),
            (200, made("Pod")),
        ];
        let (inner, asked) = scripted::api(answers);
        for _ in 0..3 {
            start(&inner, &spec).await.expect("it waits or is started");
            assert!(inner.is_waiting(&spec.id), "until its pod is seen without the gate");
        }
        let told = told(&asked.lock());
        let tried = ["POST pods", "GET pods", "POST secrets"];
        let expected =
            [&["GET configmaps", "POST pods", "POST secrets"][..], &tried, &tried, &["PATCH pods"]];
        assert_eq!(steps(&told), expected.concat());
    }
}
