//! What a client sends behind the head, in whichever version of HTTP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::http1::server;

/// A request's body as it comes off the connection.
#[derive(Debug)]
pub enum Incoming {
    /// None.
    Empty,
    /// Over HTTP/1.1.
    Http1(Http1),
    /// Over HTTP/2.
    Http2(hyper::body::Incoming),
}

/// A request's body over HTTP/1.1.
#[derive(Debug)]
pub struct Http1(server::Body);

/// The body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Gone {
    /// Over HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] io::Error),
    /// Over HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl Incoming {
    /// A body over HTTP/1.1, if there is one.
    pub(crate) fn http1(body: Option<server::Body>) -> Self {
        body.map_or(Self::Empty, |body| Self::Http1(Http1(body)))
    }

    /// The next part.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        Poll::Ready(match self {
            Self::Empty => None,
            Self::Http1(body) => ready!(body.0.poll_frame(cx)).map(|frame| Ok(frame?)),
            Self::Http2(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| Ok(frame?)),
        })
    }

    /// Whether nothing more comes, as far as that is known.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.0.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    /// How much is still to come, as far as that is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.0.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
