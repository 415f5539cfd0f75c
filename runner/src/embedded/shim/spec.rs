//! A task as the OCI runtime specification has it. Pure: who the user is, what the environment holds and where the shim
//! has put things come in as arguments. Absent: limits (the shim sets them by [`cgroup`](super::super::cgroup)) and the
//! filter of system calls ([`seccomp`](super::seccomp), which the first process loads itself).

use std::path::Path;

use libcontainer::oci_spec::runtime::Spec;
use serde_json::{Value, json};
use tidegate_config::spec::Profile;

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
        file_system("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
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
        mounts.push(bound(&bundle.join("secrets"), "/run/secrets", true));
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
