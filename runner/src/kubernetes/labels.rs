//! What an object of ours carries so that the next gateway knows it again. Labels are for being found by, annotations say
//! what labels have no room for. Holds: ours is what has the instance's label *and* its name.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use tidegate_config::{name::ReplicaId, spec::StartSpec};

use crate::{
    InstanceId,
    docker::labels::{self, INSTANCE, Stamp},
};

/// The label of a service's pods, among which they are spread.
pub(super) const SERVICE: &str = "dev.tidegate.service";

/// The label that finds everything of an instance.
pub(super) fn selector(instance: &InstanceId) -> String {
    format!("{INSTANCE}={instance}")
}

/// The name of a replica's pod, and of its Secret.
pub(super) fn name(instance: &InstanceId, id: &ReplicaId) -> String {
    labels::container(instance, id)
}

/// The name of the ConfigMap that owns everything of an instance.
pub(super) fn owner(instance: &InstanceId) -> String {
    format!("tg-{}", instance.short())
}

/// The labels of everything of an instance.
pub(super) fn common(instance: &InstanceId) -> BTreeMap<String, String> {
    [(INSTANCE, instance.as_str()), ("app.kubernetes.io/managed-by", "tidegate")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What a new object of a replica's is called and carries.
pub(super) fn metadata(instance: &InstanceId, spec: &StartSpec, owner: &OwnerReference) -> ObjectMeta {
    let mut marks = common(instance);
    marks.insert(SERVICE.to_owned(), spec.id.service().to_string());
    ObjectMeta {
        name: Some(name(instance, &spec.id)),
        labels: Some(marks),
        annotations: Some(labels::stamp(instance, spec).into_iter().collect()),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// What a pod says about itself, if it is ours.
pub(super) fn read(instance: &InstanceId, pod: &Pod) -> Option<Stamp> {
    let meta = &pod.metadata;
    let marked = meta.labels.as_ref()?.get(INSTANCE)? == instance.as_str();
    let said = meta.annotations.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    labels::read(instance, meta.name.as_deref()?, &said).filter(|_| marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::spec::{Digest, Launch, Revision, Target};

    #[test]
    fn ours_needs_label_and_name_and_reads_back() {
        let instance = InstanceId::from_bits(0x1234_5678 << 96);
        let spec = StartSpec {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            launch: Launch::of("api:1"),
            digest: Digest(format!("sha256:{}", "ab".repeat(32))),
            port: 8080,
            target: Target::Host("k".parse().expect("valid")),
        };
        let ours = metadata(&instance, &spec, &OwnerReference::default());
        let pod = |metadata| Pod { metadata, ..Pod::default() };
        let stamp = read(&instance, &pod(ours.clone())).expect("ours");
        assert_eq!((stamp.id, stamp.digest, stamp.port), (spec.id, spec.digest, 8080));
        assert!(ours.labels.iter().flatten().all(|(_, value)| value.len() <= 63), "labels are short");
        for (name, labels) in [
            (Some("tg-12345678-api-3-18".to_owned()), ours.labels.clone()),
            (Some("api".to_owned()), ours.labels.clone()),
            (ours.name.clone(), None),
            (ours.name.clone(), Some(common(&InstanceId::from_bits(7)))),
        ] {
            let other = ObjectMeta { name, labels, ..ours.clone() };
            assert_eq!(read(&instance, &pod(other.clone())), None, "{other:?}");
        }
    }
}
