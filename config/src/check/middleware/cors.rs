//! What pages of other origins may do.

use super::{fields, required, value};
use crate::{
    decode::{At, leaf::Text},
    model::{Cors, Which},
    name::Authority,
    problem::Draft,
    raw,
};

const ORIGIN: &str =
    "as in \"https://app.example.org\", \"https://*.example.org\" or \"http://localhost:3000\"";

pub(super) fn check(raw: At<raw::Cors>, problems: &mut Vec<Draft>) -> Option<Cors> {
    let default = Cors::default();
    let credentials = value::of(raw.value.credentials.clone(), default.credentials);
    let Some(origins) = &raw.value.origins else {
        required(&raw, "origins", &raw.value.refused, problems);
        return None;
    };
    if origins.value.is_empty() {
        problems.push(
            origins
                .problem("no origin may anything")
                .allowed("one origin or more, or false instead of the table"),
        );
    }
    let lists = [&raw.value.origins, &raw.value.methods, &raw.value.headers, &raw.value.expose];
    for any in lists.into_iter().flatten().filter(|list| credentials && has_star(list)) {
        let draft = any.problem("any, together with credentials: browsers refuse that, and pages of anybody could act for the user");
        problems.push(draft.allowed("the names themselves, or credentials = false"));
    }
    let raw = raw.value;
    Some(Cors {
        origins: which(raw.origins, default.origins, origin, problems),
        methods: which(raw.methods, default.methods, method, problems),
        headers: which(raw.headers, default.headers, fields::name, problems),
        expose: raw.expose.map_or(default.expose, |expose| {
            expose.value.iter().filter_map(|name| fields::name(name, problems)).collect()
        }),
        credentials,
        max_age: value::span(raw.max_age, default.max_age),
    })
}

fn has_star(list: &At<Vec<At<Text>>>) -> bool {
    list.value.iter().any(|text| text.value == "*")
}

fn which(
    raw: Option<At<Vec<At<Text>>>>,
    default: Which,
    parse: fn(&At<Text>, &mut Vec<Draft>) -> Option<String>,
    problems: &mut Vec<Draft>,
) -> Which {
    let Some(raw) = raw else { return default };
    if has_star(&raw) {
        for other in raw.value.iter().filter(|text| text.value != "*") {
            problems
                .push(other.problem("\"*\" is in the list already").allowed("[\"*\"] alone, or no \"*\""));
        }
        return Which::Any;
    }
    Which::Of(raw.value.iter().filter_map(|text| parse(text, problems)).collect())
}

/// An origin as browsers write it: without a path and without the port that goes without saying.
fn origin(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<String> {
    let lower = text.value.to_ascii_lowercase();
    let parsed = lower.split_once("://").and_then(|(scheme, rest)| {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let bracket = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest[bracket..].rfind(':') {
            Some(colon) => (&rest[..bracket + colon], Some(rest[bracket + colon + 1..].parse::<u16>().ok()?)),
            None => (rest, None),
        };
        let known =
            scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c)) && !scheme.is_empty();
        let host_is_one = host != "*" && host.parse::<Authority>().is_ok();
        let port = port.filter(|port| !matches!((scheme, port), ("http", 80) | ("https", 443)));
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        (known && host_is_one).then(|| format!("{scheme}://{host}{port}"))
    });
    if parsed.is_none() {
        let help = (!text.value.contains("://")).then(|| format!("did you mean \"https://{}\"?", text.value));
        problems.push(text.problem("not an origin").allowed(ORIGIN).help(help));
    }
    parsed
}

fn method(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<String> {
    let upper = text.value.to_ascii_uppercase();
    if text.value.is_empty() || !text.value.bytes().all(fields::is_token) {
        problems.push(text.problem("not a method").allowed("as in \"PUT\""));
        return None;
    }
    if upper != text.value && ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"].contains(&&*upper)
    {
        let draft = text.problem("methods are told apart by case").allowed("as in \"PUT\"");
        problems.push(draft.help(format!("did you mean {upper:?}?")));
        return None;
    }
    Some(text.value.clone())
}
