//! What [`crate::check`] may ask of the file system, so that it stays pure: the answers are an argument.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Answers about files.
pub(crate) trait Files {
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// Whether there is a file.
    fn exists(&self, path: &Path) -> bool;
    /// The path without symbolic links, as far as it exists.
    fn resolve(&self, path: &Path) -> PathBuf;
}

/// The file system of this machine.
pub(crate) struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.is_file()
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        // Of a path that does not exist yet, the part that does may still be a link.
        path.ancestors()
            .find_map(|part| Some((std::fs::canonicalize(part).ok()?, path.strip_prefix(part).ok()?)))
            .map_or_else(
                || path.to_owned(),
                |(real, rest)| if rest.as_os_str().is_empty() { real } else { real.join(rest) },
            )
    }
}
