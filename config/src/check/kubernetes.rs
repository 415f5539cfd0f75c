//! What the file says of a Kubernetes: which one, and what its pods are given. Names are checked as far as spelling goes;
//! what there is only the cluster knows.

use super::{At, World, value};
use crate::{
    constraint::Constraint,
    decode::leaf::Text,
    model::{self, Engine},
    problem::Draft,
    raw,
};

/// The longest name of a namespace.
const LABEL: usize = 63;
/// The longest name of other objects.
pub(super) const SUBDOMAIN: usize = 253;

/// A Kubernetes is named by its own table; what other hosts are told has no meaning here.
pub(super) fn alone(raw: raw::Host, problems: &mut Vec<Draft>) -> raw::Host {
    const ALLOWED: &str = "no endpoint, tls, address, allow_plaintext, reach or memory_budget with engine = \"kubernetes\": \
        kubernetes = { kubeconfig = \"...\" }";
    let drafts = [
        raw.endpoint.as_ref().map(|given| given.problem("a Kubernetes is named by its kubeconfig")),
        raw.tls.as_ref().map(|given| given.problem("the kubeconfig says how a Kubernetes is spoken to")),
        raw.address.as_ref().map(|given| given.problem("pods are reached at their own addresses")),
        raw.allow_plaintext.as_ref().map(|given| given.problem("pods are reached at their own addresses")),
        raw.reach.as_ref().map(|given| given.problem("pods are reached at their own addresses")),
        raw.memory_budget.as_ref().map(|given| given.problem("a Kubernetes counts its memory itself")),
    ];
    problems.extend(drafts.into_iter().flatten().map(|draft| draft.allowed(ALLOWED)));
    raw::Host {
        endpoint: None,
        tls: None,
        address: None,
        allow_plaintext: None,
        reach: None,
        memory_budget: None,
        ..raw
    }
}

/// The table itself, which only a Kubernetes has.
pub(super) fn check(
    raw: Option<&At<raw::Kubernetes>>,
    engine: Engine,
    world: &World<'_>,
    problems: &mut Vec<Draft>,
) -> model::Kubernetes {
    let Some(raw) = raw else { return model::Kubernetes::default() };
    if engine != Engine::Kubernetes {
        let draft = raw.problem("this host is no Kubernetes");
        problems.push(draft.allowed("kubernetes = { ... } only with engine = \"kubernetes\""));
    }
    let raw = &raw.value;
    let named = |text: &Option<At<Text>>, longest, problems: &mut Vec<Draft>| {
        text.as_ref().map(|text| name(text, longest, problems))
    };
    let secrets = raw.pull_secrets.iter().flat_map(|secrets| &secrets.value);
    model::Kubernetes {
        kubeconfig: raw.kubeconfig.as_ref().map(|file| world.path(&file.value)),
        context: raw.context.as_ref().map(|context| context.value.clone()),
        namespace: named(&raw.namespace, LABEL, problems),
        priority_class: named(&raw.priority_class, SUBDOMAIN, problems),
        pull_secrets: secrets.map(|secret| name(secret, SUBDOMAIN, problems)).collect(),
    }
}

/// Two hosts that are one Kubernetes would each take the other's pods for their own.
pub(super) fn twice(hosts: &[At<raw::Host>], problems: &mut Vec<Draft>) {
    let kubernetes =
        hosts.iter().filter(|host| value::of(host.value.engine.clone(), Engine::Auto) == Engine::Kubernetes);
    let place = |host: &At<raw::Host>| {
        let table = host.value.kubernetes.as_ref().map(|table| &table.value);
        let text = |of: fn(&raw::Kubernetes) -> &Option<At<Text>>| {
            table.and_then(|table| of(table).as_ref()).map(|text| text.value.clone())
        };
        [text(|t| &t.kubeconfig), text(|t| &t.context), text(|t| &t.namespace)]
    };
    let mut seen: Vec<&At<raw::Host>> = Vec::new();
    for host in kubernetes {
        if let Some(first) = seen.iter().find(|other| place(other) == place(host)) {
            let draft = Draft::new(&host.key, &host.at, "another host is the same Kubernetes and namespace");
            let allowed = "another kubeconfig, context or namespace for each";
            problems.push(draft.allowed(allowed).also(&first.at, "the other host"));
        }
        seen.push(host);
    }
}

fn name(text: &At<Text>, longest: usize, problems: &mut Vec<Draft>) -> String {
    if !is_name(&text.value, longest) {
        problems.push(text.problem("not a name in Kubernetes").allowed(names(longest)));
    }
    text.value.clone()
}

/// Whether an object could be called this.
pub(super) fn is_name(name: &str, longest: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
        ends && bytes.iter().all(|b| plain(*b) || *b == b'-')
    };
    let whole = if longest == LABEL { part(name) } else { name.split('.').all(part) };
    whole && name.len() <= longest
}

/// What labels are, in words.
const LABELS: &str = "labels in Kubernetes have up to 63 of a-z, A-Z, 0-9, '-', '_' and '.', letters or digits at both ends; a \
     key may begin with a domain and '/'";

/// Why nodes could not have what a constraint asks for.
pub(super) fn misnamed(key: &str, wanted: &Constraint) -> Vec<String> {
    let key = (!is_label_key(key)).then(|| format!("no node has a label {key:?}: {LABELS}"));
    let bad = wanted.values().iter().filter(|value| !is_label_value(value));
    key.into_iter().chain(bad.map(|value| format!("no label of a node is {value:?}: {LABELS}"))).collect()
}

/// Whether something could have a label with this key: a name, with a domain before it or without.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_name(domain, SUBDOMAIN) && !name.is_empty() && is_label_value(name),
        None => !key.is_empty() && is_label_value(key),
    }
}

/// Whether a label could be this.
fn is_label_value(value: &str) -> bool {
    let plain = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= LABEL && plain(bytes.first()) && plain(bytes.last()) && bytes.iter().all(inner)
}

/// What objects may be called, in words.
pub(super) fn names(longest: usize) -> String {
    let dots = if longest == LABEL { "" } else { " and '.'" };
    format!("1 to {longest} of a-z, 0-9, '-'{dots}, as names in Kubernetes are")
}
