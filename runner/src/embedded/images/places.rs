//! What lies where in the store's folder: the one place where these names are, and the files' own tools.
//! Holds: a file that is [`write`]ten is there whole or as it was, also after a crash.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tidegate_config::spec::Digest;

/// As many digits of a layer's digest as its folder has: overlayfs takes a page of names, and no more.
const SHORT: usize = 20;

/// The store's folder.
#[derive(Debug, Clone)]
pub(super) struct Places(PathBuf);

impl Places {
    /// Takes a folder for a store, and makes what is absent.
    pub(super) fn make(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let places = Self(root.canonicalize()?);
        for folder in ["images", "configs", "names", "layers", "partial", "locks", "tmp"] {
            fs::create_dir_all(places.0.join(folder))?;
        }
        Ok(places)
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    /// Shared by whoever adds to the store or is about to use what is there, exclusive for who removes.
    pub(super) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// What is known of images, a file for each.
    pub(super) fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    pub(super) fn image(&self, id: &Digest) -> Option<PathBuf> {
        Some(self.images().join(format!("{}.json", hex(id)?)))
    }

    /// Images' configurations, byte for byte.
    pub(super) fn configs(&self) -> PathBuf {
        self.0.join("configs")
    }

    pub(super) fn config(&self, id: &Digest) -> Option<PathBuf> {
        Some(self.configs().join(format!("{}.json", hex(id)?)))
    }

    /// What images are called, a file for each name.
    pub(super) fn names(&self) -> PathBuf {
        self.0.join("names")
    }

    pub(super) fn name(&self, name: &str) -> PathBuf {
        let digest = sha256(name.as_bytes());
        self.names().join(format!("{}.json", short(&digest)))
    }

    /// Unpacked layers, a folder for each.
    pub(super) fn layers(&self) -> PathBuf {
        self.0.join("layers")
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(short(diff_id))
    }

    /// What the one empty folder of images without layers is in.
    pub(super) fn empty(&self) -> PathBuf {
        self.layers().join("empty")
    }

    /// Held while a layer is made.
    pub(super) fn layer_lock(&self, diff_id: &Digest) -> PathBuf {
        self.locks().join(short(diff_id))
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }

    /// Downloads that are not whole yet.
    pub(super) fn partials(&self) -> PathBuf {
        self.0.join("partial")
    }

    /// A download for a layer: the layer's lock guards it, so that two layers never share one.
    pub(super) fn partial(&self, blob: &Digest, diff_id: &Digest) -> PathBuf {
        self.partials().join(format!("{}.{}", hex(blob).unwrap_or("none"), short(diff_id)))
    }

    /// What is being made.
    pub(super) fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }
}

/// The 64 hex digits of a digest, if it is one of sha256 and well-formed: only then it may be part of a path.
pub(super) fn hex(digest: &Digest) -> Option<&str> {
    let hex = digest.0.strip_prefix("sha256:")?;
    let good = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    (hex.len() == 64 && hex.bytes().all(good)).then_some(hex)
}

/// The first digits of a digest that [`hex`] takes.
pub(super) fn short(digest: &Digest) -> &str {
    hex(digest).and_then(|hex| hex.get(..SHORT)).unwrap_or("none")
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    digest(Sha256::new_with_prefix(bytes))
}

pub(super) fn digest(hasher: Sha256) -> Digest {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in hasher.finalize() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Digest(text)
}

/// Writes a file by way of another in the same folder. Blocks.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync(folder)
}

/// Sees to it that what was renamed or removed in a folder stays so. Blocks.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file or folder with all that it has; one that is not there is no error. Blocks.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match outcome {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// What a folder and all that it has take on disk; hard links count once. Blocks.
pub(super) fn size(folder: &Path) -> io::Result<u64> {
    let mut linked = std::collections::BTreeSet::new();
    let (mut open, mut blocks) = (vec![folder.to_path_buf()], 0);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let found = entry.metadata()?;
            if found.is_dir() {
                open.push(entry.path());
            } else if found.nlink() > 1 && !linked.insert(found.ino()) {
                continue;
            }
            blocks += found.blocks();
        }
    }
    Ok(blocks * 512)
}

/// The names in a folder that are text and not hidden. Blocks.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string();
        names.extend(name.ok().filter(|name| !name.starts_with('.')));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_digests_become_paths() {
        let good = format!("sha256:{}", "0a".repeat(32));
        for (text, expected) in [
            (good.as_str(), true),
            ("sha256:", false),
            ("sha512:00", false),
            ("sha256:../../../../etc/passwd", false),
            (&good.to_uppercase(), false),
            (&format!("{good}0"), false),
            (&good[7..], false),
        ] {
            assert_eq!(hex(&Digest(text.into())).is_some(), expected, "{text}");
        }
    }

    #[test]
    fn digests_are_written_as_everyone_writes_them() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b"").0, empty);
        assert_eq!(short(&sha256(b"")), "e3b0c44298fc1c149afb");
    }

    #[test]
    fn sizes_count_links_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("inner")).expect("made");
        let before = size(folder.path()).expect("measured");
        fs::write(folder.path().join("inner/a"), vec![1; 100_000]).expect("written");
        let once = size(folder.path()).expect("measured");
        fs::hard_link(folder.path().join("inner/a"), folder.path().join("b")).expect("linked");
        assert!(once >= before + 100_000, "{before} {once}");
        assert_eq!(size(folder.path()).expect("measured"), once);
    }

    #[test]
    fn a_write_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 1);
    }
}
