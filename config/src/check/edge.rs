//! Where requests arrive: listeners and certificates. What is in a certificate's file is the gateway's to look at.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;

use super::{
    World, acme,
    gateway::{address, overlap},
    value,
};
use crate::{
    decode::{
        At,
        leaf::{OneOrMany, Text},
    },
    model::{Certificate, GatewayTls, Listener, TlsVersion},
    problem::Draft,
    raw,
};

/// The port that browsers try by themselves.
const HTTPS: u16 = 443;

pub(super) fn listen(
    raw: Option<At<OneOrMany<raw::Listener>>>,
    metrics: Option<SocketAddr>,
    proxies: &[IpNet],
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<Vec<Listener>> {
    let raw = raw?;
    if raw.value.0.is_empty() {
        problems.push(raw.problem("nowhere to listen").allowed("one address or more"));
    }
    let https = raw.value.0.iter().find_map(https_port).unwrap_or(HTTPS);
    let secure = raw.value.0.iter().any(speaks_tls);
    let mut listeners: Vec<Listener> = Vec::new();
    for item in &raw.value.0 {
        let Some((text, mut listener)) = listener(item, https, world, problems) else { continue };
        if let Some(redirect) = redirect(item).filter(|_| !secure) {
            problems.push(
                redirect.problem("nothing here speaks TLS").allowed("another listener with tls = true"),
            );
            listener.redirect = None;
        }
        if let Some(proxied) = proxied(item).filter(|_| proxies.is_empty()) {
            let draft = proxied.problem("nobody is trusted to say who the client is");
            problems.push(draft.allowed("the balancers' addresses in gateway.trusted_proxies"));
        }
        let (text, address) = (&text, listener.address);
        if let Some(taken) = listeners.iter().find(|other| overlap(address, other.address)) {
            let draft = text.problem(format!("listens where {} already does", taken.address));
            problems.push(draft.allowed("each address and port once"));
        } else if metrics.is_some_and(|metrics| overlap(address, metrics)) {
            let draft = text.problem("this is where gateway.metrics is served");
            problems.push(draft.allowed("another port; or another address, or \"off\", for gateway.metrics"));
        }
        listeners.push(listener);
    }
    Some(listeners)
}

/// Whoever may say who the client is may say anything.
fn proxied(item: &At<raw::Listener>) -> Option<&At<bool>> {
    match &item.value {
        raw::Listener::Table(table) => table.proxy_protocol.as_ref().filter(|proxied| proxied.value),
        raw::Listener::Text(_) => None,
    }
}

/// A listener and the text that its address stands in.
fn listener(
    item: &At<raw::Listener>,
    https: u16,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<(At<Text>, Listener)> {
    let table = match &item.value {
        raw::Listener::Text(text) => {
            let text = item.with(text.clone());
            let address = address(&text, problems)?;
            return Some((text, Listener::plain(address)));
        }
        raw::Listener::Table(table) => table,
    };
    let Some(text) = &table.address else {
        if !table.refused.contains(&"address") {
            problems.push(item.problem("nowhere to listen").allowed("address = \"IP:PORT\", and more"));
        }
        return None;
    };
    let (tls, redirects) = (is(table.tls.as_ref()), is(table.redirect_to_https.as_ref()));
    if let Some(authorities) = table.client_ca.as_ref().filter(|_| !tls) {
        problems
            .push(authorities.problem("clients have certificates over TLS only").allowed("with tls = true"));
    }
    if let Some(redirect) = table.redirect_to_https.as_ref().filter(|_| tls && redirects) {
        problems.push(redirect.problem("this is HTTPS already").allowed("without tls = true"));
    }
    let client_ca = table.client_ca.as_ref().and_then(|file| file_of(file, world, problems));
    let redirect = (redirects && !tls).then_some(https);
    let proxy_protocol = is(table.proxy_protocol.as_ref());
    let address = address(text, problems)?;
    Some((text.clone(), Listener { address, tls, client_ca, proxy_protocol, redirect }))
}

fn is(setting: Option<&At<bool>>) -> bool {
    setting.is_some_and(|setting| setting.value)
}

fn speaks_tls(item: &At<raw::Listener>) -> bool {
    matches!(&item.value, raw::Listener::Table(table) if is(table.tls.as_ref()))
}

/// The port of a listener that speaks TLS.
fn https_port(item: &At<raw::Listener>) -> Option<u16> {
    match &item.value {
        raw::Listener::Table(table) if is(table.tls.as_ref()) => {
            let address: SocketAddr = table.address.as_ref()?.value.parse().ok()?;
            Some(address.port())
        }
        raw::Listener::Table(_) | raw::Listener::Text(_) => None,
    }
}

fn redirect(item: &At<raw::Listener>) -> Option<&At<bool>> {
    match &item.value {
        raw::Listener::Table(table) => table.redirect_to_https.as_ref().filter(|redirect| redirect.value),
        raw::Listener::Text(_) => None,
    }
}

pub(super) fn file_of(text: &At<Text>, world: &World<'_>, problems: &mut Vec<Draft>) -> Option<PathBuf> {
    if text.value.is_empty() {
        problems.push(text.problem("empty").allowed("a file, as in \"tls/cert.pem\""));
        return None;
    }
    Some(world.path(&text.value))
}

/// Whether a listener speaks TLS, or may have been meant to: what was refused is not known.
pub(super) fn may_speak_tls(raw: &raw::Gateway) -> bool {
    let unread = |item: &At<raw::Listener>| match &item.value {
        raw::Listener::Table(table) => table.refused.contains(&"tls"),
        raw::Listener::Text(_) => false,
    };
    let said = raw.listen.iter().flat_map(|listen| &listen.value.0);
    raw.refused.contains(&"listen") || said.into_iter().any(|item| speaks_tls(item) || unread(item))
}

/// Where the file first asks for TLS.
pub(super) fn first_tls(raw: Option<&At<OneOrMany<raw::Listener>>>) -> Option<At<bool>> {
    let mut tables = raw?.value.0.iter().filter_map(|item| match &item.value {
        raw::Listener::Table(table) => table.tls.as_ref(),
        raw::Listener::Text(_) => None,
    });
    tables.find(|tls| tls.value).cloned()
}

pub(super) fn tls(
    raw: Option<At<raw::GatewayTls>>,
    wanted: Option<&At<bool>>,
    listeners: &[Listener],
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> GatewayTls {
    let default = GatewayTls::default();
    let raw = value::of(raw, raw::GatewayTls::default());
    let none = raw.certificates.is_none() && raw.acme.is_none();
    let refused = raw.refused.iter().any(|key| matches!(*key, "certificates" | "acme"));
    if let Some(tls) = wanted.filter(|_| none && !refused) {
        problems.push(tls.problem("there is no certificate for it").allowed(CERTIFICATES));
    }
    let hsts = raw.hsts.map(|hsts| value::lasting(Some(hsts), default.handshake_timeout, problems));
    if let Some(below) = raw.hsts_subdomains.as_ref().filter(|below| below.value && hsts.is_none()) {
        problems
            .push(below.problem("nothing is to be remembered").allowed("with hsts, as in hsts = \"365d\""));
    }
    GatewayTls {
        certificates: certificates(raw.certificates, world, problems),
        min_version: value::of(raw.min_version, TlsVersion::V12),
        handshake_timeout: value::lasting(raw.handshake_timeout, default.handshake_timeout, problems),
        hsts,
        hsts_subdomains: value::of(raw.hsts_subdomains, default.hsts_subdomains),
        acme: raw.acme.map(|acme| acme::check(acme, listeners, world, problems)),
    }
}

const CERTIFICATES: &str = "certificates = [{ cert = \"cert.pem\", key = \"key.pem\" }] in [gateway.tls]";

fn certificates(
    raw: Option<At<Vec<At<raw::Certificate>>>>,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Vec<Certificate> {
    let mut all: Vec<Certificate> = Vec::new();
    for item in value::of(raw, Vec::new()) {
        let raw::Certificate { cert, key, default, refused } = &item.value;
        let [cert, key] = [cert, key].map(|file| file.as_ref().map(|file| file_of(file, world, problems)));
        let (Some(cert), Some(key)) = (cert, key) else {
            if refused.is_empty() {
                problems.push(
                    item.problem("needs both cert and key")
                        .allowed("{ cert = \"cert.pem\", key = \"key.pem\" }"),
                );
            }
            continue;
        };
        if let Some(second) = default.as_ref().filter(|it| it.value && all.iter().any(|other| other.default))
        {
            problems
                .push(second.problem("another certificate is the default already").allowed("one default"));
        }
        if let (Some(cert), Some(key)) = (cert, key) {
            all.push(Certificate { cert, key, default: is(default.as_ref()) });
        }
    }
    all
}
