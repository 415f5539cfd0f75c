//! The composition root: builds the parts in order, starts them, stops them in the reverse order, and owns every task.
//! `tidegate up` calls it with real runners, the e2e suites with scripted ones. [`handing`] is what changes hands.

mod handing;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_config::{model::Model, name::HostName};
use tidegate_runner::Runner;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    acme,
    admin::{self, Admin, Ready, Running},
    clock,
    control::{self, keep::Keeper},
    fleet::{Bell, Fleet},
    handover,
    listener::{Front, Inside, Sockets},
    names::{self, Names},
    reload,
    request::Door,
    sockets::Socket,
    tcp::doors::Doors,
    tls::{self, Tls},
};

/// How long the gateway waits for its replicas to stop, where it takes them with it.
const STOP_REPLICAS_WITHIN: Duration = Duration::from_secs(30);

/// How long tunnels may take to say goodbye once the drain deadline has passed.
const FAREWELL_WITHIN: Duration = Duration::from_secs(3);

/// What the gateway is built from. Everything that can fail has been done: sockets are bound, the state is locked.
pub struct Parts {
    /// The checked file.
    pub model: Arc<Model>,
    /// A runner for each of its hosts.
    pub runners: BTreeMap<HostName, Arc<dyn Runner>>,
    /// Where requests arrive.
    pub sockets: Sockets,
    /// Where connections of TCP services arrive, in the order of [`addresses`](crate::tcp::doors::addresses).
    pub streams: Sockets,
    /// Where operators ask.
    pub admin: admin::Listeners,
    /// Where other gateways ask, if any may.
    pub handover: Option<handover::Server>,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// Which start on its state directory this is.
    pub generation: u64,
    /// What outlives the gateway.
    pub keeper: Keeper,
    /// What is served over TLS.
    pub tls: Arc<Tls>,
    /// The state directory.
    pub folder: PathBuf,
    /// The file and how it is loaded again; `None`: it never is.
    pub file: Option<reload::Source>,
    /// Worker threads of the data plane.
    pub threads: usize,
}

/// A running gateway.
pub struct App {
    front: Front,
    /// The listeners of TCP services.
    doors: Arc<Doors>,
    control: control::Handle,
    ready: Arc<Ready>,
    door: Arc<Door>,
    fleet: Arc<Fleet>,
    names: Names,
    /// The file as it was at the start.
    started: Arc<Model>,
    bell: Bell,
    /// The control loop, while it runs.
    running: JoinSet<control::Loop>,
    /// Ends it.
    halt: CancellationToken,
    /// The control loop, while it stands still.
    standing: Option<control::Loop>,
    /// What talks to people and to other gateways.
    tasks: JoinSet<()>,
    /// Ends those.
    stop: CancellationToken,
    /// What serves with another gateway's word.
    following: JoinSet<()>,
    /// Ends that.
    unfollow: CancellationToken,
    reload: mpsc::Sender<()>,
    asked: mpsc::Receiver<handover::Request>,
    passing: Vec<Socket>,
    tls: Arc<Tls>,
    folder: PathBuf,
    file: Option<reload::Source>,
    exporter: PrometheusHandle,
    generation: u64,
    fingerprint: String,
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
    administered: Option<SocketAddr>,
}

impl App {
    /// Starts everything. Requests are accepted from here on, and held until their replicas are there.
    ///
    /// # Errors
    /// When the server's thread cannot be made.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let app = Self::build(parts)?;
        app.open();
        Ok(app)
    }

    /// Starts everything but accepting.
    ///
    /// # Errors
    /// When the server's thread cannot be made, or there are no file descriptors left.
    pub fn build(parts: Parts) -> std::io::Result<Self> {
        let (fleet, bell) = (Arc::new(Fleet::default()), Bell::default());
        let challenges = Arc::clone(parts.tls.challenges());
        let door = Arc::new(Door::new(Arc::new(parts.model.gateway.clone()), challenges));
        acme::restore(&parts.tls, &parts.folder);
        let (addresses, passing) = (parts.sockets.addresses(), parts.sockets.duplicates()?);
        let front = Front::start(parts.sockets, Arc::clone(&door), &parts.tls, parts.threads)?;
        let doors = Arc::new(Doors::new(front.streams(Arc::clone(&fleet))));
        doors.take_up(&parts.model, Doors::given(&parts.model, parts.streams))?;
        let names = Names::start(names::Setup {
            inside: front.inside(Arc::clone(&fleet)),
            fleet: Arc::clone(&fleet),
            model: Arc::clone(&parts.model),
            ports: names::Ports::default(),
            upstreams: names::Upstreams::file("/etc/resolv.conf"),
        });
        let started = Arc::clone(&parts.model);
        let (control_loop, control) = control::build(control::Setup {
            model: parts.model,
            runners: parts.runners,
            fleet: Arc::clone(&fleet),
            door: Arc::clone(&door),
            bell: bell.clone(),
            generation: parts.generation,
            keeper: parts.keeper,
            names: names.clone(),
        });
        let (reload, _) = mpsc::channel(1);
        let (_, asked) = mpsc::channel(1);
        let mut app = Self {
            addresses,
            metrics: parts.admin.tcp_address(),
            administered: parts.admin.remote_address(),
            passing,
            front,
            doors,
            names,
            started,
            control,
            ready: Arc::default(),
            door,
            fleet,
            bell,
            running: JoinSet::new(),
            halt: CancellationToken::new(),
            standing: Some(control_loop),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            following: JoinSet::new(),
            unfollow: CancellationToken::new(),
            reload,
            asked,
            tls: parts.tls,
            folder: parts.folder,
            file: parts.file,
            exporter: parts.metrics,
            generation: parts.generation,
            fingerprint: String::new(),
        };
        app.run(Some(parts.admin), parts.handover);
        Ok(app)
    }

    /// Starts the control loop and all that talks to it.
    fn run(&mut self, admin: Option<admin::Listeners>, others: Option<handover::Server>) {
        (self.stop, self.halt) = (CancellationToken::new(), CancellationToken::new());
        if let Some(control_loop) = self.standing.take() {
            self.fingerprint = control_loop.fingerprint();
            self.running.spawn(control_loop.run(self.halt.clone()));
        }
        let (control, stop) = (self.control.clone(), self.stop.clone());
        self.tasks.spawn(self.names.clone().serve(stop.clone()));
        if let Some(admin) = admin {
            let (metrics, ready) = (self.exporter.clone(), Arc::clone(&self.ready));
            let running = Running {
                started: Arc::clone(&self.started),
                fleet: Arc::clone(&self.fleet),
                door: Arc::clone(&self.door),
            };
            let admin_of = Admin { control: control.clone(), running, metrics, ready };
            self.tasks.spawn(admin.serve(admin_of, stop.clone()));
        }
        let (again, asked) = mpsc::channel(1);
        self.reload = again;
        let tls = Arc::clone(&self.tls);
        self.tasks.spawn(tls::tell(Arc::clone(&tls), stop.clone()));
        self.tasks.spawn(acme::run(Arc::clone(&tls), self.folder.clone(), stop.clone()));
        if let Some(source) = self.file.clone() {
            let takers = reload::Takers { tls, doors: Arc::clone(&self.doors) };
            self.tasks.spawn(reload::run(source, asked, control.clone(), takers, stop.clone()));
        }
        let (ask, asked) = mpsc::channel(1);
        self.asked = asked;
        if let Some(others) = others {
            self.tasks.spawn(handover::serve(others, control, ask, stop));
        }
    }

    /// Accepts requests from here on.
    pub fn open(&self) {
        self.front.open();
    }

    /// Where requests are answered.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are served over TCP.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where those with a token administrate.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.administered
    }

    /// The control loop.
    #[must_use]
    pub fn control(&self) -> &control::Handle {
        &self.control
    }

    /// The listeners of TCP services.
    #[must_use]
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// What tells containers where services are.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What opens listeners for calls by name.
    #[must_use]
    pub fn inside(&self) -> Inside {
        self.front.inside(Arc::clone(&self.fleet))
    }

    /// What both planes share.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Asks for a reload, as SIGHUP does, and opens the access log anew.
    pub fn reload(&self) {
        if let Some(log) = self.door.log.load_full() {
            log.reopen();
        }
        // One that waits already covers this one.
        let _ = self.reload.try_send(());
    }

    /// Waits until what an earlier run left has been looked at and, unless `prepull` is false, every image is there or
    /// known not to be; then says ready to load balancers.
    ///
    /// # Errors
    /// When the control loop has ended.
    pub async fn settle(&self, prepull: bool) -> Result<(), control::Ended> {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while prepull && !self.control.is_settled().await? {
            looks.tick().await;
        }
        self.ready.set(true);
        Ok(())
    }

    /// Stops: no new connections, what runs may finish within the drain deadline, then everything ends. Replicas stay
    /// for the next start unless the file says otherwise. True if nothing was cut off.
    pub async fn stop(mut self) -> bool {
        self.ready.set(false);
        // A second handle would keep the sockets open.
        self.passing.clear();
        self.doors.close();
        let settings = self.door.settings.load_full();
        self.front.stop_accepting();
        let clean = self.finish(clock::now() + settings.drain).await;
        if settings.stop_replicas_on_exit && !self.running.is_empty() {
            // A loop that has ended has no replicas to stop, and an engine that hangs must not keep us.
            let _ = tokio::time::timeout(STOP_REPLICAS_WITHIN, self.control.stop_all()).await;
        }
        self.end().await;
        clean
    }

    /// Lets connections and tunnels end by themselves until `deadline`; then tunnels take their leave. True if nothing
    /// was cut off.
    async fn finish(&self, deadline: std::time::Instant) -> bool {
        let left = || deadline.saturating_duration_since(clock::now());
        let connections = self.front.drained(left()).await;
        self.door.copies.end().await;
        self.door.tasks.close();
        let tunnels = tokio::time::timeout(left(), self.door.tasks.wait()).await.is_ok();
        if !tunnels {
            self.door.cut.cancel();
            // Each has a bound of its own.
            let _ = tokio::time::timeout(FAREWELL_WITHIN, self.door.tasks.wait()).await;
        }
        connections && tunnels
    }

    async fn end(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.halt.cancel();
        while self.running.join_next().await.is_some() {}
        self.unfollow.cancel();
        while self.following.join_next().await.is_some() {}
        if let Some(spans) = self.door.spans.load_full() {
            spans.finish().await;
        }
        if let Some(log) = self.door.log.load_full() {
            log.finish();
        }
    }
}
