//! Where entries go: folders below the layer's own, found by the kernel and never left.
//! Holds: a parent is resolved as if the layer's folder were the root of everything, symlinks included; what is made is
//! made in a folder that is open, by a name of one part, and never through a symlink.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlink},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens, mkdirat},
    sys::time::TimeSpec,
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{attributes, remove, trouble::Trouble};

/// How often a resolution is tried again that a rename elsewhere on the machine disturbed.
const TRIES: usize = 64;
/// The longest path that Linux takes.
const PATH: usize = 4095;
/// The longest part of one.
const PART: usize = 255;
/// By how much the layer's own path may become longer when it is moved.
const MOVED: usize = 256;

/// The layer's folder.
pub(super) struct Root {
    folder: OwnedFd,
    /// How many parts its own path has: what lies below is measured against it.
    parts: usize,
    /// How long the path of what lies in it may be, so that there is a path to all of it.
    longest: usize,
    depth: usize,
    parent: Option<Parent>,
}

/// The folder that the last entry was in. Its time of change is put back: what is made in it is no change of the layer.
pub(super) struct Parent {
    name: Vec<u8>,
    folder: OwnedFd,
    modified: TimeSpec,
}

impl Drop for Parent {
    fn drop(&mut self) {
        // For the look of it: a folder whose time cannot be set is no worse a folder.
        let _ = futimens(&self.folder, &self.modified, &self.modified);
    }
}

impl Root {
    pub(super) fn open(path: &Path, depth: usize) -> Result<Self, Errno> {
        let folder = open(path, folder_flags(), Mode::empty())?;
        fchmod(&folder, Mode::from_bits_truncate(0o755))?;
        let path = real(&folder)?;
        let longest = PATH.saturating_sub(path.len() + MOVED);
        Ok(Self { folder, parts: parts(&path), longest, depth, parent: None })
    }

    /// How long a name of an entry may be.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The layer's own folder.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// The folder of that name, made with what is missing above it.
    pub(super) fn parent(&mut self, name: &[u8]) -> Result<&OwnedFd, Trouble> {
        if self.parent.as_ref().is_none_or(|known| known.name != name) {
            self.parent = None;
            let folder = match self.resolve(name) {
                Err(Trouble::System(Errno::ENOENT | Errno::ENOTDIR)) => {
                    self.make(name)?;
                    self.resolve(name)?
                }
                found => found?,
            };
            let found = fstat(&folder)?;
            let modified = TimeSpec::new(found.st_mtime, found.st_mtime_nsec);
            self.parent = Some(Parent { name: name.to_vec(), folder, modified });
        }
        self.parent.as_ref().map(|parent| &parent.folder).ok_or(Trouble::System(Errno::ENOENT))
    }

    /// The folder of that name, if there is one.
    pub(super) fn resolve(&self, name: &[u8]) -> Result<OwnedFd, Trouble> {
        let plain = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let plain = plain | ResolveFlag::RESOLVE_NO_XDEV;
        let name = if name.is_empty() { b"." } else { name };
        match self.ask(name, plain | ResolveFlag::RESOLVE_NO_SYMLINKS) {
            Err(Errno::ELOOP) => {
                let folder = self.ask(name, plain).map_err(|errno| match errno {
                    Errno::ELOOP => Trouble::Refused("its folder is a loop of symlinks"),
                    errno => Trouble::System(errno),
                })?;
                // Symlinks can lead deeper than any name says.
                let path = real(&folder).map_err(|_| Trouble::Refused("its folder is too deep"))?;
                if parts(&path) > self.parts + self.depth || path.len() > PATH - MOVED - PART {
                    return Err(Trouble::Refused("its folder is too deep"));
                }
                Ok(folder)
            }
            found => Ok(found?),
        }
    }

    /// Forgets the folder that it knows: a part of its path is something else now.
    pub(super) fn forget(&mut self) {
        self.parent = None;
    }

    fn ask(&self, name: &[u8], resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new().flags(folder_flags() & !OFlag::O_NOFOLLOW).resolve(resolve);
        let mut last = Errno::EAGAIN;
        for _ in 0..TRIES {
            match openat2(&self.folder, name, how) {
                Err(errno @ (Errno::EAGAIN | Errno::EINTR)) => last = errno,
                found => return found,
            }
        }
        Err(last)
    }

    /// Makes what is missing of a folder and of those above it.
    fn make(&self, name: &[u8]) -> Result<(), Trouble> {
        let mut above = self.resolve(b"")?;
        let ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut start = 0;
        for end in ends.chain([name.len()]) {
            let part = &name[start..end];
            above = match self.resolve(&name[..end]) {
                Err(Trouble::System(Errno::ENOENT)) => implied(&above, part)?,
                Err(Trouble::System(Errno::ENOTDIR)) => reopened(&above, part)?,
                found => found?,
            };
            start = end + 1;
        }
        Ok(())
    }
}

/// A folder that the tar has no entry for (yet).
fn implied(above: &OwnedFd, part: &[u8]) -> Result<OwnedFd, Trouble> {
    let before = fstat(above)?;
    let folder = match new_folder(above, part) {
        Err(Errno::EEXIST) => return Err(Trouble::Refused("its folder is a symlink that leads nowhere")),
        made => made?,
    };
    let modified = TimeSpec::new(before.st_mtime, before.st_mtime_nsec);
    futimens(above, &modified, &modified)?;
    Ok(folder)
}

/// A folder in the place of a whiteout: what lower layers have there stays hidden.
fn reopened(above: &OwnedFd, part: &[u8]) -> Result<OwnedFd, Trouble> {
    let found = fstatat(above, part, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !is_whiteout(&found) {
        return Err(Trouble::Refused("what it is in is not a folder"));
    }
    unlinkat(above, part, UnlinkatFlags::NoRemoveDir)?;
    let folder = implied(above, part)?;
    attributes::make_opaque(&folder)?;
    Ok(folder)
}

/// Makes a folder, mode 0755, and opens it.
pub(super) fn new_folder(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
    let folder = open_folder(parent, name)?;
    // What the process masks is not the layer's business.
    fchmod(&folder, Mode::from_bits_truncate(0o755))?;
    Ok(folder)
}

/// Opens a folder in a folder; a symlink is none.
pub(super) fn open_folder(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(parent, name, folder_flags(), Mode::empty())
}

/// What has that name in a folder, if anything has.
pub(super) fn look(parent: impl AsFd, name: &[u8]) -> Result<Option<FileStat>, Errno> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        found => found.map(Some),
    }
}

/// Removes what has that name in a folder, with all that is below it.
pub(super) fn clear(parent: &OwnedFd, name: &[u8], found: &FileStat) -> Result<(), Errno> {
    if is(found, SFlag::S_IFDIR) {
        remove::folder(parent, name)
    } else {
        unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)
    }
}

pub(super) fn is(found: &FileStat, kind: SFlag) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

pub(super) fn is_whiteout(found: &FileStat) -> bool {
    is(found, SFlag::S_IFCHR) && found.st_rdev == 0
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn parts(path: &OsStr) -> usize {
    path.as_bytes().split(|byte| *byte == b'/').count()
}

/// Where an open folder lies.
fn real(folder: &OwnedFd) -> Result<OsString, Errno> {
    readlink(OsStr::from_bytes(format!("/proc/self/fd/{}", folder.as_raw_fd()).as_bytes()))
}
