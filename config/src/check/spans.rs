//! Where spans go.

use std::{collections::BTreeMap, path::PathBuf};

use super::{World, edge, environment, value};
use crate::{
    decode::{At, Named, leaf::Text},
    model::Tracing,
    problem::Draft,
    raw,
};

pub(super) fn check(raw: raw::Tracing, world: &World<'_>, problems: &mut Vec<Draft>) -> Tracing {
    let default = Tracing::default();
    let mut headers = BTreeMap::new();
    for (name, file) in value::of(raw.headers, Named::default()).0 {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.value.is_empty() || !name.value.chars().all(plain) {
            problems.push(name.problem("not the name of a field").allowed("letters, digits and `-`"));
        }
        headers.extend(environment::source(&file, world, problems).map(|secret| (name.value, secret.file)));
    }
    let endpoint = raw.endpoint.map_or(default.endpoint, |endpoint| address(&endpoint, problems));
    Tracing {
        ca: raw.ca.and_then(|ca| authorities(&ca, &endpoint, world, problems)),
        endpoint,
        sample: value::share(raw.sample, default.sample, problems),
        headers,
    }
}

/// Where there is no TLS, nothing would be held against the authorities.
fn authorities(
    ca: &At<Text>,
    endpoint: &str,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> Option<PathBuf> {
    if endpoint.starts_with("http://") {
        let draft = ca.problem("nobody's certificate is looked at over plain HTTP");
        problems.push(draft.allowed("an endpoint with https://, or no `ca`"));
    }
    edge::file_of(ca, world, problems)
}

fn address(endpoint: &At<Text>, problems: &mut Vec<Draft>) -> String {
    const ALLOWED: &str =
        "as in \"http://127.0.0.1:4318/v1/traces\" or \"https://collector.example.org/v1/traces\"";
    let text = &endpoint.value;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest.map(|rest| rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)))) {
        None => problems.push(endpoint.problem("not an address of a collector").allowed(ALLOWED)),
        Some((host, _)) if host.is_empty() || host.contains(['@', ' ']) => {
            problems.push(endpoint.problem("no host").allowed(ALLOWED));
        }
        Some((_, None)) => {
            let draft = endpoint.problem("no path").allowed(ALLOWED);
            problems.push(draft.help(format!("did you mean \"{text}/v1/traces\"?")));
        }
        Some((_, Some(_))) => {}
    }
    text.clone()
}
