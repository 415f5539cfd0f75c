//! The composition root: builds the parts in order, starts them, stops them in the reverse order, and owns every task.
//! `tidegate up` calls it with real runners, the e2e suites with scripted ones.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tidegate_config::{model::Model, name::HostName};
use tidegate_runner::Runner;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin::{self, Admin, Ready},
    clock,
    control::{self, keep::Keeper},
    fleet::{Bell, Fleet},
    listener::{Front, Sockets},
    reload,
    request::Door,
    router::RouteTable,
};

/// How long the gateway waits for its replicas to stop, where it takes them with it.
const STOP_REPLICAS_WITHIN: Duration = Duration::from_secs(30);

/// What the gateway is built from. Everything that can fail has been done: sockets are bound, the state is locked.
pub struct Parts {
    /// The checked file.
    pub model: Arc<Model>,
    /// A runner for each of its hosts.
    pub runners: BTreeMap<HostName, Arc<dyn Runner>>,
    /// Where requests arrive.
    pub sockets: Sockets,
    /// Where operators ask.
    pub admin: admin::Listeners,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// Which start on its state directory this is.
    pub generation: u64,
    /// What outlives the gateway.
    pub keeper: Keeper,
    /// The file and how it is loaded again; `None`: it never is.
    pub file: Option<(PathBuf, reload::Loader)>,
    /// Worker threads of the data plane.
    pub threads: usize,
}

/// A running gateway.
pub struct App {
    front: Front,
    control: control::Handle,
    ready: Arc<Ready>,
    door: Arc<Door>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    reload: mpsc::Sender<()>,
    addresses: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
}

impl App {
    /// Starts everything. Requests are accepted from here on, and held until their replicas are there.
    ///
    /// # Errors
    /// When the server's thread cannot be made.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let (fleet, bell) = (Arc::new(Fleet::default()), Bell::default());
        let door = Arc::new(Door {
            routes: ArcSwap::from_pointee(RouteTable::new([])),
            settings: ArcSwap::from_pointee(parts.model.gateway.clone()),
            tasks: TaskTracker::new(),
        });
        let (control_loop, control) = control::build(control::Setup {
            model: parts.model,
            runners: parts.runners,
            fleet,
            door: Arc::clone(&door),
            bell,
            generation: parts.generation,
            keeper: parts.keeper,
        });
        let ready = Arc::new(Ready::default());
        let stop = CancellationToken::new();
        let (again, asked) = mpsc::channel(1);
        let (addresses, metrics) = (parts.sockets.addresses(), parts.admin.tcp_address());

        let mut tasks = JoinSet::new();
        tasks.spawn(control_loop.run(stop.clone()));
        let served = Admin { control: control.clone(), metrics: parts.metrics, ready: Arc::clone(&ready) };
        tasks.spawn(parts.admin.serve(served, stop.clone()));
        if let Some((file, load)) = parts.file {
            tasks.spawn(reload::run(file, load, asked, control.clone(), stop.clone()));
        }
        let front = Front::start(parts.sockets, Arc::clone(&door), parts.threads)?;
        Ok(Self { front, control, ready, door, tasks, stop, reload: again, addresses, metrics })
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

    /// The control loop.
    #[must_use]
    pub fn control(&self) -> &control::Handle {
        &self.control
    }

    /// Asks for a reload, as SIGHUP does.
    pub fn reload(&self) {
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
    pub async fn stop(self) -> bool {
        self.ready.set(false);
        let settings = self.door.settings.load_full();
        let deadline = clock::now() + settings.drain;
        self.front.stop_accepting();
        let connections = self.front.drained(settings.drain).await;
        self.door.tasks.close();
        let left = deadline.saturating_duration_since(clock::now());
        let tunnels = tokio::time::timeout(left, self.door.tasks.wait()).await.is_ok();
        if settings.stop_replicas_on_exit {
            // A loop that has ended has no replicas to stop, and an engine that hangs must not keep us.
            let _ = tokio::time::timeout(STOP_REPLICAS_WITHIN, self.control.stop_all()).await;
        }
        self.stop.cancel();
        self.tasks.join_all().await;
        connections && tunnels
    }
}
