//! Where the embedded engine's images come from, and how long they are kept.

use super::value;
use crate::{
    decode::{
        At,
        leaf::{Size, Text},
    },
    model::Images,
    problem::Draft,
    raw,
    units::Bytes,
};

/// Below it not even a small image fits.
const LEAST: Bytes = Bytes::mib(1);

pub(super) fn check(raw: raw::Images, problems: &mut Vec<Draft>) -> Images {
    let default = Images::default();
    let smallest = |size: At<Size>| value::size(Some(size), LEAST, LEAST, problems);
    let max_size = raw.max_size.map(smallest);
    let mut mirrors = std::collections::BTreeMap::new();
    for (registry, others) in raw.mirrors.map(|mirrors| mirrors.value.0).unwrap_or_default() {
        if others.value.is_empty() {
            problems.push(others.problem("names no mirror").allowed(format!("a list of {ALLOWED}")));
        }
        check_registry(&registry, problems);
        mirrors.insert(registry.value, registries(others.value, problems));
    }
    Images {
        insecure_registries: registries(value::of(raw.insecure_registries, Vec::new()), problems),
        mirrors,
        keep_unused: value::lasting(raw.keep_unused, default.keep_unused, problems),
        max_size,
    }
}

const ALLOWED: &str = "HOST or HOST:PORT, as in \"registry.example.org:5000\"";

fn registries(texts: Vec<At<Text>>, problems: &mut Vec<Draft>) -> Vec<String> {
    texts.iter().for_each(|text| check_registry(text, problems));
    texts.into_iter().map(|text| text.value).collect()
}

fn check_registry(text: &At<Text>, problems: &mut Vec<Draft>) {
    if is_registry(&text.value) {
        return;
    }
    let meant = text.value.trim_start_matches("http://").trim_start_matches("https://");
    let meant = meant.split('/').next().filter(|meant| is_registry(meant) && *meant != text.value);
    let help = meant.map(|meant| format!("did you mean {meant:?}?"));
    problems.push(text.problem("not a registry").allowed(ALLOWED).help(help));
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port.parse::<u16>().unwrap_or(0)),
        _ => (text, 1),
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let name = |host: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        (1..=253).contains(&host.len()) && host.chars().all(inner) && !host.starts_with(['.', '-'])
    };
    port > 0 && v6.map_or_else(|| name(host), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_registry;

    #[test]
    fn registries() {
        for good in ["docker.io", "localhost:5000", "10.0.0.1", "[::1]:5000", "r-1.example.org:443"] {
            assert!(is_registry(good), "{good}");
        }
        for bad in ["", "http://a", "a/b", "a:0", "a:x", "a:70000", "a b", "[::1", "-a", "a_b", ":5000"] {
            assert!(!is_registry(bad), "{bad}");
        }
    }
}
