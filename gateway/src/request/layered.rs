//! A request on a route that switches something on, in the order in which that is done: named, its client looked at,
//! preflights, sent elsewhere, counted, its sender known, its body bounded, then its target and fields changed, and copied.
//! All that may refuse comes before the gate: what is refused wakes nothing. Called by [`serve`](super::serve).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{
    HeaderValue, Response, StatusCode,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use tidegate_config::model::Redirect;

use super::{
    Visit, body::Body, forward, headers, path, prepare, received::Received, refusal::Refusal, response,
    shadow,
};
use crate::middleware::{self, Chain, Place, Wanted, X_REQUEST_ID};

/// The chains that a request passes.
pub(super) struct Layers {
    /// Its route's.
    pub(super) chain: Arc<Chain>,
    /// Those of other routes of the service that its path may be read as: their guards count too.
    pub(super) others: Vec<Arc<Chain>>,
}

/// What must be remembered of a request for its response.
struct Asked {
    id: Option<HeaderValue>,
    origin: Option<HeaderValue>,
    wanted: Option<Wanted>,
}

/// Answers one request; refusals too are answers that the route's chain is done with.
pub(super) async fn serve(layers: Layers, visit: Visit<'_>) -> Response<Body> {
    let (chain, head) = (&layers.chain, &visit.head);
    let asked = Asked {
        id: middleware::request_id(chain.settings.request_id, &head.headers, rand::random),
        origin: head.headers.get(ORIGIN).filter(|_| chain.cors.is_some()).cloned(),
        wanted: chain.wanted(&head.method, &head.headers),
    };
    let (expose, form, record) = (visit.settings.expose_errors, visit.form, visit.record.clone());
    if let (Some(record), Some(id)) = (&record, &asked.id) {
        record.is_called(id);
    }
    let answer = through(&layers, visit, asked.id.as_ref()).await;
    let answer = answer.unwrap_or_else(|refusal| {
        super::refuse_as(&refusal, asked.id.as_ref(), record.as_deref(), expose, form)
    });
    finish(chain, asked, answer).await
}

async fn through(
    layers: &Layers,
    visit: Visit<'_>,
    id: Option<&HeaderValue>,
) -> Result<Response<Body>, Refusal> {
    let chain = &*layers.chain;
    let Visit { head, from, .. } = &visit;
    let client = headers::client(&head.headers, from);
    let guards = || std::iter::once(chain).chain(layers.others.iter().map(|other| &**other));
    if !guards().all(|guard| guard.admits(client)) {
        return Err(Refusal::Forbidden);
    }
    if let Some(fields) = chain.cors.as_ref().and_then(|cors| cors.preflight(&head.method, &head.headers)) {
        return Ok(response::preflight(fields));
    }
    if let Some(to) = &chain.settings.redirect
        && let Some(place) = elsewhere(to, chain, &visit)
    {
        let status = StatusCode::from_u16(to.status).unwrap_or(StatusCode::PERMANENT_REDIRECT);
        return Ok(response::moved(status, place));
    }
    let limiters = || guards().filter_map(|guard| guard.limiter.as_ref());
    for (at, limiter) in limiters().enumerate() {
        // Routes may share one.
        if !limiters().take(at).any(|counted| Arc::ptr_eq(counted, limiter)) {
            let counted = limiter.take(client, &head.headers, visit.arrived);
            counted.map_err(|again| Refusal::RateLimited { again })?;
        }
    }
    let (mut user, mut keeps) = (None, true);
    for auth in guards().filter_map(|guard| guard.auth.as_ref()) {
        let admitted = auth.admit(&head.headers).await?;
        user = Some(admitted.user);
        keeps &= admitted.forward;
    }
    let limit = guards().filter_map(|guard| guard.settings.body_limit).map(|limit| limit.0).min();
    let announced = visit.body.as_ref().map_or(0, |body| body.size_hint().lower());
    if limit.is_some_and(|limit| announced > limit) {
        return Err(Refusal::BodyTooLarge);
    }
    send(chain, visit, id, user, keeps, limit).await
}

/// Makes the request what the service is to see, and sends it.
async fn send(
    chain: &Chain,
    mut visit: Visit<'_>,
    id: Option<&HeaderValue>,
    user: Option<HeaderValue>,
    keeps: bool,
    limit: Option<u64>,
) -> Result<Response<Body>, Refusal> {
    prepare(&mut visit);
    let fields = &mut visit.head.headers;
    if !keeps {
        fields.remove(AUTHORIZATION);
    }
    let host = chain.settings.rewrite.as_ref().and_then(|rewrite| rewrite.host.as_ref());
    let host = host.and_then(|host| HeaderValue::try_from(host).ok());
    let told = [(HOST, host), (X_REQUEST_ID, id.cloned()), (headers::X_FORWARDED_USER, user)];
    for (name, value) in told.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        fields.insert(name, value);
    }
    if let Some(edits) = &chain.request_edits {
        edits.apply(fields);
    }
    let over = Arc::new(AtomicBool::new(false));
    let body = body(chain, &mut visit, limit, &over);
    let answer = forward(visit, body, chain.settings.timeout).await;
    if over.load(Ordering::Relaxed) { answer.map_err(|_| Refusal::BodyTooLarge) } else { answer }
}

/// The request's body as it is to be read.
fn body(chain: &Chain, visit: &mut Visit<'_>, limit: Option<u64>, over: &Arc<AtomicBool>) -> Received {
    let Some(body) = visit.body.take() else { return Received::none() };
    match &chain.mirror {
        Some(mirror) if visit.upgrade.is_none() => shadow::cast(mirror, visit, body, (limit, over)),
        Some(_) | None if limit.is_some() => Received::watched(body, limit, Arc::clone(over), None),
        Some(_) | None => Received::Plain(body),
    }
}

/// Where the request is sent instead.
fn elsewhere(to: &Redirect, chain: &Chain, visit: &Visit<'_>) -> Option<HeaderValue> {
    let Visit { head, host, from, .. } = visit;
    let path = path::normalise(head.uri.path()).ok()?;
    let scheme = headers::scheme(&head.headers, from);
    let from = Place { scheme, host: host.to_str().ok()?, path: &path, query: head.uri.query() };
    middleware::redirect(to, &chain.path, from)
}

async fn finish(chain: &Chain, asked: Asked, mut response: Response<Body>) -> Response<Body> {
    let fields = response.headers_mut();
    if let Some(id) = asked.id {
        fields.insert(X_REQUEST_ID, id);
    }
    if let Some(cors) = &chain.cors {
        cors.mark(asked.origin.as_ref(), fields);
    }
    if let Some(edits) = &chain.response_edits {
        edits.apply(fields);
    }
    let mut response = match (&chain.compression, asked.wanted) {
        (Some(compression), Some(wanted)) => compression.apply(response, wanted).await,
        _ => response,
    };
    if let Some(hsts) = &chain.hsts {
        response.extensions_mut().insert(hsts.clone());
    }
    response
}
