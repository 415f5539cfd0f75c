//! How many replicas a service has, when they count as well, and how requests are sent to them.

use std::time::Duration;

use super::{KeepWarm, Law, Signals, Work};
use crate::units::{Concurrency, Count, Percent};

/// How many replicas a service gets.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingPolicy {
    /// Replicas that are always there.
    pub min: Count,
    /// Replicas that are never exceeded.
    pub max: Count,
    /// Replicas that a wake starts.
    pub initial: Count,
    /// Replicas that are there at some times whatever comes.
    pub keep_warm: Vec<KeepWarm>,
    /// What besides the law says how many there should be.
    pub signals: Signals,
    /// Which law says how many there should be.
    pub law: Law,
    /// What the law `work` aims at.
    pub work: Work,
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
            keep_warm: Vec::new(),
            signals: Signals::default(),
            law: Law::default(),
            work: Work::default(),
            concurrency: None,
            target: Percent::new(70).expect("in range"),
            stable_window: Duration::from_secs(60),
            surge_window: Percent::new(10).expect("in range"),
            surge_threshold: 2.0,
            max_up_rate: 1000.0,
            max_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
            idle: Idle::default(),
            drain: Duration::from_secs(30),
            hold: Duration::from_secs(60),
            queue: 10_000,
        }
    }
}

impl ScalingPolicy {
    /// Whether the law looks at what happens as it happens, and not only at its tick.
    #[must_use]
    pub fn acts_on_events(&self) -> bool {
        self.law == Law::Work && self.work.parts.events
    }

    /// Whether there is nothing to decide, but for sleep.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.min == self.max
    }
}

impl ScalingPolicy {
    /// What can be switched off of the law `work`: its parts, and that it learns when the last replica goes.
    pub const PARTS: [&str; 9] =
        ["work", "forecast", "staffing", "invest", "backlog", "events", "calm", "keep", "surges"];

    /// Switches one of [`PARTS`](Self::PARTS) off; `false`: there is none of this name.
    #[must_use]
    pub fn switch_off(&mut self, part: &str) -> bool {
        let parts = &mut self.work.parts;
        let switch = match part {
            "work" => &mut parts.work,
            "forecast" => &mut parts.forecast,
            "staffing" => &mut parts.staffing,
            "invest" => &mut parts.invest,
            "backlog" => &mut parts.backlog,
            "events" => &mut parts.events,
            "calm" => &mut parts.calm,
            "surges" => &mut parts.surges,
            "keep" => {
                self.idle = Idle::After(Idle::USUAL);
                return true;
            }
            _ => return false,
        };
        *switch = false;
        true
    }
}

/// When the last replica goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Idle {
    /// As long as the gaps between requests say under the law `work`; [`Self::USUAL`] under the others.
    #[default]
    Auto,
    /// Once nothing ran, streamed or waited for this long.
    After(Duration),
    /// Knative's rule: a stable window without demand, then its 30 s grace.
    Kpa,
}

impl Idle {
    /// How long the last one stays where nothing else is said or known.
    pub const USUAL: Duration = Duration::from_secs(60);
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
    /// A call of gRPC's health protocol that must say `SERVING`.
    Grpc {
        /// Of which service; the empty name stands for the whole server.
        service: String,
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
    /// How long nothing may move on a connection of a TCP service.
    pub idle_timeout: Option<Duration>,
    /// Whether a connection of a TCP service begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether paths with encoded slashes or backslashes are passed on instead of refused.
    pub allow_encoded_slashes: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            first_byte_timeout: Duration::from_secs(300),
            idle_connection: Duration::from_millis(1500),
            idle_timeout: None,
            proxy_protocol: false,
            allow_encoded_slashes: false,
        }
    }
}
