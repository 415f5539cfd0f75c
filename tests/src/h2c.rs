//! Replicas that speak HTTP/2 stream by stream, or frame by frame, as a test likes.

use std::sync::Arc;

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, Request};
use tokio::task::JoinSet;

use crate::{client::Wire, targets::Behaviour};

/// A replica whose connections are made by `builder` and whose streams are `talk`'s.
pub fn streams<F: Future<Output = ()> + Send + 'static>(
    builder: Builder,
    talk: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
) -> Behaviour {
    let talk = Arc::new(talk);
    Behaviour::raw(move |stream| {
        let (talk, builder) = (Arc::clone(&talk), builder.clone());
        async move {
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
            let mut tasks = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = connection.accept() => match accepted {
                        Some(Ok((request, respond))) => drop(tasks.spawn(talk(request, respond))),
                        Some(Err(_)) | None => return,
                    },
                    Some(_) = tasks.join_next() => {}
                }
            }
        }
    })
}

/// Reads a body to its end; `None` if it breaks off.
pub async fn read(body: &mut RecvStream) -> Option<Bytes> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        all.extend_from_slice(&piece);
    }
    Some(all.into())
}

/// A server of gRPC: what a call sends comes back, message by message, and then the status that its path ends with. A path
/// that starts with `/only` is answered with trailers only; a call to one that starts with `/endless` does not end.
#[must_use]
pub fn grpc() -> Behaviour {
    streams(Builder::new(), |request, mut respond| async move {
        let (head, mut body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let status = path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut response = http::Response::new(());
        let kind = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", kind);
        for name in ["grpc-timeout", "x-meta"] {
            if let Some(value) = head.headers.get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        let status = http::HeaderValue::try_from(status).expect("a path is a value");
        if path.starts_with("/only") {
            response.headers_mut().insert("grpc-status", status);
            // The caller may have gone, here and below.
            drop(respond.send_response(response, true));
            return;
        }
        let Ok(mut send) = respond.send_response(response, false) else { return };
        while let Some(Ok(piece)) = body.data().await {
            drop(body.flow_control().release_capacity(piece.len()));
            if send.send_data(piece, false).is_err() {
                return;
            }
        }
        if path.starts_with("/endless") {
            std::future::pending::<()>().await;
        }
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), status)]);
        drop(send.send_trailers(trailers));
    })
}

/// What a client sends first on a connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Bytes,
}

/// `HEADERS`.
pub const HEADERS: u8 = 1;
/// `RST_STREAM`.
pub const RST_STREAM: u8 = 3;
/// `SETTINGS`.
pub const SETTINGS: u8 = 4;
/// `GOAWAY`.
pub const GOAWAY: u8 = 7;

impl Frame {
    /// A frame without flags.
    pub fn new(kind: u8, stream: u32, payload: impl Into<Bytes>) -> Self {
        Self { kind, flags: 0, stream, payload: payload.into() }
    }

    /// Reads one; `None` if the connection ends.
    pub async fn read(wire: &mut Wire) -> Option<Self> {
        let head = wire.exactly(9).await;
        let head: &[u8; 9] = head.as_ref().try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = wire.exactly(length).await;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        (payload.len() == length).then_some(Self { kind: head[3], flags: head[4], stream, payload })
    }

    /// Sends it.
    ///
    /// # Panics
    /// When it is too long.
    pub async fn send(&self, wire: &mut Wire) {
        let length = u32::try_from(self.payload.len()).expect("a short frame").to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()[..]].concat();
        wire.send([&head[..], &self.payload].concat()).await;
    }
}

/// The beginning of a connection, on the server's side: the preface is read, empty settings are sent.
pub async fn greet(wire: &mut Wire) {
    let preface = wire.exactly(PREFACE.len()).await;
    if preface == PREFACE {
        Frame::new(SETTINGS, 0, Bytes::new()).send(wire).await;
    }
}
