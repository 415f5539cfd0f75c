//! The machines that replicas may run on.

use std::{net::IpAddr, time::Duration};

use super::{World, address, kubernetes, labels, value};
use crate::{
    advice,
    decode::{
        At,
        leaf::{Span, Text},
    },
    endpoint::Endpoint,
    model::{Capacity, Engine, Host, Reach, Tls},
    name::HostName,
    problem::Draft,
    raw,
    units::Bytes,
};

pub(super) fn check(
    raw: Option<At<Vec<At<raw::Host>>>>,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Vec<Host> {
    let Some(raw) = raw else { return vec![Host::local()] };
    if raw.value.is_empty() {
        let draft = raw.problem("no host to run anything on").allowed("one host or more");
        problems.push(draft.help("leave `hosts` out for this machine".to_owned()));
    }
    let names: Vec<_> = raw.value.iter().map(|host| host.value.name.clone()).collect();
    twice(names.iter().flatten(), "another host has this name", problems);
    let endpoints: Vec<_> = raw.value.iter().map(|host| host.value.endpoint.clone()).collect();
    twice(endpoints.iter().flatten(), "another host is the same engine", problems);
    kubernetes::twice(&raw.value, problems);
    one_default(&raw.value, problems);
    one_embedded(&raw.value, problems);
    raw.value.into_iter().filter_map(|entry| host(entry, world, problems)).collect()
}

fn host(entry: At<raw::Host>, world: &World<'_>, problems: &mut Vec<Draft>) -> Option<Host> {
    let default = Host::local();
    let name = name(&entry, problems);
    let engine = value::of(entry.value.engine.clone(), Engine::Auto);
    let raw = match engine {
        Engine::Embedded => alone(entry.value, problems),
        Engine::Swarm => cluster(entry.value, problems),
        Engine::Kubernetes => kubernetes::alone(entry.value, problems),
        Engine::Auto | Engine::Docker => entry.value,
    };
    let endpoint = raw.endpoint.as_ref().and_then(|endpoint| check_endpoint(endpoint, problems));
    let tls = tls(&raw, endpoint, world, problems);
    let address = own_address(&raw, endpoint.filter(|_| !engine.places()), problems);
    let smallest = |size| value::size(Some(size), Bytes::mib(6), Bytes(0), problems);
    let memory_budget = raw.memory_budget.map(smallest);
    let capacity = capacity(value::of(raw.capacity, raw::Capacity::default()), problems);
    Some(Host {
        name: name?,
        engine,
        endpoint: raw.endpoint.map(|endpoint| endpoint.value),
        tls,
        address,
        reach: value::of(raw.reach, Reach::Auto),
        labels: labels(raw.labels),
        capacity,
        parallel_starts: value::positive(raw.parallel_starts, default.parallel_starts, problems),
        memory_budget,
        kubernetes: kubernetes::check(raw.kubernetes.as_ref(), engine, world, problems),
        lost_after: lost_after(raw.lost_after, default.lost_after, problems),
    })
}

fn name(entry: &At<raw::Host>, problems: &mut Vec<Draft>) -> Option<HostName> {
    if let Some(name) = &entry.value.name {
        return value::parsed(name, problems);
    }
    if !entry.value.refused.contains(&"name") {
        let draft = Draft::new(&entry.key, &entry.at, "has no name");
        problems.push(draft.allowed("name = \"...\", one per host"));
    }
    None
}

fn capacity(raw: raw::Capacity, problems: &mut Vec<Draft>) -> Capacity {
    Capacity {
        cpu: value::cores(&raw.cpu, 0.01, problems),
        memory: raw.memory.map(|memory| value::size(Some(memory), Bytes::mib(6), Bytes(0), problems)),
        replicas: raw.replicas.map(|replicas| value::positive(Some(replicas), 1, problems)),
    }
}

fn check_endpoint<'e>(endpoint: &'e At<Text>, problems: &mut Vec<Draft>) -> Option<Endpoint<'e>> {
    const ALLOWED: &str =
        "as in \"unix:///run/docker.sock\", \"tcp://10.0.0.2:2376\" or \"ssh://root@10.0.0.2\"";
    let read = Endpoint::read(&endpoint.value);
    if read.is_none() {
        let text = &endpoint.value;
        let meant = [
            text.starts_with('/').then(|| format!("unix://{text}")),
            Some(format!("{text}:2376")).filter(|text| Endpoint::read(text).is_some()),
        ];
        let help = meant.into_iter().flatten().next().map(|meant| format!("did you mean {meant:?}?"));
        problems.push(endpoint.problem("not an engine's address").allowed(ALLOWED).help(help));
    }
    read
}

/// Whoever speaks to an engine is root on its machine: elsewhere only with certificates.
fn tls(
    raw: &raw::Host,
    endpoint: Option<Endpoint<'_>>,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<Tls> {
    const ALLOWED: &str = "tls = { ca = \"ca.pem\", cert = \"cert.pem\", key = \"key.pem\" }";
    let Some(given) = &raw.tls else {
        let exposed = endpoint.filter(|endpoint| endpoint.is_remote() && *endpoint != Endpoint::Ssh);
        if let Some(at) = raw.endpoint.as_ref().filter(|_| exposed.is_some() && !raw.refused.contains(&"tls"))
        {
            let draft = at.problem("without TLS, whoever reaches this port is root there");
            let help = "or \"ssh://USER@HOST\", which needs no certificates".to_owned();
            problems.push(draft.allowed(ALLOWED).help(help));
        }
        return None;
    };
    if raw.endpoint.is_none() || matches!(endpoint, Some(Endpoint::Unix | Endpoint::Ssh)) {
        let draft = given.problem("nothing is spoken to over TLS here");
        problems.push(draft.allowed("tls only with an endpoint as in \"tcp://10.0.0.2:2376\""));
    }
    let file = |file: &Option<At<Text>>| {
        file.as_ref().filter(|file| !file.value.is_empty()).map(|file| world.path(&file.value))
    };
    let [ca, cert, key] = [&given.value.ca, &given.value.cert, &given.value.key].map(file);
    let whole = ca.zip(cert).zip(key).map(|((ca, cert), key)| Tls { ca, cert, key });
    if whole.is_none() && given.value.refused.is_empty() {
        problems.push(given.problem("needs all of ca, cert and key").allowed(ALLOWED));
    }
    whole
}

/// Where replicas are reached. On this machine, loopback will do.
fn own_address(raw: &raw::Host, endpoint: Option<Endpoint<'_>>, problems: &mut Vec<Draft>) -> Option<IpAddr> {
    let plaintext = value::of(raw.allow_plaintext.clone(), false);
    if let Some(text) = &raw.address {
        return address::host(text, plaintext, problems);
    }
    let remote = endpoint.is_some_and(Endpoint::is_remote) && !raw.refused.contains(&"address");
    if let Some(at) = raw.endpoint.as_ref().filter(|_| remote) {
        let draft = at.problem("nothing says where replicas of this host are reached");
        problems.push(draft.allowed("address = \"...\": the host's own, as in \"10.0.0.2\""));
    }
    None
}

/// Shorter, and one slow answer would move every replica; longer, and nobody would call it noticing.
fn lost_after(raw: Option<At<Span>>, default: Duration, problems: &mut Vec<Draft>) -> Duration {
    let fits = Duration::from_secs(1)..=Duration::from_secs(300);
    if let Some(raw) = raw.as_ref().filter(|raw| !fits.contains(&raw.value.0)) {
        problems.push(raw.problem("out of range").allowed("1s to 5m"));
    }
    value::span(raw, default)
}

/// The embedded engine is in the gateway: there is nothing to reach, and no other way to its replicas.
fn alone(raw: raw::Host, problems: &mut Vec<Draft>) -> raw::Host {
    const ALLOWED: &str = "no endpoint, tls, address, allow_plaintext or reach with engine = \"embedded\", which is this machine's";
    let drafts = [
        raw.endpoint.as_ref().map(|given| given.problem("the embedded engine has no endpoint")),
        raw.tls.as_ref().map(|given| given.problem("the embedded engine is not spoken to")),
        raw.address.as_ref().map(|given| given.problem("the embedded engine's host is this machine")),
        raw.allow_plaintext.as_ref().map(|given| given.problem("nothing crosses a network here")),
        raw.reach.as_ref().map(|given| given.problem("replicas are reached at their own addresses here")),
    ];
    problems.extend(drafts.into_iter().flatten().map(|draft| draft.allowed(ALLOWED)));
    raw::Host { endpoint: None, tls: None, address: None, allow_plaintext: None, reach: None, ..raw }
}

/// Replicas of a swarm are reached in one way only, and it counts by itself what fits.
fn cluster(raw: raw::Host, problems: &mut Vec<Draft>) -> raw::Host {
    let reach =
        raw.reach.as_ref().map(|given| given.problem("replicas of a swarm are reached in one way only"));
    problems.extend(
        reach.map(|draft| draft.allowed("no reach with engine = \"swarm\": ports that their nodes publish")),
    );
    let squeezed =
        raw.memory_budget.as_ref().map(|given| given.problem("a swarm's memory is counted by the swarm"));
    problems.extend(squeezed.map(|draft| draft.allowed("no memory_budget with engine = \"swarm\"")));
    raw::Host { reach: None, memory_budget: None, ..raw }
}

/// The hosts that a service may run on, by their names.
pub(super) fn run_on(
    raw: Option<At<Vec<At<Text>>>>,
    hosts: &[Host],
    problems: &mut Vec<Draft>,
) -> Vec<HostName> {
    let Some(raw) = raw else { return Vec::new() };
    if raw.value.is_empty() {
        let help = "leave `run_on` out for all hosts".to_owned();
        problems.push(raw.problem("no host to run on").allowed("one host or more").help(help));
    }
    let known: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    let mut named: Vec<HostName> = Vec::new();
    for text in &raw.value {
        let found = hosts.iter().find(|host| host.name.as_str() == &*text.value).map(|host| &host.name);
        match found {
            Some(host) if named.contains(host) => {
                problems.push(text.problem("named twice").allowed("each host once"));
            }
            Some(host) => named.push(host.clone()),
            None => {
                let meant =
                    advice::closest(&text.value, &known).map(|word| format!("did you mean {word:?}?"));
                problems.push(text.problem("no host has this name").allowed(known.join(", ")).help(meant));
            }
        }
    }
    named
}

/// What may be the embedded engine, of which a machine has one.
fn one_embedded(hosts: &[At<raw::Host>], problems: &mut Vec<Draft>) {
    let engine = |host: &At<raw::Host>| value::of(host.value.engine.clone(), Engine::Auto);
    let Some(first) = hosts.iter().find(|host| engine(host) == Engine::Embedded) else { return };
    for host in hosts.iter().filter(|host| host.at != first.at) {
        let (message, allowed) = match engine(host) {
            Engine::Embedded => ("another host is this machine's embedded engine already", "one such host"),
            Engine::Auto if host.value.endpoint.is_none() => (
                "this could become the embedded engine, which another host is",
                "engine = \"docker\" here, or one of the two hosts",
            ),
            Engine::Auto | Engine::Docker | Engine::Swarm | Engine::Kubernetes => continue,
        };
        let draft = Draft::new(&host.key, &host.at, message);
        problems.push(draft.allowed(allowed).also(&first.at, "the other host"));
    }
}

/// Two hosts without an endpoint would both be this machine's engine.
fn one_default(hosts: &[At<raw::Host>], problems: &mut Vec<Draft>) {
    let docker = |host: &&At<raw::Host>| match value::of(host.value.engine.clone(), Engine::Auto) {
        Engine::Auto | Engine::Docker | Engine::Swarm => true,
        Engine::Embedded | Engine::Kubernetes => false,
    };
    let mut unnamed = hosts.iter().filter(|host| host.value.endpoint.is_none()).filter(docker);
    let Some(first) = unnamed.next() else { return };
    const USUAL: [&str; 2] = ["unix:///var/run/docker.sock", "unix:///run/docker.sock"];
    let named = |host: &&At<raw::Host>| {
        host.value.endpoint.as_ref().is_some_and(|endpoint| USUAL.contains(&&*endpoint.value))
    };
    for host in unnamed.chain(hosts.iter().filter(named)) {
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
