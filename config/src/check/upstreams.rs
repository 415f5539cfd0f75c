//! Services whose requests go to addresses that the file names: the addresses, and the keys that make no sense with them.

use std::net::SocketAddr;

use super::value;
use crate::{
    address::{Address, Machine, denied},
    decode::{At, leaf::Text},
    model::Gateway,
    problem::Draft,
    raw,
};

/// The addresses of one service; empty if it is run from an image.
pub(super) fn check(
    name: &At<String>,
    raw: &raw::Service,
    gateway: &Gateway,
    problems: &mut Vec<Draft>,
) -> Vec<Address> {
    let Some(list) = &raw.upstreams else { return Vec::new() };
    if list.value.is_empty() {
        problems.push(list.problem("no address").allowed("one address or more"));
    }
    match &raw.image {
        Some(image) => {
            let draft = image.problem("a service has an image or upstreams").also(&list.at, "upstreams");
            problems.push(draft.allowed("one of the two"));
        }
        None => refuse_launch_keys(raw, problems),
    }
    let own = gateway.own_addresses();
    let mut addresses = Vec::new();
    for text in &list.value {
        let Some(address) = address(text, &own, problems) else { continue };
        if addresses.contains(&address) {
            let draft = text.problem(format!("services.{} has this address already", name.value));
            problems.push(draft.allowed("each address once"));
        }
        addresses.push(address);
    }
    addresses
}

fn address(text: &At<Text>, own: &[SocketAddr], problems: &mut Vec<Draft>) -> Option<Address> {
    let Ok(address) = text.value.parse::<Address>() else {
        let draft = text.problem("not an address");
        let draft =
            draft.allowed("HOST:PORT, as in \"10.0.0.5:8080\", \"[fd00::5]:8080\" or \"app.internal:8080\"");
        problems.push(draft.help(meant(&text.value).map(|meant| format!("did you mean \"{meant}\"?"))));
        return None;
    };
    let ip = match &address.machine {
        Machine::Ip(ip) => Some(*ip),
        Machine::Name(name) if name == "localhost" => Some([127, 0, 0, 1].into()),
        // What a name means is looked at whenever it is resolved.
        Machine::Name(_) => None,
    };
    if let Some(why) = ip.and_then(|ip| denied(SocketAddr::new(ip, address.port), own, ip.is_loopback())) {
        problems.push(text.problem(why).allowed("an address that requests may be sent to"));
        return None;
    }
    Some(address)
}

/// What was probably meant by a text that is no address.
fn meant(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "https" { 443 } else { 80 };
    let bare = host.parse::<std::net::Ipv6Addr>().map(|ip| format!("[{ip}]:{port}")).ok();
    [Some(host.to_owned()), bare, Some(format!("{host}:{port}"))]
        .into_iter()
        .flatten()
        .find(|text| text.parse::<Address>().is_ok())
}

/// What says how something is started, or how many: here nothing is.
fn refuse_launch_keys(raw: &raw::Service, problems: &mut Vec<Draft>) {
    let raw::Service {
        pull,
        command,
        args,
        env,
        env_files,
        secrets,
        secret_files,
        working_dir,
        user,
        port,
        volumes,
        profile,
        constraints,
        placement,
        update,
        resources,
        scaling,
        health,
        rollout,
        sleep,
        ..
    } = raw;
    refuse(pull, problems);
    refuse(command, problems);
    refuse(args, problems);
    refuse(env, problems);
    refuse(env_files, problems);
    refuse(secrets, problems);
    refuse(secret_files, problems);
    refuse(working_dir, problems);
    refuse(user, problems);
    refuse(port, problems);
    refuse(volumes, problems);
    refuse(profile, problems);
    refuse(constraints, problems);
    refuse(placement, problems);
    refuse(update, problems);
    refuse(resources, problems);
    refuse(rollout, problems);
    refuse(sleep, problems);
    if let Some(scaling) = scaling {
        refuse_counts(&scaling.value, problems);
    }
    if let Some(probe) = health.as_ref().and_then(|health| health.value.probe.as_ref())
        && matches!(&probe.value, raw::Probe::Table(table) if table.exec.is_some())
    {
        let draft = probe.problem("a command has nowhere to run: nothing is started for upstreams");
        problems.push(draft.allowed("\"tcp\", \"http:/path\" or \"grpc\""));
    }
}

/// What says when a request is late is left: it is counted here, too.
fn refuse_counts(scaling: &raw::Scaling, problems: &mut Vec<Draft>) {
    let raw::Scaling {
        min,
        max,
        initial,
        keep_warm,
        target_rps,
        target_cpu,
        target_memory,
        policy,
        late_worth,
        calm,
        target,
        stable_window,
        surge_window,
        surge_threshold,
        max_up_rate,
        max_down_rate,
        scale_down_delay,
        idle,
        ..
    } = scaling;
    refuse(min, problems);
    refuse(max, problems);
    refuse(initial, problems);
    refuse(keep_warm, problems);
    refuse(target_rps, problems);
    refuse(target_cpu, problems);
    refuse(target_memory, problems);
    refuse(policy, problems);
    refuse(late_worth, problems);
    refuse(calm, problems);
    refuse(target, problems);
    refuse(stable_window, problems);
    refuse(surge_window, problems);
    refuse(surge_threshold, problems);
    refuse(max_up_rate, problems);
    refuse(max_down_rate, problems);
    refuse(scale_down_delay, problems);
    refuse(idle, problems);
}

fn refuse<T>(key: &Option<At<T>>, problems: &mut Vec<Draft>) {
    if let Some(key) = key {
        let draft = key.problem("makes no sense with upstreams: nothing is started for them");
        problems.push(draft.allowed("no such key beside upstreams; or image instead of upstreams"));
    }
}

/// Name servers that names in `upstreams` are resolved with: addresses, with or without a port.
pub(super) fn resolvers(raw: Option<At<Vec<At<Text>>>>, problems: &mut Vec<Draft>) -> Vec<SocketAddr> {
    const PORT: u16 = 53;
    let mut servers = Vec::new();
    for text in value::of(raw, Vec::new()) {
        let bare = || text.value.parse().map(|ip| SocketAddr::new(ip, PORT));
        match text.value.parse::<SocketAddr>().or_else(|_| bare()) {
            Ok(server) => servers.push(server),
            Err(_) => problems.push(
                text.problem("not a name server's address").allowed("IP or IP:PORT, as in \"10.0.0.53\""),
            ),
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn what_was_meant() {
        for (text, want) in [
            ("http://app.internal:3000/x", Some("app.internal:3000")),
            ("http://app.internal", Some("app.internal:80")),
            ("https://app.internal/", Some("app.internal:443")),
            ("10.0.0.5", Some("10.0.0.5:80")),
            ("fd00::5", Some("[fd00::5]:80")),
            ("a b", None),
        ] {
            assert_eq!(meant(text).as_deref(), want, "{text}");
        }
    }
}
