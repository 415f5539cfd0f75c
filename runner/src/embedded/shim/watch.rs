//! While the replica runs: what it prints goes to the log, signals go to it; when it has ended, how it did is written down.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::SystemTime,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, read},
};
use tidegate_config::spec::Exit;

use super::{
    failure::{Context, Result},
    lines::Lines,
    log::Log,
    root,
    run::{Replica, replace},
};
use crate::embedded::task::{Ended, Folder};

/// How much is read at once; more than a pipe holds.
const CHUNK: usize = 64 * 1024;
/// How often what is left in the pipes is looked for after the end, and how long in between, in milliseconds.
const ROUNDS: u32 = 64;
const STEP: u16 = 10;

/// One stream of the replica's.
struct Stream {
    pipe: Option<OwnedFd>,
    lines: Lines,
}

/// Stays until the replica has ended, and writes down how.
pub(super) fn to_the_end(folder: &Folder, mut replica: Replica) -> Result<()> {
    if let Err(error) = replica.shims.join() {
        // It is counted as its replica's then, and ends if that is killed as a whole.
        eprintln!("the shim stays in its replica's control group: {error}");
    }
    let mut streams = [Stream::new(replica.stdout, 'o'), Stream::new(replica.stderr, 'e')];
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context(|| "signals".into())?;
    let mut ended = look(replica.init);
    while ended.is_none() {
        wait(&streams, Some(signals.as_fd()), PollTimeout::NONE)?;
        forward(&mut streams, &mut replica.log);
        while let Ok(Some(signal)) = signals.read_signal() {
            pass(replica.init, i32::try_from(signal.ssi_signo).unwrap_or(0));
        }
        ended = look(replica.init);
    }
    drain(&mut streams, &mut replica.log)?;
    let code = ended.unwrap_or(255);
    let out_of_memory = code != 0 && replica.cgroup.killed_for_memory() > 0;
    let exit = Exit { code: code.into(), out_of_memory, disrupted: false, message: replica.complaint };
    let written = replace(&folder.exit(), &Ended { exit, at: SystemTime::now() });
    root::remove(&replica.cgroup);
    drop(replica.lock);
    written
}

impl Stream {
    fn new(pipe: OwnedFd, stream: char) -> Self {
        Self { pipe: Some(pipe), lines: Lines::of(stream) }
    }
}

/// Ends when there is something to do.
fn wait(
    streams: &[Stream],
    signals: Option<std::os::fd::BorrowedFd<'_>>,
    timeout: PollTimeout,
) -> Result<bool> {
    let pipes = streams.iter().filter_map(|stream| stream.pipe.as_ref().map(AsFd::as_fd));
    let mut all: Vec<_> = pipes.chain(signals).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut all, timeout) {
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(io::Error::from(error)).context(|| "poll".into()),
        Ok(ready) => Ok(ready > 0),
    }
}

/// One chunk of each stream that has something, so that neither starves the other. Whether there was anything.
fn forward(streams: &mut [Stream], log: &mut Log) -> bool {
    let mut any = false;
    for stream in streams {
        let Some(pipe) = &stream.pipe else { continue };
        let mut readable = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut readable, PollTimeout::ZERO), Ok(1..)) {
            continue;
        }
        any = true;
        let (mut buffer, mut records, now) = (vec![0; CHUNK], Vec::new(), SystemTime::now());
        match read(pipe, &mut buffer) {
            Ok(0) => {
                stream.lines.finish(now, &mut records);
                stream.pipe = None;
            }
            Ok(count) => stream.lines.push(&buffer[..count], now, &mut records),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => stream.pipe = None,
        }
        log.write(&records, now);
    }
    any
}

/// What is still in the pipes. Somebody outside may hold an end of one, and even write to it, so this is bounded.
fn drain(streams: &mut [Stream], log: &mut Log) -> Result<()> {
    for _ in 0..ROUNDS {
        if streams.iter().all(|stream| stream.pipe.is_none()) || !wait(streams, None, STEP.into())? {
            break;
        }
        forward(streams, log);
    }
    let (mut records, now) = (Vec::new(), SystemTime::now());
    for stream in streams {
        stream.lines.finish(now, &mut records);
    }
    log.write(&records, now);
    Ok(())
}

/// Who stops a shim means its replica.
fn pass(init: Pid, signal: i32) {
    if let Ok(signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT)) = Signal::try_from(signal) {
        kill(init, signal).ok();
    }
}

/// The exit code, if the first process has ended. Others are buried on the way.
fn look(init: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == init => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == init => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) => return None,
            Err(Errno::EINTR) => {}
            Err(_) => return Some(255),
            Ok(_) => {}
        }
    }
}
