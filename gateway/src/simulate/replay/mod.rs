//! One service, a plan of its requests and a setting: what would the traffic have felt, and what would it have cost?
//! The real gate, meter, decisions, plans and phases under a virtual clock, as in the [`world`](super::world), but with
//! nothing that fails: engines and replicas only take their time. Fast enough for whole days of real traffic.
//!
//! Called by `tidegate simulate`, `tidegate tune` and the bench of policies. Same [`Case`], same [`Outcome`].
//! Absent: several services at once, hosts that fill up, faults, the real clock but for one origin.

mod batch;
mod bound;
mod engine;
pub mod front;
pub mod outcome;
mod replicas;
pub mod takes;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tidegate_config::model::Service;
use tidegate_loadtest::plan::Plan;

pub use batch::run_all;
pub use engine::run;
pub use front::Front;
pub use outcome::Outcome;
pub use takes::Takes;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Case {
    /// The service with its scaling settings.
    pub service: Arc<Service>,
    /// When requests come; its seed counts for nothing.
    pub plan: Plan,
    /// What people's clocks show at its begin; `keep_warm` looks at them.
    pub begins: Timestamp,
    /// How long a replica works on the first requests of the plan, where that is known.
    pub took: Arc<[Option<Duration>]>,
    /// How long it works on all others.
    pub service_time: Takes,
    /// From the call to start a replica to a ready one.
    pub start_time: Takes,
    /// A request that waits longer than this is late.
    pub late_after: Duration,
    /// Feeds every draw of the run.
    pub seed: u64,
}
