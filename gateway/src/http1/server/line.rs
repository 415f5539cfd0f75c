//! A client's connection, with or without TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

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

impl Line {
    /// Whether the other end has broken it off.
    pub(super) fn is_broken(&self) -> bool {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Away => return true,
        };
        !matches!(stream.take_error(), Ok(None))
    }

    /// When it is dropped, the client shall not take that for an end in order. Over TLS it does not: that says goodbye.
    pub(super) fn reset(&self) {
        if let Self::Plain(stream) = self {
            // Nothing can be done where it fails.
            drop(stream.set_zero_linger());
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
