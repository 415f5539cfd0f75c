//! Who may come, and how often.

use super::{fields, required, value};
use crate::{
    decode::{At, leaf::Counted},
    model::{Ip, RateKey, RateLimit},
    problem::Draft,
    raw,
    units::Rate,
};

pub(super) fn ip(raw: At<raw::Ip>, problems: &mut Vec<Draft>) -> Option<Ip> {
    if raw.value.allow.is_none() && raw.value.deny.is_none() {
        problems.push(
            raw.problem("neither allows nor denies anybody").allowed("a table with `allow`, `deny` or both"),
        );
        return None;
    }
    if let Some(nobody) = raw.value.allow.as_ref().filter(|allow| allow.value.is_empty()) {
        let draft = nobody.problem("allows nobody").allowed("one address or network or more");
        problems.push(draft.help("leave `allow` out to allow all".to_owned()));
    }
    let raw = raw.value;
    Some(Ip { allow: value::networks(raw.allow, problems), deny: value::networks(raw.deny, problems) })
}

pub(super) fn rate_limit(raw: At<raw::RateLimit>, problems: &mut Vec<Draft>) -> Option<RateLimit> {
    let by = key(&raw, problems);
    let Some(text) = &raw.value.rate else {
        required(&raw, "rate", &raw.value.refused, problems);
        return None;
    };
    let Ok(rate) = text.value.0.parse::<Rate>() else {
        let draft = text.problem("not valid").allowed("a rate such as \"10/s\", \"60/m\" or \"100/h\"");
        problems.push(draft.help(value::per_second(text)));
        return None;
    };
    let default = RateLimit::to(rate);
    let raw = raw.value;
    Some(RateLimit {
        rate,
        burst: value::positive(raw.burst, default.burst, problems),
        by: by?,
        keys: value::at_least(raw.keys, 16, default.keys, problems),
    })
}

fn key(raw: &At<raw::RateLimit>, problems: &mut Vec<Draft>) -> Option<RateKey> {
    let by = raw.value.by.as_ref().map_or(Counted::Address, |by| by.value);
    match (by, &raw.value.header) {
        (Counted::Header, Some(header)) => fields::name(header, problems).map(RateKey::Header),
        (Counted::Header, None) => {
            required(raw, "header", &raw.value.refused, problems);
            None
        }
        (Counted::Address | Counted::Route, Some(header)) => {
            let draft = header.problem("requests are not counted by a header");
            problems.push(draft.allowed("`header` only with by = \"header\""));
            None
        }
        (Counted::Address, None) => Some(RateKey::Address),
        (Counted::Route, None) => Some(RateKey::Route),
    }
}
