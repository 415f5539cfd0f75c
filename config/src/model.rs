//! The checked value that the rest of the program runs on: every default already applied, every reference resolved.
//! Built by `check` and by nobody else outside tests. The `Default` impls below are the one place where
//! defaults stand; `schema` and docs/configuration.md print them. Absent: serde (these are not wire formats).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

mod access;
mod admin;
mod balance;
mod edge;
mod gateway;
mod goal;
mod host;
mod images;
mod keep_warm;
mod law;
mod limits;
mod middleware;
mod signals;
mod spans;
mod traffic;
mod wake;

pub use access::{AccessLog, LogFormat, LogTo};
pub use admin::{Admin, Role, Secret, Token};
pub use balance::{Adaptive, Affinity, After, Balance, Circuit, Common, Ejection, Hedge};
pub use edge::{Acme, Certificate, Challenge, GatewayTls, LETS_ENCRYPT, Listener, TlsVersion};
pub use gateway::Gateway;
pub use goal::{Goal, NotAGoal};
pub use host::{Capacity, Engine, Host, Kubernetes, Reach, Tls};
pub use images::Images;
pub use keep_warm::KeepWarm;
pub use law::{Aim, Law, Parts, Work};
pub use limits::{Limits, RequestLimits};
pub use middleware::{
    BasicAuth, BearerAuth, Compression, Cors, Edits, Encoding, Hsts, Ip, Middleware, Mirror, PathRewrite,
    RateKey, RateLimit, Redirect, RequestId, Rewrite, Which,
};
pub use signals::Signals;
pub use spans::Tracing;
pub use traffic::{Health, Idle, Probe, ScalingPolicy, Upstream};
pub use wake::{Ignore, WaitingPage, Wake};

use crate::{
    address::Address,
    constraint::Constraint,
    name::{Authority, HostName, PathPrefix, ServiceName},
    spec::{Launch, Protocol, Pull, Reserve, Resources, Scratch},
    units::{Bytes, Percent},
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
    /// Keys under `scaling` that the file has and that have no effect there, by service; those without any are left out.
    pub ignored: BTreeMap<ServiceName, Vec<&'static str>>,
}

/// A registered service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name, also its host name below `.localhost`.
    pub name: ServiceName,
    /// What is run and how; a change makes a new revision. With `upstreams` only its protocol counts.
    pub launch: Launch,
    /// Where its requests go that no replica of ours serves; empty: it is run from an image. A change restarts nothing.
    pub upstreams: Vec<Address>,
    /// What selects it; a change restarts nothing.
    pub routes: Vec<Route>,
    /// Where connections arrive, if it speaks TCP.
    pub listen: Vec<SocketAddr>,
    /// Server names of connections over TLS that are passed on to it as they are.
    pub sni: Vec<Authority>,
    /// How many replicas it gets; a change restarts nothing.
    pub scaling: ScalingPolicy,
    /// When a replica counts as well; a change restarts nothing.
    pub health: Health,
    /// What its requests may cost; a change restarts nothing.
    pub upstream: Upstream,
    /// Which replica gets a request; a change restarts nothing.
    pub balance: Balance,
    /// What its hosts' labels must be.
    pub constraints: BTreeMap<String, Constraint>,
    /// The hosts that it may run on: the next one when one is full or lost. Empty: all, as `placement` says.
    pub run_on: Vec<HostName>,
    /// How replicas are laid over hosts.
    pub placement: Placement,
    /// How one version follows another.
    pub update: Update,
    /// How a new version is tried, and how many old ones are kept.
    pub rollout: Rollout,
    /// What becomes of replicas that are not needed.
    pub sleep: Sleep,
    /// Who wakes it; a change restarts nothing.
    pub wake: Wake,
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
    /// What is done with requests and responses; `None`: nothing.
    pub middleware: Option<Arc<Middleware>>,
}

impl Route {
    /// A route with nothing but defaults.
    #[must_use]
    pub fn to(host: Authority, path: PathPrefix) -> Self {
        Self { host, path, strip: false, middleware: None }
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
            disks: Vec::new(),
            resources: Resources::default(),
            profile: crate::spec::Profile::Default,
        }
    }
}

impl Model {
    /// Where the gateway itself listens, for whatever purpose.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        let services = self.services.values().flat_map(|service| service.listen.iter().copied());
        self.gateway.own_addresses().into_iter().chain(services).collect()
    }

    /// Whether an engine has something to start, now or, in a file without services yet, soon.
    #[must_use]
    pub fn needs_engine(&self) -> bool {
        self.services.is_empty() || self.services.values().any(|service| !service.is_outside())
    }
}

impl Service {
    /// Whether a host is one that it may run on, as far as names tell.
    #[must_use]
    pub fn runs_on(&self, host: &HostName) -> bool {
        self.run_on.is_empty() || self.run_on.contains(host)
    }

    /// Whether neither names nor labels of the file rule a host out; the engine's own labels are not known here.
    #[must_use]
    pub fn may_run_on(&self, host: &Host) -> bool {
        let contradicts = |(key, wanted): (&String, &Constraint)| {
            host.labels.get(key).is_some_and(|label| !wanted.allows(Some(label)))
        };
        self.runs_on(&host.name) && !self.constraints.iter().any(contradicts)
    }

    /// Whether it has addresses of its own, and nothing is started for it.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        !self.upstreams.is_empty()
    }

    /// A service with nothing but defaults, as `image = "..."` alone gives it: one route, `NAME.localhost`.
    #[must_use]
    pub fn of(name: ServiceName, image: impl Into<String>) -> Self {
        let host = Authority::Exact(format!("{name}.localhost"));
        Self {
            name,
            launch: Launch::of(image),
            upstreams: Vec::new(),
            routes: vec![Route::to(host, PathPrefix::root())],
            listen: Vec::new(),
            sni: Vec::new(),
            scaling: ScalingPolicy::default(),
            health: Health::default(),
            upstream: Upstream::default(),
            balance: Balance::default(),
            constraints: BTreeMap::new(),
            run_on: Vec::new(),
            placement: Placement::default(),
            update: Update::default(),
            rollout: Rollout::default(),
            sleep: Sleep::default(),
            wake: Wake::default(),
        }
    }
}
