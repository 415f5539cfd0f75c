//! What a pod mounts: claims, ConfigMaps and Secrets by their names, what is empty and goes with it, and its secret files.
//! Absent: folders of nodes, which would hand over the node.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, PersistentVolumeClaimVolumeSource,
    SecretVolumeSource, Volume, VolumeMount,
};
use tidegate_config::{
    spec::{self, Launch, SECRETS, Source},
    units::Bytes,
};

use super::body::size;
use crate::{Error, Kind, Result};

/// Everybody in the container may read a secret, nobody may write it.
const READ_ONLY: i32 = 0o444;

/// The key under which a pod's Secret has a file.
pub(super) fn file_key(name: &str) -> String {
    format!("file.{name}")
}

/// The volumes of a pod, and where its container has them. `secret` is the name of its Secret.
///
/// # Errors
/// [`Kind::Permanent`] for a folder.
pub(super) fn of(launch: &Launch, secret: &str) -> Result<(Vec<Volume>, Vec<VolumeMount>)> {
    let mut all: Vec<(Volume, VolumeMount)> = Vec::new();
    for volume in &launch.volumes {
        all.push(named(all.len(), volume)?);
    }
    for tmpfs in launch.tmp_of_profile().iter().chain(&launch.tmpfs) {
        all.push(empty(all.len(), &tmpfs.target, tmpfs.size, Some("Memory")));
    }
    for disk in &launch.disks {
        all.push(empty(all.len(), &disk.target, disk.size, None));
    }
    if !launch.secret_files.is_empty() {
        all.push(files(launch, secret));
    }
    Ok(all.into_iter().unzip())
}

fn named(number: usize, volume: &spec::Volume) -> Result<(Volume, VolumeMount)> {
    let called = called(number);
    let made = match volume.source() {
        Source::Folder(folder) => return Err(no_folder(folder)),
        Source::Named(claim) => {
            let (claim_name, read_only) = (claim.to_owned(), volume.read_only.then_some(true));
            let source = PersistentVolumeClaimVolumeSource { claim_name, read_only };
            Volume { persistent_volume_claim: Some(source), ..called }
        }
        Source::ConfigMap(name) => {
            let source = ConfigMapVolumeSource { name: name.to_owned(), ..ConfigMapVolumeSource::default() };
            Volume { config_map: Some(source), ..called }
        }
        Source::Secret(name) => {
            let source =
                SecretVolumeSource { secret_name: Some(name.to_owned()), ..SecretVolumeSource::default() };
            Volume { secret: Some(source), ..called }
        }
    };
    Ok((made, mounted(number, &volume.target, volume.read_only)))
}

fn no_folder(folder: &str) -> Error {
    let words = format!(
        "the volume {folder} is a folder, and nodes of a Kubernetes mount none; name a PersistentVolumeClaim, \
         configmap/NAME or secret/NAME"
    );
    Error::new(Kind::Permanent, words)
}

/// The ConfigMaps that a replica mounts.
pub(super) fn config_maps(launch: &Launch) -> impl Iterator<Item = &str> {
    launch.volumes.iter().filter_map(|volume| match volume.source() {
        Source::ConfigMap(name) => Some(name),
        Source::Folder(_) | Source::Named(_) | Source::Secret(_) => None,
    })
}

/// Empty at first, and gone with its pod; `medium`: in memory, or on the node's disk.
fn empty(number: usize, target: &str, most: Bytes, medium: Option<&str>) -> (Volume, VolumeMount) {
    let source = EmptyDirVolumeSource { medium: medium.map(str::to_owned), size_limit: Some(size(most)) };
    (Volume { empty_dir: Some(source), ..called(number) }, mounted(number, target, false))
}

fn files(launch: &Launch, secret: &str) -> (Volume, VolumeMount) {
    let item = |name: &String| KeyToPath { key: file_key(name), path: name.clone(), ..KeyToPath::default() };
    let source = SecretVolumeSource {
        secret_name: Some(secret.to_owned()),
        items: Some(launch.secret_files.keys().map(item).collect()),
        default_mode: Some(READ_ONLY),
        ..SecretVolumeSource::default()
    };
    let volume = Volume { name: "secrets".to_owned(), secret: Some(source), ..Volume::default() };
    let mount = VolumeMount { name: "secrets".to_owned(), ..mounted(0, SECRETS, true) };
    (volume, mount)
}

fn called(number: usize) -> Volume {
    Volume { name: format!("v{number}"), ..Volume::default() }
}

fn mounted(number: usize, target: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: format!("v{number}"),
        mount_path: target.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::spec::{Disk, Profile, Secret, Tmpfs};

    fn volume(source: &str) -> spec::Volume {
        spec::Volume { source: source.into(), target: "/data".into(), read_only: true, shared: false }
    }

    /// What is mounted, in words.
    fn words(launch: &Launch) -> Vec<String> {
        let (volumes, mounts) = of(launch, "tg-x").expect("made");
        let kind = |volume: &Volume| {
            let claim =
                volume.persistent_volume_claim.as_ref().map(|claim| format!("claim {}", claim.claim_name));
            let empty = volume.empty_dir.as_ref().and_then(|dir| {
                Some(format!("{} {}", dir.medium.as_deref().unwrap_or("disk"), dir.size_limit.as_ref()?.0))
            });
            let secret = volume.secret.as_ref().and_then(|secret| {
                let items = secret.items.iter().flatten().map(|item| format!("/{}->{}", item.key, item.path));
                Some(format!("secret {}{}", secret.secret_name.as_ref()?, items.collect::<String>()))
            });
            let map = volume.config_map.as_ref().map(|map| format!("map {}", map.name));
            claim.or(empty).or(secret).or(map).expect("one of them")
        };
        let row = |(volume, mount): (&Volume, &VolumeMount)| {
            assert_eq!(volume.name, mount.name);
            let mode = if mount.read_only == Some(true) { " ro" } else { "" };
            format!("{} at {}{mode}", kind(volume), mount.mount_path)
        };
        volumes.iter().zip(&mounts).map(row).collect()
    }

    #[test]
    fn mounts_are_of_their_kind() {
        let volumes = ["cache", "configmap/settings", "secret/tls"].map(volume).to_vec();
        let mut launch = Launch { volumes, ..Launch::of("api:1") };
        launch.disks = vec![Disk { target: "/work".into(), size: Bytes::mib(2) }];
        launch.tmpfs = vec![Tmpfs { target: "/c".into(), size: Bytes::mib(1) }];
        launch.secret_files = [("key.pem".to_owned(), Secret { file: "/x".into() })].into();
        let expected = [
            "claim cache at /data ro",
            "map settings at /data ro",
            "secret tls at /data ro",
            "Memory 1048576 at /c",
            "disk 2097152 at /work",
            "secret tg-x/file.key.pem->key.pem at /run/secrets ro",
        ];
        assert_eq!(words(&launch), expected);
        assert_eq!(words(&Launch::of("api:1")), [""; 0]);
    }

    #[test]
    fn the_strict_profile_has_a_tmp() {
        let mut strict = Launch { profile: Profile::Strict, ..Launch::of("api:1") };
        assert_eq!(words(&strict), ["Memory 67108864 at /tmp"]);
        strict.tmpfs = vec![Tmpfs { target: "/tmp".into(), size: Bytes::mib(1) }];
        assert_eq!(words(&strict), ["Memory 1048576 at /tmp"]);
        strict.tmpfs = Vec::new();
        strict.disks = vec![Disk { target: "/tmp".into(), size: Bytes::mib(2) }];
        assert_eq!(words(&strict), ["disk 2097152 at /tmp"]);
    }

    #[test]
    fn folders_are_refused() {
        let launch = Launch { volumes: vec![volume("/srv")], ..Launch::of("api:1") };
        let error = of(&launch, "tg-x").expect_err("no folder");
        assert!(error.kind == Kind::Permanent && error.message.contains("/srv"), "{error}");
    }
}
