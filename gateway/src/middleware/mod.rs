//! What a route switches on: one [`Chain`] for each, made when routes are published. A route with nothing switched on has
//! none, and its requests pass nothing of this. The order in which a chain is gone through is fixed, and stands in one
//! place, `request/layered.rs`. The control loop makes chains, the request path goes through them.

mod auth;
mod compress;
mod cors;
mod edits;
mod ip;
mod limits;
mod mirror;
mod rate;
mod request_id;
mod target;

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::HeaderMap;
use tidegate_config::{
    model::{self, Route},
    name::{PathPrefix, ServiceName},
};

pub(crate) use self::{
    auth::Auth,
    compress::{Compression, Wanted},
    cors::Cors,
    edits::Edits,
    limits::{Limiter, Limits},
    mirror::Mirror,
    rate::Buckets,
    request_id::{X_REQUEST_ID, name as request_id},
    target::{Place, redirect},
};
use crate::{fleet::Service, hsts};

/// Where a route leads.
#[derive(Debug, Clone)]
pub struct Destination {
    /// To this service,
    pub service: Arc<Service>,
    /// through this.
    pub chain: Option<Arc<Chain>>,
}

/// What is done with the requests and responses of one route.
#[derive(Debug)]
pub struct Chain {
    /// As the file says.
    pub(crate) settings: Arc<model::Middleware>,
    /// The route's path.
    pub(crate) path: PathPrefix,
    /// Whether other routes of the service have guards, so that it matters how its paths may be read.
    pub(crate) wary: bool,
    pub(crate) cors: Option<Cors>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) auth: Option<Auth>,
    pub(crate) request_edits: Option<Edits>,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) response_edits: Option<Edits>,
    pub(crate) hsts: Option<hsts::Own>,
    pub(crate) compression: Option<Compression>,
}

impl Destination {
    /// Where the routes of a service lead, in their order. `find` finds other services.
    pub fn of_routes(
        routes: &[Route],
        service: &Arc<Service>,
        find: impl Fn(&ServiceName) -> Option<Arc<Service>>,
    ) -> Vec<Self> {
        let wary = routes.iter().any(|route| route.middleware.as_ref().is_some_and(|own| own.guards()));
        let chain = |route: &Route| {
            let settings = route.middleware.clone().or_else(|| wary.then(Arc::default))?;
            Some(Arc::new(Chain::new(settings, &route.path, wary, service, &find)))
        };
        routes.iter().map(|route| Self { service: Arc::clone(service), chain: chain(route) }).collect()
    }

    /// A service as it is, by no route.
    #[must_use]
    pub fn plain(service: Arc<Service>) -> Self {
        Self { service, chain: None }
    }
}

impl Chain {
    fn new(
        settings: Arc<model::Middleware>,
        path: &PathPrefix,
        wary: bool,
        service: &Service,
        find: impl Fn(&ServiceName) -> Option<Arc<Service>>,
    ) -> Self {
        let mirror = settings.mirror.as_ref();
        Self {
            path: path.clone(),
            wary,
            cors: settings.cors.as_ref().map(Cors::new),
            limiter: settings.rate_limit.as_ref().map(|limit| service.limits.of(limit)),
            auth: Auth::new(&settings),
            request_edits: settings.request_headers.as_ref().map(Edits::new),
            mirror: mirror.and_then(|mirror| Some(Mirror::new(mirror, find(&mirror.service)?))),
            response_edits: settings.response_headers.as_ref().map(Edits::new),
            hsts: hsts::Own::of(settings.hsts),
            compression: settings.compression.as_ref().map(Compression::new),
            settings,
        }
    }

    /// Whether this client may come, by its address.
    pub(crate) fn admits(&self, client: IpAddr) -> bool {
        self.settings.ip.as_ref().is_none_or(|rules| ip::admits(rules, client))
    }

    /// Whether it decides who may come, how often, or with how much.
    pub(crate) fn guards(&self) -> bool {
        self.settings.guards()
    }

    /// A path as the service sees it, if it is another one. `rest`: what is left of it where its route's was stripped.
    pub(crate) fn rewritten<'p>(&self, path: &'p str, rest: Option<Cow<'p, str>>) -> Option<Cow<'p, str>> {
        let Some(how) = self.settings.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()) else {
            return rest;
        };
        let from = rest.unwrap_or(Cow::Borrowed(path));
        Some(Cow::Owned(target::rewrite(how, &self.path, &from).into_owned()))
    }

    /// What must be remembered of a request's head for its response.
    pub(crate) fn wanted(&self, method: &http::Method, headers: &HeaderMap) -> Option<Wanted> {
        self.compression.as_ref().map(|_| Compression::wanted(method, headers))
    }
}
