//! Where spans go.

use std::collections::BTreeMap;

use super::{World, environment, value};
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
    Tracing {
        endpoint: raw.endpoint.map_or(default.endpoint, |endpoint| address(&endpoint, problems)),
        sample: value::share(raw.sample, default.sample, problems),
        headers,
    }
}

fn address(endpoint: &At<Text>, problems: &mut Vec<Draft>) -> String {
    const ALLOWED: &str = "as in \"http://127.0.0.1:4318/v1/traces\"";
    let text = &endpoint.value;
    match text.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default()) {
        None if text.starts_with("https://") => {
            let draft = endpoint.problem("spans are sent over plain HTTP").allowed(ALLOWED);
            problems.push(draft.help("run a collector on this machine and let it speak TLS".to_owned()));
        }
        None => problems.push(endpoint.problem("not an address of a collector").allowed(ALLOWED)),
        Some(host) if host.is_empty() || host.contains(['@', ' ']) => {
            problems.push(endpoint.problem("no host").allowed(ALLOWED));
        }
        Some(host) if !text[7 + host.len()..].starts_with('/') => {
            let draft = endpoint.problem("no path").allowed(ALLOWED);
            problems.push(draft.help(format!("did you mean \"{text}/v1/traces\"?")));
        }
        Some(_) => {}
    }
    text.clone()
}
