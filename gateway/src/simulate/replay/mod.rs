//! One service, a trace and a setting: what would the traffic have felt, and what would it have cost?
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
pub mod read;
mod replicas;
pub mod shape;
pub mod takes;
pub mod trace;

use std::{sync::Arc, time::Duration};

use tidegate_config::model::Service;

pub use batch::run_all;
pub use engine::run;
pub use front::Front;
pub use outcome::Outcome;
pub use takes::Takes;
pub use trace::Trace;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Case {
    /// The service with its scaling settings.
    pub service: Arc<Service>,
    /// When requests come.
    pub trace: Arc<Trace>,
    /// How long a replica works on a request.
    pub service_time: Takes,
    /// From the call to start a replica to a ready one.
    pub start_time: Takes,
    /// A request that waits longer than this is late.
    pub late_after: Duration,
    /// Feeds every draw of the run.
    pub seed: u64,
}
