//! What an image's name means: a registry's, or a file or folder of this machine. Pure.
//! The configuration is checked with the same words; see `check/image.rs` of the config crate.

use std::{fmt, path::PathBuf};

use tidegate_config::spec::Digest;

/// What an image's name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// In a registry.
    Registry(Remote),
    /// `oci:DIR[:TAG]` or `oci:DIR@DIGEST`: a folder in OCI's image layout.
    Layout(Local),
    /// `oci-archive:FILE[:TAG]` or `oci-archive:FILE@DIGEST`: a tar of such a folder, compressed or not.
    Archive(Local),
    /// `docker-archive:FILE[:NAME:TAG]`: what `docker save` writes, compressed or not.
    Docker(Local),
    /// `sha256:HEX`: an image that is here already, by its id.
    Id(Digest),
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// `HOST` or `HOST:PORT`; `docker.io` where none was named.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// `latest` where neither a tag nor a digest was named.
    pub tag: Option<String>,
    /// Which image exactly.
    pub digest: Option<Digest>,
}

/// An image in a file or folder of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    /// Where.
    pub path: PathBuf,
    /// Which of several.
    pub which: Which,
}

/// Which image of several in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// The only one.
    Only,
    /// The one with this name: a tag (`1.27`), or `NAME:TAG` in a `docker-archive`.
    Named(String),
    /// The one whose manifest has this digest.
    Digest(Digest),
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {why}")]
pub(crate) struct Invalid {
    text: String,
    why: &'static str,
}

impl Reference {
    /// Reads an image's name.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        Err(Invalid { text: text.to_owned(), why: "not yet" })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
