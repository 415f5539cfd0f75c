//! Which Kubernetes is spoken to, and for whom.

use tidegate_config::{
    model::{Host, Images, Kubernetes},
    name::HostName,
};

use crate::InstanceId;

/// How a Kubernetes is reached, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the file calls it.
    pub host: HostName,
    /// What the file says of it.
    pub cluster: Kubernetes,
    /// How registries are asked what an image is.
    pub images: Images,
    /// Whose pods are ours.
    pub instance: InstanceId,
}

impl Options {
    /// What the file says of a host, and of images.
    #[must_use]
    pub fn of(host: &Host, images: &Images, instance: InstanceId) -> Self {
        let (cluster, images) = (host.kubernetes.clone(), images.clone());
        Self { host: host.name.clone(), cluster, images, instance }
    }
}
