//! One client's connection, from its acceptance to its end: the handshake if it speaks TLS, then hyper, through tower's
//! layers. Called by the accept loops of [`listener`](super). Absent: what a request is for.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tidegate_config::model::Limits;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, watch},
};
use tokio_rustls::server::TlsStream;
use tower::ServiceBuilder;

use super::{
    App, Stage, Way,
    hello::{self, Hello},
};
use crate::{
    fleet::Service,
    panics::CatchPanic,
    request::{self, Door, Peer, body::Body},
    tcp::{self, Accepted},
    tls::{Secured, Tls},
};

impl App {
    pub(super) fn open(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        way: &Way,
        stages: watch::Receiver<Stage>,
    ) {
        let Some(permit) = self.admit() else { return };
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%peer, %error, "gone before it was served");
        }
        let (app, way) = (Arc::clone(self), way.clone());
        self.tasks.spawn(async move {
            let redirect = way.redirect;
            let peer = Peer::new(peer, app.entrance.clone()).redirected_to(redirect);
            match way.tls {
                None => app.serve(stream, peer, stages).await,
                // Boxed: so that connections without TLS need not have room for it.
                Some((listener, tls)) => Box::pin(app.secure(stream, peer, &tls, listener, stages)).await,
            }
            drop(permit);
        });
    }

    /// Comes to terms with the client, then serves.
    async fn secure(
        &self,
        mut stream: TcpStream,
        peer: Peer,
        tls: &Tls,
        listener: usize,
        mut stages: watch::Receiver<Stage>,
    ) {
        let active = Arc::clone(&tls.active());
        let handshake = async {
            let hello = Hello::read(&mut stream).await?;
            match self.passed_on(&hello) {
                Some(service) => Ok(Met::Other(service, stream, hello.into_bytes())),
                None => hello.answer(stream, &active, listener).await.map(|shaken| Met::Us(Box::new(shaken))),
            }
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(active.handshake_timeout, handshake) => {
                shaken.unwrap_or(Err(hello::Broken::Late))
            }
            _ = stages.wait_for(|stage| *stage >= Stage::Closing) => return,
        };
        if !matches!(shaken, Ok(Met::Other(..))) {
            hello::count(&shaken);
        }
        // So that a connection does not keep certificates that were replaced long ago.
        drop(active);
        match shaken {
            Ok(Met::Us(shaken)) => {
                let (stream, secured) = *shaken;
                self.serve(stream, peer.over_tls(secured), stages).await;
            }
            Ok(Met::Other(service, client, first)) => {
                let accepted = Accepted { client, peer: peer.address(), first };
                let served = tcp::serve(accepted, service, self.door.cut.clone());
                self.door.tasks.track_future(served).await;
            }
            Err(error) => tracing::debug!(peer = %peer.address(), %error, "no handshake"),
        }
    }

    /// The TCP service that has the name which the client calls, if one does: to be passed on as it is.
    fn passed_on(&self, hello: &Hello) -> Option<Arc<Service>> {
        let table = self.door.passed_on.load();
        let found = table.find(&hello.name()?, "/")?;
        Some(Arc::clone(found.service))
    }

    /// Room for one more connection. Over the limit it is closed at once; a client that is told to come back would only
    /// hold one more socket.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.connections).try_acquire_owned().ok();
        if permit.is_none() && !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "as many connections as gateway.limits.connections allows; further ones are closed"
            );
        } else if permit.is_some() {
            self.full.store(false, Ordering::Relaxed);
        }
        permit
    }

    async fn serve<S>(&self, stream: S, peer: Peer, stages: watch::Receiver<Stage>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = peer.address();
        let heard = Arc::new(AtomicU8::new(NOTHING));
        let service = TowerToHyperService::new(self.stack(peer, &heard));
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = silence(&heard, self.patience) => return tracing::debug!(peer = %address, "no request came; closed"),
            () = farewell(stages, &heard) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %address, %error, "client connection ended");
        }
    }

    /// The layers around every request. What a route switches on will stand here.
    fn stack(&self, peer: Peer, heard: &Arc<AtomicU8>) -> CatchPanic<Entry> {
        let (door, leaving) = (Arc::clone(&self.door), Arc::clone(&self.leaving));
        let entry = Entry { door, peer, heard: Arc::clone(heard), leaving };
        ServiceBuilder::new().layer_fn(CatchPanic::new).service(entry)
    }
}

/// Ends if nothing was heard for that long. hyper's own deadline for heads begins only when it knows the HTTP version,
/// so a client that sends nothing, or half of HTTP/2's preface, would keep its place for ever.
async fn silence(heard: &AtomicU8, patience: Duration) {
    tokio::time::sleep(patience).await;
    if heard.load(Ordering::Relaxed) != NOTHING {
        std::future::pending::<()>().await;
    }
}

/// Ends when a connection is to end as soon as it can.
async fn farewell(mut stages: watch::Receiver<Stage>, heard: &AtomicU8) {
    // Errors mean that the server has gone.
    drop(stages.wait_for(|stage| *stage >= Stage::Leaving).await);
    if heard.load(Ordering::Relaxed) != HTTP2 {
        drop(stages.wait_for(|stage| *stage >= Stage::Closing).await);
    }
}

/// Who a connection over TLS is for.
enum Met {
    /// The gateway itself.
    Us(Box<(TlsStream<TcpStream>, Secured)>),
    /// A TCP service; with what was read.
    Other(Arc<Service>, TcpStream, Bytes),
}

/// What has been heard on a connection.
const NOTHING: u8 = 0;
const HTTP1: u8 = 1;
const HTTP2: u8 = 2;

/// The innermost service: the request path.
#[derive(Clone)]
struct Entry {
    door: Arc<Door>,
    peer: Peer,
    /// In what a request has come on this connection.
    heard: Arc<AtomicU8>,
    leaving: Arc<AtomicBool>,
}

impl tower::Service<Request<Incoming>> for Entry {
    type Response = Response<Body>;
    type Error = Infallible;
    /// Boxed: a connection's own future stays small while it is between requests.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let version = if request.version() == Version::HTTP_2 { HTTP2 } else { HTTP1 };
        self.heard.store(version, Ordering::Relaxed);
        let (door, peer) = (Arc::clone(&self.door), self.peer.clone());
        let leaving = Arc::clone(&self.leaving);
        Box::pin(async move {
            let mut response = request::handle(&door, request, &peer).await;
            let last = version == HTTP1 && leaving.load(Ordering::Relaxed);
            if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// Streams of one HTTP/2 connection that we may have to reset for breaking the protocol before it is closed: a client
/// that makes us do it has them processed, but not counted as its own (MadeYouReset).
const RESETS_BY_US: usize = 50;

/// What a client may send ahead on one stream whose replica reads slowly.
const UPLOAD_WINDOW: u32 = 256 << 10;

/// The same on all streams of a connection.
const UPLOADS_WINDOW: u32 = 1 << 20;

/// hyper's limits, from ours.
pub(super) fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(limits.header_bytes.0).unwrap_or(usize::MAX).max(8192);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.header_count as usize)
        .max_buf_size(header_bytes);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(Some(20))
        .max_local_error_reset_streams(Some(RESETS_BY_US))
        .initial_stream_window_size(UPLOAD_WINDOW)
        .initial_connection_window_size(UPLOADS_WINDOW)
        .enable_connect_protocol()
        .keep_alive_interval(Some(Duration::from_secs(30)));
    http
}
