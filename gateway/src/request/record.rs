//! What is noted of one request while it runs, where somebody wants to know: for the access log, and as spans.
//! Shared by the request's task and its bodies. Holds: told exactly once, when the last of them lets go.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Method, Request, Uri, Version,
    header::{HOST, REFERER, USER_AGENT},
};
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_config::model::AccessLog;

use super::{
    accounting::{Ender, LEFT},
    refusal::Refusal,
};
use crate::{
    access::{Entry, Log},
    clock,
    fleet::{Replica, Service},
    spans::{Context, Spans, span},
};

/// What is noted of one request.
#[derive(Debug)]
pub(crate) struct Record {
    to: Readers,
    arrived: Instant,
    client: IpAddr,
    method: Method,
    target: Uri,
    version: Version,
    host: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    received: AtomicU64,
    sent: AtomicU64,
    course: Mutex<Course>,
}

/// Who wants to know.
#[derive(Debug)]
pub(crate) struct Readers {
    /// The access log.
    pub(crate) log: Option<Arc<Log>>,
    /// Where spans go, and the request's own.
    pub(crate) spans: Option<(Arc<Spans>, Context)>,
    /// The trace that it is part of.
    pub(crate) trace: Option<u128>,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
}

/// What became of it so far.
#[derive(Debug)]
struct Course {
    /// By which a refusal names it, once it has to be named.
    id: Option<u64>,
    called: Option<HeaderValue>,
    service: Option<Arc<Service>>,
    status: u16,
    reason: Option<&'static str>,
    ended_by: Option<Ender>,
    granted: Option<Instant>,
    /// Mostly one, which needs no memory of its own.
    attempts: SmallVec<[Attempt; 1]>,
    ended: Option<Instant>,
}

impl Course {
    /// Whether its answer broke off, and not because the client left.
    fn is_broken(&self) -> bool {
        matches!(self.ended_by, Some(Ender::Replica | Ender::Deadline))
    }
}

/// One attempt that has got its response's head, or has failed.
#[derive(Debug)]
struct Attempt {
    replica: Arc<Replica>,
    begun: Instant,
    ended: Instant,
    failure: Option<&'static str>,
}

impl Record {
    /// A request has arrived.
    pub(crate) fn open<B>(request: &Request<B>, client: IpAddr, arrived: Instant, to: Readers) -> Arc<Self> {
        let (mut host, mut agent, mut referer) = (None, None, None);
        for (name, value) in request.headers() {
            let field = match name {
                name if *name == HOST => &mut host,
                name if *name == USER_AGENT => &mut agent,
                name if *name == REFERER => &mut referer,
                _ => continue,
            };
            field.get_or_insert_with(|| value.clone());
        }
        Arc::new(Self {
            to,
            arrived,
            client,
            method: request.method().clone(),
            target: request.uri().clone(),
            version: request.version(),
            host,
            agent,
            referer,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            course: Mutex::new(Course {
                id: None,
                called: None,
                service: None,
                status: LEFT,
                reason: None,
                ended_by: None,
                granted: None,
                attempts: SmallVec::new(),
                ended: None,
            }),
        })
    }

    /// It is called this in `X-Request-Id`.
    pub(crate) fn is_called(&self, name: &HeaderValue) {
        self.course.lock().called = Some(name.clone());
    }

    /// It is for this service.
    pub(crate) fn is_for(&self, service: &Arc<Service>) {
        self.course.lock().service = Some(Arc::clone(service));
    }

    /// It got its first lease.
    pub(crate) fn granted(&self, at: Instant) {
        self.course.lock().granted = Some(at);
    }

    /// An attempt has got its response's head, or has failed.
    pub(crate) fn attempted(&self, replica: &Arc<Replica>, begun: Instant, failure: Option<&'static str>) {
        let attempt = Attempt { replica: Arc::clone(replica), begun, ended: clock::now(), failure };
        self.course.lock().attempts.push(attempt);
    }

    /// Its answer has begun.
    pub(crate) fn answered(&self, status: u16) {
        self.course.lock().status = status;
    }

    /// Tidegate itself answers, under the name that is returned: the one that the request has, or a new one.
    pub(crate) fn refused(&self, refusal: &Refusal) -> String {
        let mut course = self.course.lock();
        course.reason = Some(refusal.reason());
        let id = *course.id.get_or_insert_with(rand::random);
        course
            .called
            .as_ref()
            .and_then(|called| called.to_str().ok())
            .map_or_else(|| format!("{id:016x}"), String::from)
    }

    /// The response broke off in its body.
    pub(crate) fn broke_off(&self, by: Ender) {
        self.course.lock().ended_by = Some(by);
    }

    /// Some of the request's body has come.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Some of the response's body goes.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Both bodies have ended.
    pub(crate) fn ended(&self, now: Instant) {
        self.course.lock().ended = Some(now);
    }

    fn host(&self) -> &str {
        let field = || self.host.as_ref().and_then(|host| host.to_str().ok());
        self.target.authority().map(http::uri::Authority::as_str).or_else(field).unwrap_or_default()
    }

    /// `name` is that of the replica that answered.
    fn entry<'e>(&'e self, course: &'e Course, name: Option<&'e str>, total: Duration) -> Entry<'e> {
        let after = |later: Instant, earlier| later.saturating_duration_since(earlier);
        let last = course.attempts.last();
        let replica = last.map(|last| &last.replica);
        let asked = self.target.path_and_query().map_or("*", http::uri::PathAndQuery::as_str);
        Entry {
            // Told from its end, so that a clock that was set meanwhile moves no duration.
            arrived: clock::wall().checked_sub(after(clock::now(), self.arrived)).unwrap_or_else(clock::wall),
            id: course.id.unwrap_or_else(rand::random),
            called: course.called.as_ref().and_then(|name| name.to_str().ok()),
            client: self.client,
            method: self.method.as_str(),
            host: self.host(),
            target: asked,
            protocol: protocol(self.version),
            scheme: if self.to.secure { "https" } else { "http" },
            status: course.status,
            reason: course.reason,
            broken: course.is_broken(),
            ended_by: course.ended_by.map(Ender::word),
            bytes_in: self.received.load(Ordering::Relaxed),
            bytes_out: self.sent.load(Ordering::Relaxed),
            total,
            queue: course.granted.map(|granted| after(granted, self.arrived)),
            start: replica.and_then(|replica| replica.cold_start_for(self.arrived)),
            upstream: course.granted.zip(last).map(|(granted, last)| after(last.ended, granted)),
            service: course.service.as_ref().map(|service| service.name.as_str()),
            replica: name,
            revision: replica.and_then(|replica| replica.revision()),
            retries: u32::try_from(course.attempts.len().saturating_sub(1)).unwrap_or(u32::MAX),
            trace: self.to.trace,
            agent: self.agent.as_ref().map(HeaderValue::as_bytes),
            referer: self.referer.as_ref().map(HeaderValue::as_bytes),
            redact: self.to.log.as_ref().is_none_or(|log| log.settings().redact_query),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let course = self.course.lock();
        let total = course.ended.unwrap_or_else(clock::now).saturating_duration_since(self.arrived);
        let log = self.to.log.as_ref().filter(|log| is_told(log.settings(), &course, total));
        if log.is_none() && self.to.spans.is_none() {
            return;
        }
        let name = course.attempts.last().map(|last| last.replica.id.to_string());
        let entry = self.entry(&course, name.as_deref(), total);
        if let Some(log) = log {
            log.note(&entry);
        }
        if let Some((spans, context)) = &self.to.spans {
            spans.take(self.spans(*context, &entry, &course));
        }
    }
}

impl Record {
    fn spans(&self, context: Context, entry: &Entry<'_>, course: &Course) -> Vec<SpanData> {
        let after = |at: Instant| at.saturating_duration_since(self.arrived);
        let names: Vec<String> =
            course.attempts.iter().map(|attempt| attempt.replica.id.to_string()).collect();
        let attempts: Vec<_> = std::iter::zip(&course.attempts, &names)
            .map(|(attempt, replica)| {
                let (begun, ended) = (after(attempt.begun), after(attempt.ended));
                span::Attempt { replica, begun, ended, failure: attempt.failure }
            })
            .collect();
        // Before the request's arrival, too: what is started ahead of it.
        let wall = |at: Instant| entry.arrived + after(at) - self.arrived.saturating_duration_since(at);
        let start = course.attempts.first().zip(names.first()).and_then(|(attempt, replica)| {
            let (asked, ready) = attempt.replica.start_for(self.arrived)?;
            let first = attempt.replica.tell_start();
            Some(span::Start { replica, asked: wall(asked), ready: wall(ready), first })
        });
        span::of(context, entry, &attempts, start.as_ref())
    }
}

/// Whether the log is to have it: what failed, was refused or was slow, and a share of the rest.
fn is_told(settings: &AccessLog, course: &Course, total: Duration) -> bool {
    let notable =
        course.status >= 500 || course.reason.is_some() || course.is_broken() || total >= settings.slow;
    // No chance is needed where all are told, or none.
    notable || settings.sample >= 1.0 || (settings.sample > 0.0 && rand::random::<f64>() < settings.sample)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
