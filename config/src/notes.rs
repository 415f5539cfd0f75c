//! What is valid, but may not be what was meant: said by `tidegate check` next to its ok. A pure look at a checked model.

use std::collections::BTreeSet;

use crate::{
    constraint::Constraint,
    model::{Engine, Host, Limits, Middleware, Model, Service, Sleep},
    name::Authority,
    spec::Source,
};

mod scaling;

/// Everything worth a second look, in whole sentences.
#[must_use]
pub fn notes(model: &Model) -> Vec<String> {
    let remote: Vec<&Host> = model.hosts.iter().filter(|host| host.is_remote()).collect();
    let mut notes = Vec::new();
    notes.extend(names(model, &remote));
    for service in model.services.values() {
        notes.extend(folders(service, &remote));
        notes.extend(scattered(service, &model.hosts));
        notes.extend(unlabelled(service, &model.hosts));
        notes.extend(sleep(service, &model.hosts));
        notes.extend(measured(service, &model.hosts));
        notes.extend(scaling::notes(service, model));
        notes.extend(too_late(service, &model.gateway.limits));
        notes.extend(too_long(service, &model.gateway.limits));
        notes.extend(passed_on(service, model));
    }
    notes
}

fn names(model: &Model, remote: &[&Host]) -> Option<String> {
    if !model.gateway.internal_names || model.gateway.internal_address.is_some() || remote.is_empty() {
        return None;
    }
    Some(format!(
        "names of services do not resolve in containers on {}: set gateway.internal_address to an address of this \
         machine that these hosts reach, or gateway.internal_names to false",
        list(remote)
    ))
}

fn folders(service: &Service, remote: &[&Host]) -> Option<String> {
    let folder = service.launch.volumes.iter().find(|volume| volume.source.starts_with('/'))?;
    let there: Vec<&Host> = remote.iter().copied().filter(|host| service.may_run_on(host)).collect();
    if there.is_empty() {
        return None;
    }
    Some(format!(
        "services.{} mounts the folder {}, which must exist on {} too, with what the service needs in it; \
         `constraints` keep the service to hosts that have it",
        service.name,
        folder.source,
        list(&there)
    ))
}

/// A volume of a swarm is one per node, each with other contents.
fn scattered(service: &Service, hosts: &[Host]) -> Option<String> {
    let named = service.launch.volumes.iter().find(|volume| matches!(volume.source(), Source::Named(_)))?;
    let one = |wanted: &Constraint| matches!(wanted, Constraint::AnyOf(values) if values.len() == 1);
    let one_node =
        ["node.hostname", "node.id"].iter().any(|key| service.constraints.get(*key).is_some_and(one));
    let swarms = hosts.iter().filter(|host| host.engine == Engine::Swarm && service.may_run_on(host));
    let there: Vec<&Host> = swarms.collect();
    if one_node || there.is_empty() {
        return None;
    }
    Some(format!(
        "services.{} mounts the volume {}, of which each node of {} has one of its own: a replica on another node finds \
         another one; `constraints = {{ \"node.hostname\" = \"...\" }}` keep it to one node",
        service.name,
        named.source,
        list(&there)
    ))
}

/// An engine may have labels that the file does not say; no cluster is meant, whose nodes have them.
fn unlabelled(service: &Service, hosts: &[Host]) -> Option<String> {
    let lacks = |host: &&Host| {
        let unmet = |(key, wanted): (&String, &Constraint)| {
            !host.engine.places() && !host.labels.contains_key(key) && !wanted.allows(None)
        };
        service.constraints.iter().any(unmet)
    };
    let there: Vec<&Host> = hosts.iter().filter(|host| service.may_run_on(host)).collect();
    if service.is_outside() || there.is_empty() || !there.iter().all(lacks) {
        return None;
    }
    Some(format!(
        "services.{} has `constraints` that labels in this file do not meet: it starts only if engines of {} have such labels \
         themselves",
        service.name,
        list(&there)
    ))
}

/// Replicas of a cluster do not sleep: what is not needed goes.
fn sleep(service: &Service, hosts: &[Host]) -> Option<String> {
    if service.sleep == Sleep::default() {
        return None;
    }
    let there: Vec<&Host> =
        hosts.iter().filter(|host| host.engine.places() && service.may_run_on(host)).collect();
    if there.is_empty() {
        return None;
    }
    Some(format!(
        "services.{} has `sleep`, which clusters have not: replicas on {} that are not needed are removed",
        service.name,
        list(&there)
    ))
}

/// Not every Kubernetes measures.
fn measured(service: &Service, hosts: &[Host]) -> Option<String> {
    let there: Vec<&Host> =
        hosts.iter().filter(|host| host.engine == Engine::Kubernetes && service.may_run_on(host)).collect();
    if !service.scaling.signals.measure() || there.is_empty() {
        return None;
    }
    Some(format!(
        "services.{} has `scaling.target_cpu` or `target_memory`, which {} knows only with a metrics API (metrics-server, \
         say); without one they have no effect there",
        service.name,
        list(&there)
    ))
}

/// The gateway's own bound holds whatever a service says.
fn too_late(service: &Service, limits: &Limits) -> Option<String> {
    let (timeout, limit) = above(service, limits.requests.timeout, |middleware| middleware.timeout)?;
    Some(format!(
        "services.{} has a `middleware.timeout` of {}, but gateway.limits.request_timeout ends every request after {}",
        service.name,
        humantime::format_duration(timeout),
        humantime::format_duration(limit)
    ))
}

/// The same for bodies.
fn too_long(service: &Service, limits: &Limits) -> Option<String> {
    let (size, limit) = above(service, limits.requests.body_bytes, |middleware| middleware.body_limit)?;
    Some(format!(
        "services.{} has a `middleware.body_limit` of {size}, but gateway.limits.body_bytes allows {limit}",
        service.name
    ))
}

/// The largest bound on one of the service's routes, and that of the gateway, if it is smaller.
fn above<T: Ord>(
    service: &Service,
    gateways: Option<T>,
    own: impl Fn(&Middleware) -> Option<T>,
) -> Option<(T, T)> {
    let largest = service.routes.iter().filter_map(|route| own(route.middleware.as_deref()?)).max();
    largest.zip(gateways).filter(|(largest, gateways)| largest > gateways)
}

/// Names are passed on before any route is looked at.
fn passed_on(service: &Service, model: &Model) -> Vec<String> {
    let mut notes = Vec::new();
    for other in model.services.values() {
        let hosts: BTreeSet<_> = other.routes.iter().map(|route| &route.host).collect();
        let taken = |host| Some((service.sni.iter().find(|name| covers(name, host))?, host));
        notes.extend(hosts.into_iter().filter_map(taken).map(|(name, host)| {
            format!(
                "over TLS services.{} gets the connections for {name}, also those for the host {host} of services.{}, whose \
                 routes are then for clear text only",
                service.name, other.name
            )
        }));
    }
    notes
}

/// Whether every host that `host` means is one that `name` means.
fn covers(name: &Authority, host: &Authority) -> bool {
    let below = |host: &str, suffix: &str| host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    match (name, host) {
        (Authority::Wildcard(suffix), Authority::Exact(host)) => below(host, suffix),
        (Authority::Wildcard(suffix), Authority::Wildcard(host)) => host == suffix || below(host, suffix),
        (Authority::Exact(name), Authority::Exact(host)) => name == host,
        (Authority::Exact(_), Authority::Wildcard(_) | Authority::Any) => false,
        (Authority::Wildcard(_), Authority::Any) => false,
        (Authority::Any, _) => true,
    }
}

fn list(hosts: &[&Host]) -> String {
    hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ")
}
