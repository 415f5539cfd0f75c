//! The image's layers and the replica's own as one file system, by the kernel's overlayfs.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::mount::MsFlags;
use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen, move_mount,
    },
};

use super::failure::{Context, Failure, Result};

/// Said outright, because kernels are built with different defaults, and a layer must mean the same everywhere.
const OPTIONS: [(&str, &str); 4] =
    [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off"), ("xino", "off")];

/// Mounts layers, lowest first, below `upper`, at `at`. `false`: the kernel has no overlayfs.
pub(super) fn mount(layers: &[PathBuf], upper: &Path, work: &Path, at: &Path) -> Result<bool> {
    // A kernel that skips syncing (`volatile`) marks the folder, so that nobody trusts it after a crash of the machine;
    // replicas do not outlive one.
    drop(fs::remove_dir_all(work.join("work/incompat")));
    let context = match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NODEV) => return Ok(false),
        Err(Errno::NOSYS) => return old(layers, upper, work, at),
        other => other.context(|| "overlayfs".into())?,
    };
    if let Err(Errno::INVAL) = fsconfig_set_string(&context, "lowerdir+", highest(layers)?) {
        return old(layers, upper, work, at);
    }
    match new(&context, layers, upper, work, at) {
        Ok(()) => Ok(true),
        Err(error) => {
            let said = said(&context);
            Err(Failure::retryable(format!("the root file system cannot be mounted: {error}{said}")))
        }
    }
}

fn highest(layers: &[PathBuf]) -> Result<&Path> {
    layers.last().map(PathBuf::as_path).ok_or_else(|| Failure::permanent("an image without layers"))
}

fn new(
    context: &OwnedFd,
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    at: &Path,
) -> rustix::io::Result<()> {
    // The highest is set already.
    for layer in layers.iter().rev().skip(1) {
        fsconfig_set_string(context, "lowerdir+", layer.as_path())?;
    }
    fsconfig_set_string(context, "upperdir", upper)?;
    fsconfig_set_string(context, "workdir", work)?;
    for (option, value) in OPTIONS {
        fsconfig_set_string(context, option, value)?;
    }
    fsconfig_set_flag(context, "volatile")?;
    fsconfig_create(context)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mounted = fsmount(context.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_NODEV)?;
    move_mount(&mounted, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// What the kernel has to say about a mount that did not work.
fn said(context: &OwnedFd) -> String {
    let (mut words, mut buffer) = (String::new(), [0; 1024]);
    while let Ok(read) = rustix::io::read(context, &mut buffer) {
        words.push_str(": ");
        words.push_str(String::from_utf8_lossy(&buffer[..read]).trim());
    }
    words
}

/// The way before Linux 6.8: all options in one page, so the layers are named from a folder that they have in common.
fn old(layers: &[PathBuf], upper: &Path, work: &Path, at: &Path) -> Result<bool> {
    let base = common(layers);
    let mut lower = layers.iter().rev().map(|layer| escaped(layer.strip_prefix(&base).unwrap_or(layer)));
    let mut options = b"lowerdir=".to_vec();
    options.extend(lower.next().unwrap_or_default());
    for layer in lower {
        options.push(b':');
        options.extend(layer);
    }
    for (option, place) in [("upperdir", upper), ("workdir", work)] {
        options.extend([b",", option.as_bytes(), b"=", &escaped(place)].concat());
    }
    for (option, value) in OPTIONS {
        options.extend([b",", option.as_bytes(), b"=", value.as_bytes()].concat());
    }
    let told = || "the root file system cannot be mounted".to_owned();
    std::env::set_current_dir(&base).context(told)?;
    let flags = MsFlags::MS_NODEV;
    let mounted = nix::mount::mount(Some("overlay"), at, Some("overlay"), flags, Some(options.as_slice()));
    std::env::set_current_dir("/").context(told)?;
    match mounted {
        Err(nix::errno::Errno::ENODEV) => Ok(false),
        other => other.map(|()| true).map_err(io::Error::from).context(told),
    }
}

/// The longest folder that all layers are in.
fn common(layers: &[PathBuf]) -> PathBuf {
    let parent = |layer: &PathBuf| layer.parent().map(Path::to_path_buf).unwrap_or_default();
    let first = layers.first().map(parent).unwrap_or_default();
    let shared = first.ancestors().find(|base| layers.iter().all(|layer| layer.starts_with(base)));
    shared.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// What separates options and layers is part of a name here.
fn escaped(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    bytes
        .iter()
        .flat_map(|byte| if b":,\\".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_from_their_common_folder() {
        for (layers, expected) in [
            (vec!["/a/b/1", "/a/b/2"], "/a/b"),
            (vec!["/a/b/1"], "/a/b"),
            (vec!["/a/b/1", "/a/c/2"], "/a"),
            (vec!["/x/1", "/y/2"], "/"),
        ] {
            let layers: Vec<_> = layers.into_iter().map(PathBuf::from).collect();
            assert_eq!(common(&layers), Path::new(expected), "{layers:?}");
        }
        assert_eq!(escaped(Path::new("/a:b,c\\d")), b"/a\\:b\\,c\\\\d");
    }
}
