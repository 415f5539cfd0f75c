//! What a swarm's nodes may be asked for: what SwarmKit's own reading of constraints takes (its `constraint` package).

use crate::{advice, constraint::Constraint};

/// What nodes are known by, besides labels.
const KNOWN: [&str; 6] =
    ["node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch"];
/// Labels that are spelled whole.
const LABELS: [&str; 2] = ["node.labels.", "engine.labels."];

/// Why a swarm could not look for what a constraint asks for. Large letters and small ones are the same to it.
pub(super) fn misnamed(key: &str, wanted: &Constraint) -> Vec<String> {
    let bad = wanted.values().iter().filter(|value| !is_value(value));
    let values = bad.map(|value| {
        format!("no node is asked for {value:?}: values in a swarm are letters, digits, blanks and any of : - _ . * ( ) ? + [ ] \\ ^ $ | /")
    });
    misnamed_key(key).into_iter().chain(values).collect()
}

fn misnamed_key(key: &str) -> Option<String> {
    let key = &key.to_ascii_lowercase();
    let whole = key.starts_with("node.") || key.starts_with("engine.");
    let label =
        LABELS.iter().find_map(|prefix| key.strip_prefix(prefix)).or((!whole).then_some(key.as_str()));
    match label {
        Some(label) if is_key(label) => None,
        Some(label) => Some(format!(
            "no node is asked for a label {label:?}: labels in a swarm are letters, digits, '-', '_' and '.'"
        )),
        None if KNOWN.contains(&key.as_str()) => None,
        None => {
            let meant = advice::closest(key, &KNOWN).map(|known| format!(", did you mean {known:?}?"));
            let known = KNOWN.join(", ");
            let meant = meant.unwrap_or_default();
            Some(format!(
                "nodes are not known by {key:?}{meant} (there are {known}, node.labels.NAME, engine.labels.NAME)"
            ))
        }
    }
}

fn is_key(label: &str) -> bool {
    !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_value(value: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":-_.*()?+[]\\^$|/".contains(c);
    !value.is_empty() && value.chars().all(plain)
}
