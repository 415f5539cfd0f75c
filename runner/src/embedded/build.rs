//! From what a service wants and what its image says to what its shim has to do. Pure: volumes and the place in the
//! network come in as arguments. Where both say something, it is resolved as Docker does it.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use tidegate_config::{
    name::ReplicaId,
    spec::{Secret, StartSpec},
};

use super::{
    images::Image,
    network::Place,
    task::{Mount, Task},
};
use crate::{Error, InstanceId, Kind, Result};

/// Everything a shim has to know. `volumes` are the mounts of the spec's volumes.
pub(super) fn task(
    instance: &InstanceId,
    spec: &StartSpec,
    image: &Image,
    place: &Place,
    volumes: Vec<Mount>,
    servers: &[IpAddr],
) -> Result<Task> {
    let (launch, says) = (&spec.launch, &image.config.config);
    let user = launch.user.clone().or_else(|| says.user.clone()).unwrap_or_default();
    let memory =
        launch.tmpfs.iter().map(|tmpfs| Mount::Memory { target: tmpfs.target.clone(), size: tmpfs.size });
    let cwd = launch.working_dir.clone().or_else(|| says.working_dir.clone()).filter(|cwd| !cwd.is_empty());
    Ok(Task {
        id: spec.id.clone(),
        layers: image.layers.clone(),
        namespace: place.namespace.clone(),
        cgroup: cgroup(instance, &spec.id),
        args: args(spec, image)?,
        env: environment(spec, image),
        secrets: files(&launch.secrets),
        secret_files: files(&launch.secret_files),
        cwd: cwd.unwrap_or_else(|| "/".to_owned()),
        user,
        mounts: volumes.into_iter().chain(memory).collect(),
        resolv_conf: resolv_conf(servers),
        hosts: hosts(place, &spec.id),
        profile: launch.profile,
        resources: launch.resources.clone(),
    })
}

/// A replica's control group.
pub(super) fn cgroup(instance: &InstanceId, id: &ReplicaId) -> String {
    format!("{}/{id}", cgroup_of(instance))
}

/// The control group that all of an instance's are in.
pub(super) fn cgroup_of(instance: &InstanceId) -> String {
    format!("/tidegate-{}", instance.short())
}

/// A replica's /etc/hosts.
pub(super) fn hosts(place: &Place, id: &ReplicaId) -> String {
    let own = place.address;
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}\t{id}\n")
}

/// An entrypoint of the service's own leaves the image's arguments out.
fn args(spec: &StartSpec, image: &Image) -> Result<Vec<String>> {
    let (launch, says) = (&spec.launch, &image.config.config);
    let mut args = launch.command.clone();
    if args.is_empty() {
        args.extend(says.entrypoint.iter().flatten().cloned());
    }
    if !launch.args.is_empty() {
        args.extend(launch.args.iter().cloned());
    } else if launch.command.is_empty() {
        args.extend(says.cmd.iter().flatten().cloned());
    }
    if args.is_empty() {
        let words = format!("the image {} does not say what to run: set `command`", launch.image);
        return Err(Error::new(Kind::Permanent, words));
    }
    Ok(args)
}

/// The image's, then `PORT`, then the service's own; later ones win. Secrets come last, in the shim.
fn environment(spec: &StartSpec, image: &Image) -> Vec<String> {
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: &str| match seen.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => seen.push((name.to_owned(), value.to_owned())),
    };
    for pair in image.config.config.env.iter().flatten() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        put(name, value);
    }
    put("PORT", &spec.port.to_string());
    for (name, value) in &spec.launch.env {
        put(name, value);
    }
    seen.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn files(secrets: &BTreeMap<String, Secret>) -> BTreeMap<String, PathBuf> {
    secrets.iter().map(|(name, secret)| (name.clone(), secret.file.clone())).collect()
}

/// A replica's /etc/resolv.conf. Bare names are whole names.
pub(super) fn resolv_conf(servers: &[IpAddr]) -> String {
    let lines = servers.iter().map(|server| format!("nameserver {server}\n"));
    lines.chain(["search .\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::images::Config;
    use tidegate_config::{
        spec::{Digest, Launch, Revision, Target, Tmpfs},
        units::Bytes,
    };

    fn spec(change: impl FnOnce(&mut Launch)) -> StartSpec {
        let mut launch = Launch::of("api:1");
        change(&mut launch);
        StartSpec {
            id: "api-3-17".parse().expect("valid"),
            revision: Revision("r1".into()),
            launch,
            digest: Digest("sha256:ab".into()),
            port: 9000,
            target: Target::Host("local".parse().expect("valid")),
        }
    }

    fn image(says: serde_json::Value) -> Image {
        let config = serde_json::json!({"config": says, "rootfs": {"diff_ids": []}});
        let config: Config = serde_json::from_value(config).expect("a configuration");
        Image { digest: Digest("sha256:ab".into()), config, layers: vec!["/layers/a".into()] }
    }

    fn made(spec: &StartSpec, image: &Image) -> Result<Task> {
        let place = Place { namespace: "/run/ns".into(), address: [10, 64, 0, 9].into() };
        task(
            &InstanceId::from_bits(0xab << 120),
            spec,
            image,
            &place,
            Vec::new(),
            &["10.64.0.1".parse().expect("ip")],
        )
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn what_is_run_is_resolved_as_docker_does_it() {
        for (entrypoint, cmd, command, args, expected) in [
            ("/in -x", "a b", "", "", Some("/in -x a b")),
            ("/in", "a b", "", "c", Some("/in c")),
            ("/in", "a b", "/mine", "", Some("/mine")),
            ("/in", "a b", "/mine", "c d", Some("/mine c d")),
            ("", "/sh -c x", "", "", Some("/sh -c x")),
            ("", "", "", "c", Some("c")),
            ("", "", "", "", None),
        ] {
            let image = image(serde_json::json!({"Entrypoint": words(entrypoint), "Cmd": words(cmd)}));
            let spec = spec(|launch| (launch.command, launch.args) = (words(command), words(args)));
            match (made(&spec, &image), expected) {
                (Ok(task), Some(expected)) => assert_eq!(task.args, words(expected), "{command} {args}"),
                (Err(error), None) => {
                    assert!(error.kind == Kind::Permanent && error.message.contains("command"))
                }
                (made, expected) => panic!("{made:?}, and not {expected:?}"),
            }
        }
    }

    #[test]
    fn later_words_win_in_the_environment() {
        let image = image(serde_json::json!({"Env": ["PATH=/bin", "PORT=1", "A=image"], "Cmd": ["x"]}));
        for (env, expected) in [
            (vec![], ["PATH=/bin", "PORT=9000", "A=image"]),
            (vec![("A", "b"), ("PORT", "2")], ["PATH=/bin", "PORT=2", "A=b"]),
        ] {
            let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(made(&spec(|launch| launch.env = env), &image).expect("made").env, expected);
        }
    }

    #[test]
    fn the_service_wins_over_its_image() {
        let says = serde_json::json!({"Cmd": ["x"], "User": "web", "WorkingDir": "/srv"});
        for (user, folder, says, expected) in [
            (None, None, says.clone(), ("web", "/srv")),
            (Some("7:8"), Some("/app"), says, ("7:8", "/app")),
            (None, None, serde_json::json!({"Cmd": ["x"], "WorkingDir": ""}), ("", "/")),
        ] {
            let spec = spec(|launch| {
                (launch.user, launch.working_dir) = (user.map(String::from), folder.map(String::from));
            });
            let task = made(&spec, &image(says)).expect("made");
            assert_eq!((task.user.as_str(), task.cwd.as_str()), expected);
        }
    }

    #[test]
    fn a_task_says_where_and_under_which_names() {
        let spec = spec(|launch| launch.tmpfs = vec![Tmpfs { target: "/c".into(), size: Bytes(7) }]);
        let task = made(&spec, &image(serde_json::json!({"Cmd": ["x"]}))).expect("made");
        assert_eq!(task.cgroup, "/tidegate-ab000000/api-3-17");
        assert_eq!(task.mounts, [Mount::Memory { target: "/c".into(), size: Bytes(7) }]);
        assert_eq!(task.resolv_conf, "nameserver 10.64.0.1\nsearch .\n");
        assert!(task.hosts.ends_with("10.64.0.9\tapi-3-17\n"), "{}", task.hosts);
    }
}
