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
    format!("/tidegate-{}/{id}", instance.short())
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
