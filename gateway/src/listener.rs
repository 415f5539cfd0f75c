//! Where requests arrive: sockets that we bind (so that a taken port is told at once, and port 0 works), handed to
//! pingora's server, which accepts on its runtime; each connection is served in a task of its own, through tower's layers.
//! Started and stopped by [`app`](crate::app). Absent: routing, and anything about services.

mod connection;
mod crowd;
mod handshakes;
mod hello;
mod idle;
mod inside;
mod layers;
mod preface;
mod proxied;
mod seats;
mod streams;
mod unread;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hyper::server::conn::http2;
use hyper_util::rt::TokioExecutor;
use ipnet::IpNet;
use pingora::{
    server::{
        ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
        configuration::ServerConf,
    },
    services::Service as PingoraService,
};
use tidegate_config::model::{self, Limits};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

pub use self::inside::Inside;
pub(crate) use self::streams::Streams;
use self::{
    crowd::Crowd,
    handshakes::Handshakes,
    inside::{Claim, SideDoor},
    seats::Seats,
    streams::StreamDoor,
};
use crate::{
    fleet::Fleet,
    http1::server::{self, Terms},
    request::{Door, Entrance},
    telemetry,
    tls::Tls,
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
    doors: mpsc::Sender<Opened>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Front {
    /// A server for `door` on `sockets`, one for each of the file's listeners, with `threads` worker threads. It accepts
    /// nothing before [`Front::open`].
    ///
    /// # Errors
    /// When the server's thread cannot be made.
    pub fn start(sockets: Sockets, door: Arc<Door>, tls: &Arc<Tls>, threads: usize) -> io::Result<Self> {
        let settings = door.settings.load_full();
        let limits = settings.limits;
        let ways = settings.listen.iter().enumerate().map(|(index, listener)| Way::of(index, listener, tls));
        let (stage, stages) = watch::channel(Stage::Waiting);
        let (end, ending) = tokio::sync::oneshot::channel();
        let connections = Arc::new(Semaphore::new(limits.connections as usize));
        let app = App {
            http2: connection::http2(&limits),
            terms: connection::terms(&limits),
            door,
            connections: Arc::clone(&connections),
            full: AtomicBool::new(false),
            limits,
            seats: limits.connections_per_address.map(|each| Arc::new(Seats::new(each.get()))),
            handshakes: Arc::new(Handshakes::new(&limits)),
            crowd: Crowd::of(limits.h2_streams_total),
            open: metrics::gauge!(telemetry::CONNECTIONS),
            tasks: TaskTracker::new(),
            entrance: Entrance::Routes,
            leaving: Arc::default(),
            claims: ArcSwap::default(),
        };
        let app = Arc::new(app);
        let addresses = sockets.addresses().into();
        let (doors, opened) = mpsc::channel(DOORS);
        let listening = Listening {
            sockets: sockets.into_iter().zip(ways).collect(),
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
            http2: self.app.http2.clone(),
            terms: self.app.terms,
            door: Arc::clone(&self.app.door),
            connections: Arc::clone(&self.inside),
            full: AtomicBool::new(false),
            limits: self.app.limits,
            // A bridge's containers are neighbours, and each has an address of its own.
            seats: None,
            handshakes: Arc::clone(&self.app.handshakes),
            crowd: Crowd::of(self.app.limits.h2_streams_total),
            open: self.app.open.clone(),
            tasks: TaskTracker::new(),
            entrance: Entrance::Names(fleet),
            leaving: Arc::clone(&self.app.leaving),
            claims: ArcSwap::default(),
        };
        let (front, listening) = (Arc::clone(&self.app), Arc::clone(&self.addresses));
        Inside { app: Arc::new(app), front, listening, doors: self.doors.clone() }
    }

    /// What opens listeners of TCP services. Their connections count among the others.
    #[must_use]
    pub(crate) fn streams(&self, fleet: Arc<Fleet>) -> Streams {
        Streams { app: Arc::clone(&self.app), fleet, doors: self.doors.clone() }
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

/// Listeners that wait to be served: one per host at most for calls by name, and those of TCP services.
const DOORS: usize = 1024;

/// A listener that was opened on the running server.
#[derive(Debug)]
enum Opened {
    /// For calls by name.
    Inside(SideDoor),
    /// For the connections of a TCP service.
    Stream(StreamDoor),
}

impl Opened {
    async fn serve(self, stages: watch::Receiver<Stage>) {
        match self {
            Self::Inside(door) => door.serve(stages).await,
            Self::Stream(door) => door.serve(stages).await,
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
    sockets: Vec<((SocketAddr, TcpListener), Way)>,
    app: Arc<App>,
    stages: watch::Receiver<Stage>,
    opened: Option<mpsc::Receiver<Opened>>,
}

#[async_trait]
impl PingoraService for Listening {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let mut loops = JoinSet::new();
        let measured = |((_, socket), _): &((SocketAddr, TcpListener), Way)| server::tells_taken(socket);
        if self.app.limits.send_rate.0 > 0 && !self.sockets.iter().all(measured) {
            tracing::warn!(
                "gateway.limits.send_rate holds from Linux 6.2 on: before, the kernel does not say what clients have taken"
            );
        }
        for ((address, socket), way) in std::mem::take(&mut self.sockets) {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => {
                    loops.spawn(Arc::clone(&self.app).accept(listener, None, way, self.stages.clone()));
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

/// What is particular to one listener.
#[derive(Debug, Clone, Default)]
struct Way {
    /// With which terms it speaks TLS: those of its place in the file.
    tls: Option<(usize, Arc<Tls>)>,
    /// The port over TLS to which its requests are sent on.
    redirect: Option<u16>,
    /// Whether load balancers say first who the client is.
    proxied: bool,
}

impl Way {
    fn of(index: usize, listener: &model::Listener, tls: &Arc<Tls>) -> Self {
        let tls = listener.tls.then(|| (index, Arc::clone(tls)));
        Self { tls, redirect: listener.redirect, proxied: listener.proxy_protocol }
    }
}

/// What every connection of one kind needs.
struct App {
    http2: http2::Builder<TokioExecutor>,
    terms: Terms,
    door: Arc<Door>,
    connections: Arc<Semaphore>,
    /// Whether connections are being turned away, so that it is logged once and not each time.
    full: AtomicBool,
    limits: Limits,
    /// How many connections each client address has, where that is bounded.
    seats: Option<Arc<Seats>>,
    /// Handshakes over TLS.
    handshakes: Arc<Handshakes>,
    /// Requests over HTTP/2.
    crowd: Arc<Crowd>,
    /// How many connections there are.
    open: metrics::Gauge,
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
        way: Way,
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
                Ok((stream, peer)) => match self.claimed(&stream, peer) {
                    Some(other) => other.open(stream, peer, &Way::default(), stages.clone()),
                    None => self.open(stream, peer, &way, stages.clone()),
                },
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
