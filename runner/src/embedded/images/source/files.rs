//! The files that an image is kept in: those of a folder, or of a tar, compressed or not. All of it blocks.
//! Holds: only regular files are opened, and nothing outside the folder or tar by a name of one part after the other.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Seek},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    super::unpack::{Lies, decompress, index, is_compressed},
    Error,
};

/// More than the files of any image take, uncompressed.
const ARCHIVE: u64 = 128 << 30;
/// How many links may follow each other.
const LINKS: usize = 8;

/// A file that was opened, and how long it is.
pub(super) type Opened = (Box<dyn Read + Send>, u64);

/// Files by their names, which have `/` between parts.
pub(super) trait Files: Send + Sync {
    /// Opens a file; `None`: there is none.
    fn open(&self, name: &str) -> Result<Option<Opened>, Error>;
}

/// All of a file that is there and small.
pub(super) fn small(files: &dyn Files, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some((reader, size)) = files.open(name)? else { return Ok(None) };
    if size > most {
        let why = format!("it has {size} bytes, {most} at most");
        return Err(Error::Bad { what: name.into(), why });
    }
    let mut bytes = Vec::new();
    reader.take(most).read_to_end(&mut bytes).map_err(|e| failed(format!("read {name}"), e))?;
    Ok(Some(bytes))
}

/// The files of a folder.
pub(super) struct Folder(pub PathBuf);

impl Files for Folder {
    fn open(&self, name: &str) -> Result<Option<Opened>, Error> {
        let path = self.0.join(name);
        match regular(&path) {
            Ok((file, size)) => Ok(Some((Box::new(file), size))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(format!("open {}", path.display()), e)),
        }
    }
}

/// The files of a tar.
pub(super) struct Archive {
    file: Arc<File>,
    files: BTreeMap<String, Lies>,
}

impl Archive {
    /// Reads where the files of a tar lie. A compressed one is unpacked into a file without a name in `scratch`.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self, Error> {
        let opening = |e| failed(format!("open {}", path.display()), e);
        let (mut file, _) = regular(path).map_err(opening)?;
        let mut start = [0; 4];
        let got = file.read(&mut start).map_err(opening)?;
        file.rewind().map_err(opening)?;
        if is_compressed(&start[..got]) {
            file = plain(file, path, scratch)?;
        }
        let files = index(&file).map_err(|e| bad(path, e.to_string().replace("the layer", "it")))?;
        Ok(Self { file: Arc::new(file), files })
    }
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Option<Opened>, Error> {
        let mut name = name.to_owned();
        for _ in 0..LINKS {
            match self.files.get(&name) {
                None => return Ok(None),
                Some(Lies::At(at, size)) => {
                    let part = Part { file: Arc::clone(&self.file), at: *at, left: *size };
                    return Ok(Some((Box::new(part), *size)));
                }
                Some(Lies::Link(target)) => name.clone_from(target),
                Some(Lies::Symlink(target)) => name = beside(&name, target),
            }
        }
        Err(Error::Bad { what: name, why: "it is a link to a link, and so on".into() })
    }
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let got = self.file.read_at(&mut into[..most], self.at)?;
        if got == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive has become shorter"));
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Opens a regular file: no pipe that waits for ever, no device that never ends.
fn regular(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if found.is_file() {
        Ok((file, found.len()))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn plain(file: File, path: &Path, scratch: &Path) -> Result<File, Error> {
    let writing = |e| failed(format!("unpack {} into {}", path.display(), scratch.display()), e);
    let reader = decompress(file).map_err(writing)?;
    let mut plain = tempfile::tempfile_in(scratch).map_err(writing)?;
    let bytes = io::copy(&mut reader.take(ARCHIVE + 1), &mut plain).map_err(writing)?;
    if bytes > ARCHIVE {
        return Err(bad(path, format!("it has more than {ARCHIVE} bytes")));
    }
    Ok(plain)
}

/// What a symlink of a tar leads to; what is above the tar's top is its top.
fn beside(name: &str, target: &str) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let start = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub(super) fn failed(what: String, source: io::Error) -> Error {
    Error::Io { what, source }
}

pub(super) fn bad(path: &Path, why: String) -> Error {
    Error::Bad { what: path.display().to_string(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_within_the_tar() {
        for (name, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", "b/layer.tar"),
            ("a/x", "y", "a/y"),
            ("x", "../../../etc/passwd", "etc/passwd"),
            ("a/b/x", "/c/./d", "c/d"),
        ] {
            assert_eq!(beside(name, target), expected, "{name} -> {target}");
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero")).expect("a link");
        std::fs::write(folder.path().join("file"), "text").expect("a file");
        let files = Folder(folder.path().into());
        for name in ["pipe", "zero", "."] {
            assert!(files.open(name).is_err(), "{name}");
        }
        assert!(files.open("none").expect("no error").is_none());
        assert_eq!(small(&files, "file", 4).expect("small"), Some(b"text".to_vec()));
        assert!(small(&files, "file", 3).is_err());
    }
}
