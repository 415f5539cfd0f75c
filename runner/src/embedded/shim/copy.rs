//! Layers as one folder without overlayfs: copied one over the other. Slow, and only where there is no other way.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
};

/// Says that everything is there.
const DONE: &str = "copied";
/// As overlayfs marks a folder that hides what lower layers have in it.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Copies layers, lowest first, into `to`; `notes` keeps in mind that it is done.
pub(super) fn layers(layers: &[PathBuf], to: &Path, notes: &Path) -> io::Result<()> {
    let done = notes.join(DONE);
    if done.exists() {
        return Ok(());
    }
    for layer in layers {
        folder(layer, to)?;
    }
    File::create(done).map(drop)
}

/// Everything in a folder, and how the folder itself is.
pub(super) fn folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        one(&entry.path(), &to.join(entry.file_name()))?;
    }
    like(from, to)
}

fn one(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let (kind, there) = (metadata.file_type(), fs::symlink_metadata(to).ok());
    if kind.is_dir() {
        let merges = there.as_ref().is_some_and(fs::Metadata::is_dir) && !is_opaque(from);
        if !merges {
            remove(to)?;
            fs::create_dir(to)?;
        }
        return folder(from, to);
    }
    remove(to)?;
    if kind.is_char_device() && metadata.rdev() == 0 {
        // It hides what was there.
        return Ok(());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return lchown(to, Some(metadata.uid()), Some(metadata.gid()));
    }
    if kind.is_fifo() {
        nix::unistd::mkfifo(to, nix::sys::stat::Mode::from_bits_truncate(metadata.mode()))?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else {
        // Devices do nothing in a replica, and sockets nothing in an image.
        return Ok(());
    }
    like(from, to)
}

/// Owner first: a change of it takes the set-id bits away.
pub(super) fn like(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))?;
    if let (Ok(modified), true) = (metadata.modified(), metadata.is_file()) {
        File::options().write(true).open(to)?.set_modified(modified)?;
    }
    Ok(())
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 1];
    OPAQUE.iter().any(|name| rustix::fs::lgetxattr(folder, *name, &mut value[..]).is_ok() && value == *b"y")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}
