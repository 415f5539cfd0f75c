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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_copied_one_over_the_other() {
        let room = tempfile::tempdir().expect("a folder");
        let at = |name: &str| room.path().join(name);
        for folder in ["1/kept", "1/gone", "1/hidden", "2/kept", "2/hidden", "to", "notes"] {
            fs::create_dir_all(at(folder)).expect("made");
        }
        for (file, text) in [
            ("1/kept/old", "old"),
            ("1/kept/both", "1"),
            ("2/kept/both", "2"),
            ("1/gone/x", ""),
            ("1/hidden/x", ""),
        ] {
            fs::write(at(file), text).expect("written");
        }
        symlink("/outside", at("2/link")).expect("linked");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::sys::stat::mknod(&at("2/gone"), nix::sys::stat::SFlag::S_IFCHR, mode, 0).expect("a whiteout");
        rustix::fs::setxattr(at("2/hidden"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .expect("set");
        fs::set_permissions(at("1/kept/old"), Permissions::from_mode(0o4750)).expect("set");
        std::os::unix::fs::chown(at("1/kept/old"), Some(12), Some(34)).expect("set");
        fs::set_permissions(at("1/kept/old"), Permissions::from_mode(0o4750)).expect("set");
        layers(&[at("1"), at("2")], &at("to"), &at("notes")).expect("copied");
        assert_eq!(fs::read_to_string(at("to/kept/both")).expect("there"), "2");
        let old = fs::metadata(at("to/kept/old")).expect("there");
        assert_eq!((old.mode() & 0o7777, old.uid(), old.gid()), (0o4750, 12, 34));
        assert!(!at("to/gone").exists() && at("to/hidden").is_dir() && !at("to/hidden/x").exists());
        assert_eq!(fs::read_link(at("to/link")).expect("there"), Path::new("/outside"));
        fs::write(at("to/kept/both"), "mine").expect("written");
        layers(&[at("1"), at("2")], &at("to"), &at("notes")).expect("nothing to do");
        assert_eq!(fs::read_to_string(at("to/kept/both")).expect("there"), "mine");
    }
}
