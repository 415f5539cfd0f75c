//! What a replica answers behind the head: a body, or a tunnel.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;

use super::{
    connection::{Broken, Connection},
    home::Home,
};
use crate::http1::rewound::Rewound;

/// A connection that has changed its protocol: bytes, from the first one behind the head.
pub(crate) type Tunnel = Rewound<TcpStream>;

/// A response's body. Its connection goes home when it has ended well; dropping it before closes the connection.
#[derive(Debug)]
pub(crate) struct Reply(Option<(Box<Connection>, Arc<Home>)>);

impl Reply {
    pub(super) fn new(connection: Box<Connection>, home: Arc<Home>) -> Self {
        Self(Some((connection, home)))
    }

    /// Whether nothing follows. An empty body is read by nobody, so its end is to be asked for.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.is_end_stream() {
            self.go_home();
        }
        self.0.is_none()
    }

    /// What follows a head that changed the protocol.
    pub(crate) fn into_tunnel(self) -> Option<Tunnel> {
        let (connection, _) = self.0?;
        let (stream, ahead) = connection.into_stream();
        Some(Tunnel::new(ahead, stream))
    }

    fn go_home(&mut self) {
        if let Some((connection, home)) = self.0.take() {
            home.take_back(connection);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some((connection, _)) = &mut self.0 else { return Poll::Ready(None) };
        let frame = match connection.broken.take() {
            Some(broken) => Some(Err(broken)),
            None => match ready!(connection.poll_frame(cx)) {
                // What came before goes out first: it is flushed when nothing more is there, and lost on an error.
                Some(Err(broken)) => {
                    connection.broken = Some(broken);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                frame => frame,
            },
        };
        match &frame {
            Some(Ok(_)) if !connection.is_ended() => {}
            Some(Ok(_)) | None => self.go_home(),
            Some(Err(_)) => self.0 = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(connection, _)| connection.is_ended())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some((connection, _)) => connection.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
