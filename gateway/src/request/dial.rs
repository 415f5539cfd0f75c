//! Opens connections to replicas, and says whose fault it is when that fails. Names are never resolved here.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::retry::Failure;
use crate::sockets;

/// Data that was sent and is not acknowledged for this long ends the connection; Linux alone would try for 15 minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Connects, or tells how that failed and in words.
pub(crate) async fn connect(address: SocketAddr, within: Duration) -> Result<TcpStream, (Failure, String)> {
    let connected = tokio::time::timeout(within, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err((blame(&error), format!("connect to {address}: {error}"))),
        Err(_) => {
            return Err((Failure::Connect, format!("connect to {address}: nothing within {within:?}")));
        }
    };
    let socket = socket2::SockRef::from(&stream);
    let set = stream.set_nodelay(true).and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
    set.and_then(|()| sockets::keep_alive(&stream))
        .map_err(|error| (Failure::Ours, format!("socket options: {error}")))?;
    Ok(stream)
}

/// Errors of our own making must not be held against the replica.
fn blame(error: &io::Error) -> Failure {
    let ours = [
        nix::libc::EMFILE,
        nix::libc::ENFILE,
        nix::libc::EADDRNOTAVAIL,
        nix::libc::ENOBUFS,
        nix::libc::ENOMEM,
    ];
    if error.raw_os_error().is_some_and(|code| ours.contains(&code)) {
        Failure::Ours
    } else {
        Failure::Connect
    }
}
