//! Routes: their spelling, the default ones, and that no two services have the same.

use std::net::SocketAddr;

use super::{middleware::Layers, value};
use crate::{
    decode::{At, leaf::Text},
    model::{Gateway, Route},
    name::{Authority, PathPrefix},
    problem::Draft,
    raw,
    tree::Origin,
};

/// The routes so far.
pub(super) struct Seen {
    /// Our own addresses, and the keys that set them.
    own: Vec<(SocketAddr, &'static str)>,
    taken: Vec<Taken>,
}

struct Taken {
    host: Authority,
    path: PathPrefix,
    service: String,
    at: Origin,
    default: bool,
}

impl Seen {
    pub(super) fn new(gateway: &Gateway) -> Self {
        let metrics = gateway.metrics.map(|address| (address, "gateway.metrics"));
        let admin = gateway.admin.as_ref().map(|admin| (admin.listen, "gateway.admin"));
        Self { own: metrics.into_iter().chain(admin).collect(), taken: Vec::new() }
    }

    /// The routes of one service. `only`: no other service is in the file.
    pub(super) fn check(
        &mut self,
        service: &At<String>,
        raw: Option<At<Vec<At<raw::Route>>>>,
        only: bool,
        layers: &Layers<'_>,
        problems: &mut Vec<Draft>,
    ) -> Vec<Route> {
        let Some(raw) = raw else {
            let middleware = layers.of(None, false, problems);
            return defaults(&service.value, only)
                .into_iter()
                .map(|route| Route { middleware: middleware.clone(), ..route })
                .inspect(|route| self.take(service, route, &service.with(true), problems))
                .collect();
        };
        let mut routes = Vec::new();
        for entry in raw.value {
            if let Some(route) = self.route(&entry, layers, problems) {
                self.take(service, &route, &entry.with(false), problems);
                routes.push(route);
            }
        }
        routes
    }

    fn route(&self, entry: &At<raw::Route>, layers: &Layers<'_>, problems: &mut Vec<Draft>) -> Option<Route> {
        let raw = &entry.value;
        if raw.host.is_none() && raw.path.is_none() {
            let draft = entry
                .problem("has neither host nor path")
                .allowed("{ host = \"...\" }, { path = \"/...\" } or both");
            problems.push(draft);
        }
        let host = raw.host.as_ref().map_or(Some(Authority::Any), |host| self.host(host, problems));
        let path = raw.path.as_ref().map_or(Some(PathPrefix::root()), |path| value::parsed(path, problems));
        let strip = value::of(raw.strip.clone(), false);
        let own = raw.middleware.as_ref().map(|own| &own.value.0);
        let middleware = layers.of(own, strip, problems);
        Some(Route { host: host?, path: path?, strip, middleware })
    }

    fn host(&self, text: &At<Text>, problems: &mut Vec<Draft>) -> Option<Authority> {
        if let Some((_, key)) = self.own.iter().find(|(own, _)| leads_to(&text.value, *own)) {
            let draft = text.problem(format!("leads to {key}, which is never routed"));
            problems.push(draft.allowed("a host name without a port"));
            return None;
        }
        let (scheme, rest) = text.value.split_once("://").map_or((None, &*text.value), |(a, b)| (Some(a), b));
        let host = rest.split('/').next().unwrap_or(rest);
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        if host != text.value && host.parse::<Authority>().is_ok() {
            let part = if scheme.is_some() { "a scheme" } else { "a port or path" };
            let draft = text.problem(format!("a host without {part} is wanted"));
            problems.push(
                draft
                    .allowed("a host name, as in \"api.example.org\"")
                    .help(format!("did you mean {host:?}?")),
            );
            return None;
        }
        value::parsed(text, problems)
    }

    fn take(&mut self, service: &At<String>, route: &Route, place: &At<bool>, problems: &mut Vec<Draft>) {
        let same = |taken: &&Taken| taken.host == route.host && taken.path == route.path;
        if let Some(taken) = self.taken.iter().find(same) {
            let what =
                format!("the route {}{} is taken by services.{}", route.host, route.path, taken.service);
            let draft = Draft::new(&place.key, &place.at, what).allowed("each host and path once");
            let note = match taken.default {
                true => "the first is here: without `routes`, a service has the host NAME.localhost",
                false => "the first is here",
            };
            problems.push(draft.also(&taken.at, note));
        }
        let (host, path, service) = (route.host.clone(), route.path.clone(), service.value.clone());
        self.taken.push(Taken { host, path, service, at: place.at.clone(), default: place.value });
    }
}

fn defaults(service: &str, only: bool) -> Vec<Route> {
    let route = |host| Route::to(host, PathPrefix::root());
    let mut routes = vec![route(Authority::Exact(format!("{service}.localhost")))];
    routes.extend(only.then(|| route(Authority::Any)));
    routes
}

fn leads_to(host: &str, own: SocketAddr) -> bool {
    let name = host.to_ascii_lowercase().replace("localhost:", "127.0.0.1:");
    name.parse::<SocketAddr>().is_ok_and(|address| {
        address.port() == own.port() && (address.ip().is_loopback() || address.ip() == own.ip())
    })
}
