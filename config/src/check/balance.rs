//! Which replica gets a request, and which gets none for a while.

use std::{num::NonZeroU32, time::Duration};

use super::value;
use crate::{
    decode::{
        At,
        leaf::{Span, Text},
    },
    model::{Adaptive, Affinity, After, Balance, Circuit, Common, Ejection, Hedge},
    problem::Draft,
    raw,
    units::Percent,
};

/// `limited`: how many requests a replica gets at once, where the file says so.
pub(super) fn check(
    raw: Option<At<raw::Balance>>,
    limited: Option<&At<u32>>,
    problems: &mut Vec<Draft>,
) -> Balance {
    let default = Balance::default();
    let raw = value::of(raw, raw::Balance::default());
    Balance {
        slow_start: value::span(raw.slow_start, default.slow_start),
        ejection: ejection(raw.ejection, problems),
        affinity: raw.affinity.and_then(|raw| affinity(&raw, problems)),
        adaptive: raw.adaptive.and_then(|raw| adaptive(&raw, limited, problems)),
        circuit: raw.circuit.map(|raw| circuit(raw.value, problems)),
        hedge: raw.hedge.map(|raw| hedge(raw.value, problems)),
    }
}

fn ejection(raw: Option<At<raw::Ejection>>, problems: &mut Vec<Draft>) -> Option<Ejection> {
    let default = Ejection::default();
    let raw = value::of(raw, raw::Ejection::default());
    let (base, longest) = pauses(raw.base, raw.longest, (default.base, default.longest), problems);
    let rules = Ejection {
        failures: NonZeroU32::new(value::of(raw.failures, default.failures.get()))?,
        statuses: raw.statuses.map_or(default.statuses, |list| statuses(&list.value, problems)),
        base,
        longest,
        max_ejected: value::of(raw.max_ejected, default.max_ejected),
    };
    Some(rules)
}

/// The first pause and the longest one.
fn pauses(
    base: Option<At<Span>>,
    longest: Option<At<Span>>,
    default: (Duration, Duration),
    problems: &mut Vec<Draft>,
) -> (Duration, Duration) {
    let first = value::lasting(base.clone(), default.0, problems);
    let most = value::lasting(longest.clone(), default.1.max(first), problems);
    if let Some(longest) = longest.filter(|_| most < first) {
        let draft = longest.problem("shorter than the first time").allowed("`base` or more");
        problems.push(match &base {
            Some(base) => draft.also(&base.at, "base"),
            None => draft,
        });
    }
    (first, most)
}

fn circuit(raw: raw::Circuit, problems: &mut Vec<Draft>) -> Circuit {
    let default = Circuit::default();
    let (base, longest) = pauses(raw.base, raw.longest, (default.base, default.longest), problems);
    Circuit {
        failures: value::of(raw.failures, default.failures),
        least: value::positive(raw.least, default.least, problems),
        window: value::lasting(raw.window, default.window, problems),
        base,
        longest,
    }
}

/// min <= initial <= max; where only one of them is said the others follow.
fn adaptive(
    raw: &At<raw::Adaptive>,
    limited: Option<&At<u32>>,
    problems: &mut Vec<Draft>,
) -> Option<Adaptive> {
    if let Some(limit) = limited {
        let draft = raw.problem("the limit is said already").also(&limit.at, "scaling.concurrency");
        problems.push(draft.allowed("one of `scaling.concurrency` and `balance.adaptive`"));
        return None;
    }
    let (default, raw) = (Adaptive::default(), raw.value.clone());
    let (min_at, max_at, initial_at) = (raw.min.clone(), raw.max.clone(), raw.initial.clone());
    let min = value::positive(raw.min, default.min.get(), problems);
    let max = value::of(raw.max, default.max.get().max(min));
    if let Some(at) = max_at.or(min_at).filter(|_| max < min) {
        problems.push(at.problem("max is less than min").allowed(format!("max of {min} or more")));
        return None;
    }
    let initial = value::of(raw.initial, default.initial.get().clamp(min, max));
    if let Some(at) = initial_at.filter(|_| !(min..=max).contains(&initial)) {
        problems.push(at.problem("out of range").allowed(format!("{min} to {max}")));
    }
    Some(Adaptive {
        initial: NonZeroU32::new(initial)?,
        min: NonZeroU32::new(min)?,
        max: NonZeroU32::new(max)?,
    })
}

fn hedge(raw: raw::Hedge, problems: &mut Vec<Draft>) -> Hedge {
    let default = Hedge::default();
    let after = raw.after.as_ref().and_then(|text| {
        let after = after(&text.value);
        if after.is_none() {
            problems.push(
                text.problem("not a time").allowed("a duration, as in \"50ms\", or \"p50\" to \"p99\""),
            );
        }
        after
    });
    Hedge { after: after.unwrap_or(default.after), max: value::of(raw.max, default.max) }
}

fn after(text: &str) -> Option<After> {
    if let Some(percent) = text.strip_prefix('p') {
        let percent = percent.parse().ok().filter(|percent| (50..=99).contains(percent));
        return percent.and_then(Percent::new).map(After::Share);
    }
    humantime::parse_duration(text).ok().filter(|delay| !delay.is_zero()).map(After::Fixed)
}

fn statuses(list: &[At<u32>], problems: &mut Vec<Draft>) -> Vec<u16> {
    let status = |item: &At<u32>| {
        let status = u16::try_from(item.value).ok().filter(|status| (500..=599).contains(status));
        if status.is_none() {
            problems.push(item.problem("not a status of a failure").allowed("500 to 599"));
        }
        status
    };
    list.iter().filter_map(status).collect()
}

fn affinity(raw: &At<raw::Affinity>, problems: &mut Vec<Draft>) -> Option<Affinity> {
    const ALLOWED: &str = "{ cookie = \"tg_session\" } or { header = \"x-user\" }";
    let raw::Affinity { cookie, header, bound, refused } = &raw.value;
    if let Some(bound) = bound.as_ref().filter(|bound| !(1.05..=10.0).contains(&bound.value)) {
        problems.push(bound.problem("out of range").allowed("1.05 to 10"));
    }
    let by = match (cookie, header) {
        (Some(name), None) => token(name, problems).then(|| Common::Cookie(name.value.clone())),
        (None, Some(name)) => token(name, problems).then(|| Common::Header(name.value.to_ascii_lowercase())),
        (None, None) if refused.contains(&"cookie") || refused.contains(&"header") => None,
        (Some(_), Some(_)) | (None, None) => {
            problems.push(raw.problem("needs one of cookie and header").allowed(ALLOWED));
            None
        }
    };
    Some(Affinity { by: by?, bound: bound.as_ref().map_or(Affinity::BOUND, |bound| bound.value) })
}

/// Names of cookies and headers are made of the same characters (RFC 9110, 5.6.2).
fn token(name: &At<Text>, problems: &mut Vec<Draft>) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let is_token = !name.value.is_empty() && name.value.chars().all(fits);
    if !is_token {
        problems.push(
            name.problem("not a name").allowed("letters, digits and - _ . among others, without spaces"),
        );
    }
    is_token
}
