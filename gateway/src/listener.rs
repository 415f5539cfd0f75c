//! Where requests arrive: sockets that we bind (so that a taken port is told at once, and port 0 works), handed to
//! pingora's server, which accepts on its runtime; each connection is served by hyper, through tower's layers.
//! Started and stopped by [`app`](crate::app). Absent: routing, and anything about services.

mod inside;

use std::{
    convert::Infallible,
    fmt, io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION};
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
use tokio_util::task::TaskTracker;
use tower::ServiceBuilder;

pub use self::inside::Inside;
use self::inside::{Claim, SIDE_DOORS, SideDoor};
use crate::{
    fleet::Fleet,
    panics::CatchPanic,
    request::{self, Door, Entrance, Peer, body::Body},
};

pub(crate) use crate::sockets::listen;
pub use crate::sockets::{BindError, Sockets};

/// How far the server is: each stage follows the one before it, and none comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Connections wait in the sockets' queues.
    Waiting,
    /// They are accepted.
    Open,
    /// None is accepted any more; those that are there end with their next answer.
    Leaving,
    /// They end with the request that they are in, or now.
    Closing,
}

/// The running server.
#[derive(Debug)]
pub struct Front {
    stage: watch::Sender<Stage>,
    connections: Arc<Semaphore>,
    inside: Arc<Semaphore>,
    limit: u32,
    app: Arc<App>,
    addresses: Arc<[SocketAddr]>,
    doors: mpsc::Sender<SideDoor>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Front {
    /// A server for `door` on `sockets` with `threads` worker threads. It accepts nothing before [`Front::open`].
    ///
    /// # Errors
    /// When the server's thread cannot be made.
    pub fn start(sockets: Sockets, door: Arc<Door>, threads: usize) -> io::Result<Self> {
        let limits = door.settings.load().limits;
        let (stage, stages) = watch::channel(Stage::Waiting);
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
            leaving: Arc::default(),
            claims: ArcSwap::default(),
        };
        let app = Arc::new(app);
        let addresses = sockets.addresses().into();
        let (doors, opened) = mpsc::channel(SIDE_DOORS);
        let listening = Listening {
            sockets: sockets.into_iter().collect(),
            app: Arc::clone(&app),
            stages,
            opened: Some(opened),
        };
        let thread = thread::Builder::new().name("front".into()).spawn(move || {
            let conf = ServerConf { threads, ..ServerConf::default() };
            let mut server = Server::new_with_opt_and_conf(None, conf);
            server.add_service(listening);
            server.run(RunArgs { shutdown_signal: Box::new(Ending(tokio::sync::Mutex::new(Some(ending)))) });
        })?;
        let (limit, inside) = (limits.connections, Arc::new(Semaphore::new(limits.connections as usize)));
        let (end, thread) = (Some(end), Some(thread));
        Ok(Self { stage, connections, inside, limit, app, addresses, doors, end, thread })
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
            leaving: Arc::clone(&self.app.leaving),
            claims: ArcSwap::default(),
        };
        let (front, listening) = (Arc::clone(&self.app), Arc::clone(&self.addresses));
        Inside { app: Arc::new(app), front, listening, doors: self.doors.clone() }
    }

    /// Accepts from here on.
    pub fn open(&self) {
        self.advance(Stage::Open);
    }

    /// Closes its handles on the listening sockets, which somebody else has too. A connection over HTTP/1 ends with its
    /// next answer, so that no client meets a closed one in the moment in which it sends a request; HTTP/2 says GOAWAY.
    pub fn leave(&self) {
        self.app.leaving.store(true, Ordering::Relaxed);
        self.advance(Stage::Leaving);
    }

    /// Closes the listening sockets, and each connection after the request that it is in.
    pub fn stop_accepting(&self) {
        self.advance(Stage::Closing);
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let later = *stage < to;
            *stage = to.max(*stage);
            later
        });
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
    stages: watch::Receiver<Stage>,
    opened: Option<mpsc::Receiver<SideDoor>>,
}

#[async_trait]
impl PingoraService for Listening {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let mut loops = JoinSet::new();
        for (address, socket) in std::mem::take(&mut self.sockets) {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => {
                    loops.spawn(Arc::clone(&self.app).accept(listener, None, self.stages.clone()));
                }
                Err(error) => tracing::error!(%address, %error, "cannot accept"),
            }
        }
        let Some(mut opened) = self.opened.take() else { return };
        let mut stages = self.stages.clone();
        let mut stopped = std::pin::pin!(stages.wait_for(|stage| *stage >= Stage::Leaving));
        loop {
            // Cancel-safe: a side door that is not taken stays queued.
            tokio::select! {
                Some(door) = opened.recv() => drop(loops.spawn(door.serve(self.stages.clone()))),
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
    /// Whether answers over HTTP/1 are the last ones of their connections.
    leaving: Arc<AtomicBool>,
    /// Who comes in here, but by another entrance.
    claims: ArcSwap<Vec<Claim>>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// After a failed accept (mostly: out of file descriptors) nothing is accepted for this long, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl App {
    /// Accepts while the server is open, from anybody or from `allowed` peers.
    async fn accept(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        allowed: Option<Vec<IpNet>>,
        stages: watch::Receiver<Stage>,
    ) {
        let stranger =
            |peer: SocketAddr| allowed.as_ref().is_some_and(|allowed| !inside::contains(allowed, peer.ip()));
        let mut stage = stages.clone();
        // An error means that the server has gone.
        drop(stage.wait_for(|stage| *stage >= Stage::Open).await);
        let mut stopped = std::pin::pin!(stage.wait_for(|stage| *stage >= Stage::Leaving));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.as_mut() => return,
            };
            match accepted {
                Ok((_, peer)) if stranger(peer) => tracing::debug!(%peer, "a stranger here; closed"),
                Ok((stream, peer)) => self.entered(&stream, peer).open(stream, peer, stages.clone()),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn open(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, stages: watch::Receiver<Stage>) {
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
            app.serve(stream, peer, stages).await;
            drop(permit);
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, stages: watch::Receiver<Stage>) {
        let heard = Arc::new(AtomicU8::new(NOTHING));
        let service = TowerToHyperService::new(self.stack(peer, &heard));
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = silence(&heard, self.patience) => return tracing::debug!(%peer, "no request came; closed"),
            () = farewell(stages, &heard) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "client connection ended");
        }
    }

    /// The layers around every request. What a route switches on will stand here.
    fn stack(&self, peer: SocketAddr, heard: &Arc<AtomicU8>) -> CatchPanic<Entry> {
        let peer = Peer::new(peer, self.entrance.clone());
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
