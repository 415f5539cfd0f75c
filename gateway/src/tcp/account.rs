//! One account per connection: how it ended, how long it took and what flowed, written when it is dropped, so exactly once
//! whatever becomes of the task. Bytes are counted as they flow: a connection may live for days.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use metrics::{Counter, counter, histogram};

use super::carry::End;
use crate::{clock, fleet::Service, request::Refusal, telemetry};

/// One connection's account.
#[derive(Debug)]
pub(super) struct Account {
    service: String,
    arrived: Instant,
    outcome: &'static str,
    flow: Flow,
}

/// What flowed so far.
pub(super) struct Flow {
    up: AtomicU64,
    down: AtomicU64,
    all_up: Counter,
    all_down: Counter,
}

impl Account {
    /// Opens the account of a connection that was accepted at `arrived`.
    pub(super) fn open(service: &Arc<Service>, arrived: Instant) -> Self {
        let service = service.name.to_string();
        let flow = Flow::new(&service);
        // What its task was dropped with stands.
        Self { service, arrived, outcome: "cut", flow }
    }

    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    pub(super) fn ended(&mut self, end: &End) {
        self.outcome = end.label();
    }

    /// It never reached a replica.
    pub(super) fn refused(&mut self, refusal: &Refusal) {
        tracing::debug!(
            service = self.service,
            reason = refusal.reason(),
            cause = refusal.cause(),
            "refused"
        );
        telemetry::refused(refusal.reason());
        self.outcome = "refused";
    }

    /// The client left while it waited.
    pub(super) fn left(&mut self) {
        self.outcome = "left";
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let took = clock::now().saturating_duration_since(self.arrived);
        let labels = [("service", self.service.clone()), ("outcome", self.outcome.to_owned())];
        counter!(telemetry::TCP_CONNECTIONS, &labels).increment(1);
        histogram!(telemetry::TCP_SECONDS, "service" => self.service.clone()).record(took);
        let (up, down) = self.flow.sums();
        tracing::debug!(service = self.service, outcome = self.outcome, up, down, ?took, "connection ended");
    }
}

impl Flow {
    pub(super) fn new(service: &str) -> Self {
        let all = |direction: &'static str| counter!(telemetry::TCP_BYTES, "service" => service.to_owned(), "direction" => direction);
        Self { up: AtomicU64::new(0), down: AtomicU64::new(0), all_up: all("up"), all_down: all("down") }
    }

    /// Bytes went to the replica.
    pub(super) fn up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all_up.increment(bytes as u64);
    }

    /// Bytes went to the client.
    pub(super) fn down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all_down.increment(bytes as u64);
    }

    /// Bytes to the replica, and to the client.
    pub(super) fn sums(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow{:?}", self.sums())
    }
}
