//! Where a request leads: one normalised path, matched and passed on; and whose guards it passes.
//! Called by the [stages](super) of a request.

use std::{borrow::Cow, sync::Arc};

use http::{Method, Uri, request::Parts, uri::PathAndQuery};
use tidegate_config::spec::Protocol;

use super::{
    Door, Entrance,
    layered::Layers,
    path::{self, Readings},
    refusal::Refusal,
    waiting,
};
use crate::{
    fleet::{Fleet, Service},
    middleware::{Chain, Destination},
    router::{Found, RouteTable},
};

/// Where the page was opened that asks how its service's start goes; `None` for every other request, and where there are no
/// such pages.
pub(super) fn waited_for(door: &Door, entrance: &Entrance, head: &Parts, host: &str) -> Option<Uri> {
    let opened_at = waiting::asked_from(&head.uri).filter(|_| head.method == Method::GET)?;
    let settings = route(door, entrance, &opened_at, host).ok()?.service.settings();
    (settings.wake.waiting_page.is_some() && !settings.is_outside()).then_some(opened_at)
}

/// Where a request leads.
pub(super) struct Routed {
    pub(super) service: Arc<Service>,
    /// What is done with it on its way, if anything is.
    pub(super) layers: Option<Layers>,
    /// The target as it is forwarded, if it is not the one that came.
    pub(super) target: Option<Uri>,
}

/// Where a request leads: one normalised path, matched and passed on.
pub(super) fn route(door: &Door, entrance: &Entrance, uri: &Uri, host: &str) -> Result<Routed, Refusal> {
    let table = door.routes.load();
    let named = match entrance {
        Entrance::Routes => None,
        Entrance::Names(fleet) => Some(Destination::plain(named(fleet, host).ok_or(Refusal::NoRoute)?)),
    };
    let find = |path| match &named {
        Some(service) => Ok(Found { service, strip: None }),
        None => table.find(host, path).ok_or(Refusal::NoRoute),
    };
    let routed = |to: &Destination, others, target| {
        let layers = to.chain.clone().map(|chain| Layers { chain, others });
        Ok(Routed { service: Arc::clone(&to.service), layers, target })
    };
    if uri.path() == "*" {
        // OPTIONS * asks about the server as a whole; it goes to whoever has the host's root.
        return routed(find("/")?.service, Vec::new(), Some(Uri::from_static("*")));
    }
    let path =
        path::normalise(uri.path()).map_err(|_| Refusal::BadRequest("a path that cannot be passed on"))?;
    let found = find(&path)?;
    let to = found.service;
    if path::hides_a_slash(uri.path()) && !to.service.settings().upstream.allow_encoded_slashes {
        return Err(Refusal::BadRequest("a path with an encoded slash or backslash"));
    }
    let rest = found.strip.and_then(|prefix| prefix.strip(&path)).map(Cow::Borrowed);
    let rest = match &to.chain {
        Some(chain) => chain.rewritten(&path, rest),
        None => rest,
    };
    let others = match &to.chain {
        Some(chain) if chain.wary => others(&table, host, rest.as_deref().unwrap_or(&path), to)?,
        Some(_) | None => Vec::new(),
    };
    let target = match (rest, &path) {
        (None, Cow::Borrowed(_)) if uri.authority().is_none() => return routed(to, others, None),
        (None, Cow::Borrowed(_)) => uri.path_and_query().cloned(),
        (Some(rest), _) => rewritten(&rest, uri.query()),
        (None, path) => rewritten(path, uri.query()),
    };
    let target = target.ok_or(Refusal::BadRequest("a path that cannot be passed on"))?;
    routed(to, others, Some(Uri::from(target)))
}

/// The chains of other routes to the same service whose guards a path falls under as it is forwarded, however its reader
/// takes it: who may come is decided on what the service sees.
fn others(
    table: &RouteTable<Destination>,
    host: &str,
    forwarded: &str,
    to: &Destination,
) -> Result<Vec<Arc<Chain>>, Refusal> {
    let Readings { lenient, behind_host } = path::readings(forwarded)
        .map_err(|_| Refusal::BadRequest("a path that may be read as leading elsewhere"))?;
    let mut others: Vec<Arc<Chain>> = Vec::new();
    for reading in [forwarded, &*lenient].into_iter().chain(behind_host.as_deref()) {
        let Some(Destination { service, chain: Some(chain) }) =
            table.find(host, reading).map(|found| found.service)
        else {
            continue;
        };
        let is_new = to.chain.iter().chain(&others).all(|known| !Arc::ptr_eq(known, chain));
        if is_new && chain.guards() && Arc::ptr_eq(service, &to.service) {
            others.push(Arc::clone(chain));
        }
    }
    Ok(others)
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
