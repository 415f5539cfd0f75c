//! Which law says how many replicas a service should have, and what the law `work` aims at.

use std::{fmt, time::Duration};

/// Which law says how many replicas there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Law {
    /// The work that comes, what a late request is worth and what a start takes.
    #[default]
    Work,
    /// Knative's: demand, averaged, over a target.
    Kpa,
    /// As Kubernetes' horizontal pod autoscaler: the ratio of demand to target, every 15 s.
    Hpa,
}

impl Law {
    /// All of them, the one to compare with first.
    pub const ALL: [Self; 3] = [Self::Kpa, Self::Work, Self::Hpa];
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kpa => "kpa",
            Self::Work => "work",
            Self::Hpa => "hpa",
        })
    }
}

/// What the law `work` aims at.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// A request that waits longer than this is late.
    pub late_after: Duration,
    /// How many late requests are too many.
    pub aim: Aim,
    /// For how long a lower want is held back at the least; one and a half start-up times if that is more.
    pub calm: Duration,
    /// Its parts; all are on unless one is to be judged by what happens without it.
    pub parts: Parts,
}

/// How many late requests are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// More than this share of them, as a fraction.
    Share(f64),
    /// Each that could be avoided by so many seconds of a replica, or less.
    Worth(Duration),
}

/// The parts of the law `work`, each with a switch of its own.
#[expect(clippy::struct_excessive_bools, reason = "switches, and nothing but switches")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Demand is arrivals times service time; off: what runs and waits.
    pub work: bool,
    /// Looks ahead over a start.
    pub forecast: bool,
    /// Room by what waiting costs (Erlang C); off: the fixed `target`.
    pub staffing: bool,
    /// Starts only what is worth its start; off: what is worth more than it costs by the second.
    pub invest: bool,
    /// Starts for those who wait only where that helps; off: one for each.
    pub backlog: bool,
    /// Acts on events; off: every two seconds.
    pub events: bool,
    /// Takes replicas away slowly; off: at once.
    pub calm: bool,
    /// Keeps what surges that come back will need, or starts it again in time; off: each is met as the first.
    pub surges: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            late_after: Duration::from_millis(500),
            aim: Aim::Worth(Duration::from_secs(60)),
            calm: Duration::from_secs(10),
            parts: Parts::default(),
        }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            work: true,
            forecast: true,
            staffing: true,
            invest: true,
            backlog: true,
            events: true,
            calm: true,
            surges: true,
        }
    }
}
