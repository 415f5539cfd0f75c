//! One account per request: what it was answered with and how long it took, written when it is dropped, so exactly once
//! whatever becomes of the task.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use crate::{clock, fleet::Service};

/// The client left before its answer began (nginx's number for it).
const LEFT: u16 = 499;

/// One request's account.
#[derive(Debug)]
pub(crate) struct Account {
    service: Arc<Service>,
    arrived: Instant,
    status: AtomicU16,
    closed: Option<Instant>,
}

impl Account {
    /// Opens the account of a request that arrived at `arrived`.
    pub(crate) fn open(service: Arc<Service>, arrived: Instant) -> Self {
        Self { service, arrived, status: AtomicU16::new(LEFT), closed: None }
    }

    /// The answer has begun.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// The request has ended; the account is written when it is dropped.
    pub(crate) fn close(&mut self, now: Instant) {
        self.closed = Some(now);
    }

    /// The response broke off in its body.
    pub(crate) fn broke_off(&self) {
        self.service.metrics.broken.increment(1);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let took = self.closed.unwrap_or_else(clock::now).saturating_duration_since(self.arrived);
        self.service.metrics.request(self.status.load(Ordering::Relaxed), took);
    }
}
