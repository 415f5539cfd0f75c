//! What a service asks for that the engine of a host on which it may run has not: said here, and not when it is started.
//! What plans cope with by themselves (no freezing, say) is a note and no problem: see [`crate::notes`].

use super::{At, image};
use crate::{
    model::{Engine, Host, Probe, Service},
    problem::Draft,
    spec::{Pull, Resources, Scratch, Source},
};

pub(super) fn check(name: &At<String>, service: &Service, hosts: &[Host], problems: &mut Vec<Draft>) {
    if service.is_outside() {
        return;
    }
    for host in hosts.iter().filter(|host| service.may_run_on(host)) {
        for lack in lacks(service, host) {
            let draft = Draft::new(&name.key, &name.at, format!("may run on {}, where {lack}", host.name));
            problems.push(draft.allowed("run_on = [...] with hosts whose engines have it"));
        }
    }
    same_image(name, service, hosts, problems);
}

/// What may not be fetched is known to a Kubernetes by its name alone, and to others by its content: replicas on both would
/// be of two versions.
fn same_image(name: &At<String>, service: &Service, hosts: &[Host], problems: &mut Vec<Draft>) {
    let by_name = |host: &&Host| host.engine == Engine::Kubernetes;
    let (named, known): (Vec<&Host>, Vec<&Host>) =
        hosts.iter().filter(|host| service.may_run_on(host)).partition(by_name);
    if service.launch.pull != Pull::Never || named.is_empty() || known.is_empty() {
        return;
    }
    let words = "pull = \"never\" cannot mean the same image on engine = \"kubernetes\" and on others";
    let allowed = "run_on = [...] with one kind of them, or an image from a registry";
    problems.push(Draft::new(&name.key, &name.at, words).allowed(allowed));
}

/// What an engine cannot do for a service, in words.
fn lacks(service: &Service, host: &Host) -> Vec<&'static str> {
    match host.engine {
        Engine::Auto | Engine::Docker | Engine::Embedded => true_of(&[by_name(service), on_disk(service)]),
        Engine::Swarm => true_of(&[
            (
                matches!(service.health.probe, Some(Probe::Exec { .. })),
                "no probe can run a command: engine = \"swarm\" runs none in containers",
            ),
            (
                service.launch.resources.disk.is_some(),
                "resources.disk cannot be kept to by engine = \"swarm\"",
            ),
            in_memory(service),
            unmeasured(service),
            by_name(service),
            on_disk(service),
            (
                asks_for_one_of(service, host),
                "constraints cannot ask for one of several values: engine = \"swarm\" knows one value, or any but some",
            ),
        ]),
        Engine::Kubernetes => true_of(&[
            in_memory(service),
            (
                mounts(service, |source| matches!(source, Source::Folder(_))),
                "no folder of a machine is mounted by engine = \"kubernetes\": a volume there is the name of a \
                 PersistentVolumeClaim, configmap/NAME or secret/NAME",
            ),
            (
                !service.launch.user.as_deref().is_none_or(is_numeric),
                "user has to be numbers: engine = \"kubernetes\" knows no names of users",
            ),
            (
                image::is_local(&service.launch.image),
                "images come from registries: nodes of engine = \"kubernetes\" take none from files",
            ),
            (
                service.launch.resources.pids != Resources::default().pids,
                "resources.pids cannot be kept to by engine = \"kubernetes\": its nodes have a limit of their own",
            ),
        ]),
    }
}

fn in_memory(service: &Service) -> (bool, &'static str) {
    let wanted = service.launch.resources.scratch == Scratch::Memory;
    (wanted, "resources.scratch = \"memory\" is not there: only engine = \"embedded\" has it")
}

fn unmeasured(service: &Service) -> (bool, &'static str) {
    let wanted = service.scaling.signals.measure();
    (
        wanted,
        "scaling.target_cpu and target_memory are not known: engine = \"swarm\" does not measure replicas",
    )
}

/// Of nodes, that is: the host's own labels are compared here.
fn asks_for_one_of(service: &Service, host: &Host) -> bool {
    service.constraints.iter().any(|(key, wanted)| !host.labels.contains_key(key) && wanted.has_choice())
}

fn by_name(service: &Service) -> (bool, &'static str) {
    let wanted = mounts(service, |source| matches!(source, Source::ConfigMap(_) | Source::Secret(_)));
    (wanted, "volumes cannot name a ConfigMap or a Secret: only engine = \"kubernetes\" has them")
}

fn on_disk(service: &Service) -> (bool, &'static str) {
    let wanted = !service.launch.disks.is_empty();
    (wanted, "volumes as { target = ..., disk = ... } are not there: only engine = \"kubernetes\" has them")
}

fn mounts(service: &Service, is: fn(Source<'_>) -> bool) -> bool {
    service.launch.volumes.iter().any(|volume| is(volume.source()))
}

fn true_of(rows: &[(bool, &'static str)]) -> Vec<&'static str> {
    rows.iter().filter(|(lacks, _)| *lacks).map(|(_, words)| *words).collect()
}

/// `UID` or `UID:GID`.
fn is_numeric(user: &str) -> bool {
    user.splitn(2, ':').all(|part| part.parse::<u32>().is_ok())
}
