//! Images that lie in the file system: an OCI layout, a tar of one, or what `docker save` writes.
//! Holds: what an image names by a digest has it, or reading it fails at its end.
//! Absent: the store, unpacking. Nothing here is trusted.

use std::{io::Read, path::Path};

use tidegate_config::spec::Digest;

use super::{
    config::Config,
    manifest,
    reference::{Local, Reference},
};
use docker::Saved;
use files::{Archive, Folder};
use layout::Layout;

mod docker;
mod files;
mod layout;
pub(crate) mod platform;
#[cfg(test)]
mod tests;
mod verify;

/// An image that lies in the file system.
pub(crate) trait Source: Send + Sync {
    /// What it is, for this machine.
    fn image(&self) -> &Found;
    /// A layer as it is stored, compressed or not. If the image names the digest of the stored bytes, reading fails at their
    /// end where they have another; the digest of the tar in them is for whoever unpacks it. Blocks.
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
    match reference {
        Reference::Layout(Local { path, which }) => {
            let files = Box::new(Folder(path.clone()));
            Ok(Box::new(Layout::open(files, path.display().to_string(), which)?))
        }
        Reference::Archive(Local { path, which }) => {
            let files = Box::new(Archive::open(path, scratch)?);
            Ok(Box::new(Layout::open(files, path.display().to_string(), which)?))
        }
        Reference::Docker(Local { path, which }) => {
            let files = Box::new(Archive::open(path, scratch)?);
            Ok(Box::new(Saved::open(files, &path.display().to_string(), which)?))
        }
        Reference::Registry(_) | Reference::Id(_) => {
            Err(Error::Bad { what: reference.to_string(), why: "it is no file or folder".into() })
        }
    }
}

/// The layers that a configuration names, if there are as many as are stored.
fn diff_ids(config: &[u8], stored: usize) -> Result<Vec<Digest>, String> {
    let config: Config =
        serde_json::from_slice(config).map_err(|e| format!("its configuration is not understood: {e}"))?;
    manifest::match_layers(stored, &config.rootfs.diff_ids)?;
    Ok(config.rootfs.diff_ids)
}
