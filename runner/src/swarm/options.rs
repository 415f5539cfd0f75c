//! Which swarm is spoken to, by which of its managers, and for whom.

use std::net::IpAddr;

use tidegate_config::{
    model::{Host, Tls},
    name::HostName,
};

use crate::InstanceId;

/// By which manager a swarm is reached, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the file calls the swarm.
    pub host: HostName,
    /// A manager's `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`; `None`: `DOCKER_HOST`, else Docker's socket.
    pub endpoint: Option<String>,
    /// For `tcp`: mutual TLS. Without it, only loopback is dialled.
    pub tls: Option<Tls>,
    /// The address of nodes that do not tell theirs: of a swarm of one node.
    pub address: Option<IpAddr>,
    /// Whose services are ours.
    pub instance: InstanceId,
}

impl Options {
    /// What the file says of a host.
    #[must_use]
    pub fn of(host: &Host, instance: InstanceId) -> Self {
        let Host { name, endpoint, tls, address, .. } = host.clone();
        Self { host: name, endpoint, tls, address, instance }
    }
}
