//! Where requests are sent instead, and what of their target is changed.

use crate::{
    decode::{At, leaf::Text},
    model::{PathRewrite, Redirect, Rewrite},
    name::{Authority, PathPrefix},
    problem::Draft,
    raw,
};

const HOST: &str =
    "a host name, with a port if it has one, as in \"www.example.org\" or \"app.internal:8080\"";
const PATH: &str = "a path that starts with one '/', without '?', '#', '..', '%' or spaces";

pub(super) fn redirect(raw: At<raw::Redirect>, problems: &mut Vec<Draft>) -> Option<Redirect> {
    let value = &raw.value;
    if value.scheme.is_none() && value.host.is_none() && value.prefix.is_none() {
        if value.refused.is_empty() {
            let allowed = "a table with `scheme`, `host`, `prefix` or several of them";
            problems.push(raw.problem("leads to where the request is already").allowed(allowed));
        }
        return None;
    }
    let scheme = value.scheme.as_ref().and_then(|scheme| {
        let known = matches!(&*scheme.value, "http" | "https");
        if !known {
            problems.push(scheme.problem("not a scheme").allowed("\"http\" or \"https\""));
        }
        known.then(|| scheme.value.clone())
    });
    let default = Redirect::default();
    let status = match &value.status {
        None => default.status,
        Some(status) => match status.value {
            301 => 301,
            302 => 302,
            303 => 303,
            307 => 307,
            308 => 308,
            _ => {
                problems.push(status.problem("not a redirect").allowed("301, 302, 303, 307 or 308"));
                default.status
            }
        },
    };
    Some(Redirect {
        scheme,
        host: value.host.as_ref().and_then(|host| self::host(host, problems)),
        prefix: value.prefix.as_ref().and_then(|prefix| path(prefix, problems)),
        status,
    })
}

pub(super) fn rewrite(raw: At<raw::Rewrite>, strip: bool, problems: &mut Vec<Draft>) -> Option<Rewrite> {
    let value = &raw.value;
    let ways = [&value.add_prefix, &value.replace_prefix, &value.path];
    let mut named = ways.into_iter().flatten();
    if named.clone().next().is_none() && value.host.is_none() {
        if value.refused.is_empty() {
            let allowed = "a table with `add_prefix`, `replace_prefix`, `path` or `host`";
            problems.push(raw.problem("changes nothing").allowed(allowed));
        }
        return None;
    }
    if let (Some(first), Some(second)) = (named.next(), named.next()) {
        let draft = second.problem("the path is changed in another way already");
        problems
            .push(draft.allowed("one of `add_prefix`, `replace_prefix` and `path`").also(&first.at, "here"));
    }
    if let Some(replace) = value.replace_prefix.as_ref().filter(|_| strip) {
        let draft =
            replace.problem("the route has strip = true, which removes the path that this would replace");
        problems.push(
            draft
                .allowed("one of the two")
                .help("`add_prefix` puts a path in front of what `strip` leaves".to_owned()),
        );
    }
    let add = value.add_prefix.as_ref().and_then(|text| path(text, problems)).map(PathRewrite::Add);
    let replace =
        value.replace_prefix.as_ref().and_then(|text| path(text, problems)).map(PathRewrite::Replace);
    let set = value.path.as_ref().filter(|text| path(text, problems).is_some());
    let set = set.map(|text| PathRewrite::Set(text.value.clone()));
    Some(Rewrite {
        path: add.or(replace).or(set),
        host: value.host.as_ref().and_then(|host| self::host(host, problems)),
    })
}

/// A path of the service's own: one that leads nowhere else, whoever reads it.
fn path(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<PathPrefix> {
    let odd = text.value.contains([';', '\\']) || text.value.contains("//");
    let parsed = text.value.parse::<PathPrefix>().ok().filter(|_| !odd && text.value.is_ascii());
    if parsed.is_none() {
        let outside = text.value.contains("://") || text.value.starts_with("//") || text.value.contains("..");
        let message = if outside { "leads outside" } else { "not a path" };
        problems.push(text.problem(message).allowed(PATH));
    }
    parsed
}

/// A host, with a port if it has one.
fn host(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<String> {
    let lower = text.value.to_ascii_lowercase();
    let bracket = lower.rfind(']').unwrap_or(0);
    let (name, port) = match lower[bracket..].rfind(':') {
        Some(colon) => (&lower[..bracket + colon], Some(&lower[bracket + colon + 1..])),
        None => (&*lower, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let good = matches!(name.parse(), Ok(Authority::Exact(_))) && port.is_none_or(is_port);
    if !good {
        let help =
            lower.split_once("://").map(|(scheme, _)| format!("`scheme = \"{scheme}\"` is a key of its own"));
        problems.push(text.problem("not a host").allowed(HOST).help(help));
    }
    good.then_some(lower)
}
