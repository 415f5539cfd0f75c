//! From the file as written to a [`Model`] with every default applied, or to all problems at once. One file per part of
//! the configuration; each takes the raw part and pushes what is wrong. Called by [`crate::load`] alone.
//! Holds: same text and same answers of [`Files`], same result. Absent: order of problems, lines and columns (see
//! [`crate::problem`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use crate::{
    decode::{At, Named},
    files::Files,
    model::{Model, Service},
    name::ServiceName,
    problem::Draft,
    raw,
    spec::{Launch, Protocol},
    written::has_effect,
};

mod access;
mod acme;
mod address;
mod admin;
mod balance;
mod constraints;
mod edge;
mod engines;
mod environment;
mod gateway;
mod health;
mod hosts;
mod image;
mod images;
mod keep_warm;
mod kubernetes;
mod launch;
mod law;
mod limits;
mod middleware;
mod release;
mod routes;
mod scaling;
mod spans;
mod streams;
mod swarm;
mod upstreams;
mod value;
mod volumes;
mod wake;

/// What lies around the file.
pub(crate) struct World<'w> {
    /// The folder of the file; relative paths start there.
    pub(crate) folder: &'w Path,
    /// Answers about other files.
    pub(crate) files: &'w dyn Files,
}

impl World<'_> {
    /// A path of the file, absolute and without `.` and `..`.
    fn path(&self, text: &str) -> PathBuf {
        let mut whole = PathBuf::new();
        for part in self.folder.join(text).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    whole.pop();
                }
                part => whole.push(part),
            }
        }
        whole
    }
}

/// Checks a whole file. The model is only good if no problem was added.
pub(crate) fn check(file: raw::File, world: &World<'_>, problems: &mut Vec<Draft>) -> Model {
    let unread = file.refused.contains(&"gateway");
    let raw_gateway = value::of(file.gateway, raw::Gateway::default());
    let secure = unread || edge::may_speak_tls(&raw_gateway);
    let allowed = volumes::Allowed::new(raw_gateway.allow_mounts.as_ref(), world, problems);
    let gateway = gateway::check(raw_gateway, world, problems);
    let hosts = hosts::check(file.hosts, world, problems);
    let images = images::check(value::of(file.images, raw::Images::default()), problems);
    let raw_services = value::of(file.services, Named::default()).0;
    let over_http = raw_services.iter().filter(|(_, service)| {
        service.value.protocol.as_ref().is_none_or(|protocol| protocol.value != Protocol::Tcp)
    });
    let names: BTreeSet<_> = over_http.map(|(name, _)| name.value.clone()).collect();
    let only = names.len() == 1;
    let mut streams = streams::Seen::new(&gateway, secure);
    let mut routes = routes::Seen::new(&gateway);
    let (mut services, mut ignored) = (BTreeMap::new(), BTreeMap::new());
    for (name, service) in raw_services {
        let Some(checked) = value::parsed::<ServiceName>(&name, problems) else { continue };
        let upstreams = upstreams::check(&name, &service.value, &gateway, problems);
        let (listen, sni) = streams.check(&name, &service.value, problems);
        let launch = launch::check(&name, &service.value, world, &allowed, problems);
        let written = engines::Written::of(&service.value);
        let writer = release::writer(service.value.volumes.as_ref());
        let update = release::update(service.value.update.as_ref(), writer, problems);
        let limited = service.value.scaling.as_ref().and_then(|scaling| scaling.value.concurrency.clone());
        let mut said = service.value.scaling.as_ref().map_or_else(Vec::new, |scaling| scaling.value.said());
        let scaling = scaling::check(service.value.scaling, writer, problems);
        said.retain(|key| !has_effect(key, &scaling));
        if !said.is_empty() {
            ignored.insert(checked.clone(), said);
        }
        let raw::Service {
            routes: raw_routes,
            health,
            upstream,
            middleware,
            balance: raw_balance,
            constraints,
            run_on,
            placement,
            rollout,
            sleep,
            wake,
            ..
        } = service.value;
        let layers = middleware::Layers { service: &name.value, raw: middleware, services: &names, world };
        let service = Service {
            name: checked.clone(),
            upstreams,
            routes: if is_http(&launch) {
                routes.check(&name, raw_routes, only, &layers, problems)
            } else {
                Vec::new()
            },
            listen,
            sni,
            scaling,
            health: health::check(health, problems),
            upstream: health::upstream(upstream, problems),
            balance: balance::check(raw_balance, limited.as_ref(), problems),
            constraints: self::constraints::check(constraints, problems),
            run_on: hosts::run_on(run_on, &hosts, problems),
            placement: value::of(placement, crate::model::Placement::default()),
            update,
            rollout: release::rollout(rollout, update, problems),
            sleep: release::sleep(sleep, problems),
            launch,
            wake: wake::check(wake, world, problems),
        };
        engines::check(&name, &written, &service, &hosts, problems);
        services.insert(checked, Arc::new(service));
    }
    Model { gateway, hosts, images, services, ignored }
}

fn is_http(launch: &Launch) -> bool {
    launch.protocol != Protocol::Tcp
}

fn labels(labels: Option<At<Named<crate::decode::leaf::Loose>>>) -> BTreeMap<String, String> {
    value::of(labels, Named::default()).0.into_iter().map(|(name, label)| (name.value, label.0)).collect()
}
