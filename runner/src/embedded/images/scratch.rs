//! Folders in which something is being made. Each is locked by who makes it, so that others can tell what a crash left.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    lock::{self, Lock, Sharing},
    places,
};

/// A folder in which something is being made; removed when it is dropped, unless it was put into its place.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: Lock,
}

impl Scratch {
    /// Makes one in the folder `tmp`. Blocks.
    pub(super) fn make(tmp: &Path) -> io::Result<Self> {
        loop {
            let path = tempfile::Builder::new().prefix("t").tempdir_in(tmp)?.keep();
            let folder = File::open(&path)?;
            let inode = folder.metadata()?.ino();
            // One who opens the store may take the folder for a crash's before it is locked, and remove it.
            let mine = |path: &Path| path.metadata().is_ok_and(|found| found.ino() == inode);
            if let Some(lock) = lock::of(folder, Sharing::Alone)?
                && mine(&path)
            {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it into its place, unless something is there. Blocks.
    pub(super) fn put(self, place: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, place)?;
        // What is dropped now removes a path that is not there any more.
        drop(self);
        place.parent().map_or(Ok(()), places::sync)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = places::remove(&self.path) {
            tracing::warn!(folder = %self.path.display(), "cannot remove what was not finished: {e}");
        }
    }
}

/// Removes what nobody is making any more. Blocks.
pub(super) fn clear(tmp: &Path) -> io::Result<()> {
    for name in places::entries(tmp)? {
        let path = tmp.join(name);
        let Ok(file) = File::open(&path) else { continue };
        if let Some(_lock) = lock::of(file, Sharing::Alone)? {
            tracing::info!(folder = %path.display(), "removing what was not finished");
            places::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_makes_is_cleared() {
        let tmp = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(tmp.path().join("tcrashed/fs/usr")).expect("made");
        let living = Scratch::make(tmp.path()).expect("made");
        clear(tmp.path()).expect("cleared");
        assert!(living.path().exists() && !tmp.path().join("tcrashed").exists());
        let path = living.path().to_path_buf();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn what_has_its_place_stays() {
        let tmp = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(tmp.path().join("tmp")).expect("made");
        let place = tmp.path().join("place");
        let made = Scratch::make(&tmp.path().join("tmp")).expect("made");
        std::fs::write(made.path().join("x"), "x").expect("written");
        made.put(&place).expect("put");
        assert!(place.join("x").exists());
        let second = Scratch::make(&tmp.path().join("tmp")).expect("made");
        second.put(&place).expect_err("something is there");
        assert!(place.join("x").exists());
        assert_eq!(std::fs::read_dir(tmp.path().join("tmp")).expect("there").count(), 0);
    }
}
