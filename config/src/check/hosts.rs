//! The machines that replicas may run on.

use super::{labels, value};
use crate::{
    decode::{At, leaf::Text},
    model::{Capacity, Engine, Host},
    problem::Draft,
    raw,
    units::Bytes,
};

pub(super) fn check(raw: Option<At<Vec<At<raw::Host>>>>, problems: &mut Vec<Draft>) -> Vec<Host> {
    let Some(raw) = raw else { return vec![Host::local()] };
    if raw.value.is_empty() {
        let draft = raw.problem("no host to run anything on").allowed("one host or more");
        problems.push(draft.help("leave `hosts` out for this machine".to_owned()));
    }
    let names: Vec<_> = raw.value.iter().map(|host| host.value.name.clone()).collect();
    twice(names.iter().flatten(), "another host has this name", problems);
    let endpoints: Vec<_> = raw.value.iter().map(|host| host.value.endpoint.clone()).collect();
    twice(endpoints.iter().flatten(), "another host is the same engine", problems);
    one_default(&raw.value, problems);
    raw.value.into_iter().filter_map(|entry| host(entry, problems)).collect()
}

fn host(entry: At<raw::Host>, problems: &mut Vec<Draft>) -> Option<Host> {
    let default = Host::local();
    let name = match &entry.value.name {
        Some(name) => value::parsed(name, problems),
        None => {
            if !entry.value.refused.contains(&"name") {
                let draft = Draft::new(&entry.key, &entry.at, "has no name");
                problems.push(draft.allowed("name = \"...\", one per host"));
            }
            None
        }
    };
    let raw = entry.value;
    if let Some(endpoint) = &raw.endpoint {
        check_endpoint(endpoint, problems);
    }
    let capacity = value::of(raw.capacity, raw::Capacity::default());
    let capacity = Capacity {
        cpu: value::cores(&capacity.cpu, 0.01, problems),
        memory: capacity.memory.map(|memory| value::size(Some(memory), Bytes::mib(6), Bytes(0), problems)),
        replicas: capacity.replicas.map(|replicas| value::positive(Some(replicas), 1, problems)),
    };
    Some(Host {
        name: name?,
        engine: value::of(raw.engine, Engine::Auto),
        endpoint: raw.endpoint.map(|endpoint| endpoint.value),
        labels: labels(raw.labels),
        capacity,
        parallel_starts: value::positive(raw.parallel_starts, default.parallel_starts, problems),
        ..default
    })
}

fn check_endpoint(endpoint: &At<Text>, problems: &mut Vec<Draft>) {
    let known = ["unix:///", "tcp://", "http://"];
    if !known.iter().any(|scheme| endpoint.value.len() > scheme.len() && endpoint.value.starts_with(scheme)) {
        let help =
            endpoint.value.starts_with('/').then(|| format!("did you mean \"unix://{}\"?", endpoint.value));
        let draft = endpoint.problem("not an engine's address");
        problems
            .push(draft.allowed("as in \"unix:///run/docker.sock\" or \"tcp://10.0.0.2:2375\"").help(help));
    }
}

/// Two hosts without an endpoint would both be this machine's engine.
fn one_default(hosts: &[At<raw::Host>], problems: &mut Vec<Draft>) {
    let mut unnamed = hosts.iter().filter(|host| host.value.endpoint.is_none());
    let Some(first) = unnamed.next() else { return };
    for host in unnamed {
        let draft = Draft::new(&host.key, &host.at, "another host is this machine's engine already");
        problems.push(draft.allowed("an endpoint for every host but one").also(&first.at, "the other host"));
    }
}

fn twice<'a>(texts: impl Iterator<Item = &'a At<Text>>, message: &str, problems: &mut Vec<Draft>) {
    let mut seen: Vec<&At<Text>> = Vec::new();
    for text in texts {
        match seen.iter().find(|other| other.value == text.value) {
            Some(first) => problems.push(text.problem(message).also(&first.at, "the other host")),
            None => seen.push(text),
        }
    }
}
