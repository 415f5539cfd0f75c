//! A program in memory that nobody can change.

use std::{
    fs::File,
    io::{self, Seek},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::NAME;

/// A copy of a program.
pub(super) fn sealed(program: &Path) -> io::Result<OwnedFd> {
    let mut from = File::open(program)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Machines may refuse programs in memory unless it is said that this is one; old kernels do not know the word.
    let made = memfd_create(NAME, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(NAME, flags));
    let mut copy = File::from(made?);
    io::copy(&mut from, &mut copy)?;
    copy.rewind()?;
    // Nobody has mapped it, so that later writes are all there are. `WRITE` asks about mappings, and fails where the
    // machine just holds a page for some reason of its own.
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::fd::AsRawFd,
    };

    use super::*;

    #[test]
    fn a_copy_can_be_read_and_not_changed() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("program");
        std::fs::write(&path, "what it does")?;
        let mut copy = File::from(sealed(&path)?);

        let mut text = String::new();
        copy.read_to_string(&mut text)?;
        assert_eq!(text, "what it does");

        copy.rewind()?;
        for refused in [copy.write_all(b"else"), copy.set_len(4), copy.set_len(400)] {
            assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::PermissionDenied));
        }
        // Nor by a file of its own for the same memory.
        let again = File::options().write(true).open(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        assert!(again.and_then(|mut file| file.write_all(b"else")).is_err());
        Ok(())
    }
}
