//! The gateway's own settings: addresses, networks, limits.

use std::net::{IpAddr, SocketAddr};

use ipnet::Ipv4Net;

use super::{World, access, address, edge, limits, spans, upstreams, value};
use crate::{
    decode::{At, leaf::Text},
    model::Gateway,
    problem::Draft,
    raw,
};

pub(super) fn check(mut raw: raw::Gateway, world: &World<'_>, problems: &mut Vec<Draft>) -> Gateway {
    let default = Gateway::default();
    let metrics = metrics(raw.metrics.as_ref(), default.metrics, problems);
    let admin = raw.admin.take();
    let proxies = value::networks(raw.trusted_proxies, problems);
    let wanted = edge::first_tls(raw.listen.as_ref());
    let listen = edge::listen(raw.listen, metrics, &proxies, world, problems).unwrap_or(default.listen);
    let mut gateway = Gateway {
        tls: edge::tls(raw.tls, wanted.as_ref(), &listen, world, problems),
        listen,
        metrics,
        admin: None,
        state: raw.state.as_ref().and_then(|state| state_folder(state, world, problems)),
        trusted_proxies: proxies,
        expose_errors: value::of(raw.expose_errors, default.expose_errors),
        timing_headers: value::of(raw.timing_headers, default.timing_headers),
        drain: value::span(raw.drain, default.drain),
        stop_replicas_on_exit: value::of(raw.stop_replicas_on_exit, default.stop_replicas_on_exit),
        subnet: raw.subnet.as_ref().and_then(|subnet| network(subnet, problems)),
        allow_metadata: value::of(raw.allow_metadata, default.allow_metadata),
        internal_names: value::of(raw.internal_names, default.internal_names),
        internal_address: raw.internal_address.as_ref().and_then(|text| address::internal(text, problems)),
        resolvers: upstreams::resolvers(raw.resolvers, problems),
        limits: limits::check(value::of(raw.limits, raw::Limits::default()), problems),
        tracing: raw.tracing.map(|tracing| spans::check(tracing.value, world, problems)),
        access_log: raw.access_log.map(|log| access::check(log.value, world, problems)),
    };
    gateway.admin = admin.and_then(|admin| super::admin::check(admin, &gateway, world, problems));
    gateway
}

fn metrics(
    raw: Option<&At<Text>>,
    default: Option<SocketAddr>,
    problems: &mut Vec<Draft>,
) -> Option<SocketAddr> {
    let Some(text) = raw else { return default };
    if text.value == "off" {
        return None;
    }
    let address = address(text, problems)?;
    if !address.ip().is_loopback() {
        let draft = text.problem("metrics are served on loopback only");
        problems.push(
            draft.allowed(format!("127.0.0.1:{}, another loopback address, or \"off\"", address.port())),
        );
    }
    Some(address)
}

pub(super) fn address(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<SocketAddr> {
    let parsed = text.value.parse().ok();
    if parsed.is_none() {
        let meant = text.value.trim().trim_start_matches("http://").trim_end_matches('/');
        let port = meant.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        let host = if meant.starts_with("localhost") { "127.0.0.1" } else { "0.0.0.0" };
        let ip = meant.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 8080).to_string()).ok();
        let help = ip.or_else(|| port.map(|port| format!("{host}:{port}")));
        let draft = text.problem("not an address and port");
        let draft = draft.allowed("IP:PORT, as in \"0.0.0.0:8080\" or \"[::]:8080\"");
        problems.push(draft.help(help.map(|help| format!("did you mean \"{help}\"?"))));
    }
    parsed
}

/// Whether two listeners would get in each other's way. Port 0 is a free one each time.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| {
        a.ip() == b.ip() || (a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4()))
    };
    a.port() != 0 && a.port() == b.port() && (covers(a, b) || covers(b, a))
}

fn state_folder(
    state: &At<Text>,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<std::path::PathBuf> {
    if state.value.is_empty() {
        problems.push(state.problem("empty").allowed("a folder, as in \"/var/lib/tidegate\""));
        return None;
    }
    Some(world.path(&state.value))
}

fn network(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<Ipv4Net> {
    let network =
        text.value.parse::<Ipv4Net>().ok().filter(|network| (8..=28).contains(&network.prefix_len()));
    match network {
        Some(network) if network.addr() == network.network() => Some(network),
        Some(network) => {
            let help = format!("did you mean \"{}\"?", network.trunc());
            problems.push(text.problem("an address in a network, not a network").help(help));
            None
        }
        None => {
            problems.push(
                text.problem("not a network")
                    .allowed("an IPv4 network of /8 to /28, as in \"10.200.0.0/16\""),
            );
            None
        }
    }
}
