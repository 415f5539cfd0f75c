//! The hosts, and where the embedded engine's images come from.

use super::{Settings, below, list, or_default, or_none, settings, time};
use crate::model::{Capacity, Engine, Host, Images, Kubernetes, Reach};

pub(super) fn describe_images(images: &Images) -> Settings {
    let Images { insecure_registries, mirrors, keep_unused, max_size } = images;
    let mut all = settings([
        ("insecure_registries", list(insecure_registries)),
        ("keep_unused", time(*keep_unused)),
        ("max_size", or_none(*max_size)),
    ]);
    let mirrors = mirrors.iter().map(|(registry, mirrors)| (registry.clone(), list(mirrors)));
    all.extend(below("mirrors", mirrors.collect()));
    all
}

pub(super) fn describe_host(host: &Host) -> Settings {
    let Host {
        name: _,
        engine,
        endpoint,
        tls,
        address,
        reach,
        labels,
        capacity: Capacity { cpu, memory, replicas },
        parallel_starts,
        memory_budget,
        lost_after,
        kubernetes: Kubernetes { kubeconfig, context, namespace, pull_secrets, priority_class },
    } = host;
    let reach = match reach {
        Reach::Auto => "auto",
        Reach::Address => "address",
        Reach::Published => "published",
    };
    let mut all = settings([
        ("engine", format!("{engine:?}").to_ascii_lowercase()),
        ("endpoint", or_default(endpoint.as_ref())),
        ("address", or_none(*address)),
        ("reach", reach.to_owned()),
        ("capacity.cpu", or_default(*cpu)),
        ("capacity.memory", or_default(*memory)),
        ("capacity.replicas", or_default(*replicas)),
        ("parallel_starts", parallel_starts.to_string()),
        ("memory_budget", or_none(*memory_budget)),
        ("lost_after", time(*lost_after)),
    ]);
    if *engine == Engine::Kubernetes {
        let kubeconfig = kubeconfig.as_ref().map(|file| file.display());
        all.extend(settings([
            ("kubernetes.kubeconfig", or_default(kubeconfig)),
            ("kubernetes.context", or_default(context.as_ref())),
            ("kubernetes.namespace", or_default(namespace.as_ref())),
            ("kubernetes.pull_secrets", list(pull_secrets)),
            ("kubernetes.priority_class", or_default(priority_class.as_ref())),
        ]));
    }
    if let Some(tls) = tls {
        let files = [("tls.ca", &tls.ca), ("tls.cert", &tls.cert), ("tls.key", &tls.key)];
        all.extend(settings(files.map(|(key, file)| (key, file.display().to_string()))));
    }
    all.extend(below("labels", labels.clone()));
    all
}
