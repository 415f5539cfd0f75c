//! One account per connection: how it ended, how long it took and what flowed, told to metrics and the access log when it is
//! dropped, so exactly once whatever becomes of the task. Bytes are counted as they flow: a connection may live for days.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use metrics::{Counter, counter, histogram};
use tidegate_config::name::ReplicaId;

use super::carry::End;
use crate::{
    access::{Connection, Log},
    clock,
    fleet::Service,
    request::Refusal,
    telemetry,
};

/// One connection's account.
#[derive(Debug)]
pub(super) struct Account {
    service: String,
    client: IpAddr,
    arrived: Instant,
    replica: Option<String>,
    outcome: &'static str,
    reason: Option<&'static str>,
    flow: Flow,
    log: Option<Arc<Log>>,
}

/// What flowed so far.
pub(super) struct Flow {
    up: AtomicU64,
    down: AtomicU64,
    all_up: Counter,
    all_down: Counter,
}

impl Account {
    /// Opens the account of a connection that was accepted at `arrived`. `log`: where its line goes, if there is one.
    pub(super) fn open(
        service: &Arc<Service>,
        client: IpAddr,
        arrived: Instant,
        log: Option<Arc<Log>>,
    ) -> Self {
        let service = service.name.to_string();
        let flow = Flow::new(&service);
        // What its task was dropped with stands.
        Self { service, client, arrived, replica: None, outcome: "cut", reason: None, flow, log }
    }

    /// It has been connected to a replica.
    pub(super) fn reached(&mut self, replica: &ReplicaId) {
        self.replica = self.log.as_ref().map(|_| replica.to_string());
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
        (self.outcome, self.reason) = ("refused", Some(refusal.reason()));
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
        if let Some(log) = self.log.as_ref().filter(|log| self.is_told(log.settings().sample)) {
            log.note_connection(&Connection {
                arrived: clock::wall().checked_sub(took).unwrap_or_else(clock::wall),
                client: self.client,
                service: &self.service,
                replica: self.replica.as_deref(),
                outcome: self.outcome,
                reason: self.reason,
                bytes_in: up,
                bytes_out: down,
                total: took,
            });
        }
    }
}

impl Account {
    /// Whether the log is to have it: what was refused or broke, and a share of the rest. How long one lasted says nothing.
    fn is_told(&self, sample: f64) -> bool {
        matches!(self.outcome, "refused" | "broke") || sample >= 1.0 || rand::random::<f64>() < sample
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
