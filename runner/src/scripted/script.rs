//! What a test tells a scripted engine, and what it is told.

use std::net::SocketAddr;

use tidegate_config::{
    name::ReplicaId,
    spec::{Exit, StartSpec},
};

use crate::Kind;
#[cfg(doc)]
use crate::Runner;

/// Where replicas are reached: real servers of the test's, or made-up addresses.
pub trait Targets: Send + Sync + 'static {
    /// A replica was started; this is where it is reached.
    fn open(&self, spec: &StartSpec) -> SocketAddr;
    /// It ended.
    fn close(&self, _id: &ReplicaId) {}
}

impl<F: Fn(&StartSpec) -> SocketAddr + Send + Sync + 'static> Targets for F {
    fn open(&self, spec: &StartSpec) -> SocketAddr {
        self(spec)
    }
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`Runner::prepare`], with the image.
    Prepare(String),
    /// [`Runner::start`].
    Start(ReplicaId),
    /// [`Runner::freeze`].
    Freeze(ReplicaId),
    /// [`Runner::thaw`].
    Thaw(ReplicaId),
    /// [`Runner::stop`], and whether to keep.
    Stop(ReplicaId, bool),
    /// [`Runner::restart`].
    Restart(ReplicaId),
    /// [`Runner::remove`].
    Remove(ReplicaId),
    /// [`Runner::list`].
    List,
    /// [`Runner::exec`], with the command.
    Exec(ReplicaId, Vec<String>),
}

/// What becomes of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this kind and these words.
    Fail(Kind, String),
    /// The engine does not answer until the call's deadline.
    Hang,
    /// It starts and ends at once.
    Exit(Exit),
    /// It is accepted, and there is no place for it.
    NoPlace(String),
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFault {
    /// Nobody hears of it.
    Drop,
    /// It is told twice.
    Duplicate,
}
