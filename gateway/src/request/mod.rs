//! The life of a request, in order: identify, route, prepare, exchange, answer. Each stage is one call; the first that
//! refuses decides the answer. Called by the listener for each request; meets the control plane only in [`fleet`](crate::fleet).

mod accounting;
mod affinity;
mod asker;
pub mod body;
pub(crate) mod dial;
mod doorstep;
mod exchange;
mod frames;
pub(crate) mod grpc;
mod h2c;
mod headers;
mod hedge;
mod identify;
mod incoming;
mod intake;
mod layered;
pub(crate) mod pace;
mod path;
mod peer;
mod received;
mod record;
mod redirect;
mod refusal;
mod response;
pub(crate) mod retry;
mod routing;
mod shadow;
mod switch;
pub(crate) mod upgrade;
pub(crate) mod upstream;
mod waiting;
mod wire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{HOST, STRICT_TRANSPORT_SECURITY},
    request::Parts,
};
use tidegate_config::{model, spec::Protocol};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use identify::most_bytes;
pub use incoming::Incoming;
pub use peer::{Entrance, Peer};
pub(crate) use redirect::CHALLENGES;
pub use refusal::Refusal;
pub(crate) use response::Form;
pub use shadow::Copies;
use switch::Wish;

use self::{
    exchange::{Deadline, Exchange},
    intake::Intake,
    layered::Layers,
    received::Received,
    record::{Readers, Record},
    routing::{Routed, route},
};
use crate::{
    access::Log,
    clock,
    fleet::Service,
    hsts,
    http1::server::{Early, Unheard},
    middleware::Destination,
    router::RouteTable,
    spans::{self, Context, Spans},
    telemetry,
    tls::Challenges,
};

/// The method, in the log, of what is no request.
const UNKNOWN: &str = "-";

/// What every request needs: the routes, the gateway's settings, and where tunnels run.
#[derive(Debug)]
pub struct Door {
    /// Swapped whole by the control loop.
    pub routes: ArcSwap<RouteTable<Destination>>,
    /// Swapped whole by the control loop.
    pub settings: ArcSwap<model::Gateway>,
    /// By the name of the server, connections over TLS that are passed on as they are. Swapped whole by the control loop.
    pub passed_on: ArcSwap<RouteTable<Arc<Service>>>,
    /// The access log, if there is one.
    pub log: ArcSwapOption<Log>,
    /// Where spans go, if anywhere.
    pub spans: ArcSwapOption<Spans>,
    /// Owns the tunnels, and the connections of TCP services.
    pub tasks: TaskTracker,
    /// Cancelled when the drain deadline has passed: tunnels take their leave.
    pub cut: CancellationToken,
    /// Owns the copies that mirrors get.
    pub copies: Copies,
    /// What proves to authorities that names are ours.
    pub challenges: Arc<Challenges>,
}

impl Door {
    /// A door with these settings, and no routes yet.
    #[must_use]
    pub fn new(settings: Arc<model::Gateway>, challenges: Arc<Challenges>) -> Self {
        let door = Self {
            routes: ArcSwap::from_pointee(RouteTable::new([])),
            settings: ArcSwap::new(Arc::clone(&settings)),
            passed_on: ArcSwap::from_pointee(RouteTable::new([])),
            log: ArcSwapOption::empty(),
            spans: ArcSwapOption::empty(),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            copies: Copies::default(),
            challenges,
        };
        door.change(settings);
        door
    }

    /// Takes up new settings; requests that run keep what they have begun with.
    pub fn change(&self, settings: Arc<model::Gateway>) {
        let log = self.log.load_full();
        if log.as_ref().map(|log| log.settings()) != settings.access_log.as_ref() {
            self.log.store(settings.access_log.clone().and_then(|log| match Log::start(log) {
                Ok(log) => Some(Arc::new(log)),
                Err(error) => {
                    tracing::error!(%error, "there is no access log: its thread cannot be made");
                    None
                }
            }));
        }
        let spans = self.spans.load_full();
        if spans.as_ref().map(|spans| spans.settings()) != settings.tracing.as_ref() {
            self.spans.store(settings.tracing.clone().and_then(|tracing| match Spans::start(tracing) {
                Ok(spans) => Some(Arc::new(spans)),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "no spans are sent");
                    None
                }
            }));
        }
        self.settings.store(settings);
    }

    /// Begins to note a request, where somebody wants to know; and its place in its trace, where traces are kept.
    fn watch<B>(
        &self,
        settings: &model::Gateway,
        request: &Request<B>,
        peer: &Peer,
        arrived: Instant,
    ) -> (Option<Arc<Record>>, Option<Context>) {
        if settings.access_log.is_none() && settings.tracing.is_none() {
            return (None, None);
        }
        let headers = request.headers();
        let context = settings.tracing.as_ref().map(|tracing| {
            Context::of(headers, rand::random(), rand::random(), rand::random(), tracing.sample)
        });
        let log = settings.access_log.as_ref().and_then(|_| self.log.load_full());
        let spans = context
            .filter(|context| context.sampled)
            .and_then(|context| Some((self.spans.load_full()?, context)));
        if log.is_none() && spans.is_none() {
            return (None, context);
        }
        let trace = context.map(|context| context.trace).or_else(|| spans::context::trace_of(headers));
        let client = headers::client(headers, &peer.from(settings));
        let readers = Readers { log, spans, trace, secure: peer.tls.is_some() };
        (Some(Record::open(request, client, arrived, readers)), context)
    }
}

/// Answers one request.
pub async fn handle(door: &Arc<Door>, request: Request<Incoming>, peer: &Peer) -> Response<body::Body> {
    let settings = door.settings.load_full();
    let Begun { arrived, form, record, course } = begin(door, &settings, request, peer);
    let served = match (course, settings.limits.requests.timeout) {
        (Err(refusal), _) => Err(refusal),
        (Ok(Course::Answered(response)), _) => Ok(response),
        (Ok(Course::Sent(exchange)), None) => exchange::run(exchange, door).await,
        // Boxed: rare, and it would weigh on every request's future.
        (Ok(course), None) => Box::pin(serve(door, course)).await,
        (Ok(course), Some(timeout)) => Box::pin(within(arrived + timeout, serve(door, course))).await,
    };
    let mut response = match served {
        Ok(response) => response,
        Err(refusal) => refuse(&refusal, record.as_deref(), settings.expose_errors, form),
    };
    note(record.as_deref(), &response);
    if let Some(tls) = &peer.tls {
        let own = response.extensions_mut().remove::<hsts::Own>();
        if let Some(hsts) = own.map_or_else(|| tls.hsts.clone(), |own| own.0) {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts);
        }
    }
    response
}

/// A request of which it is known what is to be done.
struct Begun<'v> {
    arrived: Instant,
    form: Form,
    record: Option<Arc<Record>>,
    course: Result<Course<'v>, Refusal>,
}

/// What is done with a request. What is decided without waiting is decided before the request becomes a future, which would
/// otherwise have room for every step of it.
enum Course<'v> {
    Answered(Response<body::Body>),
    Layered(Box<(Layers, Visit<'v>)>),
    Sent(Box<Exchange>),
}

fn begin<'v>(
    door: &'v Arc<Door>,
    settings: &'v model::Gateway,
    mut request: Request<Incoming>,
    peer: &'v Peer,
) -> Begun<'v> {
    let arrived = clock::now();
    let (record, context) = door.watch(settings, &request, peer, arrived);
    let form = Form::of(&request);
    if let Some(context) = context {
        context.pass_on(request.headers_mut());
    }
    let course = course(door, settings, request, peer, form, arrived, record.as_ref());
    Begun { arrived, form, record, course }
}

async fn serve(door: &Door, course: Course<'_>) -> Result<Response<body::Body>, Refusal> {
    match course {
        Course::Answered(response) => Ok(response),
        Course::Layered(layered) => {
            let (layers, visit) = *layered;
            Ok(Box::pin(layered::serve(layers, visit)).await)
        }
        Course::Sent(exchange) => exchange::run(exchange, door).await,
    }
}

/// Answers in time, and to the end, or not at all. Tunnels may go on.
async fn within(
    deadline: Instant,
    serve: impl Future<Output = Result<Response<body::Body>, Refusal>>,
) -> Result<Response<body::Body>, Refusal> {
    let answer = tokio::time::timeout_at(deadline.into(), serve).await;
    let response = answer.unwrap_or(Err(Refusal::RequestDeadline))?;
    Ok(response.map(|body| body.until(deadline)))
}

/// Answers what came as HTTP/1.1 and is no request. For the log it is one without a method that is known, and for nothing.
pub(crate) fn unheard(door: &Door, why: Unheard, peer: &Peer) -> Response<body::Body> {
    let (settings, refusal) = (door.settings.load(), why.into());
    let nothing = Request::builder().method(UNKNOWN).body(()).expect("a method that is a token");
    let (record, _) = door.watch(&settings, &nothing, peer, clock::now());
    let response = refuse(&refusal, record.as_deref(), settings.expose_errors, Form::Document);
    note(record.as_deref(), &response);
    response
}

/// An answer begins.
fn note(record: Option<&Record>, response: &Response<body::Body>) {
    if let Some(record) = record {
        record.answered(response.status().as_u16());
        record.sent(response.body().own_length());
    }
}

/// Answers with a refusal: counted, logged, noted and given an id by which the log line is found.
pub(crate) fn refuse(
    refusal: &Refusal,
    record: Option<&Record>,
    expose: bool,
    form: Form,
) -> Response<body::Body> {
    refuse_as(refusal, None, record, expose, form)
}

/// The same, by the name that the request has already, if it has one.
fn refuse_as(
    refusal: &Refusal,
    name: Option<&HeaderValue>,
    record: Option<&Record>,
    expose: bool,
    form: Form,
) -> Response<body::Body> {
    let noted = record.map(|record| record.refused(refusal));
    let named = name.and_then(|name| name.to_str().ok()).map(String::from);
    let id = named.or(noted).unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
    tracing::debug!(request_id = %id, reason = refusal.reason(), cause = refusal.cause(), "refused");
    telemetry::refused(refusal.reason());
    response::refuse(refusal, &id, expose, form, clock::now())
}

/// A request on its way through the stages.
struct Visit<'v> {
    door: &'v Arc<Door>,
    settings: &'v model::Gateway,
    service: Arc<Service>,
    head: Parts,
    /// Taken by whoever sends it on.
    body: Option<Intake>,
    /// How the client is told something before its answer.
    early: Option<Early>,
    /// The client's end of a tunnel, if it asks for one, and what it asks for.
    upgrade: Option<(upgrade::Client, Wish)>,
    arrived: Instant,
    form: Form,
    record: Option<Arc<Record>>,
    /// As the client wrote it.
    host: HeaderValue,
    from: headers::From<'v>,
    /// As it is forwarded, if it is not the one that came.
    target: Option<Uri>,
    /// Whether it asks how a start goes that a waiting page shows.
    follows: bool,
}

fn course<'v>(
    door: &'v Arc<Door>,
    settings: &'v model::Gateway,
    mut request: Request<Incoming>,
    peer: &'v Peer,
    form: Form,
    arrived: Instant,
    record: Option<&Arc<Record>>,
) -> Result<Course<'v>, Refusal> {
    let upgrade = upgrade::Client::may_switch(&request).then(|| Wish::of(&mut request)).flatten();
    let upgrade = upgrade.map(|wish| (upgrade::Client::of(&mut request), wish));
    let (mut head, mut body) = request.into_parts();
    let early = body.early();
    identify::check_size(&head, &settings.limits)?;
    let limits = &settings.limits.requests;
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() as u64 > limits.uri_bytes.0) {
        return Err(Refusal::UriTooLong);
    }
    let chunked = body.size_hint().exact().is_none();
    let host = identify::identify(&mut head, chunked)?;
    let name = identify::host_name(&host);
    let mut body = Intake::new(body, limits).map_err(Refusal::from)?;
    if peer.tls.as_ref().is_some_and(|tls| !tls.covers(&name)) {
        return Err(Refusal::Misdirected);
    }
    if let Some(text) = door.challenges.text(head.uri.path()) {
        return Ok(Course::Answered(response::text(text)));
    }
    if let Some(place) = peer.redirect.and_then(|port| redirect::to_https(&name, &head.uri, port)) {
        return Ok(Course::Answered(response::moved(StatusCode::PERMANENT_REDIRECT, place)));
    }
    let opened_at = routing::waited_for(door, &peer.entrance, &head, &name);
    let target = opened_at.as_ref().unwrap_or(&head.uri);
    let Routed { service, layers, target } = route(door, &peer.entrance, target, &name)?;
    if let Some(record) = record {
        record.is_for(&service);
    }
    // A call of gRPC, to a service that takes such.
    if form == Form::Call && service.settings().launch.protocol == Protocol::H2c {
        body.may_rest();
    }
    drop(name);
    let (body, from, follows) = (Some(body), peer.from(settings), opened_at.is_some());
    let record = record.cloned();
    let mut visit = Visit {
        door,
        settings,
        service,
        head,
        body,
        early,
        upgrade,
        arrived,
        form,
        record,
        host,
        from,
        target,
        follows,
    };
    if let Some(layers) = layers {
        return Ok(Course::Layered(Box::new((layers, visit))));
    }
    prepare(&mut visit);
    let body = visit.body.take().map_or_else(Received::none, Received::Plain);
    forwarded(visit, body, None)
}

/// Sends a request that is fit for a replica to one. `limit`: from its arrival to the response's head.
async fn forward(
    visit: Visit<'_>,
    body: Received,
    limit: Option<Duration>,
) -> Result<Response<body::Body>, Refusal> {
    let door = visit.door;
    serve(door, forwarded(visit, body, limit)?).await
}

/// What becomes of a request that is fit for a replica.
fn forwarded<'v>(visit: Visit<'v>, body: Received, limit: Option<Duration>) -> Result<Course<'v>, Refusal> {
    let Visit { door, settings, service, head, early, upgrade, arrived, form, record, from, follows, .. } =
        visit;
    let service_settings = service.settings();
    let client = || headers::client(&head.headers, &from);
    if follows {
        let followed =
            doorstep::follow(service, &service_settings, client(), arrived, settings.expose_errors);
        return followed.map(Course::Answered);
    }
    let standing = match doorstep::admit(&service, &service_settings, &head, client, arrived, door)? {
        doorstep::Outcome::Enters(standing) => standing,
        doorstep::Outcome::Answered(answer) => {
            accounting::Account::open(service, arrived, false, record).answered(answer.status());
            let answer = if form == Form::Head { response::without_body(answer) } else { answer };
            return Ok(Course::Answered(answer));
        }
    };
    Ok(Course::Sent(Box::new(Exchange {
        settings: service_settings,
        standing,
        record,
        service,
        head,
        body,
        early,
        upgrade,
        arrived,
        timing_headers: settings.timing_headers,
        call: form == Form::Call,
        deadline: Deadline::of(arrived, limit, settings.limits.requests.timeout),
    })))
}

/// Makes the head fit for a replica.
fn prepare(visit: &mut Visit<'_>) {
    let Visit { head, host, from, target, .. } = visit;
    if let Some(target) = target.take() {
        head.uri = target;
    }
    headers::prepare_request(&mut head.headers, host, from);
    headers::join_cookies(&mut head.headers);
    // What was routed by is what the replica sees, also where the target and the field named different hosts.
    if head.headers.get(HOST) != Some(&*host) {
        head.headers.insert(HOST, host.clone());
    }
}
