//! What systemd says to a service and hears from it: sockets that it holds (`LISTEN_FDS`), and how we are
//! (`NOTIFY_SOCKET`). Both are a handful of environment variables and one datagram; without systemd nothing happens.

use std::{
    io,
    net::TcpListener,
    os::{
        fd::{OwnedFd, RawFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::atomic::{AtomicBool, Ordering},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::fds;
use crate::sockets::{By, Passed};

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// The variables of socket activation, not to be handed on to other processes.
pub const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Something was passed that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The number is none.
    #[error("LISTEN_FDS is {0:?}, which is not a number of sockets")]
    NotANumber(String),
    /// The descriptor is not what we serve.
    #[error(
        "file descriptor {fd}{name} from systemd is not a listening TCP socket; use ListenStream= with an address or port"
    )]
    NotATcpListener {
        /// Its number.
        fd: RawFd,
        /// Its name, in words.
        name: String,
    },
}

/// The sockets that systemd has passed to this process. The first call gets them, later ones get none.
///
/// # Errors
/// When something else was passed than listening TCP sockets.
pub fn passed() -> Result<Vec<Passed>, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let names = names(std::process::id(), |name| std::env::var(name).ok())?;
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    (FIRST..).zip(names).map(|(fd, name)| listener(fd, name)).collect()
}

/// The names of the sockets for process `pid`; unnamed ones are empty.
fn names(pid: u32, env: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, Error> {
    if env("LISTEN_PID").and_then(|text| text.parse().ok()) != Some(pid) {
        return Ok(Vec::new());
    }
    let Some(count) = env("LISTEN_FDS") else { return Ok(Vec::new()) };
    let Some(number) = count.parse::<usize>().ok().filter(|number| *number < 1024) else {
        return Err(Error::NotANumber(count));
    };
    let given = env("LISTEN_FDNAMES").unwrap_or_default();
    let given = given.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(given.take(number).collect())
}

fn listener(fd: RawFd, name: String) -> Result<Passed, Error> {
    let socket = socket2::Socket::from(fds::own(fd));
    let usable = || {
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        let internet = socket.local_addr().ok()?.as_socket().is_some();
        let listens = socket.is_listener().ok()? && socket.r#type().ok()? == socket2::Type::STREAM;
        socket.set_nonblocking(true).ok()?;
        (internet && listens).then_some(())
    };
    if usable().is_none() {
        let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
        return Err(Error::NotATcpListener { fd, name });
    }
    let listener = TcpListener::from(OwnedFd::from(socket));
    Ok(Passed { name, configured: None, listener, by: By::Systemd })
}

/// How we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Requests are answered.
    Ready,
    /// The file is read again; to be followed by [`State::Ready`].
    Reloading,
    /// We end.
    Stopping,
    /// This process is the gateway from now on.
    MainPid(u32),
}

/// Tells systemd, if it listens.
pub fn notify(state: State) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let text = match state {
        State::Ready => "READY=1".to_owned(),
        State::Reloading => "RELOADING=1".to_owned(),
        State::Stopping => "STOPPING=1".to_owned(),
        State::MainPid(pid) => format!("MAINPID={pid}\nREADY=1"),
    };
    if let Err(error) = tell(&path, &text) {
        tracing::warn!(%path, %error, "systemd cannot be told: {text}");
    }
}

fn tell(path: &str, text: &str) -> io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A full queue must not hold us up.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process_counts() {
        let env = |pid: &'static str, count: &'static str, names: &'static str| {
            move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                "LISTEN_FDNAMES" => (!names.is_empty()).then(|| names.to_owned()),
                _ => None,
            }
        };
        let none: [&str; 0] = [];
        assert_eq!(names(7, env("8", "2", "a:b")).expect("fine"), none);
        assert_eq!(names(7, |_| None).expect("fine"), none);
        assert_eq!(names(7, env("7", "2", "a:b")).expect("fine"), ["a", "b"]);
        assert_eq!(names(7, env("7", "2", "")).expect("fine"), ["", ""]);
        assert!(names(7, env("7", "two", "")).is_err());
    }

    #[test]
    fn systemd_is_told_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notify");
        let hears = UnixDatagram::bind(&path).expect("a socket");
        tell(path.to_str().expect("text"), "READY=1").expect("told");
        let name = format!("tidegate-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let abstractly = UnixDatagram::bind_addr(&address).expect("a socket");
        tell(&format!("@{name}"), "STOPPING=1").expect("told");
        let mut buffer = [0; 64];
        for (socket, want) in [(hears, "READY=1"), (abstractly, "STOPPING=1")] {
            let length = socket.recv(&mut buffer).expect("a datagram");
            assert_eq!(&buffer[..length], want.as_bytes());
        }
    }
}
