//! The connections to one engine: dialled here and kept in a pool, whatever they run over.
//! Holds: an idle connection that nobody answers any more is noticed by the kernel; [`Line::renew`] forgets all that are
//! pooled, so that what was stale before a failure never carries a call after it.
//! Absent: what is said (bollard), deadlines (`call`).

mod ssh;
mod stream;
mod tls;

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream as Items, future::BoxFuture};
use http::Uri;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tidegate_config::model::Tls;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tower::Service;

use super::endpoint::Endpoint;
use crate::{Error, Kind, Result};
use stream::Stream;

/// For a TCP connection and its TLS handshake.
const DIAL: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections that are kept.
const SPARE: usize = 8;
/// A peer that acknowledges nothing for this long is gone.
const UNHEARD: Duration = Duration::from_secs(6);

/// What bollard sends.
type Body = Either<Full<Bytes>, StreamBody<Pin<Box<dyn Items<Item = io::Result<Frame<Bytes>>> + Send>>>>;
type Pool = Client<Connector, Body>;

/// The way to one engine.
pub(super) struct Line {
    way: Connector,
    pool: Mutex<Pool>,
}

impl Line {
    /// The way to an engine. Dials nothing yet.
    pub(super) fn to(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Arc<Self>> {
        let way = Connector(Arc::new(Way::to(endpoint, tls)?));
        let pool = Mutex::new(pool(way.clone()));
        Ok(Arc::new(Self { way, pool }))
    }

    /// Forgets every pooled connection; calls under way keep theirs.
    pub(super) fn renew(&self) {
        let fresh = pool(self.way.clone());
        let old = std::mem::replace(&mut *self.pool.lock(), fresh);
        drop(old);
    }

    /// Whether making a connection takes long.
    pub(super) fn is_slow_to_open(&self) -> bool {
        matches!(*self.way.0, Way::Ssh(_))
    }

    /// What bollard is to send over.
    pub(super) fn carry(
        self: &Arc<Self>,
    ) -> impl Fn(
        http::Request<Body>,
    ) -> BoxFuture<
        'static,
        std::result::Result<http::Response<hyper::body::Incoming>, bollard::errors::Error>,
    > + Send
    + Sync
    + 'static {
        let line = Arc::clone(self);
        move |request| {
            let answer = line.pool.lock().request(request);
            async move { answer.await.map_err(bollard::errors::Error::from) }.boxed()
        }
    }
}

fn pool(way: Connector) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(SPARE)
        .build(way)
}

enum Way {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Ssh(ssh::Ssh),
}

impl Way {
    fn to(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Self> {
        Ok(match endpoint {
            Endpoint::Unix(path) => Self::Unix(path.clone()),
            Endpoint::Tcp { host, port } => {
                if tls.is_none() && !endpoint.is_local() {
                    return Err(plain(endpoint));
                }
                let tls = tls.map(|files| tls::client(files, host)).transpose()?;
                Self::Tcp { host: host.clone(), port: *port, tls }
            }
            Endpoint::Ssh { user, host, port } => {
                Self::Ssh(ssh::Ssh::to(user.as_deref(), host, *port, ssh::program()?))
            }
        })
    }

    async fn dial(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::new),
            Self::Tcp { host, port, tls } => {
                let dialled = timeout(DIAL, tcp(host, *port, tls.as_ref())).await;
                dialled
                    .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))
            }
            Self::Ssh(ssh) => ssh.open().map(Stream::new),
        }
    }
}

async fn tcp(host: &str, port: u16, tls: Option<&(TlsConnector, ServerName<'static>)>) -> io::Result<Stream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let second = Duration::from_secs(1);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(3 * second).with_interval(second).with_retries(3),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNHEARD))?;
    Ok(match tls {
        None => Stream::new(stream),
        Some((connector, name)) => Stream::new(connector.connect(name.clone(), stream).await?),
    })
}

fn plain(endpoint: &Endpoint) -> Error {
    Error::new(
        Kind::Permanent,
        format!(
            "refusing {endpoint}: whoever reaches an engine over plain TCP owns its host; \
             set `tls` on the host, or use ssh://USER@HOST"
        ),
    )
}

/// Dials for the pool.
#[derive(Clone)]
struct Connector(Arc<Way>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The URI says nothing: there is one engine at the end of a line.
    fn call(&mut self, _: Uri) -> Self::Future {
        let way = Arc::clone(&self.0);
        async move { way.dial().await.map(TokioIo::new) }.boxed()
    }
}
