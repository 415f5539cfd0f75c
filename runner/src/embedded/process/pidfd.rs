//! Processes by file descriptor, so that a number that was given to another process is never taken for the old one.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::task::Pid;

/// The process, if it lives.
pub(super) fn open(pid: Pid) -> io::Result<Option<OwnedFd>> {
    let Some(number) = rustix::process::Pid::from_raw(pid.pid) else { return Ok(None) };
    let opened = match pidfd_open(number, PidfdFlags::empty()) {
        // EINVAL: the number is a thread's now.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
        other => other?,
    };
    // After opening: what is compared is what was opened.
    Ok((started(pid.pid)? == Some(pid.started)).then_some(opened))
}

/// When a process was started, in clock ticks since boot; `None` if it has ended.
pub(crate) fn started(pid: i32) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse(&stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Field 22. The second, in parentheses, may hold anything.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// Sends a signal; it is not an error if the process has ended.
pub(super) fn send(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let Some(signal) = number(signal) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no signal {signal}")));
    };
    match pidfd_send_signal(process, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

#[expect(unsafe_code, reason = "a signal that has a number only")]
fn number(signal: i32) -> Option<Signal> {
    // SAFETY: numbers from 1 to 64 are signals, and this one is sent, never installed or masked.
    (1..=64).contains(&signal).then(|| unsafe { Signal::from_raw_unchecked(signal) })
}

/// Something that looks to `poll` as a process that has ended.
pub(super) fn ended() -> io::Result<OwnedFd> {
    let (reader, _) = io::pipe()?;
    Ok(reader.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_told_whatever_the_name() {
        let rest = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        for (stat, expected) in [
            (format!("42 (sh) S {rest}"), Some(4711)),
            (format!("42 (a) b) Z) R {rest}"), Some(4711)),
            (format!("42 (sh) Z {rest}"), None),
            ("42 (sh".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse(&stat), expected, "{stat}");
        }
    }

    #[test]
    fn another_process_with_the_same_number_is_not_taken() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let started = started(pid).expect("read").expect("it lives");
        assert!(open(Pid { pid, started }).expect("opened").is_some());
        assert!(open(Pid { pid, started: started + 1 }).expect("opened").is_none());
        assert!(open(Pid { pid: 0, started }).expect("opened").is_none());
    }
}
