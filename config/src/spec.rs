//! What autoscaler, control loop and runner say to each other about a replica: plain serde values, so that a call can
//! cross a process one day. Absent: behaviour, secret values (a [`Secret`] names where its value is).

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{
    constraint::Constraint,
    name::{HostName, ReplicaId},
    units::Bytes,
};

/// Everything a runner needs to start one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartSpec {
    /// The replica's name for ever.
    pub id: ReplicaId,
    /// Which version of the launch settings this is.
    pub revision: Revision,
    /// The launch settings, with the port resolved.
    pub launch: Launch,
    /// The content to run, as `prepare` reported it; an engine starts this and not whatever the tag means by now.
    pub digest: Digest,
    /// The port that the replica listens on, after defaults.
    pub port: u16,
    /// Where it is to run.
    pub target: Target,
}

/// One version of a service, as it can be started: launch settings with everything resolved. A small serde value, because
/// earlier versions are kept for going back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its name: settings and content together.
    pub revision: Revision,
    /// The launch settings.
    pub launch: Launch,
    /// The content to run.
    pub digest: Digest,
    /// The port that its replicas listen on, after defaults.
    pub port: u16,
}

/// Where a replica is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// On this host.
    Host(HostName),
    /// Wherever the engine of this host, a cluster, likes, within these label constraints.
    EngineChooses {
        /// What the file calls the cluster.
        host: HostName,
        /// What the node's labels must be.
        constraints: BTreeMap<String, Constraint>,
    },
}

impl Target {
    /// The host, be it one machine or a cluster.
    #[must_use]
    pub fn host(&self) -> &HostName {
        match self {
            Self::Host(host) | Self::EngineChooses { host, .. } => host,
        }
    }
}

/// One version of a service's launch settings: a short hash over [`Launch`] and the image's digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image's content address, as in `sha256:9f86d0...`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    /// The first 12 hex digits, as people read digests.
    #[must_use]
    pub fn short(&self) -> &str {
        let hex = self.0.split_once(':').map_or(&*self.0, |(_, hex)| hex);
        hex.get(..12).unwrap_or(hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is run and how. A change of any field makes a new revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// An image reference, or `docker-archive:FILE`, `oci-archive:FILE` or `oci:DIR` (absolute once loaded).
    pub image: String,
    /// When to ask the registry.
    pub pull: Pull,
    /// Replaces the image's entrypoint if not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments if not empty.
    pub args: Vec<String>,
    /// Environment: the service's own, over that of its env files.
    pub env: BTreeMap<String, String>,
    /// Environment variables whose values come from files when a replica starts.
    pub secrets: BTreeMap<String, Secret>,
    /// Instead of the image's.
    pub working_dir: Option<String>,
    /// `user`, `uid` or `uid:gid`, instead of the image's.
    pub user: Option<String>,
    /// Where the replica listens; `None`: the image's only exposed port, else 8080.
    pub port: Option<u16>,
    /// HTTP as the replica speaks it.
    pub protocol: Protocol,
    /// Files below `/run/secrets`, in memory, whose contents come from other files when a replica starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_files: BTreeMap<String, Secret>,
    /// Files and folders from outside.
    pub volumes: Vec<Volume>,
    /// Empty file systems in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<Tmpfs>,
    /// Empty folders on the engine's disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// What a replica may use.
    pub resources: Resources,
    /// How far the replica is locked in.
    pub profile: Profile,
}

/// Where a secret's value is; the value itself is read when a replica starts and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// A file whose content, less one trailing newline, is the value.
    pub file: PathBuf,
}

/// When to ask the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// If the engine does not have it.
    Missing,
    /// Each time it is prepared.
    Always,
    /// Never; an absent image is an error.
    Never,
}

/// What a replica speaks on its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, without TLS.
    H2c,
    /// Something else over TCP; bytes are carried as they are.
    Tcp,
}

/// Where secret files are in a replica; engines mount the folder as a whole.
pub const SECRETS: &str = "/run/secrets";
/// What a replica of the strict profile may write to `/tmp`.
const STRICT_TMP: Bytes = Bytes::mib(64);

impl Launch {
    /// The `/tmp` that a replica has of its profile: the strict one lets it write nowhere else. What the service itself mounts
    /// there wins.
    #[must_use]
    pub fn tmp_of_profile(&self) -> Option<Tmpfs> {
        let wanted = self.profile == Profile::Strict && !self.targets().any(|target| target == "/tmp");
        wanted.then(|| Tmpfs { target: "/tmp".to_owned(), size: STRICT_TMP })
    }

    /// The places in a replica at which something is mounted for its service.
    fn targets(&self) -> impl Iterator<Item = &str> {
        let volumes = self.volumes.iter().map(|volume| &volume.target);
        let empty =
            self.tmpfs.iter().map(|tmpfs| &tmpfs.target).chain(self.disks.iter().map(|disk| &disk.target));
        volumes.chain(empty).map(String::as_str)
    }
}

impl Target {
    /// What the labels of the engine's nodes must be.
    pub fn constraints(&self) -> impl Iterator<Item = (&String, &Constraint)> {
        let asked = match self {
            Self::Host(_) => None,
            Self::EngineChooses { constraints, .. } => Some(constraints),
        };
        asked.into_iter().flatten()
    }
}

/// A mount: a named volume of the engine's, or a path of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// A volume's name, an absolute path, or what a Kubernetes has: `configmap/NAME` or `secret/NAME`.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// Whether several replicas may write to it at once; says nothing about how it is mounted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// What a volume's source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'v> {
    /// A folder of the machine.
    Folder(&'v str),
    /// A volume of the engine's own; in a Kubernetes a PersistentVolumeClaim.
    Named(&'v str),
    /// A ConfigMap of a Kubernetes.
    ConfigMap(&'v str),
    /// A Secret of a Kubernetes.
    Secret(&'v str),
}

impl Volume {
    /// What its source is, by how it is spelled: `/srv`, `data`, `configmap/settings` or `secret/tls`.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        if let Some(name) = self.source.strip_prefix("configmap/") {
            Source::ConfigMap(name)
        } else if let Some(name) = self.source.strip_prefix("secret/") {
            Source::Secret(name)
        } else if self.source.starts_with('/') {
            Source::Folder(&self.source)
        } else {
            Source::Named(&self.source)
        }
    }
}

/// An empty folder on the engine's disk, which goes with its replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// An absolute path in the container.
    pub target: String,
    /// How much it may hold.
    pub size: Bytes,
}

/// An empty file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// An absolute path in the container.
    pub target: String,
    /// How much fits; counts as the replica's memory.
    pub size: Bytes,
}

/// Limits that the engine enforces, and what placement counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory and swap together.
    pub memory: Bytes,
    /// Cores; `None`: as many as there are.
    pub cpu: Option<f64>,
    /// Processes and threads.
    pub pids: u32,
    /// What a replica may write outside of volumes; `None`: as much as there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Where it writes that.
    #[serde(default, skip_serializing_if = "Scratch::is_default")]
    pub scratch: Scratch,
    /// What placement counts for each replica.
    pub reserve: Reserve,
}

/// Where a replica keeps what it writes outside of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scratch {
    /// On the engine's disk.
    #[default]
    Disk,
    /// In memory, which counts as the replica's own.
    Memory,
}

impl Scratch {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What placement counts for each replica.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reserve {
    /// Bytes of memory.
    pub memory: Bytes,
    /// Cores.
    pub cpu: f64,
}

/// How far a replica is locked in; both drop most capabilities, forbid new privileges and keep seccomp on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Official images run unchanged.
    Default,
    /// No capabilities, read-only root, a user that is not root, 256 processes.
    Strict,
}

/// What an engine can do; `plan` never asks for what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent abilities, each one a yes or no")]
pub struct Capabilities {
    /// Freeze and thaw.
    pub freeze: bool,
    /// Stop but keep, and restart.
    pub keep_stopped: bool,
    /// Run a command in a replica.
    pub exec: bool,
    /// Read what a replica printed.
    pub logs: bool,
    /// Measure a replica.
    pub stats: bool,
    /// The engine places by itself (a cluster).
    pub places: bool,
}

/// One of our replicas, as an engine sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Which replica.
    pub id: ReplicaId,
    /// The revision it was started with.
    pub revision: Revision,
    /// The image it was started from.
    pub digest: Digest,
    /// What it is doing.
    pub state: ObservedState,
    /// Where it is reached, once it runs.
    pub address: Option<SocketAddr>,
    /// When the engine made it.
    pub created: SystemTime,
    /// Whether its image says how to check its health (the engine runs that as an exec probe).
    pub healthcheck: Option<Vec<String>>,
}

/// What a replica is doing, as far as its engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedState {
    /// Made, never started.
    Created,
    /// Its process runs. Whether it answers is the prober's business.
    Running,
    /// Its processes are stopped in place.
    Frozen,
    /// Its process ended.
    Exited(Exit),
}

/// How a replica's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code (128 + signal when a signal ended it).
    pub code: i64,
    /// Whether the kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// Whether its cluster ended it, or somebody there: evicted, preempted, deleted, its node drained or lost. That says nothing
    /// about the replica.
    #[serde(default)]
    pub disrupted: bool,
    /// The engine's own words, if it had any (an entrypoint that does not exist, ...).
    pub message: Option<String>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { out_of_memory: true, code, .. } => write!(f, "out of memory (exit code {code})"),
            // Nobody knows a code.
            Self { message: Some(message), code: ..0, .. } => f.write_str(message),
            Self { message: Some(message), code, .. } => write!(f, "exit code {code}: {message}"),
            Self { code, .. } => write!(f, "exit code {code}"),
        }
    }
}
