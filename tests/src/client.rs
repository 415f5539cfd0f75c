//! Clients of the suites: one that speaks HTTP through hyper, one that sends bytes as they are.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Response, header::HOST};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::{eventually::soon, origin::Echo, secure::TlsStream};

/// What bytes flow over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A request's body.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// No body.
#[must_use]
pub fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// A body of this length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body whose frames the test sends one by one; it ends when the sender is dropped.
#[must_use]
pub fn streamed() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel::<Frame<Bytes>>(16);
    let frames =
        stream::unfold(receiver, |mut rest| async move { rest.recv().await.map(|frame| (Ok(frame), rest)) });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// Reads a response to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn of(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// A field's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as a refusal's problem document.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        serde_json::from_slice(&self.body).expect("a problem document")
    }

    /// Status and reason of a refusal.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.problem()["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// What the origin saw.
    ///
    /// # Panics
    /// When it was not the origin that answered, or not with 200.
    #[must_use]
    pub fn echo(&self) -> Echo {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_slice(&self.body).expect("the origin's JSON")
    }
}

/// One connection to a gateway. Dropping it closes the connection.
pub struct Session {
    sender: Sender,
    connection: Arc<JoinSet<()>>,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Session {
    /// Speaks HTTP/1.1.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn http1(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a gateway that listens");
        Self::http1_over(stream).await.expect("a connection")
    }

    /// Speaks what was agreed on in the handshake.
    ///
    /// # Panics
    /// When the connection is closed already.
    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        Self::try_over(stream).await.expect("a connection")
    }

    /// The same; `None` if the connection is closed already.
    pub async fn try_over(stream: TlsStream<TcpStream>) -> Option<Self> {
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Self::http2_over(stream).await.ok(),
            _ => Self::http1_over(stream).await.ok(),
        }
    }

    async fn http1_over(stream: impl Stream) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self { sender: Sender::Http1(sender), connection: Arc::new(tasks) })
    }

    /// Speaks HTTP/2 with prior knowledge.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn http2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a gateway that listens");
        Self::http2_over(stream).await.expect("a connection")
    }

    async fn http2_over(stream: impl Stream) -> hyper::Result<Self> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        Ok(Self { sender: Sender::Http2(sender), connection: Arc::new(tasks) })
    }

    /// Another handle on the same HTTP/2 connection.
    ///
    /// # Panics
    /// When it does not speak HTTP/2: HTTP/1.1 carries one request after another.
    #[must_use]
    pub fn share(&self) -> Self {
        let Sender::Http2(sender) = &self.sender else { panic!("an HTTP/2 connection is needed") };
        Self { sender: Sender::Http2(sender.clone()), connection: Arc::clone(&self.connection) }
    }

    /// Sends a request and waits for its response's head.
    ///
    /// # Errors
    /// When none comes.
    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let answered = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(absolute(request)).await
                }
            }
        };
        soon("an answer", answered).await
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    /// When none comes, or not all of it.
    pub async fn ask(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        let response = self.send(request).await?;
        soon("a whole answer", Answer::of(response)).await
    }
}

/// HTTP/2 wants the host in the target.
fn absolute(mut request: Request<Body>) -> Request<Body> {
    if let Some(host) = request.headers_mut().remove(HOST)
        && let Ok(host) = host.to_str()
    {
        let target = format!("http://{host}{}", request.uri());
        *request.uri_mut() = target.parse().expect("a host and a path");
    }
    request
}

/// A connection over which a test sends what it likes. Dropping it closes the connection.
pub struct Wire<S = TcpStream> {
    stream: S,
    read: BytesMut,
}

impl Wire {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a gateway that listens");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, read: BytesMut::new() }
    }

    /// The server's side of a connection that was accepted.
    #[must_use]
    pub fn accepted(stream: TcpStream) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// Closes the connection with a reset instead of an end.
    pub fn reset(self) {
        drop(self.stream.set_zero_linger());
    }
}

impl<S: Stream> Wire<S> {
    /// Over a connection that is there.
    #[must_use]
    pub fn of(stream: S) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// Sends bytes; the other end may have gone.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.stream.write_all(bytes.as_ref()).await);
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Reads a head, with its last empty line; `None` if the connection ends before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                return Some(String::from_utf8_lossy(&self.read.split_to(at + 4)).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// A head that has arrived already.
    #[must_use]
    pub fn head_now(&mut self) -> Option<String> {
        futures_util::FutureExt::now_or_never(self.head()).flatten()
    }

    /// Reads this many bytes; fewer if the connection ends before.
    pub async fn exactly(&mut self, length: usize) -> Bytes {
        while self.read.len() < length && self.more().await {}
        let length = length.min(self.read.len());
        self.read.split_to(length).freeze()
    }

    /// Reads a response with a `Content-Length`: its head and its body.
    pub async fn answer(&mut self) -> Option<(String, Bytes)> {
        let head = self.head().await?;
        let body = self.exactly(content_length(&head)).await;
        Some((head, body))
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> Bytes {
        while self.more().await {}
        self.read.split().freeze()
    }

    /// Reads to the end of the connection; tells how it ended.
    ///
    /// # Errors
    /// When it did not end in order.
    pub async fn until_end(&mut self) -> io::Result<()> {
        while soon("bytes", self.stream.read_buf(&mut self.read)).await? > 0 {}
        Ok(())
    }

    async fn more(&mut self) -> bool {
        soon("bytes", self.stream.read_buf(&mut self.read)).await.is_ok_and(|read| read > 0)
    }
}

/// The `Content-Length` of a head; 0 without one.
#[must_use]
pub fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The status code of a response's head; 0 if it has none.
#[must_use]
pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
