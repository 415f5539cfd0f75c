//! Where connections come from: TCP, with TLS on top where the URL says so. `[IO]`
//! [`Dial`] is the seam for those who bring connections of their own, over which time may be virtual.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::target::Target;

/// For one of several addresses; a request's own timeout may be shorter.
const PATIENCE: Duration = Duration::from_secs(10);

/// A target that nobody can be sent to.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be reached at {addresses}")]
pub struct Unreachable {
    /// As its URL has it.
    name: String,
    /// What that means, with ports.
    addresses: String,
    /// What came of it.
    #[source]
    source: io::Error,
}

/// Brings connections.
pub trait Dial: fmt::Debug + Send + Sync {
    /// A connection to a target; `h2` if HTTP/2 is to be spoken on it.
    fn dial<'a>(
        &'a self,
        target: &'a Target,
        h2: bool,
    ) -> Pin<Box<dyn Future<Output = io::Result<Io>> + Send + 'a>>;
}

/// A connection of any kind.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// A connection. The usual kinds are told apart without an indirection.
#[derive(Debug)]
pub enum Io {
    /// In clear text.
    Tcp(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// What somebody else brought.
    Other(Box<dyn Stream>),
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    /// For HTTP/1.1 and for HTTP/2; `None` if nothing is reached over TLS.
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, Arc<rustls::ClientConfig>)>,
}

impl Dial for Network {
    fn dial<'a>(
        &'a self,
        target: &'a Target,
        h2: bool,
    ) -> Pin<Box<dyn Future<Output = io::Result<Io>> + Send + 'a>> {
        Box::pin(async move {
            let stream = connect(target).await?;
            // Else a request may wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            match &self.tls {
                Some((http1, http2)) if target.secure => {
                    secure(stream, target, if h2 { http2 } else { http1 }, h2).await
                }
                Some(_) | None => Ok(Io::Tcp(stream)),
            }
        })
    }
}

/// Opens a connection to a target and closes it again.
pub(crate) async fn reach(
    dial: &dyn Dial,
    target: &Target,
    h2: bool,
    patience: Duration,
) -> Result<(), Unreachable> {
    let dialled = timeout(patience, dial.dial(target, h2)).await;
    let source = match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(_) => return Ok(()),
        Err(source) => source,
    };
    let addresses: Vec<String> = target.addresses.iter().map(ToString::to_string).collect();
    Err(Unreachable { name: target.name.clone(), addresses: addresses.join(", "), source })
}

async fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &target.addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn secure(
    stream: TcpStream,
    target: &Target,
    config: &Arc<rustls::ClientConfig>,
    h2: bool,
) -> io::Result<Io> {
    let name = ServerName::try_from(target.name.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    if h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("the server does not speak HTTP/2"));
    }
    Ok(Io::Tls(Box::new(stream)))
}

macro_rules! each {
    ($io:expr, $stream:ident => $call:expr) => {
        match $io.get_mut() {
            Io::Tcp($stream) => $call,
            Io::Tls($stream) => $call,
            Io::Other($stream) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, room))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
