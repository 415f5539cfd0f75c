//! One request's way to a replica and back: lease, send, and on failure swap the lease and send again.
//! Called by [`handle`](super::handle) with a head that is ready to be forwarded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Response, StatusCode, Version, header::EXPECT, request::Parts};
use http_body_util::BodyExt;
use tidegate_config::model;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Door,
    accounting::Account,
    affinity::Session,
    body::{Body, Hold, Inbound, Outbound},
    grpc, headers,
    hedge::Hedged,
    intake,
    received::Received,
    record::Record,
    refusal::Refusal,
    response::{self, Timing},
    retry::{self, Failure, Verdict},
    switch::{Reply, Wish},
    upgrade,
    upstream::Failed,
};
use crate::{
    clock, failpoint,
    fleet::{Lease, Replica, Service, Standing, service::hold_deadline},
    http1::server::Early,
};

/// Bytes of bodies that may be kept for a replay at once, of all requests; further bodies flow and are sent once.
static REPLAYS: Semaphore = Semaphore::const_new(64 << 20);

/// One request on its way.
pub(crate) struct Exchange {
    pub(crate) service: Arc<Service>,
    pub(crate) settings: Arc<model::Service>,
    pub(crate) standing: Standing,
    pub(crate) record: Option<Arc<Record>>,
    /// The head as it is forwarded.
    pub(crate) head: Parts,
    pub(crate) body: Received,
    /// How the client is told what the replica says before its answer.
    pub(crate) early: Option<Early>,
    /// The client's end of a tunnel, if it asked for one, and what it asked for.
    pub(crate) upgrade: Option<(upgrade::Client, Wish)>,
    pub(crate) arrived: Instant,
    pub(crate) timing_headers: bool,
    /// Whether it is a call of gRPC.
    pub(crate) call: bool,
    /// Until when the response's head must be there, where there is a limit.
    pub(crate) deadline: Option<Deadline>,
}

/// Until when a response's head must be there, and what is answered otherwise.
pub(crate) struct Deadline {
    at: Instant,
    refusal: Refusal,
}

impl Deadline {
    /// The earlier one for a request that arrived at `arrived`; `head`: until its response's head, `whole`: until all of that.
    pub(crate) fn of(arrived: Instant, head: Option<Duration>, whole: Option<Duration>) -> Option<Self> {
        let after = |limit, refusal| Self { at: hold_deadline(arrived, limit), refusal };
        let head = head.map(|limit| after(limit, Refusal::UpstreamTimeout));
        let whole = whole.map(|limit| after(limit, Refusal::RequestDeadline));
        head.into_iter().chain(whole).min_by_key(|deadline| deadline.at)
    }
}

/// Runs one exchange. Tunnels go on in the tasks of `door`.
pub(crate) async fn run(mut exchange: Box<Exchange>, door: &Door) -> Result<Response<Body>, Refusal> {
    let account =
        Account::open(Arc::clone(&exchange.service), exchange.arrived, exchange.call, exchange.record.take());
    let hold = Hold::new(account);
    let client = exchange.upgrade.take();
    let wish = client.as_ref().map(|(_, wish)| wish);
    let protocol = exchange.settings.launch.protocol;
    let answer = match exchange.deadline.take() {
        None => attempts(&mut exchange, &hold, wish).await,
        // Boxed: so that others need not have room for it.
        Some(deadline) => Box::pin(within(deadline, &mut exchange, &hold, wish)).await,
    };
    match answer {
        Ok((response, timing)) => {
            let reply = match &client {
                Some((_, wish)) => wish.reply(response.status(), protocol),
                // To a protocol that nobody asked for: what follows is no HTTP, and no answer either.
                None if response.status() == StatusCode::SWITCHING_PROTOCOLS => Reply::Confusing,
                None => Reply::Answered,
            };
            if reply == Reply::Confusing {
                hold.account.answered(Refusal::UpstreamReset.status());
                return Err(Refusal::UpstreamReset);
            }
            let client = client.filter(|_| reply == Reply::Switched);
            hold.account.answered(response.status());
            finish(response, hold, client, timing, door)
        }
        Err(refusal) => {
            hold.account.answered(refusal.status());
            Err(refusal)
        }
    }
}

/// What the attempts come to, if they come to it in time.
async fn within(
    Deadline { at, refusal }: Deadline,
    exchange: &mut Exchange,
    hold: &Arc<Hold>,
    wish: Option<&Wish>,
) -> Result<Answered, Refusal> {
    let (service, arrived) = (Arc::clone(&exchange.service), exchange.arrived);
    let mut attempts = std::pin::pin!(attempts(exchange, hold, wish));
    if let Ok(ended) = tokio::time::timeout_at(at.into(), attempts.as_mut()).await {
        return ended;
    }
    let is_sent = hold.is_sent();
    if let Some((lease, begun)) = hold.take_begun() {
        let had_most = at.saturating_duration_since(begun) >= begun.saturating_duration_since(arrived);
        cut_off(&service, hold, lease, begun, is_sent && had_most);
    }
    Err(refusal)
}

/// The deadline has passed while a replica had the request; `to_blame`: it had most of the time, and waited for no more of it.
fn cut_off(service: &Service, hold: &Hold, mut lease: Lease, begun: Instant, to_blame: bool) {
    let label = Failure::Timeout.label();
    hold.account.attempted(&lease.replica, begun, Some(label));
    service.metrics.upstream_failed(label);
    if to_blame {
        lease.failed();
    }
}

/// A response whose head is there, and how long that took if the client is to be told.
type Answered = (Response<Inbound>, Option<Timing>);

async fn attempts(
    exchange: &mut Exchange,
    hold: &Arc<Hold>,
    wish: Option<&Wish>,
) -> Result<Answered, Refusal> {
    let Exchange { service, settings, standing, head, body, early, arrived, timing_headers, call, .. } =
        exchange;
    let (standing, arrived, timing_headers, call) = (*standing, *arrived, *timing_headers, *call);
    let body = std::mem::replace(body, Received::none());
    let patience = if call { grpc::timeout(&head.headers) } else { None };
    let hold_for = patience.map_or(settings.scaling.hold, |patience| settings.scaling.hold.min(patience));
    let deadline = hold_deadline(arrived, hold_for);
    if let Some(wish) = wish {
        wish.ask(head, settings.launch.protocol, rand::random());
    }
    let affinity = settings.balance.affinity.as_ref();
    // Boxed: few have one, and all would carry it.
    let session = affinity.map(|affinity| (affinity, Box::new(Session::of(affinity, &head.headers))));
    let favourite = session.as_ref().and_then(|(_, session)| session.wish);
    let (lease, granted) = service.enter(arrived, deadline, standing, favourite).await?;
    hold.account.granted(granted);
    let waited = granted.saturating_duration_since(arrived);
    if call {
        grpc::spend(&mut head.headers, waited);
    }
    hold.put(lease);
    failpoint::request();
    // Not before the lease: what waits has only its head in memory.
    let (mut body, copy) = outbound(head, body, hold).await?;
    let mut retries = Retries { service, hold, copy, deadline, resets: 0, unsent: 0 };
    let mut begun = granted;
    loop {
        let mut replica = hold.begin(begun);
        let sent;
        (sent, begun) = {
            let attempt =
                std::pin::pin!(replica.pool.send(head, body, early.as_ref(), &settings.upstream, begun));
            match (&settings.balance.hedge, &retries.copy) {
                (Some(rules), Some(copy)) if wish.is_none() => {
                    let hedged = Hedged { service, rules, upstream: &settings.upstream, head, hold };
                    Box::pin(hedged.send(attempt, begun, || copy.body())).await
                }
                (Some(_) | None, _) => (attempt.await, begun),
            }
        };
        if settings.balance.hedge.is_some() {
            // Another one may have answered.
            replica = hold.replica();
        }
        match sent {
            Ok(mut response) => {
                replica.count(response.status().is_server_error());
                hold.account.attempted(&replica, begun, None);
                hold.answered(response.status(), begun, retries.were_needed());
                if let Some((affinity, session)) = &session {
                    let serves = |name| service.serves(name);
                    session.remember(affinity, replica.name, response.headers_mut(), serves);
                }
                let timing = timing_headers.then(|| Timing {
                    queue: waited,
                    start: replica.cold_start_for(arrived),
                    upstream: clock::now().saturating_duration_since(granted),
                });
                return Ok((response, timing));
            }
            Err(failed) => {
                // Boxed: rare, and it would weigh on every request's future.
                body = Box::pin(retries.after(failed, &replica, begun)).await?;
                begun = clock::now();
            }
        }
    }
}

/// What makes up for attempts that fail.
struct Retries<'e> {
    service: &'e Arc<Service>,
    hold: &'e Arc<Hold>,
    copy: Option<Kept>,
    /// Until when another replica is waited for.
    deadline: Instant,
    /// Attempts that ended after something may have been sent.
    resets: u32,
    /// Attempts of which nothing was sent.
    unsent: u32,
}

impl Retries<'_> {
    /// After an attempt that began at `begun` and failed: takes a lease on a replica for another one, if there may be one. The
    /// body that it sends.
    async fn after(
        &mut self,
        failed: Failed,
        replica: &Arc<Replica>,
        begun: Instant,
    ) -> Result<Outbound, Refusal> {
        let (service, hold) = (self.service, self.hold);
        if let Some(limit) = hold.cut() {
            return Err(limit.into());
        }
        let mut lease = hold.take().expect("the lease of this attempt");
        let Failed { failure, unsent, error } = failed;
        // A body that is none from its first bytes on never gets as far as to a replica.
        if failure != Failure::Client || unsent.is_none() {
            hold.account.attempted(replica, begun, Some(failure.label()));
        }
        if failure == Failure::Reset {
            replica.count(true);
        }
        if failure.is_the_replicas() {
            lease.failed();
        }
        let budget = self.pays(failure);
        tracing::debug!(service = %service.name, replica = %replica.id, ?failure, %error, budget, "attempt failed");
        match retry::verdict(failure, self.copy.is_some(), budget) {
            Verdict::Refuse(refusal) => {
                service.metrics.upstream_failed(failure.label());
                return Err(refusal);
            }
            Verdict::Again { suspend } => {
                if suspend {
                    service.suspend(&lease);
                }
                service.metrics.retries.increment(1);
                if let Some(pause) = retry::pause(failure, self.unsent) {
                    tokio::time::sleep(pause).await;
                }
                let next = service.swap(lease, self.deadline).await;
                hold.put(next.map_err(|late| retry::late(failure, late))?);
            }
        }
        unsent.or_else(|| self.copy.as_ref().map(Kept::body)).ok_or(Refusal::UpstreamReset)
    }

    /// Whether an attempt has failed that another one made up for: of those that end otherwise, none does.
    fn were_needed(&self) -> bool {
        self.resets + self.unsent > 0
    }

    /// Counts a failure. Whether another attempt is within what one request and its service may make.
    fn pays(&mut self, failure: Failure) -> bool {
        self.resets += u32::from(failure == Failure::Reset);
        self.unsent += u32::from(failure.is_unsent());
        match failure {
            Failure::Connect | Failure::NotSent => self.unsent <= retry::UNSENT,
            Failure::Unable => false,
            _ => self.resets <= retry::RESETS && self.service.may_retry(clock::now()),
        }
    }
}

/// A body that was kept for a replay, and its share of what all of them may take.
struct Kept {
    bytes: Bytes,
    _share: Option<SemaphorePermit<'static>>,
}

impl Kept {
    fn body(&self) -> Outbound {
        if self.bytes.is_empty() { Outbound::Empty } else { Outbound::Kept(Some(self.bytes.clone())) }
    }
}

/// The body as it is sent, and a copy if it is small enough and the request may be sent twice.
async fn outbound(
    head: &Parts,
    body: Received,
    hold: &Arc<Hold>,
) -> Result<(Outbound, Option<Kept>), Refusal> {
    let size = match http_body::Body::is_end_stream(&body) {
        true => Some(0),
        false => http_body::Body::size_hint(&body).upper().and_then(|size| u32::try_from(size).ok()),
    };
    let replayable = retry::is_idempotent(&head.method);
    if size == Some(0) {
        let copy = replayable.then(|| Kept { bytes: Bytes::new(), _share: None });
        return Ok((Outbound::Empty, copy));
    }
    // Whoever waits to be asked for the body is asked by the replica, not by us.
    let may_be_kept = replayable && !head.headers.contains_key(EXPECT);
    let small = size.filter(|size| may_be_kept && *size <= retry::REPLAY_BYTES);
    let Some(share) = small.and_then(|size| REPLAYS.try_acquire_many(size).ok()) else {
        return Ok((Outbound::Flowing { inner: body, hold: Some(Arc::clone(hold)) }, None));
    };
    let read = Box::pin(body.collect()).await;
    let bytes = read.map_err(intake::refusal)?.to_bytes();
    hold.account.received(bytes.len());
    let kept = Kept { bytes, _share: Some(share) };
    Ok((kept.body(), Some(kept)))
}

fn finish(
    mut upstream: Response<Inbound>,
    hold: Arc<Hold>,
    client: Option<(upgrade::Client, Wish)>,
    timing: Option<Timing>,
    door: &Door,
) -> Result<Response<Body>, Refusal> {
    let upgrade = client.is_some().then(|| hyper::upgrade::on(&mut upstream));
    let (mut head, body) = upstream.into_parts();
    headers::prepare_response(&mut head.headers);
    response::time(&mut head.headers, timing);
    hold.account.said(&head.headers);
    head.version = Version::HTTP_11;
    if let (Some((client, wish)), Some(upgrade)) = (client, upgrade) {
        wish.switched(&mut head);
        let replica = body.into_tunnel(upgrade).ok_or(Refusal::UpstreamReset)?;
        door.tasks.spawn(upgrade::tunnel(client, replica, wish.to, door.cut.clone(), hold));
        return Ok(Response::from_parts(head, Body::empty()));
    }
    Ok(Response::from_parts(head, Body::upstream(body, hold)))
}
