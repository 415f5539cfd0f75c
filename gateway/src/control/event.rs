//! The closed list of what can happen to the control loop. A new cause is a new variant.

use std::{sync::Arc, time::Instant};

use tidegate_autoscaler::snapshot::HostOrder;
use tidegate_config::{
    Change,
    model::Model,
    name::{HostName, ReplicaId, ServiceName},
    spec::{Observed, Revision},
};
use tidegate_runner::{self as runner, Inventory, Prepared, PullProgress, Stats};
use tokio::sync::oneshot;

use super::{
    hosts::Beat,
    status::{Explanation, HostStatus, ServiceStatus},
};

use crate::fleet;

/// What can happen to the control loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// The file has a new, checked content; answered with what it changed.
    Model(Arc<Model>, oneshot::Sender<Vec<Change>>),
    /// An engine says something about a replica.
    Engine(HostName, runner::Event),
    /// An engine told all that it runs, as of the moment when it was asked.
    Listed(HostName, Instant, runner::Result<Vec<Observed>>),
    /// An engine was asked whether it answers.
    Beat(HostName, Beat),
    /// An engine told what its host offers.
    Inventory(HostName, runner::Result<Inventory>),
    /// A download advances.
    Pulling(About, PullProgress),
    /// An image is there, or not to be had.
    Prepared(About, runner::Result<Prepared>),
    /// A host has another version of a service than the one that its settings name, or not.
    Found(About, Revision, runner::Result<Prepared>),
    /// What a service's image means on a host by now, while another content of it may be in use.
    Looked(About, Purpose, runner::Result<Prepared>),
    /// A replica is frozen, or could not be.
    Froze(ReplicaId, runner::Result<()>),
    /// A replica is thawed, or could not be.
    Thawed(ReplicaId, runner::Result<()>),
    /// An engine has accepted a start, or not.
    Started(ReplicaId, runner::Result<()>),
    /// A replica was probed.
    Probed(ReplicaId, Probed),
    /// Something is said about the addresses of services that run elsewhere.
    Outside(super::outside::Said),
    /// Another gateway says something.
    Peer(super::peers::Said),
    /// A call that ends a replica has ended; with what it had printed last.
    Ended(ReplicaId, runner::Result<()>, Vec<String>),
    /// Whether some host has the version that somebody wants to go back to.
    Back(ServiceName, Option<Revision>, bool, Reply),
    /// What a replica uses, as of that moment.
    Measured(ReplicaId, Instant, runner::Result<Stats>),
    /// Somebody asks for something by hand.
    Command(Command),
}

/// How somebody who asked is answered.
pub(crate) type Reply = oneshot::Sender<Result<(), String>>;

/// Which image a message is about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) service: ServiceName,
    pub(crate) host: HostName,
    pub(crate) epoch: u64,
}

/// What a prober found.
#[derive(Debug)]
pub(crate) enum Probed {
    /// It is ready.
    Ready,
    /// It was not ready in time.
    NotReady(String),
    /// It was ready and is not well any more.
    Unhealthy(String),
    /// It did not take a connection once, but does answer.
    WellAfterAll,
    /// It took no connection, again and again.
    Unreachable(String),
    /// The same, and neither does its engine.
    Silent,
}

/// Why an image is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To say so if it has changed.
    Tell,
    /// To take up what it means by now.
    TakeUp,
    /// The same, and to replace the replicas if it has not changed.
    Restart,
}

/// What people ask for; each is answered.
#[derive(Debug)]
pub(crate) enum Command {
    /// All services.
    Status(oneshot::Sender<Vec<ServiceStatus>>),
    /// One service, in full.
    Explain(ServiceName, oneshot::Sender<Option<Box<Explanation>>>),
    /// Start it and wait until it is ready.
    Wake(ServiceName, oneshot::Sender<Result<(), String>>),
    /// As if `idle` had passed; wait until it is cold.
    Sleep(ServiceName, oneshot::Sender<Result<(), String>>),
    /// Replace all replicas and wait for the new ones.
    Restart(ServiceName, oneshot::Sender<Result<(), String>>),
    /// Go back to an earlier version, or to a named one, and wait until it serves.
    RollBack(ServiceName, Option<Revision>, oneshot::Sender<Result<(), String>>),
    /// All hosts.
    Hosts(oneshot::Sender<Vec<HostStatus>>),
    /// Set what a host is to do; draining waits until its last replica has gone.
    Order(HostName, HostOrder, oneshot::Sender<Result<(), String>>),
    /// Where a replica runs, to read what it prints.
    Find(ServiceName, oneshot::Sender<Vec<(ReplicaId, super::engine::Handle)>>),
    /// What a service shares with the data plane, to listen to its requests.
    Fleet(ServiceName, oneshot::Sender<Option<Arc<fleet::Service>>>),
    /// Whether everything that was found at the start has been looked at and every image is settled.
    Settled(oneshot::Sender<bool>),
    /// Stop all replicas and wait.
    StopAll(oneshot::Sender<()>),
}
