//! A [`StartSpec`] as a pod: one container, never restarted by the kubelet, locked in as its profile says.
//! Holds: what Kubernetes cannot do is refused in words, before it is asked. Absent: secret values, the cluster.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, LocalObjectReference, Pod,
        PodDNSConfig, PodDNSConfigOption, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
        SecretKeySelector, SecurityContext, TopologySpreadConstraint, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, OwnerReference},
    },
};
use tidegate_config::{
    spec::{Launch, Profile, Resources, Scratch, Source, StartSpec, Volume},
    units::Bytes,
};

use super::{labels, nodes, secrets, volumes};
use crate::{
    Error, InstanceId, Kind, Result,
    docker::{body::given, labels::INSTANCE},
};

/// The name of a pod's only container.
pub(super) const CONTAINER: &str = "replica";
/// From SIGTERM to SIGKILL, in seconds, where somebody else deletes the pod: Kubernetes' own default.
const GRACE: i64 = 30;
/// Lets an autoscaler of nodes empty one: it leaves alone pods without a controller that do not say this.
const EVICTABLE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// As many as a pod may have.
const NAMESERVERS: usize = 3;

/// What a pod takes from outside of its file.
#[derive(Debug, Default)]
pub(super) struct Given<'g> {
    /// The image as nodes look for it.
    pub image: &'g str,
    /// Whether nodes may fetch it.
    pub may_fetch: bool,
    /// Who runs it unless the file says so; `None`: nobody knows.
    pub user: Option<&'g str>,
    /// Who owns it.
    pub owner: OwnerReference,
    /// Names of Secrets with which nodes fetch images.
    pub pull_secrets: &'g [String],
    pub priority_class: Option<&'g str>,
    /// Whom it asks for names; none: as its cluster has it.
    pub resolvers: &'g [IpAddr],
    pub namespace: &'g str,
}

/// Who a container runs as, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct User {
    uid: Option<i64>,
    gid: Option<i64>,
}

/// The key under which a pod's Secret has an environment variable.
pub(super) fn variable_key(variable: &str) -> String {
    format!("env.{variable}")
}

/// The pod of a replica.
///
/// # Errors
/// [`Kind::Permanent`] for what Kubernetes has not.
pub(super) fn pod(instance: &InstanceId, spec: &StartSpec, from: &Given<'_>) -> Result<Pod> {
    let launch = &spec.launch;
    if launch.resources.scratch == Scratch::Memory {
        return refuse(
            "resources.scratch = \"memory\" is there with engine = \"embedded\" only; a volume as \
             { target = ..., tmpfs = ... } is in memory with Kubernetes, too",
        );
    }
    let user = launch.user.as_deref().map_or(Ok(User::default()), user)?;
    let secret = labels::name(instance, &spec.id);
    let (volumes, mounts) = volumes::of(launch, &secret)?;
    let container = container(spec, from, &secret, mounts);
    let pod = PodSpec {
        containers: vec![container],
        volumes: (!volumes.is_empty()).then_some(volumes),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: nodes::selector(&spec.target),
        affinity: nodes::affinity(&spec.target),
        topology_spread_constraints: Some(spread(instance, spec)),
        scheduling_gates: secrets::gates(launch),
        security_context: Some(run_as(user, from.user, launch)),
        image_pull_secrets: pull_secrets(from.pull_secrets),
        priority_class_name: from.priority_class.map(str::to_owned),
        dns_policy: (!from.resolvers.is_empty()).then(|| "None".to_owned()),
        dns_config: (!from.resolvers.is_empty()).then(|| names(from)),
        ..PodSpec::default()
    };
    let mut metadata = labels::metadata(instance, spec, &from.owner);
    metadata.annotations.get_or_insert_default().insert(EVICTABLE.to_owned(), "true".to_owned());
    Ok(Pod { metadata, spec: Some(pod), status: None })
}

fn container(spec: &StartSpec, from: &Given<'_>, secret: &str, mounts: Vec<VolumeMount>) -> Container {
    let launch = &spec.launch;
    Container {
        name: CONTAINER.to_owned(),
        image: Some(from.image.to_owned()),
        image_pull_policy: Some(if from.may_fetch { "IfNotPresent" } else { "Never" }.to_owned()),
        command: given(&launch.command).map(literally),
        args: given(&launch.args).map(literally),
        env: Some(environment(spec, secret)),
        working_dir: launch.working_dir.clone(),
        ports: Some(vec![ContainerPort { container_port: i32::from(spec.port), ..ContainerPort::default() }]),
        resources: Some(resources(&launch.resources)),
        security_context: Some(locked_in(launch.profile)),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        ..Container::default()
    }
}

fn run_as(user: User, of_image: Option<&str>, launch: &Launch) -> PodSecurityContext {
    // A claim belongs to root, unless its pod says who else may write to it.
    let writes = |volume: &Volume| matches!(volume.source(), Source::Named(_)) && !volume.read_only;
    let writer = if user.uid.is_some() {
        user
    } else {
        of_image.and_then(|user| self::user(user).ok()).unwrap_or_default()
    };
    let group = writer.gid.or(writer.uid).filter(|_| launch.volumes.iter().any(writes));
    let seccomp = SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() };
    PodSecurityContext {
        run_as_user: user.uid,
        run_as_group: user.gid,
        fs_group: group,
        fs_group_change_policy: group.map(|_| "OnRootMismatch".to_owned()),
        run_as_non_root: (launch.profile == Profile::Strict).then_some(true),
        seccomp_profile: Some(seccomp),
        ..PodSecurityContext::default()
    }
}

fn refuse<T>(words: &str) -> Result<T> {
    Err(Error::new(Kind::Permanent, words))
}

/// `UID` or `UID:GID`: names are the image's, and nobody asks it.
fn user(text: &str) -> Result<User> {
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let number = |text: &str| text.parse::<u32>().map(i64::from).ok();
    let read = User { uid: number(uid), gid: gid.and_then(number) };
    if read.uid.is_none() || read.gid.is_none() != gid.is_none() {
        return refuse(&format!("user {text:?}: Kubernetes takes numbers, as in \"1000\" or \"1000:1000\""));
    }
    Ok(read)
}

/// Words in which Kubernetes expands nothing: it would take `$(NAME)` for a variable.
fn literally(words: Vec<String>) -> Vec<String> {
    words.into_iter().map(|word| word.replace('$', "$$")).collect()
}

/// `PORT` first, so that the service's own value wins; secrets last, so that nothing shadows them.
fn environment(spec: &StartSpec, secret: &str) -> Vec<EnvVar> {
    let env = &spec.launch.env;
    let plain = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value.replace('$', "$$")),
        ..EnvVar::default()
    };
    let port = (!env.contains_key("PORT")).then(|| plain("PORT", spec.port.to_string()));
    let own = env.iter().map(|(name, value)| plain(name, value.clone()));
    let secrets = spec.launch.secrets.keys().map(|name| EnvVar {
        name: name.clone(),
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: variable_key(name),
                ..SecretKeySelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    });
    port.into_iter().chain(own).chain(secrets).collect()
}

/// What placement counts is asked for, and no more than the limit.
fn resources(resources: &Resources) -> ResourceRequirements {
    let Resources { memory, cpu, pids: _, disk, scratch: _, reserve } = resources;
    let wanted = |cores: f64| cpu.map_or(cores, |limit| cores.min(limit));
    let limits = [
        Some(("memory", size(*memory))),
        cpu.map(|cores| ("cpu", milli(cores))),
        disk.map(|disk| ("ephemeral-storage", size(disk))),
    ];
    let requests = [
        Some(("memory", size(reserve.memory.min(*memory)))),
        Some(("cpu", milli(wanted(reserve.cpu)))),
        // Unsaid, it would be the limit.
        disk.map(|_| ("ephemeral-storage", size(Bytes(0)))),
    ];
    let table = |rows: [Option<(&str, Quantity)>; 3]| {
        rows.into_iter().flatten().map(|(name, quantity)| (name.to_owned(), quantity)).collect()
    };
    ResourceRequirements { limits: Some(table(limits)), requests: Some(table(requests)), claims: None }
}

pub(super) fn size(bytes: Bytes) -> Quantity {
    Quantity(bytes.0.to_string())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cores of a machine times 1000 are small, and above zero"
)]
fn milli(cores: f64) -> Quantity {
    Quantity(format!("{}m", (cores * 1000.0).ceil() as u64))
}

fn locked_in(profile: Profile) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(profile == Profile::Strict),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: crate::docker::body::capabilities(profile),
        }),
        ..SecurityContext::default()
    }
}

/// Replicas of a service go to different nodes, as far as there is room.
fn spread(instance: &InstanceId, spec: &StartSpec) -> Vec<TopologySpreadConstraint> {
    let alike = [(INSTANCE, instance.to_string()), (labels::SERVICE, spec.id.service().to_string())];
    let alike = alike.map(|(key, value)| (key.to_owned(), value)).into();
    vec![TopologySpreadConstraint {
        label_selector: Some(LabelSelector { match_labels: Some(alike), ..LabelSelector::default() }),
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    }]
}

fn pull_secrets(names: &[String]) -> Option<Vec<LocalObjectReference>> {
    let each = names.iter().map(|name| LocalObjectReference { name: name.clone() });
    (!names.is_empty()).then(|| each.collect())
}

/// Bare names are whole names first, and the cluster's own after that.
fn names(from: &Given<'_>) -> PodDNSConfig {
    let servers = from.resolvers.iter().take(NAMESERVERS).map(IpAddr::to_string);
    let own = format!("{}.svc.cluster.local", from.namespace);
    let dots = PodDNSConfigOption { name: Some("ndots".to_owned()), value: Some("0".to_owned()) };
    PodDNSConfig {
        nameservers: Some(servers.collect()),
        searches: Some(vec![own, "svc.cluster.local".to_owned(), "cluster.local".to_owned()]),
        options: Some(vec![dots]),
    }
}

/// The parts of a pod that hold what is the replica's own, for tests of this folder.
#[cfg(test)]
pub(super) fn parts(launch: tidegate_config::spec::Launch, from: &Given<'_>) -> Result<(PodSpec, Container)> {
    use tidegate_config::spec::{Digest, Revision, Target};
    let constraints = [("disk".to_owned(), "ssd".into())].into();
    let spec = StartSpec {
        id: "api-3-17".parse().expect("valid"),
        revision: Revision("r1".into()),
        launch,
        digest: Digest("sha256:ab".into()),
        port: 9000,
        target: Target::EngineChooses { host: "k".parse().expect("valid"), constraints },
    };
    let pod = pod(&InstanceId::from_bits(0x1234_5678 << 96), &spec, from)?;
    let pod = pod.spec.expect("always there");
    let container = pod.containers[0].clone();
    Ok((pod, container))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use tidegate_config::spec::{Launch, Reserve, Secret};

    fn made(launch: Launch) -> (PodSpec, Container) {
        parts(launch, &Given { image: "api@sha256:cd", may_fetch: true, ..Given::default() }).expect("made")
    }

    #[test]
    fn a_replica_is_a_pod_that_the_kubelet_does_not_restart() {
        let (pod, container) = made(Launch::of("api:1"));
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
        assert_eq!(
            (pod.automount_service_account_token, pod.enable_service_links),
            (Some(false), Some(false))
        );
        assert_eq!(container.image.as_deref(), Some("api@sha256:cd"));
        assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
        assert_eq!(container.ports.map(|ports| ports[0].container_port), Some(9000));
        assert_eq!(pod.node_selector, Some([("disk".to_owned(), "ssd".to_owned())].into()));
        assert_eq!(pod.affinity, None);
        let spread = &pod.topology_spread_constraints.expect("one")[0];
        assert_eq!(spread.when_unsatisfiable, "ScheduleAnyway");
        assert_eq!((pod.dns_policy, pod.image_pull_secrets, pod.priority_class_name), (None, None, None));
        let never = parts(Launch::of("api:1"), &Given::default()).expect("made").1;
        assert_eq!(never.image_pull_policy.as_deref(), Some("Never"));
    }

    #[test]
    fn profiles_lock_in() {
        for (profile, added, read_only, no_root) in
            [(Profile::Default, Some(7), false, None), (Profile::Strict, None, true, Some(true))]
        {
            let (pod, container) = made(Launch { profile, ..Launch::of("api:1") });
            let locked = container.security_context.expect("always there");
            assert_eq!(locked.allow_privilege_escalation, Some(false));
            assert_eq!(locked.read_only_root_filesystem, Some(read_only));
            let capabilities = locked.capabilities.expect("always there");
            assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
            assert_eq!(capabilities.add.map(|added| added.len()), added);
            let pod = pod.security_context.expect("always there");
            assert_eq!(pod.run_as_non_root, no_root);
            assert_eq!(pod.seccomp_profile.map(|seccomp| seccomp.type_).as_deref(), Some("RuntimeDefault"));
        }
    }

    #[test]
    fn whoever_runs_may_write_into_claims() {
        let claim =
            |read_only| Volume { source: "data".into(), target: "/data".into(), read_only, shared: false };
        for (user, of_image, volume, expected) in [
            (Some("1000:50"), Some("7"), claim(false), Some(50)),
            (Some("1000"), None, claim(false), Some(1000)),
            (None, Some("7"), claim(false), Some(7)),
            (None, Some("www-data"), claim(false), None),
            (Some("1000"), None, claim(true), None),
            (Some("1000"), None, Volume { source: "configmap/a".into(), ..claim(true) }, None),
        ] {
            let launch =
                Launch { user: user.map(str::to_owned), volumes: vec![volume], ..Launch::of("api:1") };
            let (pod, _) = parts(launch, &Given { user: of_image, ..Given::default() }).expect("made");
            let group = pod.security_context.expect("always there").fs_group;
            assert_eq!(group, expected, "{user:?} {of_image:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_never_more_than_the_limit() {
        let mut launch = Launch::of("api:1");
        launch.resources.cpu = Some(0.5);
        launch.resources.disk = Some(Bytes::mib(1));
        launch.resources.reserve = Reserve { memory: Bytes::mib(1024), cpu: 0.0005 };
        let resources = made(launch).1.resources.expect("always there");
        let rows = |table: Option<BTreeMap<String, Quantity>>| {
            let table = table.into_iter().flatten();
            table.map(|(name, quantity)| format!("{name}={}", quantity.0)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(rows(resources.limits), "cpu=500m ephemeral-storage=1048576 memory=536870912");
        assert_eq!(rows(resources.requests), "cpu=1m ephemeral-storage=0 memory=536870912");
    }

    #[test]
    fn words_stay_what_they_are_and_secrets_are_references() {
        let mut launch = Launch { args: vec!["$(HOME) $x".into()], ..Launch::of("api:1") };
        launch.env = [("A".to_owned(), "$(PORT)".to_owned())].into();
        launch.secrets = [("KEY".to_owned(), Secret { file: "/x".into() })].into();
        let (_, container) = made(launch);
        assert_eq!(container.args, Some(vec!["$$(HOME) $$x".to_owned()]));
        let env = container.env.expect("always there");
        let plain: Vec<_> = env.iter().map(|one| (one.name.as_str(), one.value.as_deref())).collect();
        assert_eq!(plain, [("PORT", Some("9000")), ("A", Some("$$(PORT)")), ("KEY", None)]);
        let key = env[2].value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref()).expect("one");
        assert_eq!((key.name.as_str(), key.key.as_str()), ("tg-12345678-api-3-17", "env.KEY"));
    }

    #[test]
    fn settings_of_the_host_arrive() {
        let servers = ["10.0.0.1".parse().expect("an address")];
        let from = Given {
            pull_secrets: &["registry".to_owned()],
            priority_class: Some("low"),
            resolvers: &servers,
            namespace: "apps",
            ..Given::default()
        };
        let (pod, _) = parts(Launch::of("api:1"), &from).expect("made");
        assert_eq!(pod.image_pull_secrets.map(|names| names[0].name.clone()).as_deref(), Some("registry"));
        assert_eq!(pod.priority_class_name.as_deref(), Some("low"));
        let dns = pod.dns_config.expect("there is one");
        assert_eq!(
            (pod.dns_policy.as_deref(), dns.nameservers),
            (Some("None"), Some(vec!["10.0.0.1".into()]))
        );
        assert_eq!(dns.searches.map(|names| names[0].clone()).as_deref(), Some("apps.svc.cluster.local"));
    }

    #[test]
    fn users_are_numbers() {
        for (text, expected) in [
            ("1000", Some((Some(1000), None))),
            ("1000:50", Some((Some(1000), Some(50)))),
            ("www-data", None),
            ("1000:www", None),
            ("", None),
        ] {
            let read = user(text).map(|user| (user.uid, user.gid));
            assert_eq!(read.as_ref().ok(), expected.as_ref(), "{text}");
            if let Err(error) = read {
                assert!(error.kind == Kind::Permanent && error.message.contains("numbers"), "{error}");
            }
        }
    }

    #[test]
    fn what_kubernetes_has_not_is_refused() {
        let mut launch = Launch::of("api:1");
        launch.resources.scratch = Scratch::Memory;
        let error = parts(launch, &Given::default()).expect_err("it is nowhere");
        assert!(error.kind == Kind::Permanent && error.message.contains("resources.scratch"), "{error}");
    }
}
