//! The checked value that the rest of the program runs on: every default already applied, every reference resolved.
//! Built by `check` and by nobody else outside tests. The `Default` impls below are the one place where
//! defaults stand; `schema` and docs/configuration.md print them. Absent: serde (these are not wire formats).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};

mod host;
mod images;

pub use host::{Capacity, Engine, Host, Reach, Tls};
pub use images::Images;

use crate::{
    name::{Authority, PathPrefix, ServiceName},
    spec::{Launch, Protocol, Pull, Reserve, Resources, Scratch},
    units::{Bytes, Concurrency, Count, Percent},
};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The gateway's own settings.
    pub gateway: Gateway,
    /// Machines that replicas may run on; at least one.
    pub hosts: Vec<Host>,
    /// How the embedded engine comes by images. Docker has its own settings.
    pub images: Images,
    /// What users registered.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
}

/// The gateway's own settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Where requests arrive.
    pub listen: Vec<SocketAddr>,
    /// Where metrics and probes are served, over TCP: loopback.
    pub metrics: Option<SocketAddr>,
    /// The state directory; `None`: /var/lib/tidegate as root, else under the XDG state home.
    pub state: Option<PathBuf>,
    /// Peers whose X-Forwarded-* and Forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether refusals carry the cause in words (exit codes, log lines) to the client.
    pub expose_errors: bool,
    /// Whether responses carry `Server-Timing` and `X-Tidegate-Cold`.
    pub timing_headers: bool,
    /// How long `SIGTERM` waits for running requests.
    pub drain: Duration,
    /// Whether replicas are stopped when the gateway stops.
    pub stop_replicas_on_exit: bool,
    /// The subnet of the containers' network on each host; `None`: a free one of 256 private ones.
    pub subnet: Option<Ipv4Net>,
    /// Whether replicas of the embedded engine may reach 169.254.0.0/16, where clouds keep a machine's credentials.
    pub allow_metadata: bool,
    /// Whether containers reach services by name, at `http://NAME`, through the gateway.
    pub internal_names: bool,
    /// Where containers of remote hosts reach the gateway for that; `None`: names do not resolve there.
    pub internal_address: Option<IpAddr>,
    /// What clients may ask of us.
    pub limits: Limits,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080)],
            metrics: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9901)),
            state: None,
            trusted_proxies: Vec::new(),
            expose_errors: false,
            timing_headers: false,
            drain: Duration::from_secs(30),
            stop_replicas_on_exit: false,
            subnet: None,
            allow_metadata: false,
            internal_names: true,
            internal_address: None,
            limits: Limits::default(),
        }
    }
}

/// What clients may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections.
    pub connections: u32,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// Bytes of a request's headers.
    pub header_bytes: Bytes,
    /// Header fields of a request.
    pub header_count: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub h2_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_timeout: Duration::from_secs(30),
            header_bytes: Bytes(64 << 10),
            header_count: 100,
            h2_streams: 200,
        }
    }
}

/// A registered service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name, also its host name below `.localhost`.
    pub name: ServiceName,
    /// What is run and how; a change makes a new revision.
    pub launch: Launch,
    /// What selects it; a change restarts nothing.
    pub routes: Vec<Route>,
    /// How many replicas it gets; a change restarts nothing.
    pub scaling: ScalingPolicy,
    /// When a replica counts as well; a change restarts nothing.
    pub health: Health,
    /// What its requests may cost; a change restarts nothing.
    pub upstream: Upstream,
    /// Labels that its hosts must have.
    pub constraints: BTreeMap<String, String>,
    /// How replicas are laid over hosts.
    pub placement: Placement,
    /// How one version follows another.
    pub update: Update,
    /// How a new version is tried, and how many old ones are kept.
    pub rollout: Rollout,
    /// What becomes of replicas that are not needed.
    pub sleep: Sleep,
}

/// How one version of a service follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Update {
    /// New replicas start beside the old ones.
    #[default]
    Rolling,
    /// The old replica is gone before the new one starts: there is never more than one. What comes meanwhile waits.
    Recreate,
}

/// How a new version is tried, and how many old ones are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The shares of requests that it gets, one after the other; the last is 100 %.
    pub steps: Vec<Percent>,
    /// How long each step lasts; after the last one the new version is the good one.
    pub every: Duration,
    /// How much larger its share of failed requests may be than the old one's before it is taken back.
    pub margin: Percent,
    /// Failed replicas of it that take it back.
    pub failures: u32,
    /// Old versions that are kept for `tidegate rollback`.
    pub keep: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            steps: vec![Percent::new(100).expect("in range")],
            every: Duration::from_secs(30),
            margin: Percent::new(5).expect("in range"),
            failures: 2,
            keep: 2,
        }
    }
}

/// What becomes of replicas that are not needed: how long each is kept in which sleep. `None`: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sleep {
    /// Its processes stopped in place, its memory kept.
    pub frozen: Option<Duration>,
    /// Its processes gone, its container kept.
    pub stopped: Option<Duration>,
}

/// How replicas are laid over hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// The fewest of the service first, then the emptiest.
    #[default]
    Spread,
    /// The fullest host that still fits.
    Binpack,
}

/// What selects a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The request's host.
    pub host: Authority,
    /// The request's path.
    pub path: PathPrefix,
    /// Whether `path` is removed before the request goes on.
    pub strip: bool,
}

/// How many replicas a service gets.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingPolicy {
    /// Replicas that are always there.
    pub min: Count,
    /// Replicas that are never exceeded.
    pub max: Count,
    /// Replicas that a wake starts.
    pub initial: Count,
    /// Hard limit of requests at once per replica; `None`: no hard limit.
    pub concurrency: Option<Concurrency>,
    /// The share of `concurrency` (100 where that is unset) that the autoscaler aims at.
    pub target: Percent,
    /// Over how long demand is averaged.
    pub stable_window: Duration,
    /// The share of `stable_window` that shows a surge.
    pub surge_window: Percent,
    /// Demand of the surge window over capacity that makes a surge (Knative's panic threshold, 200 %), as a ratio.
    pub surge_threshold: f64,
    /// Replicas may grow by this factor per decision.
    pub max_up_rate: f64,
    /// Replicas may shrink by this factor per decision.
    pub max_down_rate: f64,
    /// Hold a lower want back for this long.
    pub scale_down_delay: Duration,
    /// When the last replica goes.
    pub idle: Idle,
    /// How long a draining replica may finish what it runs.
    pub drain: Duration,
    /// How long a request may wait for a replica.
    pub hold: Duration,
    /// How many requests may wait.
    pub queue: usize,
}

impl Default for ScalingPolicy {
    fn default() -> Self {
        Self {
            min: 0,
            max: 10,
            initial: 1,
            concurrency: None,
            target: Percent::new(70).expect("in range"),
            stable_window: Duration::from_secs(60),
            surge_window: Percent::new(10).expect("in range"),
            surge_threshold: 2.0,
            max_up_rate: 1000.0,
            max_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
            idle: Idle::After(Duration::from_secs(60)),
            drain: Duration::from_secs(30),
            hold: Duration::from_secs(60),
            queue: 10_000,
        }
    }
}

/// When the last replica goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Once nothing ran, streamed or waited for this long.
    After(Duration),
    /// Knative's rule: a stable window without demand, then its 30 s grace.
    Kpa,
}

/// When a replica counts as ready, and as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked; `None`: the image's HEALTHCHECK where the engine can run it, else a TCP connect.
    pub probe: Option<Probe>,
    /// Between two liveness probes.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Failed liveness probes in a row that make a failed replica.
    pub failures: u32,
    /// Probes passed in a row that make a ready replica.
    pub successes: u32,
    /// From the start call to ready.
    pub start_deadline: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            probe: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            failures: 3,
            successes: 1,
            start_deadline: Duration::from_secs(60),
        }
    }
}

/// What is asked of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A connect to its port.
    Tcp,
    /// A GET that must answer 2xx or 3xx (h2c services: over HTTP/2).
    Http {
        /// Path and query.
        path: String,
        /// Another port than the service's.
        port: Option<u16>,
    },
    /// A command in the replica that must end with 0.
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// What a service's requests may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// For a connection to a replica.
    pub connect_timeout: Duration,
    /// From the request's end of headers to the response's.
    pub first_byte_timeout: Duration,
    /// How long an unused connection is kept; below what common servers keep (Node and uvicorn: 5 s, gunicorn: 2 s).
    pub idle_connection: Duration,
    /// Whether paths with encoded slashes or backslashes are passed on instead of refused.
    pub allow_encoded_slashes: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(300),
            idle_connection: Duration::from_millis(1500),
            allow_encoded_slashes: false,
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory: Bytes::mib(512),
            cpu: None,
            pids: 1024,
            disk: None,
            scratch: Scratch::Disk,
            reserve: Reserve { memory: Bytes::mib(64), cpu: 0.0 },
        }
    }
}

impl Launch {
    /// Whether it writes to a volume that is its alone, which binds it to the host that has the volume.
    #[must_use]
    pub fn has_own_data(&self) -> bool {
        self.volumes.iter().any(|volume| !volume.read_only && !volume.shared)
    }

    /// The default launch settings of an image.
    #[must_use]
    pub fn of(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            pull: Pull::Missing,
            command: Vec::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            working_dir: None,
            user: None,
            port: None,
            protocol: Protocol::Http1,
            secret_files: BTreeMap::new(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            resources: Resources::default(),
            profile: crate::spec::Profile::Default,
        }
    }
}

impl Service {
    /// A service with nothing but defaults, as `image = "..."` alone gives it: one route, `NAME.localhost`.
    #[must_use]
    pub fn of(name: ServiceName, image: impl Into<String>) -> Self {
        let host = Authority::Exact(format!("{name}.localhost"));
        Self {
            name,
            launch: Launch::of(image),
            routes: vec![Route { host, path: PathPrefix::root(), strip: false }],
            scaling: ScalingPolicy::default(),
            health: Health::default(),
            upstream: Upstream::default(),
            constraints: BTreeMap::new(),
            placement: Placement::default(),
            update: Update::default(),
            rollout: Rollout::default(),
            sleep: Sleep::default(),
        }
    }
}
