//! The one place where a bare number becomes a file descriptor of ours.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that the kernel has just given us (with a message, or at the start of the process) and that
/// nobody else owns.
#[expect(unsafe_code, reason = "a number from the kernel has no owner until it gets one here")]
pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers get each number once, from `recvmsg` or from systemd's protocol, and hand it on to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
