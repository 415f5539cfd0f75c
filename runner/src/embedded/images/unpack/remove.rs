//! Removes a folder and all below it, however deep: no recursion, two open folders at a time.

use std::os::fd::{AsFd, OwnedFd};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::renameat,
    unistd::{UnlinkatFlags, unlinkat},
};

use super::place::open_folder;

/// Removes a folder in a folder, and all below it. Symlinks are removed, never followed.
pub(super) fn folder(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let top = open_folder(parent, name)?;
    let mut lifted = 0u64;
    loop {
        let mut again = false;
        for child in names(&top)? {
            if !gone(&top, &child)? {
                lift(&top, &child, &mut lifted)?;
                again = true;
            }
        }
        if !again {
            return unlinkat(parent, name, UnlinkatFlags::RemoveDir);
        }
    }
}

/// Removes a file or an empty folder; whether that was enough.
fn gone(folder: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        done => return done.map(|()| true),
    }
    match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Empties a folder: what is full in it moves up beside it.
fn lift(top: &OwnedFd, name: &[u8], lifted: &mut u64) -> Result<(), Errno> {
    let folder = open_folder(top, name)?;
    for child in names(&folder)? {
        while !gone(&folder, &child)? {
            *lifted += 1;
            let fresh = format!(".lifted-{lifted}");
            match renameat(&folder, child.as_slice(), top, fresh.as_str()) {
                // The name is taken: by what the layer has, so the next one is tried.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno),
                Ok(()) => break,
            }
        }
    }
    unlinkat(top, name, UnlinkatFlags::RemoveDir)
}

/// What is in a folder.
fn names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut listed = Dir::from_fd(folder.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?)?;
    let mut names = Vec::new();
    for entry in listed.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
