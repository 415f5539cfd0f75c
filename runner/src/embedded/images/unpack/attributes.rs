//! Owner, mode, extended attributes and time of what was made, always through what is open: no path is looked up again.

use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::{
        stat::{Mode, UtimensatFlags, fchmod, futimens, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchown, fchownat},
};

use super::{member::Member, trouble::Trouble};

/// Attributes that small fit every file system.
const SMALL: usize = 2048;

/// Gives a file, folder or fifo what its entry says.
pub(super) fn set(file: &OwnedFd, member: &Member) -> Result<(), Trouble> {
    let (user, group) = owner(member)?;
    fchown(file, Some(user), Some(group))?;
    // A change of owner takes setuid and capabilities away: both come after it.
    fchmod(file, Mode::from_bits_truncate(member.mode))?;
    let total: usize = member.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    for (name, value) in &member.attributes {
        match attribute(file, name, value) {
            // File systems that know no attributes of users: they mean nothing to the kernel.
            Err(Errno::ENOTSUP) if name.starts_with(b"user.") => {}
            Err(Errno::ENOSPC) if total > SMALL => {
                return Err(Trouble::Refused("its extended attributes are too large for the file system"));
            }
            Err(Errno::E2BIG | Errno::ERANGE) => {
                return Err(Trouble::Refused("its extended attributes are too large"));
            }
            set => set?,
        }
    }
    let time = time(member);
    Ok(futimens(file, &time, &time)?)
}

/// Gives a symlink what its entry says.
pub(super) fn set_on_link(parent: &OwnedFd, name: &[u8], member: &Member) -> Result<(), Trouble> {
    let (user, group) = owner(member)?;
    fchownat(parent, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let time = time(member);
    Ok(utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// Makes overlayfs hide all that lower layers have in a folder.
pub(super) fn make_opaque(folder: &OwnedFd) -> Result<(), Errno> {
    attribute(folder, b"trusted.overlay.opaque", b"y")
}

fn owner(member: &Member) -> Result<(Uid, Gid), Trouble> {
    // The last number means "leave it as it is" to the kernel.
    let valid = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    match (valid(member.user), valid(member.group)) {
        (Some(user), Some(group)) => Ok((Uid::from_raw(user), Gid::from_raw(group))),
        _ => Err(Trouble::Refused("its owner is out of range")),
    }
}

fn time(member: &Member) -> TimeSpec {
    TimeSpec::new(member.modified.0, member.modified.1)
}

#[expect(unsafe_code, reason = "nix has no fsetxattr")]
fn attribute(file: impl AsFd, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open as long as `file` is borrowed; name and value are valid for the length that is given.
    let done = unsafe { libc::fsetxattr(file, name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(done).map(drop)
}
