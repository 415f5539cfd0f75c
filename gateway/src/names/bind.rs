//! The three sockets of an address where names are served, bound together or not at all.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

use crate::listener::{self, Inside};

/// Where resolver and listener are on an address. 0: a free one each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The resolver's, over UDP and TCP.
    pub dns: u16,
    /// The listener's.
    pub http: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { dns: 53, http: 80 }
    }
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
    /// `None`: a listener of the file has all addresses of this port; calls by name are told apart there.
    pub(super) http: Option<TcpListener>,
    addresses: (SocketAddr, SocketAddr),
}

/// An address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(.source))]
pub(super) struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl Bound {
    pub(super) fn new(ip: IpAddr, ports: Ports, inside: &Inside) -> Result<Self, BindError> {
        let dns = SocketAddr::new(ip, ports.dns);
        let at = |address| move |source| BindError { address, source };
        // TCP first: of a port that is chosen for us, the one over UDP is nearly always free as well, but not the reverse.
        let tcp = listener::listen(dns).map_err(at(dns))?;
        let dns = tcp.local_addr().map_err(at(dns))?;
        let udp = UdpSocket::bind(dns).map_err(at(dns))?;
        udp.set_nonblocking(true).map_err(at(dns))?;
        let wanted = SocketAddr::new(ip, ports.http);
        let http = match listener::listen(wanted) {
            Ok(socket) => Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && inside.covers(wanted) => None,
            Err(source) => return Err(BindError { address: wanted, source }),
        };
        let actual = http.as_ref().map_or(Ok(wanted), TcpListener::local_addr).map_err(at(wanted))?;
        Ok(Self { udp, tcp, http, addresses: (dns, actual) })
    }

    /// Resolver and listener.
    pub(super) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        self.addresses
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port (a resolver on all addresses?): keep it off this address, or set gateway.internal_names = false"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE; or set gateway.internal_names = false"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address (yet)",
        _ => "",
    }
}
