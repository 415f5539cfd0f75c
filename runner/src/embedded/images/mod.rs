//! The images of this machine: fetched from registries or read from files, verified, unpacked once for each layer.
//! The engine calls [`Store::prepare`], starts replicas over [`Image::layers`], and has [`Store::prune`] make room.
//! Holds: what has a place in the store is whole and is what its digest says; a crash leaves only what the next opening
//! clears away. Two processes may share a store. Absent: which images are in use, when to prune, running anything.

mod accept;
mod ask;
mod config;
mod download;
mod gc;
mod import;
mod layers;
mod lock;
mod manifest;
mod meter;
mod places;
mod prune;
mod pull;
mod records;
mod reference;
mod refusal;
mod registry;
mod scratch;
mod source;
mod store;
mod trouble;
mod unpack;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tidegate_config::{model::Images, spec::Digest, units::Bytes};

pub(crate) use ask::describe;
pub(crate) use config::Config;
pub use store::Store;

/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// An image that is here, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The digest of its configuration: the image's id.
    pub digest: Digest,
    /// How to run it.
    pub config: Config,
    /// Its unpacked layers' folders, absolute, lowest first, each once; an image without layers has one empty folder.
    pub layers: Vec<PathBuf>,
}

/// What the store says of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The image's id.
    pub id: Digest,
    /// What names lead to it, sorted.
    pub names: Vec<String>,
    /// What its layers take on disk; images may share layers.
    pub bytes: Bytes,
    /// How many layers it has.
    pub layers: usize,
    /// When it was built, as its configuration says it.
    pub created: Option<String>,
    /// When it came here.
    #[serde(with = "stamp")]
    pub fetched: SystemTime,
    /// When it was last prepared or started.
    #[serde(with = "stamp")]
    pub last_used: SystemTime,
}

/// Which images go, of those that nothing uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prune {
    /// Those that were unused for longer.
    pub older_than: Option<Duration>,
    /// The longest unused ones, until the rest takes no more than this.
    pub max_size: Option<Bytes>,
    /// All.
    pub all: bool,
}

impl From<&Images> for Prune {
    fn from(settings: &Images) -> Self {
        Self { older_than: Some(settings.keep_unused), max_size: settings.max_size, all: false }
    }
}

/// What pruning removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pruned {
    /// Images.
    pub images: Vec<Digest>,
    /// Unpacked layers, those that belonged to no image included.
    pub layers: usize,
    /// What they took on disk.
    pub freed: Bytes,
}

/// Times as RFC 3339.
mod stamp {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_seconds(*at))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}
