//! A [`StartSpec`] as the engine's API wants it, with the security profile applied.
//! Holds: no published port but the replica's own, on one address alone, and that only where [`Place`] says so; no
//! privileges beyond the profile's, restarts left to the gateway. Absent: secret files (their values come in as an
//! argument), the engine.

use std::{collections::HashMap, net::IpAddr};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, PortBinding, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use tidegate_config::{
    spec::{Launch, Profile, Resources, StartSpec},
    units::Bytes,
};

use super::{labels, mounts};
use crate::{Error, InstanceId, Kind, Result};

/// What official images need to run unchanged: to become their own user and to own their files.
const CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"];
/// Enough for servers, and below the hard limit of small hosts (an engine may not raise its own).
const OPEN_FILES: i64 = 16_384;
const STRICT_PIDS: u32 = 256;

/// What the host has to do with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The port is published on this address; `None`: not at all.
    pub publish: Option<IpAddr>,
    /// Whom the container asks for names; none: as the engine has it.
    pub resolvers: Vec<IpAddr>,
}

/// The body of the create call. `image_user` is whom the image says it runs as.
pub(super) fn create(
    instance: &InstanceId,
    spec: &StartSpec,
    image_user: &str,
    secrets: &[(String, String)],
    place: &Place,
) -> Result<ContainerCreateBody> {
    let launch = &spec.launch;
    refuse_root(launch, image_user)?;
    Ok(ContainerCreateBody {
        image: Some(spec.digest.0.clone()),
        entrypoint: given(&launch.command),
        cmd: given(&launch.args),
        env: Some(environment(spec, secrets)),
        user: launch.user.clone(),
        working_dir: launch.working_dir.clone(),
        labels: Some(labels::stamp(instance, spec)),
        // The gateway probes; the engine's own checks would only cost CPU.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        exposed_ports: place.publish.map(|_| vec![port(spec)]),
        host_config: Some(host(instance, spec, place)),
        ..ContainerCreateBody::default()
    })
}

/// Refuses a replica that may not be root and would be.
pub(crate) fn refuse_root(launch: &Launch, image_user: &str) -> Result<()> {
    let user = launch.user.as_deref().unwrap_or(image_user);
    if launch.profile == Profile::Strict && is_root(user) {
        return Err(Error::new(
            Kind::Permanent,
            format!(
                "the strict profile runs nothing as root, and {} does: set `user` to a uid other than 0",
                launch.image
            ),
        ));
    }
    Ok(())
}

/// A list, if the file has one.
pub(crate) fn given(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The capabilities that a profile leaves.
pub(crate) fn capabilities(profile: Profile) -> Option<Vec<String>> {
    (profile == Profile::Default).then(|| CAPABILITIES.map(String::from).to_vec())
}

/// Processes and threads, by the file and the profile.
pub(crate) fn pids(launch: &Launch) -> i64 {
    let pids = launch.resources.pids;
    i64::from(if launch.profile == Profile::Strict { pids.min(STRICT_PIDS) } else { pids })
}

/// The bound on open files.
pub(crate) fn ulimits() -> Vec<ResourcesUlimits> {
    let name = Some("nofile".into());
    vec![ResourcesUlimits { name, soft: Some(OPEN_FILES), hard: Some(OPEN_FILES) }]
}

/// How much is kept of what it prints.
pub(crate) fn log_options() -> HashMap<String, String> {
    HashMap::from([("max-size".into(), "10m".into()), ("max-file".into(), "3".into())])
}

/// As the API names the replica's port.
fn port(spec: &StartSpec) -> String {
    format!("{}/tcp", spec.port)
}

/// One port of the engine's choice on one address.
fn binding(address: IpAddr) -> PortBinding {
    PortBinding { host_ip: Some(address.to_string()), host_port: Some(String::new()) }
}

fn host(instance: &InstanceId, spec: &StartSpec, place: &Place) -> HostConfig {
    let launch = &spec.launch;
    let strict = launch.profile == Profile::Strict;
    let Resources { memory, cpu, pids: _, disk, scratch: _, reserve: _ } = launch.resources;
    let memory = bytes(memory);
    HostConfig {
        memory: Some(memory),
        // Equal: no swap on top of it.
        memory_swap: Some(memory),
        nano_cpus: cpu.map(nanos),
        pids_limit: Some(pids(launch)),
        ulimits: Some(ulimits()),
        init: Some(true),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..RestartPolicy::default()
        }),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(log_options()) }),
        network_mode: Some(labels::network(instance)),
        ipc_mode: Some("private".into()),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: capabilities(launch.profile),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        privileged: Some(false),
        publish_all_ports: Some(false),
        port_bindings: place.publish.map(|at| HashMap::from([(port(spec), Some(vec![binding(at)]))])),
        dns: (!place.resolvers.is_empty()).then(|| place.resolvers.iter().map(IpAddr::to_string).collect()),
        // Bare names are whole names.
        dns_search: (!place.resolvers.is_empty()).then(|| vec![".".into()]),
        readonly_rootfs: Some(strict),
        tmpfs: mounts::in_memory(launch),
        mounts: Some(mounts::of(launch)),
        storage_opt: disk.map(|disk| HashMap::from([("size".into(), disk.0.to_string())])),
        ..HostConfig::default()
    }
}

/// `PORT` first, so that the service's own value wins; secrets last, so that nothing shadows them.
pub(crate) fn environment(spec: &StartSpec, secrets: &[(String, String)]) -> Vec<String> {
    let own = spec.launch.env.iter();
    let port = (!spec.launch.env.contains_key("PORT")).then(|| format!("PORT={}", spec.port));
    port.into_iter()
        .chain(own.map(|(key, value)| format!("{key}={value}")))
        .chain(secrets.iter().map(|(key, value)| format!("{key}={value}")))
        .collect()
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse::<u64>() == Ok(0)
}

#[expect(clippy::cast_possible_truncation, reason = "cores of a machine times 1e9 are far below i64::MAX")]
pub(crate) fn nanos(cores: f64) -> i64 {
    (cores * 1e9).round() as i64
}

/// An amount as the API counts.
pub(crate) fn bytes(amount: Bytes) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::spec::{Digest, Revision, Target, Volume};

    fn spec(profile: Profile) -> StartSpec {
        StartSpec {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            launch: Launch { profile, ..Launch::of("api:1") },
            digest: Digest("sha256:ab".into()),
            port: 9000,
            target: Target::Host("local".parse().expect("valid")),
        }
    }

    fn made(spec: &StartSpec) -> (ContainerCreateBody, HostConfig) {
        let body =
            create(&InstanceId::from_bits(7), spec, "1000", &[], &Place::default()).expect("it can be made");
        let host = body.host_config.clone().expect("always set");
        (body, host)
    }

    #[test]
    fn the_default_profile_locks_in() {
        let (body, host) = made(&spec(Profile::Default));
        assert_eq!(body.image.as_deref(), Some("sha256:ab"));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.cap_add.map(|c| c.len()), Some(7));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges:true".to_owned()]));
        assert_eq!((host.memory, host.memory_swap), (Some(512 << 20), Some(512 << 20)));
        assert_eq!((host.pids_limit, host.init, host.nano_cpus), (Some(1024), Some(true), None));
        assert_eq!((host.privileged, host.readonly_rootfs), (Some(false), Some(false)));
        assert_eq!(host.restart_policy.and_then(|r| r.name), Some(RestartPolicyNameEnum::NO));
        assert_eq!(host.ipc_mode.as_deref(), Some("private"));
        assert_eq!((host.port_bindings, host.publish_all_ports), (None, Some(false)));
        assert!(host.ulimits.is_some_and(|u| u.iter().all(|u| u.hard <= Some(20_000))));
    }

    #[test]
    fn the_strict_profile_locks_in_further() {
        let (_, host) = made(&spec(Profile::Strict));
        assert_eq!((host.cap_add, host.readonly_rootfs, host.pids_limit), (None, Some(true), Some(256)));
        assert!(host.tmpfs.is_some_and(|t| t["/tmp"].contains("noexec,nosuid")));
    }

    #[test]
    fn a_port_is_published_on_one_address_and_only_if_asked_for() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        for (publish, resolvers) in [
            (None, vec![]),
            (Some(ip("10.0.0.2")), vec![ip("10.0.0.1"), ip("10.0.0.53")]),
            (Some(ip("fd00::2")), vec![ip("fd00::1")]),
        ] {
            let place = Place { publish, resolvers: resolvers.clone() };
            let body =
                create(&InstanceId::from_bits(7), &spec(Profile::Default), "", &[], &place).expect("made");
            let host = body.host_config.expect("always set");
            let bound: Vec<_> = host.port_bindings.into_iter().flatten().collect();
            let expected = publish.map(|at| ("9000/tcp".to_owned(), Some(vec![binding(at)])));
            assert_eq!(bound, Vec::from_iter(expected), "{publish:?}");
            assert_eq!(body.exposed_ports, publish.map(|_| vec!["9000/tcp".to_owned()]));
            assert_eq!(host.publish_all_ports, Some(false));
            let asked = host.dns.unwrap_or_default();
            assert_eq!(asked, resolvers.iter().map(IpAddr::to_string).collect::<Vec<_>>());
            assert_eq!(host.dns_search.is_some(), !resolvers.is_empty());
        }
    }

    #[test]
    fn strict_refuses_root() {
        for (user, image_user, allowed) in [
            (None, "", false),
            (None, "0:0", false),
            (None, "nobody", true),
            (Some("root"), "nobody", false),
            (Some("00"), "nobody", false),
            (Some("1000:0"), "", true),
        ] {
            let mut spec = spec(Profile::Strict);
            spec.launch.user = user.map(String::from);
            let made = create(&InstanceId::from_bits(7), &spec, image_user, &[], &Place::default());
            assert_eq!(made.is_ok(), allowed, "{user:?} {image_user:?}");
            if let Err(error) = made {
                assert_eq!(error.kind, Kind::Permanent);
            }
        }
    }

    #[test]
    fn environments_are_ordered() {
        let secrets = [("KEY".to_owned(), "s3cret".to_owned())];
        for (env, expected) in [
            (vec![("A", "b")], vec!["PORT=9000", "A=b", "KEY=s3cret"]),
            (vec![("PORT", "1")], vec!["PORT=1", "KEY=s3cret"]),
        ] {
            let mut spec = spec(Profile::Default);
            spec.launch.env = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            assert_eq!(environment(&spec, &secrets), expected);
        }
    }

    #[test]
    fn launch_settings_arrive() {
        let mut spec = spec(Profile::Default);
        spec.launch.command = vec!["/bin/x".into()];
        spec.launch.resources.cpu = Some(0.5);
        spec.launch.resources.disk = Some(Bytes::mib(1));
        spec.launch.volumes = vec![
            Volume { source: "/srv".into(), target: "/data".into(), read_only: true, shared: false },
            Volume { source: "cache".into(), target: "/cache".into(), read_only: false, shared: false },
        ];
        let (body, host) = made(&spec);
        assert_eq!((body.entrypoint, body.cmd), (Some(vec!["/bin/x".to_owned()]), None));
        assert_eq!(host.nano_cpus, Some(500_000_000));
        assert_eq!(host.storage_opt, Some(HashMap::from([("size".to_owned(), "1048576".to_owned())])));
        assert_eq!(host.mounts.map(|mounts| mounts.len()), Some(2));
    }
}
