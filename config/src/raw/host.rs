//! The machines that replicas may run on.

use super::duration;
use crate::{
    decode::{
        At, Named,
        leaf::{Loose, Size, Span, Text},
        section,
    },
    model::{self, Engine, Reach},
};

section! {
    /// A machine that replicas may run on.
    Host, d = model::Host::local() => {
        /// The host's name: 1 to 40 of a-z, 0-9 and `-`. Required.
        name: Text,
        /// What starts containers there: `docker`, or `embedded`, Tidegate's own engine: on this machine, Linux, as root,
        /// with nothing to install. `auto` is Docker if its socket answers or `endpoint` is set, else `embedded`; that is
        /// chosen once and recorded in the state directory. `swarm` is a Docker swarm, which places by itself; `endpoint` is one
        /// of its managers. `kubernetes` is a Kubernetes, which does so too; it is named by `kubernetes`.
        engine: Engine = "auto",
        /// Where the engine answers: `unix:///run/docker.sock`, `tcp://10.0.0.2:2376` (with `tls`) or
        /// `ssh://root@10.0.0.2`. Default: `DOCKER_HOST`, else Docker's socket.
        endpoint: Text,
        /// How a `tcp` endpoint is spoken to. Required for one that is not on loopback.
        tls: Tls,
        /// The host's own address, where the ports of replicas are published and reached. Required for `ssh`, and for
        /// `tcp` that is not on loopback; nodes of a swarm tell their own, but for a swarm of one node.
        address: Text,
        /// Whether `address` may be a public one: requests then cross the internet as plain text.
        allow_plaintext: bool = false,
        /// How replicas are reached: at their own addresses, or through ports that are published on the host. `auto`:
        /// at their own addresses where they answer there, else `published`.
        reach: Reach = "auto",
        /// Labels that services can ask for with `constraints`.
        labels: Named<Loose> = d.labels,
        /// What fits on the host, instead of what the engine reports.
        capacity: Capacity,
        /// Starts that may be under way at once.
        parallel_starts: u32 = d.parallel_starts,
        /// What replicas that are awake may reserve together before services are put to sleep. Default: no budget.
        memory_budget: Size,
        /// How long the host may be silent before its replicas are started elsewhere.
        lost_after: Span = duration(d.lost_after),
        /// For `engine = "kubernetes"`: which one, and what its pods are given.
        kubernetes: Kubernetes,
    }
}

section! {
    /// Which Kubernetes, and what its pods are given.
    Kubernetes => {
        /// How its API is reached: a kubeconfig file, relative to this file's folder. Default: the pod's own account where the gateway
        /// runs in a pod, else `KUBECONFIG`, else `~/.kube/config`.
        kubeconfig: Text,
        /// Which context of the kubeconfig. Default: its current one.
        context: Text,
        /// Where pods are made. It has to exist. Default: the context's namespace, or the one that the gateway's own pod is in.
        namespace: Text,
        /// Secrets of that namespace with which nodes fetch images.
        pull_secrets: Vec<At<Text>> = Vec::<String>::new(),
        /// The priority class of pods. Default: the cluster's.
        priority_class: Text,
    }
}

section! {
    /// How a `tcp` endpoint is spoken to: both sides show a certificate. Paths are relative to this file's folder.
    Tls => {
        /// A PEM file: who signs the engine's certificate.
        ca: Text,
        /// A PEM file: the gateway's certificate.
        cert: Text,
        /// A PEM file: the key of `cert`.
        key: Text,
    }
}

section! {
    /// What fits on a host. Default: what the engine reports.
    Capacity => {
        /// Cores.
        cpu: f64,
        /// Memory.
        memory: Size,
        /// Replicas.
        replicas: u32,
    }
}
