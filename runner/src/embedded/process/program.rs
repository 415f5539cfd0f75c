//! A program in memory that nobody can change.

use std::{
    fs::File,
    io::{self, Seek},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A copy of a program.
pub(super) fn sealed(program: &Path) -> io::Result<OwnedFd> {
    let mut from = File::open(program)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Machines may refuse programs in memory unless it is said that this is one; old kernels do not know the word.
    let made = memfd_create("tidegate-shim", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("tidegate-shim", flags));
    let mut copy = File::from(made?);
    io::copy(&mut from, &mut copy)?;
    copy.rewind()?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}
