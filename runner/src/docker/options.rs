//! Which engine is spoken to, how, and for whom.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use tidegate_config::{
    model::{Host, Reach, Tls},
    name::HostName,
};

use crate::InstanceId;

/// How an engine is reached, how its replicas are, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the file calls the engine's host.
    pub host: HostName,
    /// `unix:///PATH`, `tcp://HOST:PORT` or `ssh://USER@HOST`; `None`: `DOCKER_HOST`, else Docker's socket.
    pub endpoint: Option<String>,
    /// For `tcp`: mutual TLS. Without it, only loopback is dialled.
    pub tls: Option<Tls>,
    /// Where published ports are bound; `None`: 127.0.0.1, for an engine of this machine only.
    pub address: Option<IpAddr>,
    /// How replicas are reached.
    pub reach: Reach,
    /// Whose containers are ours.
    pub instance: InstanceId,
    /// The subnet of the containers' network; `None`: a free private one.
    pub subnet: Option<Ipv4Net>,
}

impl Options {
    /// What the file says of a host.
    #[must_use]
    pub fn of(host: &Host, instance: InstanceId, subnet: Option<Ipv4Net>) -> Self {
        Self {
            host: host.name.clone(),
            endpoint: host.endpoint.clone(),
            tls: host.tls.clone(),
            address: host.address,
            reach: host.reach,
            instance,
            subnet,
        }
    }
}
