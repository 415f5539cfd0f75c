//! What a replica is given: files, secrets, resources.

use super::text_or_table;
use crate::{
    decode::{
        leaf::{Size, Text},
        section,
    },
    spec::{self, Scratch},
};

section! {
    /// A volume or folder as a table.
    MountTable => {
        /// A named volume, or a path of the host. A path that starts with `./` starts at this file's folder. On a Kubernetes
        /// the name of a PersistentVolumeClaim, `configmap/NAME` or `secret/NAME`; the last two are read-only.
        source: Text,
        /// An absolute path in the container.
        target: Text,
        /// Whether the container may only read it.
        read_only: bool = false,
        /// Whether several replicas may write to it at once. If not, the service has one replica at most.
        shared: bool = false,
        /// Instead of a source: how much fits into an empty file system in memory, which counts as the replica's memory.
        tmpfs: Size,
        /// Instead of a source: how much fits into an empty folder on the disk, which goes with the replica (Kubernetes only).
        disk: Size,
    }
}

section! {
    /// A secret as a table.
    SecretTable => {
        /// The file that holds the value.
        file: Text,
    }
}

section! {
    /// What a replica may use.
    Resources, d = spec::Resources::default() => {
        /// Memory, swap included; at least 6MiB.
        memory: Size = d.memory.to_string(),
        /// Cores, as in 0.5. Default: no limit.
        cpu: f64,
        /// Processes and threads.
        pids: u32 = d.pids,
        /// What a replica may write outside of volumes; at least 1MiB. Default: what the disk has room for.
        disk: Size,
        /// Where it writes that: on the engine's disk, or (`embedded` only) in memory, which counts as its own.
        scratch: Scratch = d.scratch,
        /// What placement counts for each replica.
        reserve: Reserve,
    }
}

section! {
    /// What placement counts for each replica.
    Reserve, d = spec::Resources::default().reserve => {
        /// Memory.
        memory: Size = d.memory.to_string(),
        /// Cores.
        cpu: f64 = d.cpu,
    }
}

text_or_table! {
    /// A named volume or a folder of the host.
    Mount, MountTable, "text or table"
}

text_or_table! {
    /// Where a secret's value is.
    SecretFile, SecretTable, "text or table"
}
