//! The life of a request, in order: identify, route, prepare, exchange, answer. Each stage is one call; the first that
//! refuses decides the answer. Called by the listener for each request; meets the control plane only in [`fleet`](crate::fleet).

mod accounting;
pub mod body;
pub(crate) mod dial;
mod exchange;
mod frames;
pub(crate) mod grpc;
mod h2c;
mod headers;
mod identify;
mod path;
mod redirect;
mod refusal;
mod response;
pub(crate) mod retry;
mod switch;
mod upgrade;
pub(crate) mod upstream;
mod wire;

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{HOST, STRICT_TRANSPORT_SECURITY},
    request::Parts,
    uri::PathAndQuery,
};
use hyper::body::Incoming;
use tidegate_config::{model, spec::Protocol};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use refusal::Refusal;
pub(crate) use response::Form;
use switch::Wish;

use crate::{
    clock,
    fleet::{Fleet, Service},
    router::{Found, RouteTable},
    telemetry,
    tls::Secured,
};

/// What every request needs: the routes, the gateway's settings, and where tunnels run.
#[derive(Debug)]
pub struct Door {
    /// Swapped whole by the control loop.
    pub routes: ArcSwap<RouteTable<Arc<Service>>>,
    /// Swapped whole by the control loop.
    pub settings: ArcSwap<model::Gateway>,
    /// By the name of the server, connections over TLS that are passed on as they are. Swapped whole by the control loop.
    pub passed_on: ArcSwap<RouteTable<Arc<Service>>>,
    /// Owns the tunnels, and the connections of TCP services.
    pub tasks: TaskTracker,
    /// Cancelled when the drain deadline has passed: tunnels take their leave.
    pub cut: CancellationToken,
}

/// What a connection came in by, which tells what the `Host` of its requests means.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// The file's routes.
    Routes,
    /// A container of ours: the bare name of a service. Nobody there is a trusted proxy.
    Names(Arc<Fleet>),
}

/// A connection's other end.
#[derive(Debug, Clone)]
pub struct Peer {
    address: SocketAddr,
    /// The address as forwarding fields carry it; made once per connection.
    text: HeaderValue,
    entrance: Entrance,
    /// Its connection's terms, if it speaks TLS.
    tls: Option<Arc<Secured>>,
    /// The port over TLS to which its requests are sent on.
    redirect: Option<u16>,
}

impl Peer {
    /// The client at `address`, which came in by `entrance`.
    #[must_use]
    pub fn new(address: SocketAddr, entrance: Entrance) -> Self {
        let text = HeaderValue::try_from(address.ip().to_canonical().to_string());
        Self { address, text: text.expect("an address is text"), entrance, tls: None, redirect: None }
    }

    /// The same, over TLS.
    #[must_use]
    pub fn over_tls(self, secured: Secured) -> Self {
        Self { tls: Some(Arc::new(secured)), ..self }
    }

    /// The same, sent on to HTTPS.
    #[must_use]
    pub fn redirected_to(self, port: Option<u16>) -> Self {
        Self { redirect: port, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers one request.
pub async fn handle(door: &Door, request: Request<Incoming>, peer: &Peer) -> Response<body::Body> {
    let settings = door.settings.load_full();
    let form = Form::of(&request);
    let mut response = match serve(door, &settings, request, peer, form).await {
        Ok(response) => response,
        Err(refusal) => refuse(&refusal, settings.expose_errors, form),
    };
    if let Some(hsts) = peer.tls.as_ref().and_then(|tls| tls.hsts.as_ref()) {
        response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
    }
    response
}

/// Answers with a refusal: counted, logged and given an id by which the log line is found.
pub(crate) fn refuse(refusal: &Refusal, expose: bool, form: Form) -> Response<body::Body> {
    let id = format!("{:016x}", rand::random::<u64>());
    tracing::debug!(request_id = %id, reason = refusal.reason(), cause = refusal.cause(), "refused");
    telemetry::refused(refusal.reason());
    response::refuse(refusal, &id, expose, form, clock::now())
}

async fn serve(
    door: &Door,
    settings: &model::Gateway,
    mut request: Request<Incoming>,
    peer: &Peer,
    form: Form,
) -> Result<Response<body::Body>, Refusal> {
    let arrived = clock::now();
    let upgrade = Wish::of(&mut request).map(|wish| (hyper::upgrade::on(&mut request), wish));
    let (mut head, body) = request.into_parts();
    let chunked = http_body::Body::size_hint(&body).exact().is_none();
    let host = identify::identify(&mut head, chunked)?;
    let name = identify::host_name(&host);
    if peer.tls.as_ref().is_some_and(|tls| !tls.covers(&name)) {
        return Err(Refusal::Misdirected);
    }
    if let Some(place) = peer.redirect.and_then(|port| redirect::to_https(&name, &head.uri, port)) {
        return Ok(response::moved(place));
    }
    let (service, target) = route(door, &peer.entrance, &head.uri, &name)?;
    drop(name);
    if let Some(target) = target {
        head.uri = target;
    }
    let from = headers::From {
        peer: peer.address.ip().to_canonical(),
        text: &peer.text,
        trusted: match peer.entrance {
            Entrance::Routes => &settings.trusted_proxies,
            Entrance::Names(_) => &[],
        },
        secure: peer.tls.is_some(),
    };
    prepare(&mut head, &host, &from);
    let exchange = exchange::Exchange {
        settings: service.settings(),
        service,
        head,
        body,
        upgrade,
        arrived,
        timing_headers: settings.timing_headers,
        call: form == Form::Call,
    };
    exchange::run(exchange, door).await
}

/// The service, and the target as it is forwarded if it is not the one that came: one normalised path, matched and
/// passed on.
fn route(
    door: &Door,
    entrance: &Entrance,
    uri: &Uri,
    host: &str,
) -> Result<(Arc<Service>, Option<Uri>), Refusal> {
    let table = door.routes.load();
    let named = match entrance {
        Entrance::Routes => None,
        Entrance::Names(fleet) => Some(named(fleet, host).ok_or(Refusal::NoRoute)?),
    };
    let find = |path| match &named {
        Some(service) => Ok(Found { service, strip: None }),
        None => table.find(host, path).ok_or(Refusal::NoRoute),
    };
    if uri.path() == "*" {
        // OPTIONS * asks about the server as a whole; it goes to whoever has the host's root.
        let found = find("/")?;
        return Ok((Arc::clone(found.service), Some(Uri::from_static("*"))));
    }
    let path =
        path::normalise(uri.path()).map_err(|_| Refusal::BadRequest("a path that cannot be passed on"))?;
    let found = find(&path)?;
    if path::hides_a_slash(uri.path()) && !found.service.settings().upstream.allow_encoded_slashes {
        return Err(Refusal::BadRequest("a path with an encoded slash or backslash"));
    }
    let rest = found.strip.and_then(|prefix| prefix.strip(&path));
    let target = match (rest, &path) {
        (None, Cow::Borrowed(_)) if uri.authority().is_none() => {
            return Ok((Arc::clone(found.service), None));
        }
        (None, Cow::Borrowed(_)) => uri.path_and_query().cloned(),
        (rest, path) => rewritten(rest.unwrap_or(path), uri.query()),
    };
    let target = target.ok_or(Refusal::BadRequest("a path that cannot be passed on"))?;
    Ok((Arc::clone(found.service), Some(Uri::from(target))))
}

/// The service that is called by its bare name.
fn named(fleet: &Fleet, host: &str) -> Option<Arc<Service>> {
    let over_http = |service: &Arc<Service>| service.settings().launch.protocol != Protocol::Tcp;
    fleet.get(&host.parse().ok()?).filter(over_http)
}

fn rewritten(path: &str, query: Option<&str>) -> Option<PathAndQuery> {
    let path = if path.is_empty() { "/" } else { path };
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    PathAndQuery::try_from(text).ok()
}

/// Makes the head fit for a replica.
fn prepare(head: &mut Parts, host: &HeaderValue, from: &headers::From<'_>) {
    headers::prepare_request(&mut head.headers, host, from);
    headers::join_cookies(&mut head.headers);
    // What was routed by is what the replica sees, also where the target and the field named different hosts.
    if head.headers.get(HOST) != Some(host) {
        head.headers.insert(HOST, host.clone());
    }
}
