//! The ConfigMap that owns everything of an instance: who removes it removes the pods.
//! Holds: it is there before anything is made that it owns; one that was removed is made anew.

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::api::{ObjectMeta, PostParams};

use super::{inner::Inner, labels};
use crate::{
    Error, Kind, Result,
    call::{Failed, READ, WRITE},
    docker::labels::INSTANCE,
};

/// The reference with which our objects name their owner.
pub(super) async fn reference(inner: &Inner) -> Result<OwnerReference> {
    let mut known = inner.owner.lock().await;
    if let Some(known) = &*known {
        return Ok(known.clone());
    }
    let found = ensure(inner).await?;
    Ok(known.insert(found).clone())
}

/// Looks for it anew before the next start: a pod vanished without our doing, and so may its owner have.
pub(super) async fn doubt(inner: &Inner) {
    *inner.owner.lock().await = None;
}

async fn ensure(inner: &Inner) -> Result<OwnerReference> {
    let name = labels::owner(&inner.options.instance);
    let failed = |f: Failed| f.during(format!("make the ConfigMap {name}"));
    if let Some(found) = inner.call("owner get", READ, inner.maps.get_opt(&name)).await.map_err(failed)? {
        return of(inner, &found);
    }
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels::common(&inner.options.instance)),
            ..ObjectMeta::default()
        },
        data: Some([("about".to_owned(), ABOUT.to_owned())].into()),
        ..ConfigMap::default()
    };
    match inner.call("owner create", WRITE, inner.maps.create(&PostParams::default(), &map)).await {
        Ok(made) => of(inner, &made),
        // By another gateway of this instance, a moment ago.
        Err(failed) if failed.is(409) => {
            let found = inner.call("owner get", READ, inner.maps.get(&name)).await;
            of(inner, &found.map_err(|f| f.during(format!("look for the ConfigMap {name}")))?)
        }
        Err(f) => Err(failed(f)),
    }
}

/// For people who meet it.
const ABOUT: &str = "Owns the pods of one installation of Tidegate. Deleting it deletes them.";

fn of(inner: &Inner, map: &ConfigMap) -> Result<OwnerReference> {
    let (name, uid) = map.metadata.name.clone().zip(map.metadata.uid.clone()).unwrap_or_default();
    let label = map.metadata.labels.as_ref().and_then(|labels| labels.get(INSTANCE));
    if label.map(String::as_str) != Some(inner.options.instance.as_str()) {
        return Err(Error::new(Kind::Permanent, format!("the ConfigMap {name} is somebody else's")));
    }
    let (api_version, kind) = ("v1".to_owned(), "ConfigMap".to_owned());
    Ok(OwnerReference { api_version, kind, name, uid, ..OwnerReference::default() })
}
