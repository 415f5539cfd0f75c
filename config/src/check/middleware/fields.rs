//! Names and values of fields, and what may be done to them.

use std::collections::BTreeMap;

use crate::{
    decode::{At, Named, leaf::Text},
    model::Edits,
    problem::Draft,
    raw,
};

/// What tells where a message ends, who it is for and how it travels: HTTP's own, not to be edited.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const NAME: &str = "letters, digits and '-', as in \"X-Env\"";
const VALUE: &str = "printable ASCII characters, no space at either end";

pub(super) fn edits(raw: At<raw::Edits>, problems: &mut Vec<Draft>) -> Option<Edits> {
    if raw.value.set.is_none() && raw.value.add.is_none() && raw.value.remove.is_none() {
        problems.push(raw.problem("changes nothing").allowed("a table with `set`, `add` or `remove`"));
        return None;
    }
    let raw::Edits { set, add, remove, .. } = raw.value;
    let remove = remove.map_or(Vec::new(), |remove| remove.value);
    Some(Edits {
        set: pairs(set, problems),
        add: pairs(add, problems),
        remove: remove.iter().filter_map(|name| editable(name, problems)).collect(),
    })
}

fn pairs(raw: Option<At<Named<At<Text>>>>, problems: &mut Vec<Draft>) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for (name, value) in raw.map_or(Vec::new(), |raw| raw.value.0) {
        let name = editable(&name, problems);
        if !is_value(&value.value) {
            problems.push(value.problem("not a field's value").allowed(VALUE));
        }
        pairs.extend(name.map(|name| (name, value.value)));
    }
    pairs
}

/// A field's name, in lower case, that may be edited.
fn editable(text: &At<String>, problems: &mut Vec<Draft>) -> Option<String> {
    let name = name(text, problems)?;
    if FRAMING.contains(&&*name) {
        problems
            .push(text.problem("tells how a message travels and cannot be changed").allowed("other fields"));
        return None;
    }
    if name == "host" {
        let draft = text.problem("says whom a request is for and cannot be changed here");
        problems.push(draft.allowed("other fields").help("`rewrite.host` changes it".to_owned()));
        return None;
    }
    Some(name)
}

/// A field's name, in lower case.
pub(super) fn name(text: &At<String>, problems: &mut Vec<Draft>) -> Option<String> {
    let is_name = !text.value.is_empty() && text.value.len() <= 256 && text.value.bytes().all(is_token);
    if !is_name {
        problems.push(text.problem("not a field's name").allowed(NAME));
    }
    is_name.then(|| text.value.to_ascii_lowercase())
}

/// RFC 9110, 5.6.2.
pub(super) fn is_token(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
}

fn is_value(text: &str) -> bool {
    text.trim() == text && text.bytes().all(|c| c == b'\t' || (b' '..=b'~').contains(&c))
}

/// `TYPE/SUBTYPE` or `TYPE/*`, in lower case.
pub(super) fn media_type(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<String> {
    let halves = text.value.split_once('/');
    let is_half = |half: &str| !half.is_empty() && half.bytes().all(is_token);
    let good = halves
        .is_some_and(|(kind, rest)| is_half(kind) && !kind.contains('*') && (rest == "*" || is_half(rest)));
    if !good {
        problems.push(text.problem("not a media type").allowed("as in \"text/html\" or \"text/*\""));
    }
    good.then(|| text.value.to_ascii_lowercase())
}
