//! What `tidegate check` says of certificates: what would keep the gateway from starting, what clients would refuse, and
//! which hosts have none.

use std::collections::BTreeSet;

use tidegate_config::{model::Model, name::Authority};

use super::{Certificate, Tls};
use crate::clock;

/// Everything that is wrong with the certificates of a file, in lines.
#[must_use]
pub fn trouble(model: &Model) -> Vec<String> {
    match Tls::load(model) {
        Err(troubles) => troubles.0.iter().map(ToString::to_string).collect(),
        Ok(tls) => {
            let now = clock::wall();
            tls.active().certificates().iter().filter_map(|certificate| certificate.stale(now)).collect()
        }
    }
}

/// Hosts of routes that clients cannot call over TLS.
#[must_use]
pub fn notes(model: &Model) -> Vec<String> {
    let secure = model.gateway.listen.iter().any(|listener| listener.tls);
    if !secure {
        let unused = !model.gateway.tls.certificates.is_empty();
        let note = "certificates are named, and no listener has tls = true: they are not used";
        return unused.then(|| note.to_owned()).into_iter().collect();
    }
    let note = |(service, host): &(String, String)| {
        format!("services.{service}: no certificate is for {host}, so it cannot be called over TLS")
    };
    uncovered(model).iter().map(note).collect()
}

/// Services with hosts of theirs that no certificate is for, each once. None while the certificates cannot be read.
#[must_use]
pub fn uncovered(model: &Model) -> BTreeSet<(String, String)> {
    let Ok(tls) = Tls::load(model) else { return BTreeSet::new() };
    let (active, wanted) = (tls.active(), tls.wanted());
    let wanted = wanted.borrow();
    // `NAME.localhost` is there unasked, for people on this machine.
    let known = |host: &String| {
        host.ends_with(".localhost")
            || wanted.domains.contains(host)
            || active.certificates().iter().any(|one| stands_for(one, host))
    };
    let routes =
        model.services.values().flat_map(|service| service.routes.iter().map(move |route| (service, route)));
    let bare = routes.filter_map(|(service, route)| {
        let host = name(&route.host).filter(|host| !known(host))?;
        Some((service.name.to_string(), host))
    });
    bare.collect()
}

/// The host of a route as a certificate would name it; `None` for any.
pub fn name(host: &Authority) -> Option<String> {
    match host {
        Authority::Exact(host) => Some(host.clone()),
        Authority::Wildcard(suffix) => Some(format!("*.{suffix}")),
        Authority::Any => None,
    }
}

fn stands_for(certificate: &Certificate, host: &str) -> bool {
    match host.strip_prefix("*.") {
        Some(_) => certificate.names.iter().any(|name| name == host),
        None => super::names::cover(&certificate.names, host),
    }
}
