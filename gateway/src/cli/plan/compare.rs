//! What differs between what runs and what a file says, and what each difference would do. Pure: descriptions and statuses
//! in, a list out. Absent: words (see [`text`](super::text)), values of environment variables.

use serde::Serialize;
use tidegate_config::{Described, Description, HIDDEN, Settings, describe_service, model::Service};

use crate::control::status::ServiceStatus;

/// Everything that a file would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Changes {
    pub(super) services: Vec<ServiceChange>,
    /// Settings of the gateway that apply at once.
    pub(super) gateway: Vec<Difference>,
    /// Settings of the gateway and of hosts that wait for its next start.
    pub(super) at_next_start: Vec<Difference>,
}

/// What would become of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ServiceChange {
    pub(super) service: String,
    #[serde(flatten)]
    pub(super) what: What,
    /// Settings that make the new revision.
    pub(super) revision: Vec<Difference>,
    /// Settings whose change restarts nothing.
    pub(super) live: Vec<Difference>,
    /// Replicas that run now.
    pub(super) replicas: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(super) enum What {
    /// It is new, and run from an image.
    Add { image: String },
    /// It is new, and has addresses of its own.
    AddOutside { upstreams: String },
    /// It is run from an image from now on.
    RunFrom { image: String },
    /// It has addresses of its own from now on.
    MoveOut { upstreams: String },
    /// A new revision takes over, in this way.
    NewRevision { takes_over: TakesOver },
    /// Nothing is restarted.
    Adjust,
    /// It goes.
    Remove,
}

/// How a new revision takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TakesOver {
    /// Nothing runs: with the next wake.
    AtWake,
    /// All at once, as soon as it is ready.
    AtOnce,
    /// By these shares of requests, in percent, each for that long.
    Steps { steps: String, every: String },
    /// The old one ends first.
    Recreate,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) key: String,
    /// As it is, or [`NOT_SHOWN`]; absent if it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// As it would be, in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
}

/// Stands for the value of an environment variable.
pub(super) const NOT_SHOWN: &str = "(not shown)";

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.gateway.is_empty() && self.at_next_start.is_empty()
    }
}

/// Compares what runs with what a file says.
pub(super) fn compare(running: &Description, file: &Description, statuses: &[ServiceStatus]) -> Changes {
    let status = |name: &str| statuses.iter().find(|status| status.service == name);
    let replicas = |name: &str| status(name).map_or(0, |status| status.replicas.len());
    let change = |name: &String, what, (revision, live)| ServiceChange {
        service: name.clone(),
        what,
        revision,
        live,
        replicas: replicas(name),
    };
    let mut services = Vec::new();
    for (name, new) in &file.services {
        match running.services.get(name) {
            None => {
                let what = match upstreams(new) {
                    Some(upstreams) => What::AddOutside { upstreams },
                    None => What::Add { image: image(new) },
                };
                services.push(change(name, what, Default::default()));
            }
            Some(old) => {
                let found = update(old, new, status(name));
                services.extend(found.map(|(what, settings)| change(name, what, settings)));
            }
        }
    }
    let gone = running.services.keys().filter(|name| !file.services.contains_key(*name));
    services.extend(gone.map(|name| change(name, What::Remove, Default::default())));
    Changes {
        services,
        gateway: differences(&running.gateway, &file.gateway),
        at_next_start: differences(&running.at_start, &file.at_start),
    }
}

/// Settings that make a new revision, and those that restart nothing.
type Both = (Vec<Difference>, Vec<Difference>);

fn image(service: &Described) -> String {
    service.launch.get("image").cloned().unwrap_or_default()
}

fn upstreams(service: &Described) -> Option<String> {
    service.live.get("upstreams").cloned()
}

fn update(old: &Described, new: &Described, status: Option<&ServiceStatus>) -> Option<(What, Both)> {
    let mut live = differences(&old.live, &new.live);
    let usual = describe_service(&Service::of("any".parse().expect("a valid name"), "any")).live;
    live.retain(|setting| !goes_without_saying(setting, &usual));
    match (upstreams(old), upstreams(new)) {
        (None, None) => {}
        // Nothing is started, so nothing is started anew.
        (Some(_), Some(_)) => {
            let protocol = differences(&old.launch, &new.launch);
            let all: Vec<_> = protocol.into_iter().chain(live).collect();
            return (!all.is_empty()).then_some((What::Adjust, (Vec::new(), all)));
        }
        (Some(_), None) => return Some((What::RunFrom { image: image(new) }, Both::default())),
        (None, Some(upstreams)) => return Some((What::MoveOut { upstreams }, Both::default())),
    }
    let mut revision = differences(&old.launch, &new.launch);
    // A tag that means another content by now is taken up with the file.
    let newer = status.and_then(|status| status.newer.clone()).filter(|_| revision.is_empty());
    if let Some(newer) = newer {
        let from = status.and_then(|status| status.digest.clone());
        revision.push(Difference { key: "image content".to_owned(), from, to: Some(newer) });
    }
    let idle = status.is_none_or(|status| status.replicas.is_empty());
    let what = match (revision.is_empty(), live.is_empty()) {
        (true, true) => return None,
        (true, false) => What::Adjust,
        (false, _) => What::NewRevision { takes_over: takes_over(&new.live, idle) },
    };
    Some((what, (revision, live)))
}

/// By the settings of the file, which are taken up first.
fn takes_over(live: &Settings, idle: bool) -> TakesOver {
    let said = |key: &str| live.get(key).map(String::as_str).unwrap_or_default();
    match said("rollout.steps") {
        _ if idle => TakesOver::AtWake,
        _ if said("update") == "recreate" => TakesOver::Recreate,
        "[100%]" => TakesOver::AtOnce,
        steps => TakesOver::Steps {
            steps: steps.trim_matches(['[', ']']).replace(", ", " -> ").replace('%', " %"),
            every: said("rollout.every").to_owned(),
        },
    }
}

/// Settings of a scaling policy come and go with it; where they are as usual, nobody need have written them.
fn goes_without_saying(setting: &Difference, usual: &Settings) -> bool {
    match (&setting.from, &setting.to) {
        (Some(only), None) | (None, Some(only)) => usual.get(&setting.key) == Some(only),
        (Some(_), Some(_)) | (None, None) => false,
    }
}

fn differences(old: &Settings, new: &Settings) -> Vec<Difference> {
    let shown = |value: Option<&String>| {
        value.map(|value| if value.starts_with(HIDDEN) { NOT_SHOWN.to_owned() } else { value.clone() })
    };
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed
        .map(|key| Difference { key: key.clone(), from: shown(old.get(key)), to: shown(new.get(key)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use tidegate_config::{Format, describe, parse};

    use super::{super::text::text, *};

    fn described(text: &str) -> Description {
        describe(&parse(text, Format::Toml).expect("a good text"))
    }

    fn status(replicas: usize, newer: Option<&str>) -> ServiceStatus {
        let replica = json_replica();
        serde_json::from_value(serde_json::json!({
            "service": "a", "state": "ready", "image": "a:1", "digest": "sha256:old", "revision": "r", "want": 1,
            "newer": newer, "in_flight": 0, "queued": 0, "reason": "", "routes": [], "replicas": vec![replica; replicas],
        }))
        .expect("a status")
    }

    fn json_replica() -> serde_json::Value {
        serde_json::json!({ "id": "a-1-1", "phase": "ready", "host": "local", "address": null, "revision": "r",
            "digest": "sha256:old", "in_flight": 0, "age": 1 })
    }

    #[test]
    fn every_change_says_what_it_would_do() {
        const A: &str = "[services.a]\nimage = 'a:1'\nenv.X = 'canary-1'\n";
        let rows: &[(&str, usize, Option<&str>, &str)] = &[
            (A, 1, None, "nothing changes\n"),
            (
                "[services.a]\nimage = 'a:2'\nenv.X = 'canary-2'\nrollout.steps = [10, 50, 100]\n",
                2,
                None,
                "~ a  update: new revision (env.X changed, image a:1 -> a:2); 2 replicas replaced by rollout \
                 10 % -> 50 % -> 100 %, 30s each\n     no restart: rollout.steps [100%] -> [10%, 50%, 100%]\n",
            ),
            (
                "[services.a]\nimage = 'a:2'\nenv.X = 'canary-1'\n",
                1,
                None,
                "~ a  update: new revision (image a:1 -> a:2); 1 replica replaced once the new one is ready\n",
            ),
            (
                "[services.a]\nimage = 'a:2'\nenv.X = 'canary-1'\n",
                0,
                None,
                "~ a  update: new revision (image a:1 -> a:2); nothing runs, the next wake starts it\n",
            ),
            (
                "[services.a]\nimage = 'a:1'\n",
                1,
                None,
                "~ a  update: new revision (env.X removed); 1 replica replaced once the new one is ready\n",
            ),
            (
                "[services.a]\nimage = 'a:1'\nenv = { X = 'canary-1', Y = 'canary-2' }\nport = 80\nupdate = 'recreate'\n",
                1,
                None,
                "~ a  update: new revision (env.Y added, port default -> 80); 1 replica stopped before the new one starts, \
                 requests wait meanwhile\n     no restart: update rolling -> recreate\n",
            ),
            (&format!("{A}scaling.max = 5\n"), 1, None, "~ a  no restart: scaling.max 10 -> 5\n"),
            (
                A,
                1,
                Some("sha256:new"),
                "~ a  update: new revision (image content sha256:old -> sha256:new); 1 replica replaced once the new one \
                 is ready\n",
            ),
            (
                "services.b.upstreams = ['10.0.0.5:80', 'b.internal:80']",
                1,
                None,
                "+ b  add: at 10.0.0.5:80, b.internal:80; nothing to start\n- a  remove: 1 replica drained\n",
            ),
            (
                "services.a.upstreams = ['10.0.0.5:80']",
                1,
                None,
                "~ a  update: at 10.0.0.5:80 from now on; 1 replica drained\n",
            ),
            (
                "[services.b]\nimage = 'b:1'\nroutes = [{ path = '/' }]\n",
                2,
                None,
                "+ b  add: image b:1\n- a  remove: 2 replicas drained\n",
            ),
            (
                &format!("{A}[gateway]\nexpose_errors = true\nlisten = '127.0.0.1:1'\n"),
                1,
                None,
                "gateway, at once: gateway.expose_errors false -> true\n\
                 gateway, at its next start: gateway.listen [0.0.0.0:8080] -> [127.0.0.1:1]\n",
            ),
        ];
        for (new, replicas, newer, want) in rows {
            let changes = compare(&described(A), &described(new), &[status(*replicas, *newer)]);
            let said = text(&changes);
            assert_eq!(said, *want, "{new}");
            let json = serde_json::to_string(&changes).expect("plain values");
            assert!(!json.contains("canary") && !json.contains(HIDDEN), "{json}");
        }
    }

    #[test]
    fn what_comes_and_goes_with_a_policy_is_told_where_it_is_not_as_usual() {
        let with =
            |scaling: &str| described(&format!("[services.a]\nimage = 'a:1'\nscaling = {{ {scaling} }}\n"));
        for (old, new, want) in [
            ("", "policy = 'kpa'", "policy work -> kpa"),
            ("policy = 'kpa'", "policy = 'work'", "policy kpa -> work"),
            ("calm = '1m'", "policy = 'kpa'", "calm removed, scaling.policy work -> kpa"),
            (
                "policy = 'kpa', target = 0.5",
                "policy = 'work', late_worth = '5s', target = 0.5",
                "late_worth added: 5s, scaling.policy kpa -> work",
            ),
            ("", "calm = '1m'", "calm 10s -> 1m"),
        ] {
            let changes = compare(&with(old), &with(new), &[status(1, None)]);
            assert_eq!(text(&changes), format!("~ a  no restart: scaling.{want}\n"), "{old} -> {new}");
        }
    }
}
