//! A configuration as flat lists of keys and values, by what a change of each would do: to be sent, shown and compared.
//! `tidegate plan` compares what runs with what a file says. Holds: no value of an environment variable is in it, only a
//! fingerprint; every field of the model is (a new one stops the build here). Pure.

mod balance;
mod middleware;

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    model::{
        AccessLog, Acme, Admin, Capacity, Certificate, Challenge, Gateway, GatewayTls, Health, Host, Idle,
        Ignore, Images, Limits, LogFormat, LogTo, Model, Placement, Probe, Reach, RequestLimits, Rollout,
        ScalingPolicy, Secret, Service, Sleep, TlsVersion, Token, Update, Upstream, WaitingPage, Wake,
    },
    spec::{Launch, Protocol},
    units::{Bytes, Rate},
};

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
    at_start.extend(below("images", describe_images(&model.images)));
    for host in &model.hosts {
        at_start.extend(below(&format!("hosts.{}", host.name), describe_host(host)));
    }
    let services = model.services.values();
    let services = services.map(|service| (service.name.to_string(), describe_service(service))).collect();
    Description { gateway, at_start, services }
}

/// Describes the gateway's own settings: those that apply at once, and those that wait for its next start.
#[must_use]
pub fn describe_gateway(gateway: &Gateway) -> (Settings, Settings) {
    let Gateway {
        listen,
        tls,
        metrics,
        admin,
        state,
        trusted_proxies,
        expose_errors,
        timing_headers,
        drain,
        stop_replicas_on_exit,
        subnet,
        allow_metadata,
        internal_names,
        internal_address,
        resolvers,
        limits,
        access_log,
    } = gateway;
    let mut live = settings([
        ("trusted_proxies", list(trusted_proxies)),
        ("expose_errors", expose_errors.to_string()),
        ("timing_headers", timing_headers.to_string()),
        ("resolvers", if resolvers.is_empty() { "default".to_owned() } else { list(resolvers) }),
        ("drain", time(*drain)),
        ("stop_replicas_on_exit", stop_replicas_on_exit.to_string()),
    ]);
    live.extend(below("tls", describe_tls(tls)));
    let (asking, place) = describe_admin(admin.as_ref());
    live.extend(asking);
    live.extend(below("access_log", describe_access_log(access_log.as_ref())));
    let (limits_live, limits) = describe_limits(limits);
    live.extend(below("limits", limits_live));
    let mut at_start = settings([
        ("listen", list(listen)),
        ("metrics", metrics.map_or_else(|| "off".to_owned(), |metrics| metrics.to_string())),
        ("state", or_default(state.as_ref().map(|state| state.display()))),
        ("subnet", or_default(*subnet)),
        ("allow_metadata", allow_metadata.to_string()),
        ("internal_names", internal_names.to_string()),
        ("internal_address", or_none(*internal_address)),
    ]);
    at_start.extend(below("limits", limits));
    at_start.extend(place);
    (below("gateway", live), below("gateway", at_start))
}

/// Who may ask, and where. Hashes are told apart and not told: a short token could be found from one.
fn describe_admin(admin: Option<&Admin>) -> (Settings, Settings) {
    let Some(Admin { listen, tls, names, tokens }) = admin else { return Default::default() };
    let token = |Token { name, role, secret }: &Token| {
        let known = match secret {
            Secret::Sha256(hash) => fingerprint(&format!("{hash:?}")),
            Secret::File(file) => file.display().to_string(),
        };
        (format!("admin.tokens.{name}"), format!("{} {known}", role.word()))
    };
    let mut asking = settings([("admin.names", list(names))]);
    asking.extend(tokens.iter().map(token));
    let mut place = settings([("admin.listen", listen.to_string())]);
    if let Some((cert, key)) = tls {
        place.extend(settings([
            ("admin.cert", cert.display().to_string()),
            ("admin.key", key.display().to_string()),
        ]));
    }
    (asking, place)
}

fn describe_limits(limits: &Limits) -> (Settings, Settings) {
    let Limits {
        connections,
        connections_per_address,
        handshakes,
        header_timeout,
        header_bytes,
        header_count,
        idle_timeout,
        keep_alive_requests,
        send_timeout,
        h2_streams,
        h2_resets,
        h2_ping,
        requests: RequestLimits { uri_bytes, body_bytes, body_rate, body_grace, timeout },
    } = limits;
    let live = settings([
        ("uri_bytes", uri_bytes.to_string()),
        ("body_bytes", or_none(*body_bytes)),
        ("body_rate", body_rate.to_string()),
        ("body_grace", time(*body_grace)),
        ("request_timeout", or_none(timeout.map(time))),
    ]);
    let at_start = settings([
        ("connections", connections.to_string()),
        ("connections_per_address", or_none(*connections_per_address)),
        ("handshakes", handshakes.to_string()),
        ("header_timeout", time(*header_timeout)),
        ("header_bytes", header_bytes.to_string()),
        ("header_count", header_count.to_string()),
        ("idle_timeout", time(*idle_timeout)),
        ("keep_alive_requests", or_none(*keep_alive_requests)),
        ("send_timeout", time(*send_timeout)),
        ("h2_streams", h2_streams.to_string()),
        ("h2_resets", h2_resets.to_string()),
        ("h2_ping", time(*h2_ping)),
    ]);
    (live, at_start)
}

fn describe_tls(tls: &GatewayTls) -> Settings {
    let GatewayTls { certificates, min_version, handshake_timeout, hsts, hsts_subdomains, acme } = tls;
    let certificates = certificates.iter().map(|Certificate { cert, key, default }| {
        let default = if *default { " (default)" } else { "" };
        format!("{} with {}{default}", cert.display(), key.display())
    });
    let min_version = match min_version {
        TlsVersion::V12 => "1.2",
        TlsVersion::V13 => "1.3",
    };
    let mut all = settings([
        ("certificates", list(certificates)),
        ("min_version", min_version.to_owned()),
        ("handshake_timeout", time(*handshake_timeout)),
        ("hsts", or_none(hsts.map(time))),
        ("hsts_subdomains", hsts_subdomains.to_string()),
    ]);
    if let Some(acme) = acme {
        all.extend(below("acme", describe_acme(acme)));
    }
    all
}

fn describe_acme(acme: &Acme) -> Settings {
    let Acme { email, directory, domains, challenge, ca } = acme;
    let challenge = match challenge {
        Challenge::Http01 => "http-01",
        Challenge::TlsAlpn01 => "tls-alpn-01",
    };
    settings([
        ("email", or_none(email.as_ref())),
        ("directory", directory.clone()),
        ("domains", domains.as_ref().map_or_else(|| "from routes".to_owned(), list)),
        ("challenge", challenge.to_owned()),
        ("ca", or_none(ca.as_ref().map(|ca| ca.display()))),
    ])
}

fn describe_access_log(log: Option<&AccessLog>) -> Settings {
    let Some(AccessLog { format, to, sample, slow, redact_query }) = log else {
        return settings([("to", "nowhere".to_owned())]);
    };
    let to = match to {
        LogTo::Stdout => "stdout".to_owned(),
        LogTo::Stderr => "stderr".to_owned(),
        LogTo::File(path) => path.display().to_string(),
    };
    let format = match format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    settings([
        ("format", format.to_owned()),
        ("to", to),
        ("sample", sample.to_string()),
        ("slow", time(*slow)),
        ("redact_query", redact_query.to_string()),
    ])
}

fn describe_images(images: &Images) -> Settings {
    let Images { insecure_registries, mirrors, keep_unused, max_size } = images;
    let mut all = settings([
        ("insecure_registries", list(insecure_registries)),
        ("keep_unused", time(*keep_unused)),
        ("max_size", or_none(*max_size)),
    ]);
    let mirrors = mirrors.iter().map(|(registry, mirrors)| (registry.clone(), list(mirrors)));
    all.extend(below("mirrors", mirrors.collect()));
    all
}

fn describe_host(host: &Host) -> Settings {
    let Host {
        name: _,
        engine,
        endpoint,
        tls,
        address,
        reach,
        labels,
        capacity: Capacity { cpu, memory, replicas },
        parallel_starts,
        memory_budget,
        lost_after,
    } = host;
    let reach = match reach {
        Reach::Auto => "auto",
        Reach::Address => "address",
        Reach::Published => "published",
    };
    let mut all = settings([
        ("engine", format!("{engine:?}").to_ascii_lowercase()),
        ("endpoint", or_default(endpoint.as_ref())),
        ("address", or_none(*address)),
        ("reach", reach.to_owned()),
        ("capacity.cpu", or_default(*cpu)),
        ("capacity.memory", or_default(*memory)),
        ("capacity.replicas", or_default(*replicas)),
        ("parallel_starts", parallel_starts.to_string()),
        ("memory_budget", or_none(*memory_budget)),
        ("lost_after", time(*lost_after)),
    ]);
    if let Some(tls) = tls {
        let files = [("tls.ca", &tls.ca), ("tls.cert", &tls.cert), ("tls.key", &tls.key)];
        all.extend(settings(files.map(|(key, file)| (key, file.display().to_string()))));
    }
    all.extend(below("labels", labels.clone()));
    all
}

/// Describes a service.
#[must_use]
pub fn describe_service(service: &Service) -> Described {
    let Service {
        name: _,
        launch,
        upstreams,
        routes,
        listen,
        sni,
        scaling,
        health,
        upstream,
        balance,
        constraints,
        placement,
        update,
        rollout,
        sleep,
        wake,
    } = service;
    let layers = middleware::describe(routes);
    let routes = routes.iter().map(|route| {
        let strip = if route.strip { " (stripped)" } else { "" };
        format!("{}{}{strip}", route.host, route.path)
    });
    let mut live = settings([
        ("routes", list(routes)),
        (
            "placement",
            match placement {
                Placement::Spread => "spread".to_owned(),
                Placement::Binpack => "binpack".to_owned(),
            },
        ),
        (
            "update",
            match update {
                Update::Rolling => "rolling".to_owned(),
                Update::Recreate => "recreate".to_owned(),
            },
        ),
    ]);
    if service.launch.protocol == Protocol::Tcp {
        live.extend(settings([("listen", list(listen)), ("sni", list(sni))]));
    }
    if service.is_outside() {
        live.insert("upstreams".to_owned(), list(upstreams));
    }
    live.extend(layers);
    live.extend(below("constraints", constraints.clone()));
    live.extend(below("scaling", describe_scaling(scaling)));
    live.extend(below("health", describe_health(health)));
    live.extend(below("upstream", describe_upstream(upstream)));
    live.extend(below("balance", balance::describe_balance(balance)));
    live.extend(below("rollout", describe_rollout(rollout)));
    let Sleep { frozen, stopped } = sleep;
    live.extend(below(
        "sleep",
        settings([("frozen", or_none(frozen.map(time))), ("stopped", or_none(stopped.map(time)))]),
    ));
    live.extend(below("wake", describe_wake(wake)));
    let (launch, shared) = describe_launch(launch);
    live.extend(shared);
    Described { launch, live }
}

fn describe_scaling(scaling: &ScalingPolicy) -> Settings {
    let ScalingPolicy {
        min,
        max,
        initial,
        concurrency,
        target,
        stable_window,
        surge_window,
        surge_threshold,
        max_up_rate,
        max_down_rate,
        scale_down_delay,
        idle,
        drain,
        hold,
        queue,
    } = scaling;
    let idle = match idle {
        Idle::After(length) => time(*length),
        Idle::Kpa => "kpa".to_owned(),
    };
    settings([
        ("min", min.to_string()),
        ("max", max.to_string()),
        ("initial", initial.to_string()),
        ("concurrency", or_none(*concurrency)),
        ("target", target.to_string()),
        ("stable_window", time(*stable_window)),
        ("surge_window", surge_window.to_string()),
        ("surge_threshold", surge_threshold.to_string()),
        ("max_up_rate", max_up_rate.to_string()),
        ("max_down_rate", max_down_rate.to_string()),
        ("scale_down_delay", time(*scale_down_delay)),
        ("idle", idle),
        ("drain", time(*drain)),
        ("hold", time(*hold)),
        ("queue", queue.to_string()),
    ])
}

fn describe_health(health: &Health) -> Settings {
    let Health { probe, interval, timeout, failures, successes, start_deadline } = health;
    let probe = match probe {
        None => "default".to_owned(),
        Some(Probe::Tcp) => "tcp".to_owned(),
        Some(Probe::Http { path, port: None }) => format!("http:{path}"),
        Some(Probe::Http { path, port: Some(port) }) => format!("http:{path} on port {port}"),
        Some(Probe::Grpc { service, port: None }) => format!("grpc {service:?}"),
        Some(Probe::Grpc { service, port: Some(port) }) => format!("grpc {service:?} on port {port}"),
        Some(Probe::Exec { command }) => format!("exec {command:?}"),
    };
    settings([
        ("probe", probe),
        ("interval", time(*interval)),
        ("timeout", time(*timeout)),
        ("failures", failures.to_string()),
        ("successes", successes.to_string()),
        ("start_deadline", time(*start_deadline)),
    ])
}

fn describe_upstream(upstream: &Upstream) -> Settings {
    let Upstream {
        connect_timeout,
        first_byte_timeout,
        idle_connection,
        idle_timeout,
        proxy_protocol,
        allow_encoded_slashes,
    } = upstream;
    settings([
        ("connect_timeout", time(*connect_timeout)),
        ("first_byte_timeout", time(*first_byte_timeout)),
        ("idle_connection", time(*idle_connection)),
        ("idle_timeout", or_none(idle_timeout.map(time))),
        ("proxy_protocol", proxy_protocol.to_string()),
        ("allow_encoded_slashes", allow_encoded_slashes.to_string()),
    ])
}

fn describe_rollout(rollout: &Rollout) -> Settings {
    let Rollout { steps, every, margin, failures, keep } = rollout;
    settings([
        ("steps", list(steps)),
        ("every", time(*every)),
        ("margin", margin.to_string()),
        ("failures", failures.to_string()),
        ("keep", keep.to_string()),
    ])
}

fn describe_wake(wake: &Wake) -> Settings {
    let Wake {
        waiting_page,
        per_client,
        per_service,
        ignore: Ignore { paths, user_agents, networks, monitors },
    } = wake;
    let rate = |rate: Option<Rate>| rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
    let page = match waiting_page {
        None => "false".to_owned(),
        Some(WaitingPage::BuiltIn) => "true".to_owned(),
        Some(WaitingPage::Own(html)) => format!("{} bytes of HTML, {}", html.len(), fingerprint(html)),
    };
    settings([
        ("waiting_page", page),
        ("per_client", rate(*per_client)),
        ("per_service", rate(*per_service)),
        ("ignore.paths", list(paths)),
        ("ignore.user_agents", list(user_agents)),
        ("ignore.networks", list(networks)),
        ("ignore.monitors", monitors.to_string()),
    ])
}

/// What is started, from the very value that a revision is named after; and what is about the service only.
fn describe_launch(launch: &Launch) -> (Settings, Settings) {
    let mut all = Settings::new();
    let value = serde_json::to_value(launch).expect("launch settings are plain values");
    flatten(String::new(), &value, &mut all);
    let (shared, mut launch): (Settings, Settings) =
        all.into_iter().partition(|(key, _)| key.starts_with("volumes[") && key.ends_with(".shared"));
    for (_, value) in launch.iter_mut().filter(|(key, _)| key.starts_with("env.")) {
        *value = fingerprint(value);
    }
    let is_size = |key: &str| {
        matches!(key, "resources.memory" | "resources.disk" | "resources.reserve.memory")
            || (key.starts_with("tmpfs[") && key.ends_with(".size"))
    };
    for (_, value) in launch.iter_mut().filter(|(key, _)| is_size(key)) {
        *value = value.parse().map_or_else(|_| value.clone(), |bytes| Bytes(bytes).to_string());
    }
    (launch, shared)
}

fn flatten(key: String, value: &Value, all: &mut Settings) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(key, value, all);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(format!("{key}[{index}]"), item, all);
            }
        }
        Value::String(text) => {
            all.insert(key, text.clone());
        }
        Value::Null => {
            all.insert(key, "default".to_owned());
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            all.insert(key, value.to_string());
        }
    }
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

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
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
