//! A machine that replicas may run on, and how its engine is reached.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use crate::{
    name::HostName,
    units::{Bytes, Count},
};

/// A machine that replicas may run on.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name in the file.
    pub name: HostName,
    /// What starts containers there.
    pub engine: Engine,
    /// Where the engine answers, as in `unix:///run/docker.sock`, `tcp://10.0.0.2:2376` or `ssh://root@10.0.0.2`; `None`:
    /// `DOCKER_HOST`, else Docker's socket.
    pub endpoint: Option<String>,
    /// How a `tcp` endpoint is spoken to; always there for one that is not on loopback.
    pub tls: Option<Tls>,
    /// The host's own address, where replicas' published ports are bound and reached; always there if the host
    /// [is another machine](Host::is_remote).
    pub address: Option<IpAddr>,
    /// How replicas are reached.
    pub reach: Reach,
    /// What placement constraints look at.
    pub labels: BTreeMap<String, String>,
    /// Instead of what the engine reports.
    pub capacity: Capacity,
    /// Starts under way at once.
    pub parallel_starts: u32,
    /// What may be reserved by replicas that are not asleep before services are put to sleep.
    pub memory_budget: Option<Bytes>,
    /// How long the host may be silent before it counts as lost.
    pub lost_after: Duration,
    /// Which Kubernetes, and what its pods are given.
    pub kubernetes: Kubernetes,
}

/// What a host with the engine `kubernetes` is told besides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kubernetes {
    /// How its API is reached; `None`: by the pod's own account where the gateway is a pod, else `KUBECONFIG` or
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of that file; `None`: its current one.
    pub context: Option<String>,
    /// Where pods are made; `None`: in the context's namespace, or the gateway's own.
    pub namespace: Option<String>,
    /// Names of Secret objects with which nodes fetch images.
    pub pull_secrets: Vec<String>,
    /// The priority class of pods; `None`: the cluster's default.
    pub priority_class: Option<String>,
}

/// A client's side of mutual TLS: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the engine's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How the gateway reaches the replicas of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// At their own addresses if the engine is on this machine and they answer there, else through published ports.
    #[default]
    Auto,
    /// At their own addresses.
    Address,
    /// Through ports that are published on the host's address.
    Published,
}

impl Host {
    /// The host that a file without `[[hosts]]` means.
    #[must_use]
    pub fn local() -> Self {
        Self {
            name: "local".parse().expect("a valid name"),
            engine: Engine::Auto,
            endpoint: None,
            tls: None,
            address: None,
            reach: Reach::Auto,
            labels: BTreeMap::new(),
            capacity: Capacity::default(),
            parallel_starts: 4,
            memory_budget: None,
            lost_after: Duration::from_secs(5),
            kubernetes: Kubernetes::default(),
        }
    }
}

/// What starts containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker if its socket answers, else the embedded one; chosen once.
    Auto,
    /// The Docker Engine API.
    Docker,
    /// Tidegate's own, on this machine.
    Embedded,
    /// A Docker swarm, by one of its managers: a cluster, which places by itself.
    Swarm,
    /// A Kubernetes, by its API: a cluster, too.
    Kubernetes,
}

impl Engine {
    /// Whether it is a cluster, which places by itself.
    #[must_use]
    pub fn places(self) -> bool {
        match self {
            Self::Auto | Self::Docker | Self::Embedded => false,
            Self::Swarm | Self::Kubernetes => true,
        }
    }
}

/// What fits on a host; `None`: as the engine reports.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Capacity {
    /// Cores.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: Option<Bytes>,
    /// Containers.
    pub replicas: Option<Count>,
}
