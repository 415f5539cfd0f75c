//! One account per request: what it was answered with and how long it took, written when it is dropped, so exactly once
//! whatever becomes of the task. A call of gRPC has a second answer, its status, which comes last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};

use super::{grpc, record::Record};
use crate::{
    clock,
    fleet::{Replica, Service, tap::Heard},
};

/// The client left before its answer began (nginx's number for it).
pub(crate) const LEFT: u16 = 499;

/// In place of a gRPC status: the request is no call.
const NO_CALL: u8 = u8::MAX;

/// In place of a gRPC status: the call's has not come.
const NOT_SAID: u8 = u8::MAX - 1;

/// Who ended an answer before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ender {
    /// The replica, or the connection to it.
    Replica,
    /// The client, or the connection to it.
    Client,
    /// We, when the request's time was up.
    Deadline,
}

impl Ender {
    /// As the access log has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Client => "client",
            Self::Deadline => "deadline",
        }
    }
}

/// One request's account.
#[derive(Debug)]
pub(crate) struct Account {
    service: Arc<Service>,
    arrived: Instant,
    status: AtomicU16,
    call: AtomicU8,
    /// Nanoseconds from its arrival to its first lease, and one; 0: it got none.
    waited: AtomicU64,
    closed: Option<Instant>,
    /// What is noted of it, where somebody wants to know.
    record: Option<Arc<Record>>,
}

impl Account {
    /// Opens the account of a request that arrived at `arrived`; `call`: of gRPC.
    pub(crate) fn open(
        service: Arc<Service>,
        arrived: Instant,
        call: bool,
        record: Option<Arc<Record>>,
    ) -> Self {
        let call = AtomicU8::new(if call { NOT_SAID } else { NO_CALL });
        Self {
            service,
            arrived,
            status: AtomicU16::new(LEFT),
            call,
            waited: AtomicU64::new(0),
            closed: None,
            record,
        }
    }

    /// The request got its first lease, after waiting from its arrival on.
    pub(crate) fn granted(&self, at: Instant) {
        let waited = at.saturating_duration_since(self.arrived);
        self.service.metrics.waited(waited);
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX - 1);
        self.waited.store(nanos + 1, Ordering::Relaxed);
        if let Some(record) = &self.record {
            record.granted(at);
        }
    }

    /// An attempt has got its response's head, or has failed.
    pub(crate) fn attempted(&self, replica: &Arc<Replica>, begun: Instant, failure: Option<&'static str>) {
        if let Some(record) = &self.record {
            record.attempted(replica, begun, failure);
        }
    }

    /// Some of the request's body has come.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(record) = &self.record {
            record.received(bytes);
        }
    }

    /// Some of the response's body goes.
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(record) = &self.record {
            record.sent(bytes);
        }
    }

    /// The answer has begun.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// Whether the answer has begun.
    pub(crate) fn is_answered(&self) -> bool {
        self.status.load(Ordering::Relaxed) != LEFT
    }

    /// Whether it is a call whose status has not come.
    pub(crate) fn lacks_status(&self) -> bool {
        self.call.load(Ordering::Relaxed) == NOT_SAID
    }

    /// These fields end the answer, or are all of it: a call's have its status.
    pub(crate) fn said(&self, fields: &HeaderMap) {
        if self.call.load(Ordering::Relaxed) == NOT_SAID
            && let Some(status) = grpc::Status::said(fields)
        {
            self.call.store(status.number(), Ordering::Relaxed);
        }
    }

    /// The request has ended; the account is written when it is dropped.
    pub(crate) fn close(&mut self, now: Instant) {
        self.closed = Some(now);
    }

    /// The client left before the answer's end.
    pub(crate) fn left(&self) {
        self.service.metrics.left.increment(1);
        if let Some(record) = &self.record {
            record.broke_off(Ender::Client);
        }
    }

    /// The response broke off in its body, which the replica or we did.
    pub(crate) fn broke_off(&self, by: Ender) {
        self.service.metrics.broken.increment(1);
        if let Some(record) = &self.record {
            record.broke_off(by);
        }
        if self.call.load(Ordering::Relaxed) == NOT_SAID {
            self.call.store(grpc::Status::UNAVAILABLE.number(), Ordering::Relaxed);
        }
    }

    /// Tells those who listen to the service.
    #[cold]
    fn tell(&self, ended: Instant) {
        let Some(waited) = self.waited.load(Ordering::Relaxed).checked_sub(1) else { return };
        let leased = self.arrived + Duration::from_nanos(waited);
        let took = ended.saturating_duration_since(leased);
        self.service.tap.tell(Heard::Request { arrived: self.arrived, took });
    }

    /// How a call ended whose status did not come: refused by us, answered by something that does not speak gRPC, or left.
    fn unsaid(status: u16) -> grpc::Status {
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_success());
        status.map_or(grpc::Status::CANCELLED, grpc::Status::of)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (ended, status) = (self.closed.unwrap_or_else(clock::now), self.status.load(Ordering::Relaxed));
        if let Some(record) = &self.record {
            record.answered(status);
            record.ended(ended);
        }
        self.service.metrics.request(status, ended.saturating_duration_since(self.arrived));
        if self.service.tap.is_open() {
            self.tell(ended);
        }
        match self.call.load(Ordering::Relaxed) {
            NO_CALL => {}
            NOT_SAID => self.service.metrics.call(Self::unsaid(status).number()),
            said => self.service.metrics.call(said),
        }
    }
}
