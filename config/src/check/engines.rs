//! What a service asks for that the engine of a host on which it may run has not: said here, where it was written, and not
//! when it is started. What plans cope with by themselves (no freezing, say) is a note and no problem: see [`crate::notes`].

use std::borrow::Cow;

use super::{At, image, kubernetes, swarm};
use crate::{
    constraint::Constraint,
    decode::child,
    model::{Engine, Host, Probe, Service},
    problem::Draft,
    raw,
    spec::{Pull, Resources, Scratch, Source},
};

/// Something that an engine has not.
struct Lack {
    /// The setting that asks for it, below the service's name.
    setting: Cow<'static, str>,
    words: String,
}

/// Where a service's settings were written, as far as engines differ in them.
pub(super) struct Written(Vec<At<()>>);

impl Written {
    pub(super) fn of(raw: &raw::Service) -> Self {
        fn place<T>(setting: &Option<At<T>>) -> Option<At<()>> {
            setting.as_ref().map(|setting| setting.with(()))
        }
        let resources = raw.resources.as_ref().map(|resources| &resources.value);
        let scaling = raw.scaling.as_ref().map(|scaling| &scaling.value);
        let all = [
            place(&raw.image),
            place(&raw.pull),
            place(&raw.user),
            place(&raw.volumes),
            place(&raw.constraints),
            raw.health.as_ref().and_then(|health| place(&health.value.probe)),
            resources.and_then(|resources| place(&resources.disk)),
            resources.and_then(|resources| place(&resources.scratch)),
            resources.and_then(|resources| place(&resources.pids)),
            scaling.and_then(|scaling| place(&scaling.target_cpu)),
            scaling.and_then(|scaling| place(&scaling.target_memory)),
        ];
        let constraints = raw.constraints.iter().flat_map(|constraints| &constraints.value.0);
        let each = constraints.map(|(_, wanted)| wanted.with(()));
        Self(all.into_iter().flatten().chain(each).collect())
    }

    /// A problem with a setting; with the service, where the file does not have it.
    fn problem(&self, service: &At<String>, setting: &str, words: String) -> Draft {
        let key = format!("{}.{setting}", service.key);
        let found = self.0.iter().find(|place| place.key == key);
        found.map_or_else(|| Draft::new(&service.key, &service.at, &words), |place| place.problem(&words))
    }
}

pub(super) fn check(
    name: &At<String>,
    written: &Written,
    service: &Service,
    hosts: &[Host],
    problems: &mut Vec<Draft>,
) {
    if service.is_outside() {
        return;
    }
    let elsewhere = (hosts.len() > 1).then_some("run_on = [...] with hosts whose engines have it");
    for host in hosts.iter().filter(|host| service.may_run_on(host)) {
        for Lack { setting, words } in lacks(service, host) {
            let words = format!("may run on {}, where {words}", host.name);
            let draft = written.problem(name, &setting, words);
            problems.push(match elsewhere {
                Some(allowed) => draft.allowed(allowed),
                None => draft,
            });
        }
    }
    nowhere(name, written, service, hosts, problems);
    same_image(name, written, service, hosts, problems);
}

/// Constraints that contradict what the file says of every host.
fn nowhere(
    name: &At<String>,
    written: &Written,
    service: &Service,
    hosts: &[Host],
    problems: &mut Vec<Draft>,
) {
    let named: Vec<&Host> = hosts.iter().filter(|host| service.runs_on(&host.name)).collect();
    if named.is_empty() || named.iter().any(|host| service.may_run_on(host)) {
        return;
    }
    let words = "no host that it may run on has such labels".to_owned();
    let labels = |host: &&Host| {
        let each = host.labels.iter().map(|(key, value)| format!("{key} = {value:?}"));
        format!("{} has {}", host.name, each.collect::<Vec<_>>().join(", "))
    };
    let allowed = named.iter().map(labels).collect::<Vec<_>>().join("; ");
    problems.push(written.problem(name, "constraints", words).allowed(allowed));
}

/// What may not be fetched is known to a Kubernetes by its name alone, and to others by its content: replicas on both would
/// be of two versions.
fn same_image(
    name: &At<String>,
    written: &Written,
    service: &Service,
    hosts: &[Host],
    problems: &mut Vec<Draft>,
) {
    let by_name = |host: &&Host| host.engine == Engine::Kubernetes;
    let (named, known): (Vec<&Host>, Vec<&Host>) =
        hosts.iter().filter(|host| service.may_run_on(host)).partition(by_name);
    if service.launch.pull != Pull::Never || named.is_empty() || known.is_empty() {
        return;
    }
    let words =
        "pull = \"never\" cannot mean the same image on engine = \"kubernetes\" and on others".to_owned();
    let allowed = "run_on = [...] with one kind of them, or an image from a registry";
    problems.push(written.problem(name, "pull", words).allowed(allowed));
}

/// What an engine cannot do for a service, in words.
fn lacks(service: &Service, host: &Host) -> Vec<Lack> {
    match host.engine {
        Engine::Auto | Engine::Docker | Engine::Embedded => true_of(&[by_name(service), on_disk(service)]),
        Engine::Swarm => true_of(&[
            (
                matches!(service.health.probe, Some(Probe::Exec { .. })),
                "health.probe",
                "no probe can run a command: engine = \"swarm\" runs none in containers",
            ),
            (
                service.launch.resources.disk.is_some(),
                "resources.disk",
                "resources.disk cannot be kept to by engine = \"swarm\"",
            ),
            in_memory(service),
            unmeasured(service),
            by_name(service),
            on_disk(service),
            (
                asks_for_one_of(service, host),
                "constraints",
                "constraints cannot ask for one of several values: engine = \"swarm\" knows one value, or any but some",
            ),
        ])
        .into_iter()
        .chain(misnamed(service, host, swarm::misnamed))
        .collect(),
        Engine::Kubernetes => {
            let mut lacks = true_of(&[
                in_memory(service),
                (
                    mounts(service, |source| matches!(source, Source::Folder(_))),
                    "volumes",
                    "no folder of a machine is mounted by engine = \"kubernetes\": a volume there is the name of a \
                     PersistentVolumeClaim, configmap/NAME or secret/NAME",
                ),
                (
                    !service.launch.user.as_deref().is_none_or(is_numeric),
                    "user",
                    "user has to be numbers: engine = \"kubernetes\" knows no names of users",
                ),
                (
                    image::is_local(&service.launch.image),
                    "image",
                    "images come from registries: nodes of engine = \"kubernetes\" take none from files",
                ),
                (
                    service.launch.resources.pids != Resources::default().pids,
                    "resources.pids",
                    "resources.pids cannot be kept to by engine = \"kubernetes\": its nodes have a limit of their own",
                ),
            ]);
            lacks.extend(misnamed_claims(service));
            lacks.extend(misnamed(service, host, kubernetes::misnamed));
            lacks
        }
    }
}

fn misnamed_claims(service: &Service) -> impl Iterator<Item = Lack> {
    let claims = service.launch.volumes.iter().filter_map(|volume| match volume.source() {
        Source::Named(claim) => Some(claim),
        Source::Folder(_) | Source::ConfigMap(_) | Source::Secret(_) => None,
    });
    claims.filter(|claim| !kubernetes::is_name(claim, kubernetes::SUBDOMAIN)).map(|claim| {
        let names = kubernetes::names(kubernetes::SUBDOMAIN);
        let words = format!("the volume {claim:?} cannot be a PersistentVolumeClaim: {names}");
        Lack { setting: "volumes".into(), words }
    })
}

/// Only what is asked of nodes: the host's own labels are compared here, and may be anything.
fn misnamed<'s>(
    service: &'s Service,
    host: &'s Host,
    problems: fn(&str, &Constraint) -> Vec<String>,
) -> impl Iterator<Item = Lack> + 's {
    let asked = service.constraints.iter().filter(|(key, _)| !host.labels.contains_key(*key));
    asked.flat_map(move |(key, wanted)| {
        let setting = child("constraints", key);
        let lack = move |words| Lack { setting: setting.clone().into(), words };
        problems(key, wanted).into_iter().map(lack)
    })
}

type Row = (bool, &'static str, &'static str);

fn in_memory(service: &Service) -> Row {
    let wanted = service.launch.resources.scratch == Scratch::Memory;
    let words = "resources.scratch = \"memory\" is not there: only engine = \"embedded\" has it";
    (wanted, "resources.scratch", words)
}

fn unmeasured(service: &Service) -> Row {
    let words =
        "scaling.target_cpu and target_memory are not known: engine = \"swarm\" does not measure replicas";
    let signals = &service.scaling.signals;
    let setting = if signals.cpu.is_some() { "scaling.target_cpu" } else { "scaling.target_memory" };
    (signals.measure(), setting, words)
}

/// Of nodes, that is: the host's own labels are compared here.
fn asks_for_one_of(service: &Service, host: &Host) -> bool {
    service.constraints.iter().any(|(key, wanted)| !host.labels.contains_key(key) && wanted.has_choice())
}

fn by_name(service: &Service) -> Row {
    let wanted = mounts(service, |source| matches!(source, Source::ConfigMap(_) | Source::Secret(_)));
    (wanted, "volumes", "volumes cannot name a ConfigMap or a Secret: only engine = \"kubernetes\" has them")
}

fn on_disk(service: &Service) -> Row {
    let wanted = !service.launch.disks.is_empty();
    let words =
        "volumes as { target = ..., disk = ... } are not there: only engine = \"kubernetes\" has them";
    (wanted, "volumes", words)
}

fn mounts(service: &Service, is: fn(Source<'_>) -> bool) -> bool {
    service.launch.volumes.iter().any(|volume| is(volume.source()))
}

fn true_of(rows: &[Row]) -> Vec<Lack> {
    let lack = |&(_, setting, words): &Row| Lack { setting: setting.into(), words: words.to_owned() };
    rows.iter().filter(|(lacks, ..)| *lacks).map(lack).collect()
}

/// `UID` or `UID:GID`.
fn is_numeric(user: &str) -> bool {
    user.splitn(2, ':').all(|part| part.parse::<u32>().is_ok())
}
