//! What gateways of one installation say to each other over `handover.sock`: frames of JSON, each behind its length.
//!
//! Two kinds of connection, told apart by the [`Hello`]. A *take-over*: hello, [`Answer::Handed`] with the listening
//! sockets, [`Serving`], [`Answer::Yielded`]. A *follower*: hello, then [`ReadySet`]s downwards and [`Demands`] upwards
//! until either end closes. The leader is whoever holds the state directory's lock; generations fence: a follower
//! ignores a set of an older generation than it has seen. Lists are whole, so a message that was skipped is not missed.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tidegate_config::{
    name::{ReplicaId, ServiceName},
    spec::Protocol,
};

/// Counted up when a message changes its meaning; both ends must have the same.
pub const PROTOCOL: u32 = 1;

/// The first message on every connection, from the one that connects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// The sender's version, for people.
    pub version: String,
    /// The sender's process.
    pub pid: u32,
    /// What it wants.
    pub wish: Wish,
}

/// What a connection is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// To become the gateway in place of the one that answers.
    TakeOver {
        /// What file it will serve, see [`Handed::fingerprint`].
        fingerprint: String,
    },
    /// To serve on without a control loop of its own, with what the one that answers says is ready.
    Follow {
        /// Which start on the state directory the sender is.
        generation: u64,
    },
}

/// What the running gateway answers to a take-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// No; nothing has changed.
    Refused {
        /// Why, for people.
        why: String,
    },
    /// The control loop stands still, the admin API is closed, the lock is free; the sockets come with this message.
    Handed(Handed),
    /// It has heard that the other one serves, and accepts nothing from here on.
    Yielded,
}

/// What is handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handed {
    /// The giver's generation; the taker's will be larger.
    pub generation: u64,
    /// One for each file descriptor that comes along, in the same order.
    pub sockets: Vec<Socket>,
    /// The file that the giver serves, so that a change of it is told and not met by surprise.
    pub fingerprint: String,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// What it is for: `http`.
    pub name: String,
    /// The address that the file names.
    pub configured: SocketAddr,
}

/// From the taker: it accepts and answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Its generation.
    pub generation: u64,
}

/// From leader to follower: all that takes requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReadySet {
    /// The leader's generation.
    pub generation: u64,
    /// Counted up with each set; [`Demands::seq`] says which one is in force.
    pub seq: u64,
    /// Whether the leader knows everything that runs. If not, what is not named stays as it is.
    pub complete: bool,
    /// Each service.
    pub services: BTreeMap<ServiceName, ServiceReady>,
}

/// One service's replicas, and whether it refuses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceReady {
    /// Oldest first. One that is not named any more is about to end: what still runs on it is closed.
    pub replicas: Vec<ReplicaReady>,
    /// Requests that would have to wait are refused with this.
    pub closed: Option<Closed>,
    /// What requests are told that waited too long.
    pub late: Option<Closed>,
}

/// A replica and what the follower may run there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReady {
    /// Its name.
    pub id: ReplicaId,
    /// Where it answers.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// How many requests the follower may run there at once; 0: finish what runs.
    pub share: u32,
}

/// Why a service refuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The cause, of a closed list.
    pub why: Why,
    /// In words, for `expose_errors`.
    pub cause: String,
    /// Milliseconds until another try is made.
    pub retry_ms: Option<u64>,
}

/// Causes of a closed gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words of the refusals")]
pub enum Why {
    StartFailed,
    CrashLooping,
    OutOfResources,
    NoCapacity,
    Pulling,
}

/// From follower to leader, at least every [`EVERY`](super::EVERY): all that it runs and has waiting.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Demands {
    /// The last [`ReadySet`] that is in force here; 0: none yet.
    pub seq: u64,
    /// Services with something to tell.
    pub services: BTreeMap<ServiceName, ServiceDemand>,
    /// Replicas that did not take a connection.
    pub suspects: Vec<ReplicaId>,
}

/// One service's demand at the follower.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceDemand {
    /// Requests that run.
    pub in_flight: u32,
    /// Requests that wait.
    pub queued: u32,
    /// For how many milliseconds both have been zero.
    pub idle_ms: Option<u64>,
    /// Average demand of each whole second since the last message, oldest first.
    pub seconds: Vec<f64>,
    /// Requests per replica, those without any left out.
    pub replicas: BTreeMap<ReplicaId, u32>,
}
