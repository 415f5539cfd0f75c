//! Real servers where an engine's containers would be: each replica of the scripted runner gets one of its own, which
//! behaves as its image's name says. Ending a replica closes its listener and its connections.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use tidegate_config::{name::ReplicaId, spec::StartSpec};
use tidegate_runner::scripted;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{eventually::found, origin};

/// What a raw server does with a connection.
pub type Talk = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// How the replicas of an image behave.
#[derive(Clone)]
pub enum Behaviour {
    /// The sample service of [`origin`], over HTTP/1.1 and HTTP/2.
    Origin,
    /// Its process runs, but nobody listens.
    Deaf,
    /// Bytes, as the test likes.
    Raw(Talk),
}

impl Behaviour {
    /// A raw server.
    pub fn raw<F: Future<Output = ()> + Send + 'static>(
        talk: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::Raw(Arc::new(move |stream| Box::pin(talk(stream))))
    }
}

/// A request as a replica saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which replica.
    pub replica: ReplicaId,
    /// The method.
    pub method: String,
    /// The request target as it was sent.
    pub target: String,
}

/// All servers of one world.
#[derive(Clone)]
pub struct Targets(Arc<Inner>);

struct Inner {
    runtime: Handle,
    tasks: TaskTracker,
    state: Mutex<State>,
    /// Whether requests for `/hold` are answered.
    released: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    behaviours: BTreeMap<String, Behaviour>,
    servers: BTreeMap<ReplicaId, Server>,
    /// Where each replica was reached, also when it is not any more.
    places: BTreeMap<ReplicaId, (StartSpec, SocketAddr)>,
    /// The address of the next server.
    next: Option<SocketAddr>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
struct Server {
    /// Ends the listener.
    listener: CancellationToken,
    /// Ends the listener and its connections.
    all: CancellationToken,
}

impl Targets {
    /// No servers yet. They run on the current runtime.
    #[must_use]
    pub fn new() -> Self {
        let state = Mutex::default();
        let (released, _) = watch::channel(false);
        Self(Arc::new(Inner { runtime: Handle::current(), tasks: TaskTracker::new(), state, released }))
    }

    /// Replicas of this image that start from now on behave so; others are [`Behaviour::Origin`].
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        self.0.state.lock().behaviours.insert(image.into(), behaviour);
    }

    /// The next server gets this address.
    pub fn next_at(&self, address: SocketAddr) {
        self.0.state.lock().next = Some(address);
    }

    /// The replica takes no more connections and loses those that it has; its process goes on.
    pub fn deafen(&self, id: &ReplicaId) {
        if let Some(server) = self.0.state.lock().servers.remove(id) {
            server.all.cancel();
        }
    }

    /// A replica that was made deaf takes connections again, where it did before.
    ///
    /// # Panics
    /// When it was never reached, or somebody else has its address by now.
    pub async fn listen_again(&self, id: &ReplicaId) {
        let (spec, at) = self.0.state.lock().places.get(id).cloned().expect("a replica of this world");
        // Its former listener may take a moment to go.
        let listener = found("the address", async || StdListener::bind(at).map_err(|e| e.to_string())).await;
        self.listen(&spec, listener, Behaviour::Origin);
    }

    /// The replica takes no more connections and keeps those that it has, also when its process ends.
    pub fn deafen_half(&self, id: &ReplicaId) {
        if let Some(server) = self.0.state.lock().servers.remove(id) {
            server.listener.cancel();
        }
    }

    /// Answers every request for `/hold`, also those to come.
    pub fn release(&self) {
        self.0.released.send_replace(true);
    }

    /// Waits until `/hold` is released.
    pub(crate) async fn released(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.released.subscribe().wait_for(|released| *released).await;
    }

    /// Runs a task that ends with its replica.
    pub(crate) fn spawn_for(&self, id: &ReplicaId, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.0.state.lock().servers.get(id).map(|server| server.all.clone()).unwrap_or_default();
        self.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = task => {}
            }
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn_on(task, &self.0.runtime);
    }

    /// Every request that reached an origin, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.0.state.lock().seen.clone()
    }

    /// The targets of those.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }

    pub(crate) fn note(&self, seen: Seen) {
        self.0.state.lock().seen.push(seen);
    }

    fn listen(&self, spec: &StartSpec, listener: StdListener, behaviour: Behaviour) {
        listener.set_nonblocking(true).expect("a socket option");
        let all = CancellationToken::new();
        let server = Server { listener: all.child_token(), all };
        self.0.state.lock().servers.insert(spec.id.clone(), server.clone());
        let (targets, spec) = (self.clone(), Arc::new(spec.clone()));
        let entered = self.0.runtime.enter();
        let listener = TcpListener::from_std(listener).expect("a socket for this runtime");
        drop(entered);
        self.spawn(targets.serve(listener, spec, behaviour, server));
    }

    async fn serve(self, listener: TcpListener, spec: Arc<StartSpec>, behaviour: Behaviour, server: Server) {
        loop {
            let accepted = tokio::select! {
                () = server.listener.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let talk: BoxFuture<'static, ()> = match &behaviour {
                Behaviour::Origin => Box::pin(http(self.clone(), Arc::clone(&spec), stream)),
                Behaviour::Raw(talk) => talk(stream),
                Behaviour::Deaf => return,
            };
            let end = server.all.clone();
            self.spawn(async move {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = talk => {}
                }
            });
        }
    }
}

impl Default for Targets {
    fn default() -> Self {
        Self::new()
    }
}

impl scripted::Targets for Targets {
    fn open(&self, spec: &StartSpec) -> SocketAddr {
        let (behaviour, at) = {
            let mut state = self.0.state.lock();
            let behaviour = state.behaviours.get(&spec.launch.image).cloned();
            (behaviour.unwrap_or(Behaviour::Origin), state.next.take())
        };
        let at = at.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        let listener = StdListener::bind(at).expect("an address of loopback");
        let address = listener.local_addr().expect("a bound socket's address");
        self.0.state.lock().places.insert(spec.id.clone(), (spec.clone(), address));
        if !matches!(behaviour, Behaviour::Deaf) {
            self.listen(spec, listener, behaviour);
        }
        address
    }

    fn close(&self, id: &ReplicaId) {
        self.deafen(id);
    }
}

async fn http(targets: Targets, spec: Arc<StartSpec>, stream: TcpStream) {
    let service = service_fn(move |request| origin::answer(targets.clone(), Arc::clone(&spec), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol();
    // A connection that breaks is what some tests are about.
    drop(server.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}
