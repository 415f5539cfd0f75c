//! A client's connection, with or without TLS.

use std::{
    io::{self, IoSlice},
    os::fd::AsRawFd,
    pin::Pin,
    task::{Context, Poll},
};

use pingora::protocols::l4::ext::get_tcp_info;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Line {
    /// In clear text.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Somebody else has it now.
    Away,
}

/// Whether this machine tells what the other ends of its connections have taken; asked of any socket of TCP.
pub(crate) fn tells_taken(socket: &impl AsRawFd) -> bool {
    get_tcp_info(socket.as_raw_fd()).is_ok()
}

impl Line {
    /// Whether the other end has broken it off.
    pub(super) fn is_broken(&self) -> bool {
        self.socket().is_none_or(|socket| !matches!(socket.take_error(), Ok(None)))
    }

    /// When it is dropped, the client shall not take that for an end in order. Over TLS it does not: that says goodbye.
    pub(super) fn reset(&self) {
        if let Self::Plain(_) = self {
            self.abandon();
        }
    }

    /// When it is dropped, what the client has not taken is dropped with it.
    pub(super) fn abandon(&self) {
        if let Some(socket) = self.socket() {
            // Nothing can be done where it fails.
            drop(socket.set_zero_linger());
        }
    }

    /// How many bytes the other end has taken so far: what it has confirmed, and not what waits for it in the kernel. `None`
    /// where that is not to be known.
    pub(super) fn taken(&self) -> Option<u64> {
        let known = get_tcp_info(self.socket()?.as_raw_fd()).ok()?;
        Some(known.tcpi_bytes_acked).filter(|bytes| *bytes > 0)
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Away => None,
        }
    }
}

/// Does the same on either.
macro_rules! either {
    ($line:expr, $stream:ident => $does:expr, $away:expr) => {
        match $line.get_mut() {
            Line::Plain($stream) => {
                let $stream = Pin::new($stream);
                $does
            }
            Line::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $does
            }
            Line::Away => $away,
        }
    };
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer), Poll::Ready(Ok(())))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, buffer), Poll::Ready(Ok(0)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, buffers), Poll::Ready(Ok(0)))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Away => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx), Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx), Poll::Ready(Ok(())))
    }
}
