//! Connections that a load balancer makes: it says first who the client is, by the PROXY protocol.

use std::{io, net::SocketAddr};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::proxy_protocol::{Malformed, Progress, Said, parse};

/// A connection whose client is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// What came is no header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection broke.
    #[error(transparent)]
    Closed(#[from] io::Error),
}

/// The client's address; the balancer's own where it names nobody. Reads the header and not one byte more.
pub(super) async fn client(stream: &mut TcpStream, balancer: SocketAddr) -> Result<SocketAddr, Broken> {
    let mut header = Vec::new();
    loop {
        match parse(&header)? {
            Progress::Whole { said: Said::Client(address), .. } => return Ok(address),
            Progress::Whole { said: Said::Nobody, .. } => return Ok(balancer),
            Progress::More(more) => {
                let known = header.len();
                header.resize(known + more, 0);
                stream.read_exact(&mut header[known..]).await?;
            }
        }
    }
}
