//! A task as the OCI runtime specification has it. Pure: who the user is, what the environment holds and where the shim
//! has put things come in as arguments. Absent: limits (the shim sets them by [`cgroup`](super::super::cgroup)) and the
//! filter of system calls ([`seccomp`](super::seccomp), which the first process loads itself).

use std::path::Path;

use libcontainer::oci_spec::runtime::Spec;
use serde_json::{Value, json};
use tidegate_config::spec::{Profile, SECRETS};

use super::{
    failure::{Context, Failure, Result},
    user::User,
};
use crate::embedded::{
    cgroup::Layout,
    task::{Folder, Mount, Task},
};

/// What official images need to run unchanged: to become their own user and to own their files.
const CAPABILITIES: [&str; 7] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
];
/// Enough for servers.
const OPEN_FILES: u64 = 16_384;
const STRICT_TMP: &str = "64m";
/// What tells of the machine, or changes it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/proc/kmsg",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// What programs look for to see their limits, besides what limits need (v1).
const SEEN: [&str; 5] = ["cpu", "cpuacct", "cpuset", "memory", "pids"];

/// The specification. `files` is how many open files this machine allows at most.
pub(super) fn spec(
    task: &Task,
    user: &User,
    env: &[String],
    folder: &Folder,
    layout: &Layout,
    files: u64,
) -> Result<Spec> {
    let strict = task.profile == Profile::Strict;
    if strict && user.uid == 0 {
        let words = format!(
            "the strict profile runs nothing as root, and {} does: set `user` to a uid other than 0",
            task.id
        );
        return Err(Failure::permanent(words));
    }
    let capabilities = if strict { json!([]) } else { json!(CAPABILITIES) };
    let files = OPEN_FILES.min(files);
    let spec = json!({
        "ociVersion": "1.0.2",
        "hostname": task.id,
        "root": { "path": "rootfs", "readonly": strict },
        "process": {
            "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
            "args": task.args,
            "env": env,
            "cwd": task.cwd,
            "noNewPrivileges": true,
            "oomScoreAdj": 0,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
                "inheritable": [],
                "ambient": [],
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": files, "hard": files }],
        },
        "mounts": mounts(task, folder, layout)?,
        "linux": {
            "namespaces": [
                { "type": "pid" },
                { "type": "mount" },
                { "type": "ipc" },
                { "type": "uts" },
                { "type": "cgroup" },
                { "type": "network", "path": task.namespace },
            ],
            "cgroupsPath": task.cgroup,
            // Ports below 1024 for everybody: the network is the replica's own.
            "sysctl": { "net.ipv4.ip_unprivileged_port_start": "0" },
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    });
    serde_json::from_value(spec).context(|| "the specification".into())
}

fn mounts(task: &Task, folder: &Folder, layout: &Layout) -> Result<Vec<Value>> {
    let mut mounts = vec![
        file_system("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        file_system("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"]),
        file_system(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        file_system("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"]),
        file_system("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        file_system("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    mounts.extend(groups(task, layout));
    let bundle = folder.bundle();
    for name in ["resolv.conf", "hosts", "hostname"] {
        mounts.push(bound(&bundle.join("etc").join(name), &format!("/etc/{name}"), true));
    }
    if task.profile == Profile::Strict {
        let options = ["noexec", "nosuid", "nodev", "mode=1777", &format!("size={STRICT_TMP}")];
        mounts.push(file_system("/tmp", "tmpfs", &options));
    }
    if !task.secret_files.is_empty() {
        mounts.push(bound(&bundle.join("secrets"), SECRETS, true));
    }
    for mount in &task.mounts {
        let (Mount::Bind { target, .. } | Mount::Memory { target, .. }) = mount;
        if !can_be_mounted(target) {
            return Err(Failure::permanent(format!("nothing can be mounted at {target} in a replica")));
        }
        mounts.push(match mount {
            Mount::Bind { source, target, read_only, .. } => bound(source, target, *read_only),
            Mount::Memory { target, size } => {
                file_system(target, "tmpfs", &["nosuid", "nodev", "mode=1777", &format!("size={}", size.0)])
            }
        });
    }
    Ok(mounts)
}

/// The replica's own control group, to look at: programs size themselves by it.
fn groups(task: &Task, layout: &Layout) -> Vec<Value> {
    let at = "/sys/fs/cgroup";
    match layout {
        Layout::V2(_) => vec![file_system(at, "cgroup2", &["nosuid", "noexec", "nodev", "ro"])],
        Layout::V1(places) => {
            let tmpfs = file_system(at, "tmpfs", &["nosuid", "noexec", "nodev", "mode=755", "size=64k"]);
            let path = task.cgroup.trim_start_matches('/');
            let seen = SEEN.iter().filter_map(|name| places.get(name).map(|place| (name, place)));
            let bound = seen.map(|(name, place)| {
                // No limit is made there, so the replica is where everybody is.
                let place = if *name == "cpuset" { place.clone() } else { place.join(path) };
                bound(&place, &format!("{at}/{name}"), true)
            });
            std::iter::once(tmpfs).chain(bound).collect()
        }
    }
}

fn file_system(at: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": at, "type": kind, "source": kind, "options": options })
}

fn bound(from: &Path, at: &str, read_only: bool) -> Value {
    let mut options = vec!["rbind", "nosuid", "nodev"];
    if read_only {
        options.extend(["ro", "rro"]);
    }
    json!({ "destination": at, "type": "bind", "source": from, "options": options })
}

/// Not over what keeps the replica in, nor beside its root.
fn can_be_mounted(target: &str) -> bool {
    let path = Path::new(target);
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    let ours = ["/proc", "/sys"].iter().any(|ours| path.starts_with(ours));
    path.is_absolute() && plain && !ours && path != Path::new("/") && path != Path::new("/dev")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tidegate_config::{
        spec::{Launch, Resources},
        units::Bytes,
    };

    use super::*;
    use crate::embedded::shim::Blame;

    fn task(profile: Profile) -> Task {
        let resources: Resources = Launch::of("api:1").resources;
        Task {
            id: "api-3-17".parse().expect("valid"),
            layers: vec!["/layer".into()],
            namespace: "/run/ns".into(),
            cgroup: "/tidegate-12345678/api-3-17".to_owned(),
            args: vec!["/bin/x".to_owned()],
            env: vec![],
            secrets: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            cwd: "/work".to_owned(),
            user: String::new(),
            mounts: vec![],
            resolv_conf: String::new(),
            hosts: String::new(),
            profile,
            resources,
        }
    }

    fn made(task: &Task, uid: u32, layout: &Layout) -> Result<Spec> {
        let user = User { uid, gid: 5, groups: vec![7], home: "/".to_owned() };
        let env = ["A=b".to_owned()];
        spec(task, &user, &env, &Folder("/r/api-3-17".into()), layout, 1000)
    }

    fn targets(spec: &Spec) -> Vec<String> {
        let mounts = spec.mounts().clone().unwrap_or_default();
        mounts.iter().map(|mount| mount.destination().display().to_string()).collect()
    }

    fn options(spec: &Spec, target: &str) -> BTreeSet<String> {
        let mounts = spec.mounts().clone().unwrap_or_default();
        let mount =
            mounts.into_iter().find(|mount| mount.destination() == Path::new(target)).expect("mounted");
        mount.options().clone().unwrap_or_default().into_iter().collect()
    }

    fn one_tree() -> Layout {
        Layout::V2("/sys/fs/cgroup".into())
    }

    #[test]
    fn profiles_differ_in_what_they_take_away() {
        for (profile, uid, capabilities, read_only) in [
            (Profile::Default, 0, 7, false),
            (Profile::Default, 33, 7, false),
            (Profile::Strict, 33, 0, true),
        ] {
            let spec = made(&task(profile), uid, &one_tree()).expect("it can be made");
            let process = spec.process().clone().expect("always there");
            let held = process.capabilities().clone().expect("always there");
            for set in [held.bounding(), held.effective(), held.permitted()] {
                assert_eq!(set.as_ref().map(|set| set.len()), Some(capabilities), "{profile:?}");
            }
            for set in [held.inheritable(), held.ambient()] {
                assert_eq!(set.as_ref().map(|set| set.len()), Some(0), "{profile:?}");
            }
            assert_eq!(process.no_new_privileges(), Some(true));
            assert_eq!((process.user().uid(), process.user().gid()), (uid, 5));
            assert_eq!(process.user().additional_gids(), &Some(vec![7]));
            let limits = process.rlimits().clone().expect("always there");
            assert_eq!(
                limits.iter().map(|limit| (limit.soft(), limit.hard())).collect::<Vec<_>>(),
                [(1000, 1000)]
            );
            assert_eq!(spec.root().as_ref().and_then(|root| root.readonly()), Some(read_only));
            assert_eq!(targets(&spec).contains(&"/tmp".to_owned()), read_only);
        }
        let refused = made(&task(Profile::Strict), 0, &one_tree()).expect_err("root is refused");
        assert!(refused.blame == Blame::Permanent && refused.message.contains("runs nothing as root"));
    }

    #[test]
    fn every_kind_of_namespace_is_the_replicas_own() {
        let spec = made(&task(Profile::Default), 0, &one_tree()).expect("it can be made");
        let linux = spec.linux().clone().expect("always there");
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        let kinds: BTreeSet<_> = namespaces.iter().map(|namespace| namespace.typ().to_string()).collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        let given: Vec<_> = namespaces.iter().filter_map(|namespace| namespace.path().clone()).collect();
        assert_eq!(given, [Path::new("/run/ns")]);
        assert_eq!(spec.hostname().as_deref(), Some("api-3-17"));
        let masked = linux.masked_paths().clone().unwrap_or_default();
        assert!(masked.contains(&"/proc/kcore".to_owned()) && masked.contains(&"/proc/keys".to_owned()));
    }

    #[test]
    fn mounts_are_the_tasks_and_what_every_program_needs() {
        let mut task = task(Profile::Default);
        let bind = |target: &str, read_only| Mount::Bind {
            source: "/srv".into(),
            target: target.to_owned(),
            read_only,
            fill: false,
        };
        task.mounts = vec![
            bind("/data", false),
            bind("/see", true),
            Mount::Memory { target: "/quick".to_owned(), size: Bytes(4096) },
        ];
        task.secret_files.insert("key".to_owned(), "/key".into());
        let places = BTreeMap::from([("memory", "/b/tree0".into()), ("cpuset", "/b/tree1".into())]);
        let spec = made(&task, 0, &Layout::V1(places)).expect("it can be made");
        for target in
            ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup/memory"]
        {
            assert!(targets(&spec).contains(&target.to_owned()), "{target}");
        }
        for (target, read_only) in
            [("/data", false), ("/see", true), ("/run/secrets", true), ("/etc/hosts", true), ("/sys", true)]
        {
            assert_eq!(options(&spec, target).contains("ro"), read_only, "{target}");
            assert!(options(&spec, target).contains("nodev"), "{target}");
        }
        assert!(options(&spec, "/quick").contains("size=4096"));
    }

    #[test]
    fn nothing_is_mounted_over_what_keeps_a_replica_in() {
        for (target, allowed) in [
            ("/data", true),
            ("/dev/shm", true),
            ("/", false),
            ("/proc/self", false),
            ("/sys/fs", false),
            ("/dev", false),
            ("/data/../proc", false),
            ("data", false),
        ] {
            assert_eq!(can_be_mounted(target), allowed, "{target}");
        }
    }
}
