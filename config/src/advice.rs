//! Guesses what was meant by a key or word that does not exist: the nearest spelling, the same key in the section where
//! it belongs, or the name that other tools give to the same thing.

use crate::raw;

/// What stands before names of Knative's annotations.
const KNATIVE: &str = "autoscaling.knative.dev/";

/// What other tools call our settings.
const ELSEWHERE: &[(&str, &str)] = &[
    ("autoscaling.knative.dev/target", "scaling.concurrency"),
    ("cmd", "args"),
    ("containerconcurrency", "scaling.concurrency"),
    ("cpus", "resources.cpu"),
    ("entrypoint", "command"),
    ("env_file", "env_files"),
    ("environment", "env"),
    ("healthcheck", "health"),
    ("hostname", "routes"),
    ("initial_scale", "scaling.initial"),
    ("max_scale", "scaling.max"),
    ("maxscale", "scaling.max"),
    ("mem_limit", "resources.memory"),
    ("min_scale", "scaling.min"),
    ("minscale", "scaling.min"),
    ("mounts", "volumes"),
    ("panic_threshold_percentage", "scaling.surge_threshold"),
    ("panic_window_percentage", "scaling.surge_window"),
    ("pids_limit", "resources.pids"),
    ("ports", "port"),
    ("pull_policy", "pull"),
    ("replicas", "scaling.min and scaling.max"),
    ("scale_to_zero_pod_retention_period", "scaling.idle"),
    ("strategy", "update"),
    ("target_utilization_percentage", "scaling.target"),
    ("update_config", "rollout"),
    ("working_directory", "working_dir"),
    ("workdir", "working_dir"),
];

/// The sections of a service and their keys.
const OF_A_SERVICE: &[(&str, &[&str])] = &[
    ("", raw::Service::KEYS),
    (".resources", raw::Resources::KEYS),
    (".scaling", raw::Scaling::KEYS),
    (".health", raw::Health::KEYS),
    (".upstream", raw::Upstream::KEYS),
    (".balance", raw::Balance::KEYS),
    (".balance.ejection", raw::Ejection::KEYS),
    (".balance.affinity", raw::Affinity::KEYS),
    (".balance.adaptive", raw::Adaptive::KEYS),
    (".balance.circuit", raw::Circuit::KEYS),
    (".balance.hedge", raw::Hedge::KEYS),
    (".rollout", raw::Rollout::KEYS),
    (".sleep", raw::Sleep::KEYS),
    (".middleware", raw::Middleware::KEYS),
];

/// What may have been meant by `unknown` in the table `parent`.
pub(crate) fn for_unknown_key(parent: &str, unknown: &str, known: &[&str]) -> Option<String> {
    if let Some(near) = closest(unknown, known) {
        return Some(format!("did you mean `{near}`?"));
    }
    if parent.is_empty() && raw::Gateway::KEYS.contains(&unknown) {
        return Some(format!("`{unknown}` belongs in [gateway]"));
    }
    let whole = unknown.to_ascii_lowercase().replace('-', "_");
    let plain = whole.strip_prefix(KNATIVE).unwrap_or(&whole);
    let is_it = |other: &str| other == whole || other == plain;
    let alias = ELSEWHERE.iter().find(|(other, _)| is_it(other) && parent.starts_with("services."));
    if let Some((_, ours)) = alias {
        return Some(format!("this is called `{ours}` here"));
    }
    let service = parent.strip_prefix("services.")?.split('.').next()?;
    let (section, _) = OF_A_SERVICE.iter().find(|(_, keys)| keys.contains(&plain))?;
    Some(format!("`{plain}` belongs in [services.{service}{section}]"))
}

/// The word that differs least, if it differs little.
pub(crate) fn closest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    let distance = |word: &str| strsim::damerau_levenshtein(&text, word);
    let near = words.iter().map(|word| (distance(word), *word)).min()?;
    (near.0 <= 1 + near.1.len() / 5 && near.0 < near.1.len()).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_help() {
        let rows = [
            ("services.api", "imgae", raw::Service::KEYS, Some("did you mean `image`?")),
            ("services.api", "working-dir", raw::Service::KEYS, Some("did you mean `working_dir`?")),
            ("services.api", "environment", raw::Service::KEYS, Some("this is called `env` here")),
            (
                "services.api",
                "concurrency",
                raw::Service::KEYS,
                Some("`concurrency` belongs in [services.api.scaling]"),
            ),
            (
                "services.api.scaling",
                "memory",
                raw::Scaling::KEYS,
                Some("`memory` belongs in [services.api.resources]"),
            ),
            ("services.api", "steps", raw::Service::KEYS, Some("`steps` belongs in [services.api.rollout]")),
            (
                "services.api",
                "containerConcurrency",
                raw::Service::KEYS,
                Some("this is called `scaling.concurrency` here"),
            ),
            (
                "services.api.scaling",
                "minScale",
                raw::Scaling::KEYS,
                Some("this is called `scaling.min` here"),
            ),
            (
                "services.api.scaling",
                "autoscaling.knative.dev/max-scale",
                raw::Scaling::KEYS,
                Some("this is called `scaling.max` here"),
            ),
            (
                "services.api",
                "autoscaling.knative.dev/target",
                raw::Service::KEYS,
                Some("this is called `scaling.concurrency` here"),
            ),
            (
                "services.api",
                "autoscaling.knative.dev/scale-down-delay",
                raw::Service::KEYS,
                Some("`scale_down_delay` belongs in [services.api.scaling]"),
            ),
            ("services.api", "xyzzy", raw::Service::KEYS, None),
            ("", "listen", raw::File::KEYS, Some("`listen` belongs in [gateway]")),
            ("gateway", "lisen", raw::Gateway::KEYS, Some("did you mean `listen`?")),
        ];
        for (parent, unknown, known, advice) in rows {
            assert_eq!(for_unknown_key(parent, unknown, known).as_deref(), advice, "{parent} {unknown}");
        }
    }
}
