//! A whole gateway in this process, on real sockets, with the scripted runner where an engine would be and real servers
//! where its containers would be. Dropping a [`World`] ends it as a crash would; [`World::stop`] ends it in order.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use futures_util::future::join_all;
use http::Request;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tempfile::TempDir;
pub use tidegate::control::status::ServiceStatus as Status;
use tidegate::{
    admin,
    app::{App, Parts},
    control::{
        self,
        keep::Keeper,
        status::{Explanation, ServiceStatus},
    },
    handover::{self, Outcome},
    listener::Sockets,
    reload::{self, Loader},
    state_dir::StateDir,
    tcp::doors,
    tls::Tls,
};
use tidegate_config::{
    Format,
    model::{Gateway, Model},
    name::{ReplicaId, ServiceName},
    spec::Exit,
};
use tidegate_runner::{Runner, scripted::Scripted};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Answer, Body, Session, Wire, empty},
    eventually::{found, soon},
    targets::{Seen, Targets},
};

/// A world before its gateway starts: engine and servers can be told how to behave.
pub struct Setup {
    /// The engine of the first host.
    pub runner: Scripted,
    /// Where its replicas are.
    pub targets: Targets,
    /// The engines of other hosts, by name.
    engines: BTreeMap<String, Scripted>,
    folder: TempDir,
    text: String,
    generation: u64,
    file: bool,
    settle: bool,
}

impl Setup {
    /// A gateway with this file, in TOML.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let targets = Targets::new();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runner = Scripted::new(targets.clone());
        let engines = BTreeMap::new();
        Self { runner, targets, engines, folder, text: text.into(), generation: 1, file: false, settle: true }
    }

    /// The gateway has a real file, which it watches.
    #[must_use]
    pub fn with_file(mut self) -> Self {
        self.file = true;
        self
    }

    /// The gateway's images need not be there when the world starts.
    #[must_use]
    pub fn unsettled(mut self) -> Self {
        self.settle = false;
        self
    }

    /// Which start on its state directory this one is.
    #[must_use]
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// The folder of the file, which names other files from there.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The engine of a host other than the first one.
    pub fn engine(&mut self, host: &str) -> Scripted {
        let targets = self.targets.clone();
        self.engines.entry(host.into()).or_insert_with(|| Scripted::new(targets)).clone()
    }

    /// Starts the gateway.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(self) -> World {
        let (sockets, settle) = (Sockets::bind(&self.addresses()).expect("free ports"), self.settle);
        let world = self.build(sockets).await;
        world.app.open();
        world.app.settle(settle).await.expect("a control loop");
        world
    }

    /// Where it listens: where its file says so, or else on some port; then for connections of TCP services.
    fn addresses(&self) -> Vec<SocketAddr> {
        let file = self.folder.path().join("tidegate.toml");
        std::fs::write(&file, &self.text).expect("a temporary file");
        let model = load(&file).expect("a valid file");
        let listeners = model.gateway.listen.iter().map(|listener| listener.address);
        let own = if model.gateway.listen == Gateway::default().listen {
            vec![LOOPBACK]
        } else {
            listeners.collect()
        };
        own.into_iter().chain(doors::addresses(&model)).collect()
    }

    /// Starts everything but accepting.
    async fn build(mut self, mut sockets: Sockets) -> World {
        let file = self.folder.path().join("tidegate.toml");
        let model = Arc::new(load(&file).expect("a valid file"));
        let tls = Tls::load(&model).expect("good certificates");
        let mut runners: BTreeMap<_, Arc<dyn Runner>> = BTreeMap::new();
        for (at, host) in model.hosts.iter().enumerate() {
            let runner = if at == 0 { self.runner.clone() } else { self.engine(host.name.as_str()) };
            runners.insert(host.name.clone(), Arc::new(runner));
        }
        let socket = self.folder.path().join("admin.sock");
        let admin = admin::Listeners::bind(&socket, Some(LOOPBACK), model.gateway.admin.as_ref())
            .await
            .expect("admin sockets");
        let others = handover::Server::bind(&handover::socket(self.folder.path())).expect("a socket");
        let reloaded = file.clone();
        let loader: Loader = Arc::new(move || load(&reloaded));
        let streams = sockets.split_off(model.gateway.listen.len());
        let app = App::build(Parts {
            model,
            runners,
            streams,
            sockets,
            admin,
            handover: Some(others),
            metrics: metrics().clone(),
            generation: self.generation,
            keeper: keeper(self.folder.path()),
            tls: Arc::new(tls),
            folder: self.folder.path().to_owned(),
            file: self.file.then(|| reload::Source { file: file.clone(), load: loader }),
            threads: 1,
        })
        .expect("a gateway");
        let address = app.addresses()[0];
        let Self { runner, targets, engines, folder, generation, .. } = self;
        World { runner, targets, engines, app, address, file, folder, generation }
    }
}

/// Any port of this machine's own.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What the control loop keeps is a file beside the configuration.
fn keeper(folder: &std::path::Path) -> Keeper {
    let file = folder.join("kept.json");
    let kept = std::fs::read_to_string(&file).ok();
    let kept = kept.map(|text| serde_json::from_str(&text).expect("what the loop wrote"));
    Keeper { kept: kept.unwrap_or_default(), save: Arc::new(move |text| replace(&file, text)) }
}

/// As the state directory does it: a crash finds the old text or the new one.
fn replace(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, file)
}

fn load(file: &std::path::Path) -> Result<Model, tidegate_config::Problems> {
    tidegate_config::load(file, [])
}

/// The recorder of this process; all its worlds share it.
fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().expect("no other recorder"))
}

/// A running gateway, its engine and its replicas.
pub struct World {
    /// The engine of the first host.
    pub runner: Scripted,
    /// Where its replicas are.
    pub targets: Targets,
    /// The engines of other hosts, by name.
    pub engines: BTreeMap<String, Scripted>,
    /// The gateway.
    pub app: App,
    /// Where it answers.
    pub address: SocketAddr,
    file: PathBuf,
    folder: TempDir,
    generation: u64,
}

impl World {
    /// A gateway with this file, whose images have been looked at.
    pub async fn new(text: &str) -> Self {
        Setup::new(text).start().await
    }

    /// The control loop.
    #[must_use]
    pub fn control(&self) -> &control::Handle {
        self.app.control()
    }

    /// Where the admin socket is.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Ends a replica's process.
    pub fn exit(&self, id: &ReplicaId, code: i64, out_of_memory: bool) {
        self.runner.exit(id, Exit { code, out_of_memory, disrupted: false, message: None });
    }

    /// The gateway ends as in a crash; the engine and the replicas go on, and another gateway starts on them.
    pub async fn crash_and_start(self) -> Self {
        let (app, setup) = self.apart();
        drop(app);
        setup.start().await
    }

    /// Another gateway takes over from this one, which is given back; it may still have requests to finish.
    ///
    /// # Panics
    /// When it does not.
    pub async fn upgrade(self) -> (Self, App) {
        let (mut old, setup) = self.apart();
        let folder = setup.folder.path().to_owned();
        let state = StateDir::take(&folder).expect("a free state directory");
        let hand = async {
            let request = old.asked_for().await;
            handover::hand_over(&mut old, state, request).await
        };
        let take = async {
            let taken = handover::take_over(&handover::socket(&folder), String::new()).await;
            let mut taken = taken.expect("an answer").expect("a gateway");
            let sockets = Sockets::gather(&setup.addresses(), taken.sockets()).expect("the same sockets");
            let world = setup.build(sockets).await;
            taken.serve(&world.app).await.expect("a gateway that yields");
            world.app.settle(true).await.expect("a control loop");
            world
        };
        let (handed, world) = soon("a handover", Box::pin(async { tokio::join!(hand, take) })).await;
        assert!(matches!(handed, Ok(Outcome::Given)), "{handed:?}");
        (world, old)
    }

    /// The gateway and what the next one starts with.
    fn apart(self) -> (App, Setup) {
        let Self { runner, targets, engines, app, folder, file, generation, .. } = self;
        let text = std::fs::read_to_string(&file).expect("the file as it is by now");
        let generation = generation + 1;
        (app, Setup { runner, targets, engines, folder, text, generation, file: false, settle: true })
    }

    /// Which start on its state directory the gateway is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.app.generation()
    }

    /// The gateway's folder, which is its state directory.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Stops the gateway in order; true if nothing was cut off. The engine and the replicas go on.
    pub async fn stop(self) -> (bool, Scripted, Targets) {
        (self.app.stop().await, self.runner, self.targets)
    }

    /// What the control loop has kept on disk; empty before it has kept anything.
    #[must_use]
    pub fn kept(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("kept.json")).unwrap_or_default()
    }

    /// Writes the file anew, as an editor does.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, text: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).expect("a temporary file");
        std::fs::rename(&new, &self.file).expect("a file beside it");
    }

    /// A GET over a connection of its own.
    ///
    /// # Panics
    /// When there is no whole answer.
    pub async fn get(&self, service: &str, path: &str) -> Answer {
        self.ask(get(service, path)).await.expect("a whole answer")
    }

    /// A request over a connection of its own.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn ask(&self, request: Request<Body>) -> hyper::Result<Answer> {
        self.http1().await.ask(request).await
    }

    /// A connection that speaks HTTP/1.1.
    pub async fn http1(&self) -> Session {
        Session::http1(self.address).await
    }

    /// A connection that speaks HTTP/2.
    pub async fn http2(&self) -> Session {
        Session::http2(self.address).await
    }

    /// A connection for bytes.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// What `explain` says.
    ///
    /// # Panics
    /// When there is no such service.
    pub async fn explain(&self, service: &str) -> Explanation {
        *self.control().explain(name(service)).await.expect("a control loop").expect("a service")
    }

    /// What `ps` says.
    pub async fn status(&self, service: &str) -> ServiceStatus {
        self.explain(service).await.status
    }

    /// Waits until `ps` says so of the service.
    pub async fn until(&self, service: &str, is: impl Fn(&ServiceStatus) -> bool) -> ServiceStatus {
        found(service, async || {
            let status = self.status(service).await;
            if is(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    /// Waits until the gateway does not know the service any more.
    pub async fn until_gone(&self, service: &str) {
        found(service, async || match self.control().explain(name(service)).await.expect("a control loop") {
            None => Ok(()),
            Some(explanation) => Err(format!("{explanation:?}")),
        })
        .await;
    }

    /// Waits until this many replicas are ready, and nothing else of the service is there; tells their names.
    pub async fn until_ready(&self, service: &str, count: usize) -> Vec<ReplicaId> {
        let ready = |status: &ServiceStatus| {
            status.replicas.len() == count && status.replicas.iter().all(|replica| replica.phase == "ready")
        };
        let status = self.until(service, ready).await;
        status.replicas.iter().map(|replica| replica.id.parse().expect("a replica's name")).collect()
    }

    /// Waits until this many requests wait and run.
    pub async fn until_counts(&self, service: &str, queued: u32, in_flight: u32) {
        self.until(service, |status| (status.queued, status.in_flight) == (queued, in_flight)).await;
    }

    /// Waits until this many requests have reached a replica; tells them.
    pub async fn until_seen(&self, count: usize) -> Vec<Seen> {
        let look = async || {
            let seen = self.targets.seen();
            if seen.len() >= count { Ok(seen) } else { Err(format!("{seen:?}")) }
        };
        found("requests at replicas", look).await
    }

    /// Wakes a service by hand and waits until it is ready.
    ///
    /// # Panics
    /// When it cannot be woken.
    pub async fn wake(&self, service: &str) -> Vec<ReplicaId> {
        self.control()
            .wake(name(service))
            .await
            .expect("a control loop")
            .expect("a service that can be woken");
        let status = self.status(service).await;
        let ready = status.replicas.iter().filter(|replica| replica.phase == "ready");
        ready.map(|replica| replica.id.parse().expect("a replica's name")).collect()
    }

    /// The sum of a metric's samples with all of these labels. All worlds of a process share their metrics.
    #[must_use]
    pub fn metric(&self, metric: &str, labels: &[&str]) -> f64 {
        let text = metrics().render();
        let mine = text.lines().filter(|line| {
            line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        mine.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// A service's name.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn name(service: &str) -> ServiceName {
    service.parse().expect("a service's name")
}

/// A GET for a service.
///
/// # Panics
/// When the path is none.
#[must_use]
pub fn get(service: &str, path: &str) -> Request<Body> {
    request("GET", service, path, empty())
}

/// A request for a service.
///
/// # Panics
/// When the path is none.
#[must_use]
pub fn request(method: &str, service: &str, path: &str, body: Body) -> Request<Body> {
    let host = format!("{service}.localhost");
    let request = Request::builder().method(method).uri(path).header("host", host);
    request.body(body).expect("a valid request")
}

/// The model of a text in TOML.
///
/// # Panics
/// When it is not valid.
#[must_use]
pub fn model(text: &str) -> Model {
    tidegate_config::parse(text, Format::Toml).expect("a valid file")
}

/// Asks for `/` of a service again and again, on `clients` connections at a time, until `change` has come about; tells
/// what `change` ended with and every answer that was not 200.
pub async fn under_traffic<T>(
    world: &World,
    service: &str,
    clients: usize,
    change: impl Future<Output = T>,
) -> (T, Vec<Answer>) {
    let over = CancellationToken::new();
    let client = async || {
        let (mut session, mut bad) = (world.http1().await, Vec::new());
        while !over.is_cancelled() {
            let answer = session.ask(get(service, "/")).await.expect("a whole answer");
            bad.extend((answer.status != 200).then_some(answer));
        }
        bad
    };
    let changing = async {
        let changed = change.await;
        over.cancel();
        changed
    };
    let (changed, bad) = tokio::join!(changing, join_all((0..clients).map(|_| client())));
    (changed, bad.into_iter().flatten().collect())
}
