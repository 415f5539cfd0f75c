//! Makes replicas exist on one host. Knows nothing of scaling, requests or routes.
//!
//! [`Runner`] is the seam between the control loop and an engine. Its contract, which `tests/suites/contract.rs` runs
//! against every implementation:
//!
//! - **idempotent**: starting what exists, stopping what is stopped and removing what is gone are not errors;
//! - **owned**: a runner sees and touches only what carries its instance's id *and* name;
//! - **adoptable**: `list` after a restart tells everything that `start` was told;
//! - **bounded**: every call ends within a deadline of its own.

mod call;
mod cluster;
mod credentials;
pub mod docker;
pub mod embedded;
mod error;
mod events;
mod image;
mod instance;
pub mod kubernetes;
pub mod probe;
mod resolver;
mod secrets;
mod subnet;
pub mod swarm;

#[cfg(feature = "test-util")]
pub mod contract;
#[cfg(feature = "test-util")]
pub mod scripted;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tidegate_config::{
    name::ReplicaId,
    spec::{Capabilities, Digest, Exit, Observed, Pull, StartSpec},
    units::Bytes,
};

pub use error::{Error, Kind, chain};
pub use instance::{InstanceId, InvalidInstance};

/// A runner call's outcome.
pub type Result<T> = std::result::Result<T, Error>;

/// Makes replicas exist on one host.
#[async_trait::async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Sees to it that the image is there and says what it is. `progress` is called as a download advances.
    async fn prepare(&self, image: &str, pull: Pull, progress: Progress) -> Result<Prepared>;

    /// Makes and starts a replica. Ends when the engine has accepted it; where it is reached, or how it ended,
    /// arrives by [`Runner::events`] and [`Runner::list`].
    async fn start(&self, spec: &StartSpec) -> Result<()>;

    /// Stops a replica's processes in place.
    async fn freeze(&self, id: &ReplicaId) -> Result<()>;

    /// Undoes `freeze`.
    async fn thaw(&self, id: &ReplicaId) -> Result<()>;

    /// SIGTERM, then SIGKILL after `grace`. Without `keep` the replica is removed afterwards.
    async fn stop(&self, id: &ReplicaId, grace: Duration, keep: bool) -> Result<()>;

    /// Starts a replica that was stopped with `keep`.
    async fn restart(&self, id: &ReplicaId) -> Result<()>;

    /// Removes a replica, whatever its state.
    async fn remove(&self, id: &ReplicaId) -> Result<()>;

    /// All replicas of this instance on this host.
    async fn list(&self) -> Result<Vec<Observed>>;

    /// What happens to replicas from now on. May miss, repeat or reorder; `Event::Resync` asks for a `list`.
    /// Ends only with the runner.
    fn events(&self) -> BoxStream<'static, Event>;

    /// What a replica printed, oldest first.
    async fn logs(&self, id: &ReplicaId, options: LogOptions) -> Result<BoxStream<'static, Result<LogLine>>>;

    /// Runs a command in a replica and waits for its end, `timeout` at most.
    async fn exec(&self, id: &ReplicaId, command: &[String], timeout: Duration) -> Result<Executed>;

    /// What a replica uses now.
    async fn stats(&self, id: &ReplicaId) -> Result<Stats>;

    /// Whether the engine answers at all: its cheapest call.
    async fn ping(&self) -> Result<()>;

    /// Replicas that are started from now on ask this address for names before any other; `None`: as the engine has it.
    fn resolve_at(&self, resolver: Option<IpAddr>);

    /// What the host offers.
    async fn inventory(&self) -> Result<Inventory>;

    /// How this engine's replicas are reached: what a connect to one proves depends on it. Known once `prepare` or `list`
    /// has answered; before that, the most likely.
    fn reach(&self) -> Reached {
        Reached::Address
    }

    /// What the engine can do.
    fn capabilities(&self) -> Capabilities;
}

/// How an engine's replicas are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// At their own addresses: a connection that is taken was taken by the replica.
    #[default]
    Address,
    /// Through ports that the engine publishes: it takes connections before the replica does, so that only an answer
    /// proves anything ([`probe::Check::AnyAnswer`]).
    Published,
}

/// Told as a download advances.
pub type Progress = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// How far a download is, over all layers that are known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// Bytes that have arrived.
    pub done: Bytes,
    /// Bytes that are known to be needed.
    pub total: Bytes,
}

/// What an image turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its content address.
    pub digest: Digest,
    /// The TCP ports that it exposes.
    pub exposed: Vec<u16>,
    /// How it says its health is checked (its HEALTHCHECK as an argument list).
    pub healthcheck: Option<Vec<String>>,
}

/// Something that happened to a replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The engine runs it, and this is where it is reached.
    Running(Observed),
    /// Its process ended.
    Exited {
        /// Which replica.
        id: ReplicaId,
        /// How it ended.
        exit: Exit,
    },
    /// An engine that places by itself has no place for it, for now. Told again as long as it lasts.
    NoPlace {
        /// Which replica.
        id: ReplicaId,
        /// Why, in the engine's words.
        why: String,
    },
    /// It runs, and its engine doubts for how long: its node is not well. Told again as long as it lasts.
    Trouble {
        /// Which replica.
        id: ReplicaId,
        /// What is wrong.
        why: String,
    },
    /// It does not exist any more.
    Gone(ReplicaId),
    /// Something may have been missed: list again.
    Resync,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// Only this many from the end.
    pub tail: Option<usize>,
    /// Whether to go on with new ones as they come.
    pub follow: bool,
}

/// One line that a replica printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, as RFC 3339, by the engine's clock.
    pub at: String,
    /// Whether on standard error.
    pub stderr: bool,
    /// The line, without its end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// How a command in a replica ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i64,
    /// The first 4 KiB that it printed.
    pub output: String,
}

/// What a replica uses now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// How much it computes.
    pub cpu: Cpu,
    /// Memory without page cache that can be dropped.
    pub memory: Bytes,
}

/// How much a replica computes, as its engine counts it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Cpu {
    /// CPU time since its start.
    Time(Duration),
    /// Cores that it used of late.
    Cores(f64),
}

/// What a host offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// The engine and its version, for people.
    pub engine: String,
    /// Cores.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: Bytes,
    /// Labels that the engine has for the host.
    pub labels: BTreeMap<String, String>,
    /// This machine's own address on the containers' network, once there is such a network and if the engine is on this
    /// machine: where containers reach the gateway.
    pub bridge: Option<IpAddr>,
}
