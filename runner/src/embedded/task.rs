//! What a shim has to do for one replica, as the engine leaves it in the replica's [`Folder`], and the names in there.
//! Plain values. Absent: secret values (the shim reads them itself and keeps them in memory).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidegate_config::{
    name::ReplicaId,
    spec::{Exit, Profile, Resources},
    units::Bytes,
};

/// What a shim has to do for one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Which replica; also its host name.
    pub id: ReplicaId,
    /// The unpacked layers' folders, absolute, lowest first; at least one.
    pub layers: Vec<PathBuf>,
    /// The pinned network namespace that the replica lives in.
    pub namespace: PathBuf,
    /// The replica's control group, below every controller's root: `/tidegate-<8 of the instance>/<replica>`.
    pub cgroup: String,
    /// What is run; never empty.
    pub args: Vec<String>,
    /// `NAME=VALUE` each, secrets excepted.
    pub env: Vec<String>,
    /// Environment variables whose values are the contents of files, less one trailing newline.
    pub secrets: BTreeMap<String, PathBuf>,
    /// Files below `/run/secrets` with the contents of other files.
    pub secret_files: BTreeMap<String, PathBuf>,
    /// The working folder; made if it is absent.
    pub cwd: String,
    /// `user`, `uid`, `user:group` or `uid:gid` as of the image's own /etc/passwd and /etc/group; empty: root.
    pub user: String,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// The contents of /etc/resolv.conf.
    pub resolv_conf: String,
    /// The contents of /etc/hosts.
    pub hosts: String,
    /// How far the replica is locked in.
    pub profile: Profile,
    /// Its limits, `disk` and `scratch` among them.
    pub resources: Resources,
}

/// A mount in the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mount {
    /// A folder or file of the host's; it exists.
    Bind {
        /// On the host, absolute.
        source: PathBuf,
        /// In the replica, absolute.
        target: String,
        /// Whether it cannot be written.
        read_only: bool,
        /// Whether the source is an empty folder that first gets what the image has at `target`, owners and modes included.
        fill: bool,
    },
    /// An empty file system in memory.
    Memory {
        /// In the replica, absolute.
        target: String,
        /// How much fits.
        size: Bytes,
    },
}

/// A process that is told from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pid {
    /// Its number on the host.
    pub pid: i32,
    /// Its start, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub started: u64,
}

/// What the shim says once the replica's process runs (`run.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The shim.
    pub shim: Pid,
    /// The replica's first process, as the host sees it.
    pub init: Pid,
    /// When.
    pub at: SystemTime,
}

/// How the replica's process ended (`exit.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// How.
    pub exit: Exit,
    /// When.
    pub at: SystemTime,
}

/// A replica's folder: the one place where these names are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder(pub PathBuf);

impl Folder {
    /// Itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The [`Task`]; written by the engine before the shim starts.
    pub(crate) fn task(&self) -> PathBuf {
        self.0.join("task.json")
    }

    /// The [`Run`]; replaced by the shim at each start, removed by nobody.
    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The [`Ended`]; removed by the engine before each start, written by the shim.
    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// What the replica printed; older files are `log.1`, `log.2`.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// What the shim itself has to complain about.
    pub(crate) fn complaints(&self) -> PathBuf {
        self.0.join("shim.err")
    }

    /// What the replica writes into its root file system: `upper` and `work` in it (or a mount that has them).
    pub(crate) fn scratch(&self) -> PathBuf {
        self.0.join("scratch")
    }

    /// Where the shim, in its own mount namespace, puts what only it and the replica see.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }
}

/// A file's value; `None` if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Not synced: after a crash of the machine none of these replicas runs any more.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    std::fs::write(path, serde_json::to_vec(value)?)
}
