//! A new volume begins with what the image has in its place.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::{
    copy,
    failure::{Context, Result},
};

/// Copies what is at `target` in the image into `volume`, if that is an empty folder. A volume is filled at once or not
/// at all; of two replicas that start together one fills it.
pub(super) fn fill(rootfs: &Path, target: &str, volume: &Path) -> Result<()> {
    filled(rootfs, target, volume)
        .context(|| format!("the volume at {target} cannot be filled with what the image has there"))
}

fn filled(rootfs: &Path, target: &str, volume: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags, Mode::empty())?;
    let Ok(image) = openat2(&root, target, flags, Mode::empty(), ResolveFlags::IN_ROOT) else {
        return Ok(());
    };
    let image = PathBuf::from(format!("/proc/self/fd/{}/.", image.as_raw_fd()));
    if !empty(volume)? {
        return Ok(());
    }
    if empty(&image)? {
        return copy::like(&image, volume);
    }
    let aside = volume.with_extension(format!("filling-{}", std::process::id()));
    fs::create_dir(&aside)?;
    let done = copy::folder(&image, &aside).and_then(|()| match fs::rename(&aside, volume) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(&aside),
        other => other,
    });
    done.inspect_err(|_| drop(fs::remove_dir_all(&aside)))
}

fn empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}
