//! Why a layer was not unpacked.

use std::{io, path::PathBuf};

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is larger than what is allowed.
    #[error("the layer is over the limit of {limit} {what}{}", at(.entry))]
    TooLarge {
        /// What there is too much of: "bytes", "entries", ...
        what: &'static str,
        /// How much is allowed.
        limit: u64,
        /// The entry that went over it; empty: none.
        entry: String,
    },
    /// An entry that no honest image has.
    #[error("the layer's entry {entry:?} is refused: {why}")]
    Refused {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is no tar, or it is damaged.
    #[error("the layer is not a valid tar: {why}{}", at(.entry))]
    Damaged {
        /// The entry that was read; empty: none.
        entry: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The layer could not be read: the network, the disk, its compression or its digest.
    #[error("the layer cannot be read: {source}")]
    Read {
        /// What reading said.
        source: io::Error,
    },
    /// The disk is full, or a quota is used up.
    #[error("no space left for the layer in {}", folder.display())]
    Full {
        /// Where it was to go.
        folder: PathBuf,
        /// What writing said.
        #[source]
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write {entry:?} of the layer in {}: {source}", folder.display())]
    Write {
        /// Which entry.
        entry: String,
        /// Where the layer was to go.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Which entry, where there is one.
fn at(entry: &str) -> String {
    if entry.is_empty() { String::new() } else { format!(" (at its entry {entry:?})") }
}
