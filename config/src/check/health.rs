//! When a replica is ready and when it has failed, and how requests are sent to it.

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

const PROBES: &str =
    "\"tcp\", \"http:/path\", { http = \"/path\", port = 8081 } or { exec = [\"cmd\", \"arg\"] }";

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
        (_, Some(path)) if !path.starts_with("//") => http(&raw.with(path.to_owned()), None, problems),
        _ => {
            let help = text.starts_with('/').then(|| format!("did you mean \"http:{text}\"?"));
            problems.push(raw.problem("not a probe").allowed(PROBES).help(help));
            None
        }
    }
}

fn from_table(table: &ProbeTable, raw: &At<raw::Probe>, problems: &mut Vec<Draft>) -> Option<Probe> {
    match (&table.http, &table.exec) {
        (Some(path), None) => http(path, table.port.as_ref(), problems),
        (None, Some(command)) => {
            if command.value.is_empty() {
                problems.push(command.problem("no command").allowed("[\"cmd\", \"arg\"]"));
            }
            if let Some(port) = &table.port {
                problems.push(port.problem("a command has no port").allowed("port only with http"));
            }
            Some(Probe::Exec { command: command.value.iter().map(|word| word.value.clone()).collect() })
        }
        (Some(_), Some(_)) | (None, None) => {
            problems.push(raw.problem("needs one of http and exec").allowed(PROBES));
            None
        }
    }
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
