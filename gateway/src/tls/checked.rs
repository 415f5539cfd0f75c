//! What `tidegate check` says of certificates: what would keep the gateway from starting, what clients would refuse, and
//! which hosts have none.

use std::collections::BTreeSet;

use tidegate_config::{model::Model, name::Authority};

use super::{Certificate, Tls, Trouble, Why, authorities, read_pair};
use crate::clock;

/// Everything that is wrong with the certificates, keys and authorities that a file names, in lines.
#[must_use]
pub fn trouble(model: &Model) -> Vec<String> {
    let mut troubles = Tls::load(model).err().map_or_else(Vec::new, |troubles| troubles.0);
    let mut look = |found: Result<(), Trouble>, setting: &str| {
        troubles.extend(found.err().map(|trouble| trouble.named_by(setting.to_owned())));
    };
    if let Some((cert, key)) = model.gateway.admin.as_ref().and_then(|admin| admin.tls.as_ref()) {
        look(read_pair(cert, key).map(drop), "gateway.admin");
    }
    if let Some(ca) = model.gateway.tls.acme.as_ref().and_then(|acme| acme.ca.as_ref()) {
        look(authorities(ca).map(drop), "gateway.tls.acme.ca");
    }
    if let Some(ca) = model.gateway.tracing.as_ref().and_then(|tracing| tracing.ca.as_ref()) {
        look(authorities(ca).map(drop), "gateway.tracing.ca");
    }
    for host in &model.hosts {
        let Some(tls) = &host.tls else { continue };
        look(authorities(&tls.ca).map(drop), &format!("hosts.{}.tls.ca", host.name));
        // That others can read it is the host's owner's choice.
        let pair = read_pair(&tls.cert, &tls.key).map(drop);
        let pair = pair.or_else(|bad| if matches!(bad.why, Why::Exposed { .. }) { Ok(()) } else { Err(bad) });
        look(pair, &format!("hosts.{}.tls", host.name));
    }
    troubles.iter().map(ToString::to_string).collect()
}

/// Certificates that clients would refuse.
#[must_use]
pub fn stale(model: &Model) -> Vec<String> {
    let Ok(tls) = Tls::load(model) else { return Vec::new() };
    let now = clock::wall();
    let active = tls.active();
    active.certificates().iter().filter_map(|certificate| certificate.stale(now)).collect()
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
