//! A [`StartSpec`] as a service of Swarm's: one task, never restarted by Swarm, its port published on its node.
//! Holds: what Swarm cannot do is refused in words, before it is asked. Absent: secret values, images, the swarm.

use std::net::IpAddr;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, HealthConfig, Limit, Mount, MountTmpfsOptions, MountType, ResourceObject,
    ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, TaskSpec, TaskSpecContainerSpec,
    TaskSpecContainerSpecDnsConfig, TaskSpecContainerSpecFile, TaskSpecContainerSpecPrivileges,
    TaskSpecContainerSpecSecrets, TaskSpecLogDriver, TaskSpecPlacement, TaskSpecResources,
    TaskSpecRestartPolicy, TaskSpecRestartPolicyConditionEnum,
};
use tidegate_config::{
    constraint::Constraint,
    spec::{Launch, Profile, Reserve, Scratch, StartSpec, Target, Tmpfs},
};

use crate::{
    Error, InstanceId, Kind, Result,
    docker::{
        body::{bytes, capabilities, environment, given, log_options, nanos, pids, ulimits},
        labels, mounts,
    },
};

/// From SIGTERM to SIGKILL, in nanoseconds: what the gateway asks of every engine. Swarm wants to know it beforehand.
const GRACE: i64 = 10_000_000_000;
/// Permissions of a file system in memory: everybody's, as `/tmp` is.
const EVERYBODY: i64 = 0o1777;
/// Permissions of a secret: everybody in the container may read it.
const READ_ONLY: u32 = 0o444;

/// What a service takes from outside of its file.
#[derive(Debug, Default)]
pub(super) struct Given<'g> {
    /// The image as nodes look for it: `NAME@DIGEST`, or an id.
    pub image: &'g str,
    /// Values of secrets that become environment variables.
    pub secrets: &'g [(String, String)],
    /// Swarm's ids and names of secrets that become files, by the file's name.
    pub files: &'g [(String, SwarmSecret)],
    /// Whom the container asks for names; none: as its node has it.
    pub resolvers: &'g [IpAddr],
}

/// A secret that Swarm keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SwarmSecret {
    pub id: String,
    pub name: String,
}

/// Refuses what Swarm has not.
pub(super) fn check(spec: &StartSpec) -> Result<()> {
    let StartSpec { launch, target, .. } = spec;
    mounts::check_sources(launch)?;
    let refuse = |words: &str| Err(Error::new(Kind::Permanent, words));
    if target.constraints().any(|(_, wanted)| wanted.has_choice()) {
        return refuse("constraints: Swarm cannot look for one of several values of a label");
    }
    match (launch.resources.disk, launch.resources.scratch) {
        (Some(_), _) => refuse("resources.disk: Swarm does not limit what a container writes"),
        (None, Scratch::Memory) => refuse(
            "resources.scratch = \"memory\" is there with engine = \"embedded\" only; a volume as \
             { target = ..., tmpfs = ... } is in memory with Swarm, too",
        ),
        (None, Scratch::Disk) => Ok(()),
    }
}

/// The service of a replica.
pub(super) fn service(instance: &InstanceId, spec: &StartSpec, from: &Given<'_>) -> ServiceSpec {
    ServiceSpec {
        name: Some(labels::container(instance, &spec.id)),
        labels: Some(labels::stamp(instance, spec)),
        task_template: Some(task(instance, spec, from)),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(1) }),
            ..ServiceSpecMode::default()
        }),
        endpoint_spec: Some(EndpointSpec {
            mode: Some(EndpointSpecModeEnum::DNSRR),
            ports: Some(vec![port(spec.port)]),
        }),
        ..ServiceSpec::default()
    }
}

fn task(instance: &InstanceId, spec: &StartSpec, from: &Given<'_>) -> TaskSpec {
    TaskSpec {
        container_spec: Some(container(instance, spec, from)),
        resources: Some(resources(&spec.launch)),
        restart_policy: Some(TaskSpecRestartPolicy {
            condition: Some(TaskSpecRestartPolicyConditionEnum::NONE),
            ..TaskSpecRestartPolicy::default()
        }),
        placement: Some(TaskSpecPlacement {
            constraints: Some(constraints(&spec.target)),
            ..TaskSpecPlacement::default()
        }),
        log_driver: Some(TaskSpecLogDriver { name: Some("json-file".into()), options: Some(log_options()) }),
        ..TaskSpec::default()
    }
}

fn container(instance: &InstanceId, spec: &StartSpec, from: &Given<'_>) -> TaskSpecContainerSpec {
    let launch = &spec.launch;
    let servers: Vec<String> = from.resolvers.iter().map(IpAddr::to_string).collect();
    TaskSpecContainerSpec {
        image: Some(from.image.to_owned()),
        labels: Some(labels::stamp(instance, spec)),
        command: given(&launch.command),
        args: given(&launch.args),
        env: Some(environment(spec, from.secrets)),
        dir: launch.working_dir.clone(),
        user: launch.user.clone(),
        privileges: Some(TaskSpecContainerSpecPrivileges {
            no_new_privileges: Some(true),
            ..TaskSpecContainerSpecPrivileges::default()
        }),
        read_only: Some(launch.profile == Profile::Strict),
        mounts: Some(mounted(launch)),
        stop_grace_period: Some(GRACE),
        // The gateway probes; the engines' own checks would only cost CPU.
        health_check: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        // Bare names are whole names.
        dns_config: (!servers.is_empty()).then(|| TaskSpecContainerSpecDnsConfig {
            nameservers: Some(servers),
            search: Some(vec![".".into()]),
            ..TaskSpecContainerSpecDnsConfig::default()
        }),
        secrets: (!from.files.is_empty()).then(|| from.files.iter().map(file).collect()),
        init: Some(true),
        capability_drop: Some(vec!["ALL".into()]),
        capability_add: capabilities(launch.profile)
            .map(|names| names.into_iter().map(|name| format!("CAP_{name}")).collect()),
        ulimits: Some(ulimits()),
        ..TaskSpecContainerSpec::default()
    }
}

fn resources(launch: &Launch) -> TaskSpecResources {
    let Reserve { memory, cpu } = launch.resources.reserve;
    TaskSpecResources {
        limits: Some(Limit {
            nano_cpus: launch.resources.cpu.map(nanos),
            memory_bytes: Some(bytes(launch.resources.memory)),
            pids: Some(pids(launch)),
        }),
        reservations: Some(ResourceObject {
            nano_cpus: Some(nanos(cpu)),
            memory_bytes: Some(bytes(memory)),
            ..ResourceObject::default()
        }),
        ..TaskSpecResources::default()
    }
}

/// A port of the node's choice, on the node that runs the task alone.
fn port(target: u16) -> EndpointPortConfig {
    EndpointPortConfig {
        protocol: Some(EndpointPortConfigProtocolEnum::TCP),
        target_port: Some(i64::from(target)),
        publish_mode: Some(EndpointPortConfigPublishModeEnum::HOST),
        ..EndpointPortConfig::default()
    }
}

/// A label means a node's, unless it says that it is another thing. All of them hold: one of several cannot be asked for.
fn constraints(target: &Target) -> Vec<String> {
    let begins =
        |key: &str, with: &str| key.get(..with.len()).is_some_and(|part| part.eq_ignore_ascii_case(with));
    let spelled = |key: &str| begins(key, "node.") || begins(key, "engine.");
    let whole = |key: &str| if spelled(key) { key.to_owned() } else { format!("node.labels.{key}") };
    let each = |(key, wanted): (&String, &Constraint)| {
        let (operator, values) = match wanted {
            Constraint::AnyOf(values) => ("==", values),
            Constraint::NoneOf(values) => ("!=", values),
        };
        values.iter().map(|value| format!("{}{operator}{value}", whole(key))).collect::<Vec<_>>()
    };
    target.constraints().flat_map(each).collect()
}

/// Volumes, folders, and file systems in memory; what the service asks for wins over the profile's own.
fn mounted(launch: &Launch) -> Vec<Mount> {
    let tmp = launch.tmp_of_profile();
    let in_memory = tmp.iter().chain(&launch.tmpfs).map(|Tmpfs { target, size }| Mount {
        target: Some(target.clone()),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(MountTmpfsOptions {
            size_bytes: Some(bytes(*size)),
            mode: Some(EVERYBODY),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    });
    launch.volumes.iter().map(mounts::volume).chain(in_memory).collect()
}

fn file((name, secret): &(String, SwarmSecret)) -> TaskSpecContainerSpecSecrets {
    TaskSpecContainerSpecSecrets {
        file: Some(TaskSpecContainerSpecFile {
            name: Some(name.clone()),
            uid: Some("0".into()),
            gid: Some("0".into()),
            mode: Some(READ_ONLY),
        }),
        secret_id: Some(secret.id.clone()),
        secret_name: Some(secret.name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::{
        spec::{Digest, Disk, Revision, Volume},
        units::Bytes,
    };

    fn of(value: &str) -> Constraint {
        Constraint::of(value.split(',').map(str::to_owned).collect()).expect("not mixed")
    }

    fn spec(launch: Launch, constraints: &[(&str, &str)]) -> StartSpec {
        let constraints = constraints.iter().map(|(k, v)| ((*k).to_owned(), of(v))).collect();
        StartSpec {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            launch,
            digest: Digest("sha256:ab".into()),
            port: 9000,
            target: Target::EngineChooses { host: "swarm".parse().expect("valid"), constraints },
        }
    }

    fn made(spec: &StartSpec, from: &Given<'_>) -> (ServiceSpec, TaskSpec, TaskSpecContainerSpec) {
        let service = service(&InstanceId::from_bits(0x1234_5678 << 96), spec, from);
        let task = service.task_template.clone().expect("always there");
        let container = task.container_spec.clone().expect("always there");
        (service, task, container)
    }

    #[test]
    fn a_replica_is_a_service_of_one_task_that_swarm_does_not_restart() {
        let from = Given { image: "api@sha256:cd", ..Given::default() };
        let (service, task, container) = made(&spec(Launch::of("api:1"), &[]), &from);
        assert_eq!(service.name.as_deref(), Some("tg-12345678-api-3-17"));
        assert_eq!(service.labels, container.labels);
        assert_eq!(service.mode.and_then(|m| m.replicated?.replicas), Some(1));
        let restart = task.restart_policy.and_then(|policy| policy.condition);
        assert_eq!(restart, Some(TaskSpecRestartPolicyConditionEnum::NONE));
        assert_eq!(container.image.as_deref(), Some("api@sha256:cd"));
        let ports = service.endpoint_spec.and_then(|e| e.ports).expect("one");
        let shape = |p: &EndpointPortConfig| (p.target_port, p.published_port, p.publish_mode);
        let host = Some(EndpointPortConfigPublishModeEnum::HOST);
        assert_eq!(ports.iter().map(shape).collect::<Vec<_>>(), [(Some(9000), None, host)]);
    }

    #[test]
    fn profiles_lock_in() {
        const TMP: (Option<&str>, Option<MountType>) = (Some("/tmp"), Some(MountType::TMPFS));
        let caps = |c: &TaskSpecContainerSpec| c.capability_add.as_ref().map(Vec::len);
        let (_, task, container) = made(&spec(Launch::of("api:1"), &[]), &Given::default());
        assert_eq!((caps(&container), container.read_only), (Some(7), Some(false)));
        assert_eq!(container.capability_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(container.privileges.and_then(|p| p.no_new_privileges), Some(true));
        let limits = task.resources.and_then(|r| r.limits).expect("always there");
        assert_eq!((limits.memory_bytes, limits.pids, limits.nano_cpus), (Some(512 << 20), Some(1024), None));

        let strict = Launch { profile: Profile::Strict, ..Launch::of("api:1") };
        let (_, task, container) = made(&spec(strict, &[]), &Given::default());
        assert_eq!((caps(&container), container.read_only), (None, Some(true)));
        assert_eq!(task.resources.and_then(|r| r.limits?.pids), Some(256));
        let mounts = container.mounts.expect("always there");
        assert_eq!(mounts.iter().map(|m| (m.target.as_deref(), m.typ)).collect::<Vec<_>>(), [TMP]);

        let volume =
            Volume { source: "cache".into(), target: "/tmp".into(), read_only: false, shared: false };
        let own = Launch { profile: Profile::Strict, volumes: vec![volume], ..Launch::of("api:1") };
        let mounts = made(&spec(own, &[]), &Given::default()).2.mounts.expect("always there");
        assert_eq!(mounts.iter().map(|m| m.typ).collect::<Vec<_>>(), [Some(MountType::VOLUME)]);
    }

    #[test]
    fn constraints_are_of_nodes() {
        let asked =
            [("disk", "ssd"), ("engine.labels.zone", "a"), ("Node.Role", "worker"), ("rack", "!8,!9")];
        let (_, task, _) = made(&spec(Launch::of("api:1"), &asked), &Given::default());
        let expected = [
            "Node.Role==worker",
            "node.labels.disk==ssd",
            "engine.labels.zone==a",
            "node.labels.rack!=8",
            "node.labels.rack!=9",
        ];
        assert_eq!(task.placement.and_then(|p| p.constraints), Some(expected.map(String::from).to_vec()));
    }

    #[test]
    fn launch_settings_arrive() {
        let volume = |source: &str| Volume {
            source: source.into(),
            target: "/data".into(),
            read_only: true,
            shared: false,
        };
        let mut launch = Launch { volumes: vec![volume("/srv"), volume("cache")], ..Launch::of("api:1") };
        launch.tmpfs = vec![Tmpfs { target: "/cache".into(), size: Bytes::mib(1) }];
        launch.resources.cpu = Some(0.5);
        launch.resources.reserve = Reserve { memory: Bytes::mib(32), cpu: 0.25 };
        let secret = SwarmSecret { id: "i1".into(), name: "tg-x".into() };
        let from = Given {
            files: &[("db-password".into(), secret)],
            resolvers: &["10.0.0.1".parse().expect("an address")],
            ..Given::default()
        };
        let (_, task, container) = made(&spec(launch, &[]), &from);
        let kinds = [MountType::BIND, MountType::VOLUME, MountType::TMPFS].map(Some);
        let mounts = container.mounts.expect("always there");
        assert_eq!(mounts.iter().map(|m| m.typ).collect::<Vec<_>>(), kinds);
        let resources = task.resources.expect("always there");
        assert_eq!(resources.limits.and_then(|l| l.nano_cpus), Some(500_000_000));
        let reserved = resources.reservations.map(|r| (r.memory_bytes, r.nano_cpus));
        assert_eq!(reserved, Some((Some(32 << 20), Some(250_000_000))));
        let secrets = container.secrets.expect("one");
        let file = secrets[0].file.as_ref().expect("always there");
        assert_eq!(
            (file.name.as_deref(), secrets[0].secret_id.as_deref()),
            (Some("db-password"), Some("i1"))
        );
        let dns = container.dns_config.expect("there is one");
        assert_eq!(dns.nameservers, Some(vec!["10.0.0.1".to_owned()]));
    }

    #[test]
    fn what_swarm_has_not_is_refused() {
        type Spoil = fn(&mut StartSpec);
        let rows: [(Spoil, Option<&str>); 5] = [
            (|_| (), None),
            (|spec| spec.launch.resources.disk = Some(Bytes::mib(1)), Some("resources.disk")),
            (|spec| spec.launch.resources.scratch = Scratch::Memory, Some("resources.scratch")),
            (
                |spec| spec.launch.disks = vec![Disk { target: "/work".into(), size: Bytes::mib(1) }],
                Some("/work"),
            ),
            (
                |spec| {
                    let host = "swarm".parse().expect("valid");
                    let constraints = [("zone".to_owned(), of("a,b"))].into();
                    spec.target = Target::EngineChooses { host, constraints };
                },
                Some("constraints"),
            ),
        ];
        for (spoil, words) in rows {
            let mut spec = spec(Launch::of("api:1"), &[("disk", "!hdd")]);
            spoil(&mut spec);
            let outcome = check(&spec).map_err(|error| (error.kind, error.message));
            assert_eq!(outcome.is_ok(), words.is_none());
            if let (Err((kind, message)), Some(words)) = (outcome, words) {
                assert!(kind == Kind::Permanent && message.contains(words), "{message}");
            }
        }
    }
}
