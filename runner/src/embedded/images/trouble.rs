//! What can go wrong with the store itself, in words that say what to do.

use std::{io, path::Path};

use super::unpack;
use crate::{Error, Kind};

/// The mark of errors that say that there is no room.
#[derive(Debug, thiserror::Error)]
#[error("the file system is full")]
struct Full;

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &Error) -> bool {
    error.source.as_ref().is_some_and(|source| source.is::<Full>())
}

/// There is no room in a folder; as far as known, so much is needed.
pub(super) fn full(folder: &Path, needed: Option<u64>) -> Error {
    let free = free(folder).map_or_else(|| "little".into(), people);
    let needed = needed.map_or_else(String::new, |needed| format!(", at least {} needed", people(needed)));
    let message = format!(
        "no room for images in {}: {free} free{needed}; remove images (`tidegate images prune`) or make room",
        folder.display()
    );
    // It may pass: images that nothing uses are removed in time.
    Error::because(Kind::Retryable, message, Full)
}

/// Bytes for people.
fn people(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20)
}

/// Bytes that a folder still takes.
pub(super) fn free(folder: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(folder).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}

/// Reading or writing the store failed.
pub(super) fn disk(what: &str, path: &Path, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            full(path.parent().unwrap_or(path), None)
        }
        _ => {
            Error::because(Kind::Permanent, format!("image store: cannot {what} {}: {e}", path.display()), e)
        }
    }
}

/// A layer could not be unpacked.
pub(super) fn layer(image: &str, folder: &Path, e: unpack::Error) -> Error {
    match e {
        unpack::Error::Full { .. } => full(folder, None),
        other => Error::because(Kind::Permanent, format!("the image {image} cannot be used: {other}"), other),
    }
}

/// An image is not what it should be.
pub(super) fn unusable(image: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Permanent, format!("the image {image} cannot be used: {why}"))
}

/// An image is not here and cannot be had.
pub(super) fn absent(image: &str, why: &str) -> Error {
    Error::new(Kind::Permanent, format!("no such image: {image} ({why})"))
}

/// A blocking task of ours did not end by itself.
pub(super) fn broken(e: tokio::task::JoinError) -> Error {
    Error::because(Kind::Retryable, format!("image store: a task ended early: {e}"), e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_figures() {
        let folder = tempfile::tempdir().expect("a folder");
        let by_kind = |kind: io::ErrorKind| disk("write", &folder.path().join("x"), kind.into());
        let error = by_kind(io::ErrorKind::StorageFull);
        assert!(is_full(&error) && error.kind.may_pass(), "{error:?}");
        assert!(error.message.contains(&folder.path().display().to_string()), "{error}");
        assert!(!is_full(&by_kind(io::ErrorKind::PermissionDenied)));
        let error = full(folder.path(), Some(3 << 19));
        assert!(error.message.contains("at least 1.5 MiB needed"), "{error}");
    }
}
