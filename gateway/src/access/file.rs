//! Where lines go: standard output, standard error, or a file that may be moved away or be on a full disk.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use metrics::counter;

use crate::telemetry;

/// Where lines go.
pub(super) struct Output {
    to: To,
    /// Whether the last write failed, so that it is said once and not each time.
    failing: bool,
}

enum To {
    Stdout,
    Stderr,
    File { path: PathBuf, open: Option<File> },
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self { to: To::Stdout, failing: false }
    }

    pub(super) fn stderr() -> Self {
        Self { to: To::Stderr, failing: false }
    }

    pub(super) fn file(path: PathBuf) -> Self {
        Self { to: To::File { path, open: None }, failing: false }
    }

    /// Opens the file anew at the next write.
    pub(super) fn reopen(&mut self) {
        if let To::File { open, .. } = &mut self.to {
            *open = None;
        }
    }

    /// Writes whole lines. What cannot be written is lost, and counted.
    pub(super) fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let written = match &mut self.to {
            To::Stdout => io::stdout().lock().write_all(lines),
            To::Stderr => io::stderr().lock().write_all(lines),
            To::File { path, open } => append(path, open, lines),
        };
        match written {
            Ok(()) => self.failing = false,
            Err(error) => {
                let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                counter!(telemetry::LOG_DROPPED).increment(lost);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(to = %self.to, %error, "the access log cannot be written; requests go on, their lines are lost");
                }
            }
        }
    }
}

fn append(path: &Path, open: &mut Option<File>, lines: &[u8]) -> io::Result<()> {
    // One look for many lines: whoever rotates logs need not tell us.
    if open.as_ref().is_some_and(|file| !is_at(file, path)) {
        *open = None;
    }
    let file = match open {
        Some(file) => file,
        None => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            open.insert(OpenOptions::new().append(true).create(true).mode(0o640).open(path)?)
        }
    };
    file.write_all(lines)
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |of: std::fs::Metadata| (of.dev(), of.ino());
    file.metadata().ok().map(identity) == path.metadata().ok().map(identity)
}
