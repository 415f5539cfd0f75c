//! Where requests arrive: sockets that we bind (so that a taken port is told at once, and port 0 works), handed to
//! pingora's server, which accepts on its runtime; each connection is served by hyper, through tower's layers.
//! Started and stopped by [`app`](crate::app). Absent: routing, and anything about services.

use std::{
    any::Any,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::{IntoRawFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use pingora::{
    apps::ServerApp,
    protocols::Stream,
    server::{
        Fds, ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
        configuration::ServerConf,
    },
    services::{Service as PingoraService, listening},
};
use tidegate_config::model::Limits;
use tokio::sync::{Semaphore, watch};
use tower::ServiceBuilder;
use tower_http::catch_panic::{CatchPanic, CatchPanicLayer, ResponseForPanic};

use crate::request::{self, Door, Peer, Refusal, body::Body};

/// A listen address that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct BindError {
    address: SocketAddr,
    hint: &'static str,
    source: io::Error,
}

/// Sockets that are bound and queue connections, but are not served yet.
#[derive(Debug)]
pub struct Sockets(Vec<(SocketAddr, TcpListener)>);

/// Connections that wait for `accept`; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65_535;

impl Sockets {
    /// Binds all addresses or none.
    ///
    /// # Errors
    /// The first address that cannot be had, with what to do.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let bound = addresses.iter().map(|address| {
            let listener = listen(*address).map_err(|source| BindError {
                address: *address,
                hint: hint(&source),
                source,
            })?;
            let actual =
                listener.local_addr().map_err(|source| BindError { address: *address, hint: "", source })?;
            Ok((actual, listener))
        });
        bound.collect::<Result<_, _>>().map(Self)
    }

    /// The addresses, with the ports that 0 turned into.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port: stop it, or set another one with gateway.listen or TIDEGATE_GATEWAY__LISTEN"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    }
}

/// The running server.
#[derive(Debug)]
pub struct Front {
    stop: watch::Sender<bool>,
    connections: Arc<Semaphore>,
    limit: u32,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Front {
    /// Serves `door` on `sockets` with `threads` worker threads.
    ///
    /// # Errors
    /// When the server's thread cannot be made.
    pub fn start(sockets: Sockets, door: Arc<Door>, threads: usize) -> io::Result<Self> {
        let limits = door.settings.load().limits;
        let (stop, stopping) = watch::channel(false);
        let (end, ending) = tokio::sync::oneshot::channel();
        let connections = Arc::new(Semaphore::new(limits.connections as usize));
        let app = App { http: http(&limits), door, connections: Arc::clone(&connections) };
        let thread = thread::Builder::new().name("front".into()).spawn(move || {
            let conf = ServerConf { threads, ..ServerConf::default() };
            let mut server = Server::new_with_opt_and_conf(None, conf);
            server.add_service(Listening::new(sockets, app, stopping));
            server.run(RunArgs { shutdown_signal: Box::new(Ending(tokio::sync::Mutex::new(Some(ending)))) });
        })?;
        Ok(Self { stop, connections, limit: limits.connections, end: Some(end), thread: Some(thread) })
    }

    /// Closes the listening sockets, and each connection after the request that it is in.
    pub fn stop_accepting(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until every connection has ended, `within` at most. True if they have.
    pub async fn drained(&self, within: Duration) -> bool {
        let all = self.connections.acquire_many(self.limit);
        tokio::time::timeout(within, all).await.is_ok()
    }

    /// Ends the server and what still runs on it.
    pub fn end(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the server's thread panicked");
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tells pingora to end when its sender is dropped; signals are the composition root's.
struct Ending(tokio::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>>);

#[async_trait]
impl ShutdownSignalWatch for Ending {
    async fn recv(&self) -> ShutdownSignal {
        if let Some(ending) = self.0.lock().await.take() {
            // An error means that the sender is gone, which is the signal.
            ending.await.unwrap_or_default();
        }
        ShutdownSignal::FastShutdown
    }
}

/// pingora's listening service on sockets of ours, stopped by a signal of ours: pingora's own would close the sockets
/// and then sleep out its whole grace period.
struct Listening {
    inner: listening::Service<App>,
    sockets: Vec<(String, Option<OwnedFd>)>,
    stopping: watch::Receiver<bool>,
}

impl Listening {
    fn new(sockets: Sockets, app: App, stopping: watch::Receiver<bool>) -> Self {
        let mut inner = listening::Service::new("http".into(), app);
        let sockets = sockets.0.into_iter().map(|(address, listener)| {
            inner.add_tcp(&address.to_string());
            (address.to_string(), Some(listener.into()))
        });
        let sockets = sockets.collect();
        Self { inner, sockets, stopping }
    }
}

#[async_trait]
impl PingoraService for Listening {
    async fn start_service(&mut self, fds: Option<ListenFds>, _: ShutdownWatch, tasks_per_socket: usize) {
        let table = fds.unwrap_or_else(|| Arc::new(Fds::new().into()));
        for (address, socket) in &mut self.sockets {
            let mut table = table.lock();
            // A socket that an older process passed on is the one that clients' connections already wait in.
            if table.get(address).is_none()
                && let Some(socket) = socket.take()
            {
                table.add(address.clone(), socket.into_raw_fd());
            }
        }
        self.inner.start_service(Some(table), self.stopping.clone(), tasks_per_socket).await;
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn threads(&self) -> Option<usize> {
        self.inner.threads()
    }
}

/// One connection after another.
struct App {
    http: auto::Builder<TokioExecutor>,
    door: Arc<Door>,
    connections: Arc<Semaphore>,
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, stopping: &ShutdownWatch) -> Option<Stream> {
        // Over the limit: closed at once; a client that is told to come back would only hold one more socket.
        let _permit = self.connections.try_acquire().ok()?;
        let peer = stream
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().and_then(|a| a.as_inet().copied()));
        let peer = peer.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        let service = TowerToHyperService::new(stack(Arc::clone(&self.door), peer));
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = stopping.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "client connection ended");
        }
        None
    }
}

/// The layers around every request: a panic costs the one request that met it. What a route switches on will stand here.
fn stack(door: Arc<Door>, peer: SocketAddr) -> CatchPanic<Entry, Panicked> {
    ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(Panicked))
        .service(Entry { door, peer: Peer::new(peer) })
}

/// The answer to a request that met a panic.
#[derive(Clone)]
struct Panicked;

impl ResponseForPanic for Panicked {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send>) -> Response<Body> {
        tracing::error!("a request met a panic; see the message above");
        request::refuse(&Refusal::Internal, false)
    }
}

/// The innermost service: the request path.
#[derive(Clone)]
struct Entry {
    door: Arc<Door>,
    peer: Peer,
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
        let (door, peer) = (Arc::clone(&self.door), self.peer.clone());
        Box::pin(async move { Ok(request::handle(&door, request, &peer).await) })
    }
}

/// hyper's limits, from ours.
fn http(limits: &Limits) -> auto::Builder<TokioExecutor> {
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
        .keep_alive_interval(Some(Duration::from_secs(30)));
    http
}
