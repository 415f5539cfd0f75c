//! What is done with the requests and responses of a route: the keys of the route stand instead of those of its service,
//! and what comes out is checked for each route, because some of it makes sense on some paths only.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{World, value};
use crate::{
    decode::{At, leaf::Size, switch::Switch},
    model::{Compression, Hsts, Middleware, Mirror, RequestId},
    name::ServiceName,
    problem::Draft,
    raw,
    units::Bytes,
};

mod access;
mod auth;
mod cors;
mod fields;
mod target;

/// What the routes of one service have in common.
pub(super) struct Layers<'w> {
    /// The service's name.
    pub(super) service: &'w str,
    /// Its own table.
    pub(super) raw: Option<At<raw::Middleware>>,
    /// The names of all services over HTTP.
    pub(super) services: &'w BTreeSet<String>,
    /// What lies around the file.
    pub(super) world: &'w World<'w>,
}

impl Layers<'_> {
    /// What is done on one route, `None` for nothing. `strip`: its path is removed from requests already.
    pub(super) fn of(
        &self,
        route: Option<&raw::Middleware>,
        strip: bool,
        problems: &mut Vec<Draft>,
    ) -> Option<Arc<Middleware>> {
        let whole = merged(self.raw.as_ref().map(|raw| &raw.value), route);
        let request_id = value::of(whole.request_id, RequestId::Off);
        let middleware = Middleware {
            request_id,
            ip: on(whole.ip).and_then(|ip| access::ip(ip, problems)),
            cors: on(whole.cors).and_then(|cors| cors::check(cors, problems)),
            redirect: on(whole.redirect).and_then(|redirect| target::redirect(redirect, problems)),
            rate_limit: on(whole.rate_limit).and_then(|limit| access::rate_limit(limit, problems)),
            basic_auth: on(whole.basic_auth).and_then(|basic| auth::basic(basic, self, problems)),
            bearer_auth: on(whole.bearer_auth).and_then(|bearer| auth::bearer(bearer, self, problems)),
            body_limit: on(whole.body_limit).map(|size| self::size(size, Bytes(1), problems)),
            rewrite: on(whole.rewrite).and_then(|rewrite| target::rewrite(rewrite, strip, problems)),
            request_headers: on(whole.request_headers).and_then(|edits| fields::edits(edits, problems)),
            response_headers: on(whole.response_headers).and_then(|edits| fields::edits(edits, problems)),
            timeout: on(whole.timeout)
                .map(|span| value::lasting(Some(span), Duration::from_secs(1), problems)),
            mirror: on(whole.mirror).and_then(|mirror| self.mirror(mirror, problems)),
            hsts: hsts(whole.hsts, problems),
            compression: on(whole.compression).and_then(|compression| compress(compression, problems)),
        };
        (!middleware.is_off()).then(|| Arc::new(middleware))
    }

    fn mirror(&self, raw: At<raw::Mirror>, problems: &mut Vec<Draft>) -> Option<Mirror> {
        let Some(service) = raw.value.service.as_ref() else {
            required(&raw, "service", &raw.value.refused, problems);
            return None;
        };
        if service.value == self.service {
            problems.push(service.problem("a service cannot be its own mirror").allowed("another service"));
            return None;
        }
        if !self.services.contains(&service.value) {
            let names: Vec<&str> = self.services.iter().map(String::as_str).collect();
            let near = crate::advice::closest(&service.value, &names);
            let draft =
                service.problem("no service over HTTP has this name").allowed("a service of this file");
            problems.push(draft.help(near.map(|near| format!("did you mean {near:?}?"))));
            return None;
        }
        let default = Mirror::to(value::parsed::<ServiceName>(service, problems)?);
        let raw = raw.value;
        Some(Mirror {
            share: value::of(raw.share, default.share),
            wake: value::of(raw.wake, default.wake),
            body: value::size(raw.body, Bytes(0), default.body, problems),
            concurrency: value::positive(raw.concurrency, default.concurrency, problems),
            service: default.service,
        })
    }
}

/// The keys of `route`, and those of `service` that it does not have.
fn merged(service: Option<&raw::Middleware>, route: Option<&raw::Middleware>) -> raw::Middleware {
    let route = route.cloned().unwrap_or_default();
    let Some(service) = service.cloned() else { return route };
    raw::Middleware {
        request_id: route.request_id.or(service.request_id),
        ip: route.ip.or(service.ip),
        cors: route.cors.or(service.cors),
        redirect: route.redirect.or(service.redirect),
        rate_limit: route.rate_limit.or(service.rate_limit),
        basic_auth: route.basic_auth.or(service.basic_auth),
        bearer_auth: route.bearer_auth.or(service.bearer_auth),
        body_limit: route.body_limit.or(service.body_limit),
        rewrite: route.rewrite.or(service.rewrite),
        request_headers: route.request_headers.or(service.request_headers),
        timeout: route.timeout.or(service.timeout),
        mirror: route.mirror.or(service.mirror),
        response_headers: route.response_headers.or(service.response_headers),
        hsts: route.hsts.or(service.hsts),
        compression: route.compression.or(service.compression),
        refused: route.refused,
    }
}

/// The value of what is switched on.
fn on<T>(switch: Option<At<Switch<T>>>) -> Option<At<T>> {
    let switch = switch?;
    let place = switch.with(());
    match switch.value {
        Switch::On(value) => Some(place.with(value)),
        Switch::Off => None,
    }
}

/// A key that must be there is not, unless it is and was refused.
fn required<T>(at: &At<T>, key: &'static str, refused: &[&'static str], problems: &mut Vec<Draft>) {
    if !refused.contains(&key) {
        problems.push(at.problem(format!("lacks `{key}`")).allowed(format!("a table with `{key}`")));
    }
}

fn size(size: At<Size>, least: Bytes, problems: &mut Vec<Draft>) -> Bytes {
    value::size(Some(size), least, least, problems)
}

fn hsts(switch: Option<At<Switch<raw::Hsts>>>, problems: &mut Vec<Draft>) -> Hsts {
    let is_said = switch.is_some();
    let Some(raw) = on(switch) else { return if is_said { Hsts::Nothing } else { Hsts::Gateway } };
    match &raw.value.max_age {
        Some(max_age) => {
            Hsts::Only { max_age: max_age.value.0, subdomains: value::of(raw.value.subdomains, false) }
        }
        None => {
            required(&raw, "max_age", &raw.value.refused, problems);
            Hsts::Gateway
        }
    }
}

fn compress(raw: At<raw::Compression>, problems: &mut Vec<Draft>) -> Option<Compression> {
    let default = Compression::default();
    let raw::Compression { encodings, types, min_size, .. } = raw.value;
    if let Some(none) = encodings.as_ref().filter(|encodings| encodings.value.is_empty()) {
        problems
            .push(none.problem("no way to compress").allowed("one of \"gzip\", \"br\" and \"zstd\" or more"));
    }
    let types = types.map_or(default.types, |types| {
        types.value.iter().filter_map(|text| fields::media_type(text, problems)).collect()
    });
    Some(Compression {
        encodings: encodings
            .map_or(default.encodings, |all| all.value.into_iter().map(|one| one.value).collect()),
        types,
        min_size: value::size(min_size, Bytes(0), default.min_size, problems),
    })
}
