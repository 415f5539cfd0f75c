//! What a container sees besides its image: volumes, folders of the host, file systems in memory, secrets as files.
//! Holds: what this engine cannot do is refused before it is asked, with words that say so. Absent: secret values (the
//! engine mounts the files themselves).

use std::collections::HashMap;

use bollard::models::{Mount, MountType};
use tidegate_config::spec::{Launch, SECRETS, Scratch, Source, Tmpfs, Volume};

use crate::{Error, Kind, Result};

/// How the service's own file systems in memory are mounted.
const OWN: &str = "rw,exec,nosuid,nodev,mode=1777";
const STRICT_TMP: &str = "rw,noexec,nosuid,nodev,size=64m";

/// Refuses what this engine has not, or cannot have where it is.
pub(super) fn check(launch: &Launch, local: bool) -> Result<()> {
    check_sources(launch)?;
    let refuse = |words: &str| Err(Error::new(Kind::Permanent, words));
    match (launch.resources.scratch, launch.secret_files.keys().next()) {
        (Scratch::Memory, _) => refuse(
            "resources.scratch = \"memory\" is there with engine = \"embedded\" only; Docker writes to its disk (a volume as \
             { target = ..., tmpfs = ... } is in memory with both)",
        ),
        (Scratch::Disk, Some(name)) if !local => refuse(&format!(
            "the secret file {name} is on the gateway's machine and cannot be mounted by an engine on another one; use \
             `secrets`, which go into the environment, or `constraints` that keep the service here"
        )),
        (Scratch::Disk, _) => Ok(()),
    }
}

/// Refuses what only a Kubernetes mounts.
pub(crate) fn check_sources(launch: &Launch) -> Result<()> {
    let of_cluster = |volume: &Volume| matches!(volume.source(), Source::ConfigMap(_) | Source::Secret(_));
    let named = launch.volumes.iter().find(|volume| of_cluster(volume)).map(|volume| volume.source.as_str());
    let Some(what) = named.or_else(|| launch.disks.first().map(|disk| disk.target.as_str())) else {
        return Ok(());
    };
    Err(Error::new(
        Kind::Permanent,
        format!("the volume {what}: only engine = \"kubernetes\" mounts such a one"),
    ))
}

/// Refuses a secret file that cannot be mounted: the engine would say less, or make a folder of that name.
pub(super) async fn check_files(launch: &Launch) -> Result<()> {
    for (name, secret) in &launch.secret_files {
        let file = secret.file.display();
        let refuse = |why: &dyn std::fmt::Display| {
            Error::new(
                Kind::Permanent,
                format!("the secret file {name} cannot be mounted from {file}: {why}"),
            )
        };
        let found = tokio::fs::metadata(&secret.file).await.map_err(|error| refuse(&error))?;
        if !found.is_file() {
            return Err(refuse(&"it is not a file"));
        }
    }
    Ok(())
}

/// Volumes, folders and secret files.
pub(super) fn of(launch: &Launch) -> Vec<Mount> {
    let secrets = launch.secret_files.iter().map(|(name, secret)| Mount {
        source: Some(secret.file.display().to_string()),
        target: Some(format!("{SECRETS}/{name}")),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    });
    launch.volumes.iter().map(volume).chain(secrets).collect()
}

/// File systems in memory, by target; `None`: there are none. What the service asks for wins over the profile's own.
pub(super) fn in_memory(launch: &Launch) -> Option<HashMap<String, String>> {
    let tmp = launch.tmp_of_profile().map(|tmp| (tmp.target, STRICT_TMP.to_owned()));
    let own = |Tmpfs { target, size }: &Tmpfs| (target.clone(), format!("{OWN},size={}", size.0));
    let all: HashMap<_, _> = tmp.into_iter().chain(launch.tmpfs.iter().map(own)).collect();
    (!all.is_empty()).then_some(all)
}

/// A volume or folder.
pub(crate) fn volume(volume: &Volume) -> Mount {
    let kind = if volume.source.starts_with('/') { MountType::BIND } else { MountType::VOLUME };
    Mount {
        source: Some(volume.source.clone()),
        target: Some(volume.target.clone()),
        typ: Some(kind),
        read_only: Some(volume.read_only),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_config::{
        spec::{Disk, Profile, Secret},
        units::Bytes,
    };

    fn launch() -> Launch {
        let secret = Secret { file: "/srv/db.txt".into() };
        Launch { secret_files: [("db-password".to_owned(), secret)].into(), ..Launch::of("api:1") }
    }

    #[test]
    fn mounts_are_of_their_kind() {
        let volume = |source: &str, read_only| Volume {
            source: source.into(),
            target: "/data".into(),
            read_only,
            shared: false,
        };
        let launch = Launch { volumes: vec![volume("/srv", true), volume("cache", false)], ..launch() };
        let made = of(&launch);
        let shape = |m: &Mount| (m.typ, m.read_only, m.source.clone(), m.target.clone());
        let want = |kind, read_only, source: &str, target: &str| {
            (Some(kind), Some(read_only), Some(source.to_owned()), Some(target.to_owned()))
        };
        assert_eq!(
            made.iter().map(shape).collect::<Vec<_>>(),
            [
                want(MountType::BIND, true, "/srv", "/data"),
                want(MountType::VOLUME, false, "cache", "/data"),
                want(MountType::BIND, true, "/srv/db.txt", "/run/secrets/db-password"),
            ]
        );
    }

    #[test]
    fn what_only_a_kubernetes_mounts_is_refused() {
        let volume = |source: &str| Volume {
            source: source.into(),
            target: "/a".into(),
            read_only: true,
            shared: false,
        };
        let disk = Disk { target: "/work".into(), size: Bytes::mib(1) };
        for (volumes, disks, expected) in [
            (vec![volume("configmap/settings")], vec![], Some("configmap/settings")),
            (vec![volume("data"), volume("secret/tls")], vec![], Some("secret/tls")),
            (vec![], vec![disk], Some("/work")),
            (vec![volume("data"), volume("/srv")], vec![], None),
        ] {
            let error = check(&Launch { volumes, disks, ..Launch::of("api:1") }, true).err();
            assert_eq!(error.is_some(), expected.is_some(), "{expected:?}");
            if let Some((error, words)) = error.zip(expected) {
                assert!(error.kind == Kind::Permanent && error.message.contains(words), "{error}");
            }
        }
    }

    #[test]
    fn memory_has_a_size_and_the_services_own_wins() {
        let tmpfs = |target: &str| Tmpfs { target: target.into(), size: Bytes::mib(1) };
        for (profile, own, expected) in [
            (Profile::Default, vec![], vec![]),
            (Profile::Default, vec![tmpfs("/c")], vec![("/c", ",exec,nosuid,nodev,mode=1777,size=1048576")]),
            (Profile::Strict, vec![], vec![("/tmp", ",noexec,nosuid,nodev,size=64m")]),
            (
                Profile::Strict,
                vec![tmpfs("/tmp")],
                vec![("/tmp", ",exec,nosuid,nodev,mode=1777,size=1048576")],
            ),
        ] {
            let launch = Launch { profile, tmpfs: own, ..Launch::of("api:1") };
            let made = in_memory(&launch).unwrap_or_default();
            assert_eq!(made.len(), expected.len());
            for (target, size) in expected {
                assert_eq!(made[target], format!("rw{size}"));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let mut memory = Launch::of("api:1");
        memory.resources.scratch = Scratch::Memory;
        for (launch, local, words) in [
            (Launch::of("api:1"), false, None),
            (launch(), true, None),
            (launch(), false, Some("db-password is on the gateway's machine")),
            (memory.clone(), true, Some("with engine = \"embedded\" only")),
            (memory, false, Some("with engine = \"embedded\" only")),
        ] {
            match (check(&launch, local), words) {
                (Ok(()), None) => {}
                (Err(error), Some(words)) => {
                    assert_eq!(error.kind, Kind::Permanent);
                    assert!(error.message.contains(words), "{error}");
                }
                (outcome, words) => panic!("{outcome:?} instead of {words:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_secret_file_is_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("there"), "s3cret").expect("written");
        for (name, words) in [("there", None), ("absent", Some("No such file")), (".", Some("not a file"))] {
            let secret = Secret { file: folder.path().join(name) };
            let launch = Launch { secret_files: [("x".to_owned(), secret)].into(), ..Launch::of("api:1") };
            let outcome = check_files(&launch).await.map_err(|error| error.message);
            assert_eq!(outcome.is_ok(), words.is_none(), "{outcome:?}");
            assert!(outcome.err().unwrap_or_default().contains(words.unwrap_or_default()));
        }
    }
}
