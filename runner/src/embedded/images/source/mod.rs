//! Images that lie in the file system: an OCI layout, a tar of one, or what `docker save` writes.
//! Holds: the bytes that come out of [`Source::open`] are those that the image names, or reading them fails at their end.
//! Absent: the store, unpacking. Nothing here is trusted.

use std::{io::Read, path::Path};

use tidegate_config::spec::Digest;

use super::reference::Reference;

pub(crate) mod platform;

/// An image that lies in the file system.
pub(crate) trait Source: Send + Sync {
    /// What it is, for this machine.
    fn image(&self) -> &Found;
    /// A layer as it is stored, compressed or not; reading fails at the end if it is not what the image names. Blocks.
    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, Error>;
}

/// An image that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The digest of its configuration: the image's id.
    pub id: Digest,
    /// Its configuration, as stored; checked against `id`.
    pub config: Vec<u8>,
    /// Its layers, lowest first, one for each `diff_id` of the configuration.
    pub layers: Vec<Layer>,
    /// What the source calls it, where it does: a tag.
    pub name: Option<String>,
}

/// A layer that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// What its uncompressed tar has to have.
    pub diff_id: Digest,
    /// Bytes as stored, as far as known.
    pub size: u64,
    /// Where its source keeps it.
    key: String,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is nothing there, or it cannot be read.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{what} is not usable: {why}")]
    Bad {
        /// Which file or folder.
        what: String,
        /// What is wrong.
        why: String,
    },
}

/// Opens the image that a reference to a file or folder names. `scratch` is where a compressed archive is unpacked to, as
/// long as the source lives; it has to exist. Blocks.
pub(crate) fn open(reference: &Reference, scratch: &Path) -> Result<Box<dyn Source>, Error> {
    let _ = scratch;
    Err(Error::Bad { what: reference.to_string(), why: "not yet".into() })
}
