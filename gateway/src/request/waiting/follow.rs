//! What the waiting page follows: the service's start as server-sent events. Holds: while it is open it is demand, a
//! ticket like that of a request that is held; the client that leaves gives it back.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{
    HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    clock,
    fleet::{Lease, Service, Standing, service::hold_deadline},
    request::{body::Body, refusal::Refusal},
};

/// Between two words on where the start is.
const EVERY: Duration = Duration::from_secs(1);

/// Nobody looks at a page for longer; one that is left open does not keep a service wanted for ever.
const LONGEST: Duration = Duration::from_secs(600);

type Entering = Pin<Box<dyn Future<Output = Result<(Lease, Instant), Refusal>> + Send>>;

struct Follow {
    service: Arc<Service>,
    /// Our place in the queue; `None` once all has been said.
    entering: Option<Entering>,
    until: Instant,
    ticks: Interval,
    expose: bool,
}

/// The response that tells of the service's start until it is ready or has failed.
pub(crate) fn response(service: Arc<Service>, expose: bool) -> Response<Body> {
    let mut response = Response::new(Body::live(events(service, expose)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx and its like would keep it until it is large.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn events(service: Arc<Service>, expose: bool) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let entering = Some(enter(&service));
    let until = hold_deadline(clock::now(), LONGEST);
    stream::unfold(Follow { service, entering, until, ticks, expose }, |mut follow| async move {
        let event = follow.next().await?;
        Some((event, follow))
    })
}

fn enter(service: &Arc<Service>) -> Entering {
    let (service, now) = (Arc::clone(service), clock::now());
    let deadline = hold_deadline(now, service.settings().scaling.hold);
    Box::pin(async move { service.enter(now, deadline, Standing::Caller, None).await })
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let entering = self.entering.as_mut()?;
            // Cancel-safe: both are polled again where they were.
            let entered = tokio::select! {
                biased;
                entered = entering => entered,
                _ = self.ticks.tick() => return Some(self.phase()),
            };
            self.entering = None;
            match entered {
                // The place was wanted, not the slot: the page itself comes for that.
                Ok(_) => return Some(event("ready", &json!({}))),
                Err(Refusal::HoldDeadline | Refusal::Pulling { .. }) if clock::now() < self.until => {
                    self.entering = Some(enter(&self.service));
                }
                Err(refusal) => return Some(self.failed(&refusal)),
            }
        }
    }

    fn phase(&self) -> Bytes {
        let start = self.service.awake.start_so_far(clock::now());
        let told = json!({
            "service": self.service.name.as_str(),
            "phase": if self.service.is_pulling() { "pulling" } else { "starting" },
            "waited_ms": millis(start.waited),
            "usual_ms": millis(start.usual.unwrap_or_default()),
        });
        event("phase", &told)
    }

    fn failed(&self, refusal: &Refusal) -> Bytes {
        let told = json!({
            "service": self.service.name.as_str(),
            "reason": refusal.reason(),
            "words": words(refusal),
            "cause": refusal.cause().filter(|_| self.expose),
        });
        event("failed", &told)
    }
}

/// A refusal as a sentence for people who can do nothing about it.
pub(crate) fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::StartFailed { .. } => "Its start failed. Whoever runs it can see why.".to_owned(),
        Refusal::CrashLooping { .. } => "It fails again and again. Whoever runs it can see why.".to_owned(),
        other => {
            let said = other.to_string();
            let mut letters = said.chars();
            let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
            format!("{first}{}.", letters.as_str())
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// JSON has no line ends of its own, so one line of data is enough.
fn event(name: &str, data: &serde_json::Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
