//! Where requests arrive: sockets that we bind (so that a taken port is told at once, and port 0 works), handed to
//! pingora's server, which accepts on its runtime; each connection is served by hyper, through tower's layers.
//! Started and stopped by [`app`](crate::app). Absent: routing, and anything about services.

use std::{
    convert::Infallible,
    fmt, io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
use ipnet::IpNet;
use pingora::{
    server::{
        ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
        configuration::ServerConf,
    },
    services::Service as PingoraService,
};
use tidegate_config::model::Limits;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceBuilder;

use crate::{
    fleet::Fleet,
    panics::CatchPanic,
    request::{self, Door, Entrance, Peer, body::Body},
};

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

pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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
    inside: Arc<Semaphore>,
    limit: u32,
    app: Arc<App>,
    doors: mpsc::Sender<SideDoor>,
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
        let app = App {
            http: http(&limits),
            door,
            connections: Arc::clone(&connections),
            full: AtomicBool::new(false),
            patience: limits.header_timeout,
            tasks: TaskTracker::new(),
            entrance: Entrance::Routes,
        };
        let app = Arc::new(app);
        let (doors, opened) = mpsc::channel(SIDE_DOORS);
        let listening =
            Listening { sockets: sockets.0, app: Arc::clone(&app), stopping, opened: Some(opened) };
        let thread = thread::Builder::new().name("front".into()).spawn(move || {
            let conf = ServerConf { threads, ..ServerConf::default() };
            let mut server = Server::new_with_opt_and_conf(None, conf);
            server.add_service(listening);
            server.run(RunArgs { shutdown_signal: Box::new(Ending(tokio::sync::Mutex::new(Some(ending)))) });
        })?;
        let (limit, inside) = (limits.connections, Arc::new(Semaphore::new(limits.connections as usize)));
        Ok(Self { stop, connections, inside, limit, app, doors, end: Some(end), thread: Some(thread) })
    }

    /// What opens listeners for calls by name. Their connections have a limit of their own: containers that hold too
    /// many do not keep clients out.
    #[must_use]
    pub fn inside(&self, fleet: Arc<Fleet>) -> Inside {
        let app = App {
            http: self.app.http.clone(),
            door: Arc::clone(&self.app.door),
            connections: Arc::clone(&self.inside),
            full: AtomicBool::new(false),
            patience: self.app.patience,
            tasks: TaskTracker::new(),
            entrance: Entrance::Names(fleet),
        };
        Inside { app: Arc::new(app), doors: self.doors.clone() }
    }

    /// Closes the listening sockets, and each connection after the request that it is in.
    pub fn stop_accepting(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until every connection has ended, `within` at most. True if they have.
    pub async fn drained(&self, within: Duration) -> bool {
        let all = async {
            tokio::join!(self.connections.acquire_many(self.limit), self.inside.acquire_many(self.limit))
        };
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

/// Listeners that wait to be served; there is one per host at most.
const SIDE_DOORS: usize = 64;

/// Opens listeners for calls by name on the running server.
#[derive(Debug, Clone)]
pub struct Inside {
    app: Arc<App>,
    doors: mpsc::Sender<SideDoor>,
}

impl Inside {
    /// Serves the peers in `allowed` on a bound socket until `until`. False if the server has ended.
    pub async fn open(&self, socket: TcpListener, allowed: Vec<IpNet>, until: CancellationToken) -> bool {
        self.doors.send(SideDoor { socket, allowed, until, app: Arc::clone(&self.app) }).await.is_ok()
    }
}

/// A listener that was opened later.
#[derive(Debug)]
struct SideDoor {
    socket: TcpListener,
    allowed: Vec<IpNet>,
    until: CancellationToken,
    app: Arc<App>,
}

impl SideDoor {
    async fn serve(self, stopping: watch::Receiver<bool>) {
        let Self { socket, allowed, until, app } = self;
        match tokio::net::TcpListener::from_std(socket) {
            // Cancel-safe: a connection is accepted and handed to a task of its own in one step.
            Ok(listener) => tokio::select! {
                () = app.accept(listener, Some(allowed), stopping) => {}
                () = until.cancelled() => {}
            },
            Err(error) => tracing::error!(%error, "cannot accept calls by name"),
        }
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

/// Our accept loops as a service of pingora's server. Its own would read and write through two more buffers and a boxed
/// stream per connection, and closes its sockets only on the way into a fixed grace period.
struct Listening {
    sockets: Vec<(SocketAddr, TcpListener)>,
    app: Arc<App>,
    stopping: watch::Receiver<bool>,
    opened: Option<mpsc::Receiver<SideDoor>>,
}

#[async_trait]
impl PingoraService for Listening {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let mut loops = JoinSet::new();
        for (address, socket) in std::mem::take(&mut self.sockets) {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => {
                    loops.spawn(Arc::clone(&self.app).accept(listener, None, self.stopping.clone()));
                }
                Err(error) => tracing::error!(%address, %error, "cannot accept"),
            }
        }
        let Some(mut opened) = self.opened.take() else { return };
        let mut stop = self.stopping.clone();
        let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
        loop {
            // Cancel-safe: a side door that is not taken stays queued.
            tokio::select! {
                Some(door) = opened.recv() => drop(loops.spawn(door.serve(self.stopping.clone()))),
                Some(_) = loops.join_next() => {}
                _ = stopped.as_mut() => break,
            }
        }
        loops.join_all().await;
    }

    fn name(&self) -> &str {
        "http"
    }
}

/// What every connection of one kind needs.
struct App {
    http: auto::Builder<TokioExecutor>,
    door: Arc<Door>,
    connections: Arc<Semaphore>,
    /// Whether connections are being turned away, so that it is logged once and not each time.
    full: AtomicBool,
    /// How long a new connection may take to its first request.
    patience: Duration,
    /// Owns the connections' tasks; they end with their connections, or with the server.
    tasks: TaskTracker,
    entrance: Entrance,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// After a failed accept (mostly: out of file descriptors) nothing is accepted for this long, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl App {
    /// Accepts until `stopping`, from anybody or from `allowed` peers.
    async fn accept(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        allowed: Option<Vec<IpNet>>,
        stopping: watch::Receiver<bool>,
    ) {
        let stranger = |peer: SocketAddr| {
            allowed
                .as_ref()
                .is_some_and(|nets| !nets.iter().any(|net| net.contains(&peer.ip().to_canonical())))
        };
        let mut stop = stopping.clone();
        let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.as_mut() => return,
            };
            match accepted {
                Ok((_, peer)) if stranger(peer) => tracing::debug!(%peer, "a stranger here; closed"),
                Ok((stream, peer)) => self.open(stream, peer, stopping.clone()),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn open(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, stopping: watch::Receiver<bool>) {
        // Over the limit: closed at once; a client that is told to come back would only hold one more socket.
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "as many connections as gateway.limits.connections allows; further ones are closed"
                );
            }
            return;
        };
        self.full.store(false, Ordering::Relaxed);
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!(%peer, %error, "gone before it was served");
        }
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            app.serve(stream, peer, stopping).await;
            drop(permit);
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
        let heard = Arc::new(AtomicBool::new(false));
        let service = TowerToHyperService::new(self.stack(peer, &heard));
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = silence(&heard, self.patience) => return tracing::debug!(%peer, "no request came; closed"),
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "client connection ended");
        }
    }

    /// The layers around every request. What a route switches on will stand here.
    fn stack(&self, peer: SocketAddr, heard: &Arc<AtomicBool>) -> CatchPanic<Entry> {
        let peer = Peer::new(peer, self.entrance.clone());
        let entry = Entry { door: Arc::clone(&self.door), peer, heard: Arc::clone(heard) };
        ServiceBuilder::new().layer_fn(CatchPanic::new).service(entry)
    }
}

/// Ends if nothing was heard for that long. hyper's own deadline for heads begins only when it knows the HTTP version,
/// so a client that sends nothing, or half of HTTP/2's preface, would keep its place for ever.
async fn silence(heard: &AtomicBool, patience: Duration) {
    tokio::time::sleep(patience).await;
    if heard.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// The innermost service: the request path.
#[derive(Clone)]
struct Entry {
    door: Arc<Door>,
    peer: Peer,
    /// Whether a request has come on this connection.
    heard: Arc<AtomicBool>,
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
        self.heard.store(true, Ordering::Relaxed);
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
