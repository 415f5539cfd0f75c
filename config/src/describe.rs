//! A configuration as flat lists of keys and values, by what a change of each would do: to be sent, shown and compared.
//! `tidegate plan` compares what runs with what a file says. Holds: no value of an environment variable is in it, only a
//! fingerprint; every field of the model is (a new one stops the build here). Pure.

mod balance;
mod gateway;
mod host;
mod middleware;
mod service;

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use gateway::describe_gateway;
pub use service::describe_service;

use crate::model::{Idle, Model};

/// Settings by key, each as text.
pub type Settings = BTreeMap<String, String>;

/// What starts the text of a value that is not to be shown.
pub const HIDDEN: &str = "fingerprint:";

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The gateway's settings that apply at once.
    pub gateway: Settings,
    /// The gateway's and the hosts' settings that wait for its next start.
    pub at_start: Settings,
    /// The services.
    pub services: BTreeMap<String, Described>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// A change of these makes a new revision.
    pub launch: Settings,
    /// A change of these restarts nothing.
    pub live: Settings,
}

/// Describes a model.
#[must_use]
pub fn describe(model: &Model) -> Description {
    let (gateway, mut at_start) = describe_gateway(&model.gateway);
    at_start.extend(below("images", host::describe_images(&model.images)));
    for host in &model.hosts {
        at_start.extend(below(&format!("hosts.{}", host.name), host::describe_host(host)));
    }
    let services = model.services.values();
    let services = services.map(|service| (service.name.to_string(), describe_service(service))).collect();
    Description { gateway, at_start, services }
}

/// Tells two values apart without showing either.
fn fingerprint(value: &str) -> String {
    let hash = Sha256::digest(value.as_bytes());
    let digits: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{HIDDEN}{digits}")
}

fn settings<const N: usize>(all: [(&str, String); N]) -> Settings {
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn below(parent: &str, settings: Settings) -> Settings {
    settings.into_iter().map(|(key, value)| (format!("{parent}.{key}"), value)).collect()
}

pub(crate) fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(crate) fn idle(idle: Idle) -> String {
    match idle {
        Idle::Auto => "auto".to_owned(),
        Idle::After(length) => time(length),
        Idle::Kpa => "kpa".to_owned(),
    }
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn or_default(value: Option<impl Display>) -> String {
    value.map_or_else(|| "default".to_owned(), |value| value.to_string())
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Format, diff, parse};

    fn model(text: &str) -> Model {
        parse(text, Format::Toml).expect("a good text")
    }

    /// The keys that differ between two descriptions, with where they stand.
    fn differing(old: &str, new: &str) -> Vec<String> {
        let (a, b) = (describe(&model(old)), describe(&model(new)));
        let keys = |kind: &str, a: &Settings, b: &Settings| {
            let all = a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>();
            let changed = all.into_iter().filter(|key| a.get(*key) != b.get(*key));
            changed.map(|key| format!("{kind} {key}")).collect::<Vec<_>>()
        };
        let (x, y) = (&a.services["a"], &b.services["a"]);
        [
            keys("live", &x.live, &y.live),
            keys("launch", &x.launch, &y.launch),
            keys("at once", &a.gateway, &b.gateway),
            keys("at start", &a.at_start, &b.at_start),
        ]
        .concat()
    }

    #[test]
    fn each_change_is_where_a_reload_puts_it() {
        const A: &str = "[services.a]\nimage = 'a:1'\n";
        for (text, want) in [
            ("", vec![]),
            ("env.X = '1'", vec!["launch env.X"]),
            ("secrets.X = 'x'", vec!["launch secrets.X.file"]),
            ("port = 1", vec!["launch port"]),
            ("secret_files.x = 'x'", vec!["launch secret_files.x.file"]),
            (
                "volumes = [{ target = '/c', tmpfs = '1MiB' }]",
                vec!["launch tmpfs[0].size", "launch tmpfs[0].target"],
            ),
            ("resources.disk = '1GiB'", vec!["launch resources.disk"]),
            ("resources.scratch = 'memory'", vec!["launch resources.scratch"]),
            ("scaling.max = 3", vec!["live scaling.max"]),
            ("rollout.steps = [10, 100]", vec!["live rollout.steps"]),
            ("sleep.frozen = '10m'", vec!["live sleep.frozen"]),
            ("wake.per_client = '5/m'", vec!["live wake.per_client"]),
            ("wake.ignore.paths = ['/healthz']", vec!["live wake.ignore.paths"]),
            ("balance.slow_start = '1s'", vec!["live balance.slow_start"]),
            ("balance.ejection.failures = 3", vec!["live balance.ejection.failures"]),
            ("balance.affinity.cookie = 's'", vec!["live balance.affinity"]),
            ("balance.adaptive.min = 2", vec!["live balance.adaptive"]),
            ("balance.circuit = {}", vec!["live balance.circuit"]),
            ("balance.hedge.after = '50ms'", vec!["live balance.hedge"]),
            ("constraints.disk = 'ssd'", vec!["live constraints.disk"]),
            ("middleware.timeout = '5s'", vec!["live middleware.timeout"]),
            (
                "middleware.ip.deny = ['10.0.0.1']",
                vec!["live middleware.ip.allow", "live middleware.ip.deny"],
            ),
            ("[gateway]\nexpose_errors = true", vec!["at once gateway.expose_errors"]),
            ("[gateway]\nlisten = '127.0.0.1:1'", vec!["at start gateway.listen"]),
            ("[gateway]\ntls.min_version = '1.3'", vec!["at once gateway.tls.min_version"]),
            ("[gateway]\nallow_metadata = true", vec!["at start gateway.allow_metadata"]),
            ("[images]\nmirrors.'docker.io' = ['m']", vec!["at start images.mirrors.docker.io"]),
            ("[[hosts]]\nname = 'local'\nlabels.a = 'b'", vec!["at start hosts.local.labels.a"]),
        ] {
            let text = format!("{A}{text}");
            assert_eq!(differing(A, &text), want, "{text}");
            // The reload agrees.
            let changes = diff(&model(A), &model(&text));
            let launch = changes.iter().any(|change| matches!(change, Change::Update { launch: true, .. }));
            assert_eq!(launch, want.iter().any(|key| key.starts_with("launch")), "{text}");
            assert_eq!(changes.is_empty(), want.is_empty(), "{text}");
        }
    }

    #[test]
    fn values_of_variables_are_told_apart_and_not_told() {
        let canary = "env.X = 'canary-7'\nsecrets.Y = 'y.txt'\nmiddleware.request_headers.set.X = 'canary'";
        let text = format!("[services.a]\nimage = 'a:1'\n{canary}");
        let said = serde_json::to_string(&describe(&model(&text))).expect("plain values");
        assert!(!said.contains("canary") && said.contains("y.txt") && said.contains(HIDDEN), "{said}");
        assert_eq!(differing(&text, &text.replace("canary-7", "canary-8")), ["launch env.X"]);
    }

    #[test]
    fn sizes_are_said_as_people_write_them() {
        let text = "services.a = { image = 'a', resources = { memory = '1GiB', disk = '2GiB' }, \
                    volumes = [{ target = '/c', tmpfs = '3MiB' }] }";
        let described = describe(&model(text));
        for (key, said) in
            [("resources.memory", "1GiB"), ("resources.disk", "2GiB"), ("tmpfs[0].size", "3MiB")]
        {
            assert_eq!(described.services["a"].launch[key], said);
        }
    }

    #[test]
    fn sharing_is_about_the_service_and_not_about_a_replica() {
        let text = |shared| {
            format!(
                "[services.a]\nimage = 'a'\nscaling.max = 1\nupdate = 'recreate'\nvolumes = [{{ source = 'd', target = '/d', shared = {shared} }}]"
            )
        };
        assert_eq!(differing(&text(false), &text(true)), ["live volumes[0].shared"]);
    }
}
