//! When a replica is ready and when it has failed, and how requests are sent to it.

use std::time::Duration;

use super::value;
use crate::{
    decode::{
        At,
        leaf::{Port, Text},
    },
    model::{Health, Probe, Upstream},
    problem::Draft,
    raw::{self, ProbeTable},
};

const PROBES: &str = "\"tcp\", \"http:/path\", \"grpc\", { http = \"/path\", port = 8081 }, { grpc = \"pkg.Service\" } or \
                      { exec = [\"cmd\", \"arg\"] }";

pub(super) fn check(raw: Option<At<raw::Health>>, problems: &mut Vec<Draft>) -> Health {
    let default = Health::default();
    let raw = value::of(raw, raw::Health::default());
    Health {
        probe: raw.probe.as_ref().and_then(|raw| probe(raw, problems)),
        interval: value::lasting(raw.interval, default.interval, problems),
        timeout: value::lasting(raw.timeout, default.timeout, problems),
        failures: value::positive(raw.failures, default.failures, problems),
        successes: value::positive(raw.successes, default.successes, problems),
        start_deadline: value::lasting(raw.start_deadline, default.start_deadline, problems),
    }
}

pub(super) fn upstream(raw: Option<At<raw::Upstream>>, problems: &mut Vec<Draft>) -> Upstream {
    let default = Upstream::default();
    let raw = value::of(raw, raw::Upstream::default());
    Upstream {
        connect_timeout: value::lasting(raw.connect_timeout, default.connect_timeout, problems),
        first_byte_timeout: value::lasting(raw.first_byte_timeout, default.first_byte_timeout, problems),
        idle_connection: value::span(raw.idle_connection, default.idle_connection),
        idle_timeout: raw.idle_timeout.map(|limit| value::lasting(Some(limit), Duration::ZERO, problems)),
        proxy_protocol: value::of(raw.proxy_protocol, default.proxy_protocol),
        allow_encoded_slashes: value::of(raw.allow_encoded_slashes, default.allow_encoded_slashes),
    }
}

fn probe(raw: &At<raw::Probe>, problems: &mut Vec<Draft>) -> Option<Probe> {
    let text = match &raw.value {
        raw::Probe::Table(table) => return from_table(table, raw, problems),
        raw::Probe::Text(text) => text,
    };
    match (&**text, text.strip_prefix("http:")) {
        ("tcp", _) => Some(Probe::Tcp),
        ("grpc", _) => Some(Probe::Grpc { service: String::new(), port: None }),
        (_, Some(path)) if !path.starts_with("//") => http(&raw.with(path.to_owned()), None, problems),
        _ => {
            let help = text.starts_with('/').then(|| format!("did you mean \"http:{text}\"?"));
            problems.push(raw.problem("not a probe").allowed(PROBES).help(help));
            None
        }
    }
}

fn from_table(table: &ProbeTable, raw: &At<raw::Probe>, problems: &mut Vec<Draft>) -> Option<Probe> {
    let port = table.port.as_ref();
    match (&table.http, &table.grpc, &table.exec) {
        (Some(path), None, None) => http(path, port, problems),
        (None, Some(service), None) => grpc(service, port, problems),
        (None, None, Some(command)) => {
            if command.value.is_empty() {
                problems.push(command.problem("no command").allowed("[\"cmd\", \"arg\"]"));
            }
            if let Some(port) = port {
                problems.push(port.problem("a command has no port").allowed("port only with http or grpc"));
            }
            Some(Probe::Exec { command: command.value.iter().map(|word| word.value.clone()).collect() })
        }
        (_, _, _) => {
            problems.push(raw.problem("needs one of http, grpc and exec").allowed(PROBES));
            None
        }
    }
}

fn grpc(service: &At<Text>, port: Option<&At<Port>>, problems: &mut Vec<Draft>) -> Option<Probe> {
    let odd = |c: char| !c.is_ascii_graphic() || c == '/';
    if service.value.contains(odd) || service.value.len() > 255 {
        let draft = service.problem("not the name of a gRPC service");
        problems.push(draft.allowed("a name as in \"helloworld.Greeter\", or \"\" for the whole server"));
        return None;
    }
    Some(Probe::Grpc { service: service.value.clone(), port: port.map(|port| port.value.0) })
}

fn http(path: &At<Text>, port: Option<&At<Port>>, problems: &mut Vec<Draft>) -> Option<Probe> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || c == '#';
    if !path.value.starts_with('/') || path.value.contains(odd) {
        problems.push(
            path.problem("not a path to ask for").allowed("a path that starts with '/', as in \"/healthz\""),
        );
        return None;
    }
    Some(Probe::Http { path: path.value.clone(), port: port.map(|port| port.value.0) })
}
