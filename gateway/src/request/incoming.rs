//! What a client sends behind the head, in whichever version of HTTP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::http1::server::{self, Early};

/// A request's body as it comes off the connection.
#[derive(Debug)]
pub enum Incoming {
    /// Over HTTP/1.1.
    Http1(Http1),
    /// Over HTTP/2.
    Http2(hyper::body::Incoming),
}

/// A request's body over HTTP/1.1, if there is one.
#[derive(Debug)]
pub struct Http1(Option<server::Body>, Option<Early>);

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
    /// What came over HTTP/1.1.
    pub(crate) fn http1(incoming: server::Incoming) -> Self {
        Self::Http1(Http1(incoming.body, incoming.early))
    }

    /// The way to the client ahead of its answer, if there is one: hyper has none in HTTP/2.
    pub(crate) fn early(&mut self) -> Option<Early> {
        match self {
            Self::Http1(http1) => http1.1.take(),
            Self::Http2(_) => None,
        }
    }

    /// The next part.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Gone>>> {
        Poll::Ready(match self {
            Self::Http1(Http1(None, _)) => None,
            Self::Http1(Http1(Some(body), _)) => ready!(body.poll_frame(cx)).map(|frame| Ok(frame?)),
            Self::Http2(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| Ok(frame?)),
        })
    }

    /// Whether nothing more comes, as far as that is known.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(Http1(body, _)) => body.as_ref().is_none_or(server::Body::is_end_stream),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    /// How much is still to come, as far as that is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(Http1(body, _)) => {
                body.as_ref().map_or_else(|| SizeHint::with_exact(0), server::Body::size_hint)
            }
            Self::Http2(body) => body.size_hint(),
        }
    }
}
