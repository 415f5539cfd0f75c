//! The listening sockets of [`gateway.listen`](tidegate_config::model::Gateway::listen): bound by us (so that a taken
//! port is told at once, and port 0 works), or passed in by systemd or by the gateway that this one takes over from.
//! Absent: accepting, which is the [`listener`](crate::listener)'s.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    time::Duration,
};

use socket2::TcpKeepalive;

/// A listen address that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It cannot be bound.
    #[error("cannot listen on {address}: {source}{hint}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What to do.
        hint: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A socket was passed in for an address that the file does not name.
    #[error(
        "systemd passes a socket on {passed}{name}, but gateway.listen is {configured}; make ListenStream= of the .socket unit and gateway.listen agree"
    )]
    NotConfigured {
        /// Where the socket listens.
        passed: SocketAddr,
        /// Its name, in words.
        name: String,
        /// What the file says.
        configured: String,
    },
}

/// A socket that somebody else has bound.
#[derive(Debug)]
pub struct Passed {
    /// Its name.
    pub name: String,
    /// The address that it was configured as; `None`: the one that it has.
    pub configured: Option<SocketAddr>,
    /// The socket, which listens.
    pub listener: TcpListener,
    /// Who has bound it.
    pub by: By,
}

/// Who has bound a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// systemd, for as long as the `.socket` unit is active.
    Systemd,
    /// The gateway before this one.
    Gateway,
}

/// Sockets that are bound and queue connections, but are not served yet.
#[derive(Debug)]
pub struct Sockets(Vec<Socket>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Socket {
    /// The address that the file names.
    pub(crate) configured: SocketAddr,
    /// The one that it has, where the port 0 has turned into another.
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
}

impl Socket {
    /// Another handle on it.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        let Self { configured, address, listener } = self;
        Ok(Self { configured: *configured, address: *address, listener: listener.try_clone()? })
    }
}

/// Connections that wait for `accept`; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65_535;

impl Sockets {
    /// Binds all addresses or none.
    ///
    /// # Errors
    /// The first address that cannot be had, with what to do.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        Self::gather(addresses, Vec::new())
    }

    /// Uses the sockets in `passed` for the addresses that they fit, and binds the others.
    ///
    /// # Errors
    /// The first address that cannot be had; a socket from systemd that fits none of them.
    pub fn gather(addresses: &[SocketAddr], mut passed: Vec<Passed>) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(addresses.len());
        for configured in addresses {
            let fits =
                |passed: &Passed| fits(*configured, passed.configured, passed.listener.local_addr().ok());
            let listener = match passed.iter().position(fits) {
                Some(at) => Ok(passed.remove(at).listener),
                None => listen(*configured),
            };
            let bound = listener.and_then(|listener| {
                // What is accepted has it from the listener.
                keep_alive(&listener)?;
                Ok((listener.local_addr()?, listener))
            });
            let (address, listener) = bound.map_err(|source| BindError::Bind {
                address: *configured,
                hint: hint(&source),
                source,
            })?;
            sockets.push(Socket { configured: *configured, address, listener });
        }
        refuse_rest(addresses, &passed)?;
        Ok(Self(sockets))
    }

    /// The addresses, with the ports that 0 turned into.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|socket| socket.address).collect()
    }

    /// Takes out all but the first `count`.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        Self(self.0.split_off(count))
    }

    pub(crate) fn into_sockets(self) -> Vec<Socket> {
        self.0
    }

    /// More handles on the same sockets, to be passed on.
    ///
    /// # Errors
    /// When this process has no more file descriptors.
    pub(crate) fn duplicates(&self) -> io::Result<Vec<Socket>> {
        self.0.iter().map(Socket::duplicate).collect()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (SocketAddr, TcpListener)> {
        self.0.into_iter().map(|socket| (socket.address, socket.listener))
    }
}

/// What was passed and is wanted by nobody: from systemd that is a mistake, from another gateway a changed file.
fn refuse_rest(addresses: &[SocketAddr], passed: &[Passed]) -> Result<(), BindError> {
    for rest in passed {
        let Ok(address) = rest.listener.local_addr() else { continue };
        match rest.by {
            By::Systemd => {
                let configured: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                let name = if rest.name.is_empty() { String::new() } else { format!(" ({})", rest.name) };
                return Err(BindError::NotConfigured {
                    passed: address,
                    name,
                    configured: configured.join(", "),
                });
            }
            By::Gateway => {
                tracing::warn!(%address, "not in the file any more; it is closed when the old gateway leaves it");
            }
        }
    }
    Ok(())
}

/// Whether a socket is the one that an address of the file asks for. systemd's plain port numbers are sockets for IPv6
/// that take IPv4 too, which is what `0.0.0.0` asks for.
fn fits(wanted: SocketAddr, configured: Option<SocketAddr>, actual: Option<SocketAddr>) -> bool {
    let both = |actual: SocketAddr| {
        let same_port = actual.port() == wanted.port();
        same_port && actual.ip().is_unspecified() && actual.is_ipv6() && wanted.ip().is_unspecified()
    };
    configured == Some(wanted)
        || configured.is_none() && actual.is_some_and(|actual| actual == wanted || both(actual))
}

pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// After so long without a word the other end is asked whether it is there, so often, with so long between.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Has the kernel notice that a connection's other end is gone, although nothing moves: within two minutes. Otherwise a
/// client that vanished would keep its service awake for ever.
pub(crate) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_keepalive(&KEEP_ALIVE)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port: stop it, or set another one with gateway.listen or TIDEGATE_GATEWAY__LISTEN"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Gateway => "the gateway before this one",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(address: &str, configured: Option<&str>, by: By) -> Passed {
        let listener = listen(address.parse().expect("an address")).expect("a free port");
        let configured = configured.map(|text| text.parse().expect("an address"));
        Passed { name: "web".into(), configured, listener, by }
    }

    #[test]
    fn a_socket_that_fits_is_used() {
        let given = passed("127.0.0.1:0", None, By::Systemd);
        let address = given.listener.local_addr().expect("a bound socket");
        let sockets = Sockets::gather(&[address], vec![given]).expect("it fits");
        assert_eq!(sockets.addresses(), [address]);
    }

    #[test]
    fn one_that_fits_nothing_is_named_with_what_was_asked_for() {
        let given = passed("127.0.0.1:0", None, By::Systemd);
        let address = given.listener.local_addr().expect("a bound socket").to_string();
        let wanted: SocketAddr = "127.0.0.2:0".parse().expect("an address");
        let error = Sockets::gather(&[wanted], vec![given]).expect_err("it fits nothing").to_string();
        for word in [&address, "127.0.0.2:0", "(web)", "ListenStream="] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_is_accepted_notices_that_its_other_end_is_gone() {
        let sockets = Sockets::bind(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        let client = std::net::TcpStream::connect(sockets.addresses()[0]).expect("a listener");
        let listener = &sockets.0[0].listener;
        listener.set_nonblocking(false).expect("a socket option");
        let (accepted, _) = listener.accept().expect("a connection");
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a socket option"), Duration::from_secs(60));
        drop(client);
    }

    #[test]
    fn a_port_of_chance_is_passed_on_by_what_it_was_asked_as() {
        let given = passed("127.0.0.1:0", Some("127.0.0.1:0"), By::Gateway);
        let address = given.listener.local_addr().expect("a bound socket");
        let wanted = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(Sockets::gather(&[wanted], vec![given]).expect("it fits").addresses(), [address]);
    }

    #[test]
    fn what_fits() {
        for (wanted, configured, actual, want) in [
            ("0.0.0.0:80", None, "0.0.0.0:80", true),
            ("0.0.0.0:80", None, "[::]:80", true),
            ("[::]:80", None, "0.0.0.0:80", false),
            ("0.0.0.0:80", None, "[::]:81", false),
            ("127.0.0.1:80", None, "[::]:80", false),
            ("0.0.0.0:80", Some("0.0.0.0:81"), "0.0.0.0:80", false),
        ] {
            let parse = |text: &str| text.parse().expect("an address");
            let found = fits(parse(wanted), configured.map(parse), Some(parse(actual)));
            assert_eq!(found, want, "{wanted} {configured:?} {actual}");
        }
    }
}
