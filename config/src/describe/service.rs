//! A service: what is launched, and what a change of restarts nothing.

use serde_json::Value;

use super::{Described, Settings, below, fingerprint, list, or_none, settings, time};
use crate::{
    model::{
        Aim, Health, Ignore, KeepWarm, Law, Placement, Probe, Rollout, ScalingPolicy, Service, Signals,
        Sleep, Update, Upstream, WaitingPage, Wake, Work,
    },
    spec::{Launch, Protocol},
    units::{Bytes, Rate},
};

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
        run_on,
        placement,
        update,
        rollout,
        sleep,
        wake,
    } = service;
    let layers = super::middleware::describe(routes);
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
    if !run_on.is_empty() {
        live.insert("run_on".to_owned(), list(run_on));
    }
    live.extend(layers);
    let labels = constraints.iter().map(|(key, wanted)| (key.clone(), wanted.to_string()));
    live.extend(below("constraints", labels.collect()));
    live.extend(below("scaling", describe_scaling(scaling)));
    live.extend(below("health", describe_health(health)));
    live.extend(below("upstream", describe_upstream(upstream)));
    live.extend(below("balance", super::balance::describe_balance(balance)));
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
        keep_warm,
        signals: Signals { rps, cpu, memory },
        law,
        work,
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
    let mut all = describe_law(*law, work);
    all.extend(settings([
        ("min", min.to_string()),
        ("max", max.to_string()),
        ("initial", initial.to_string()),
        ("keep_warm", keep_warm.iter().map(describe_keep_warm).collect::<Vec<_>>().join("; ")),
        ("target_rps", or_none(*rps)),
        ("target_cpu", or_none(*cpu)),
        ("target_memory", or_none(*memory)),
        ("concurrency", or_none(*concurrency)),
        ("target", target.to_string()),
        ("stable_window", time(*stable_window)),
        ("surge_window", surge_window.to_string()),
        ("surge_threshold", surge_threshold.to_string()),
        ("max_up_rate", max_up_rate.to_string()),
        ("max_down_rate", max_down_rate.to_string()),
        ("scale_down_delay", time(*scale_down_delay)),
        ("idle", super::idle(*idle)),
        ("drain", time(*drain)),
        ("hold", time(*hold)),
        ("queue", queue.to_string()),
    ]));
    all
}

fn describe_keep_warm(keep: &KeepWarm) -> String {
    let KeepWarm { cron, zone: _, lasts, replicas } = keep;
    format!("{replicas} from {} {} for {}", cron.as_str(), keep.zone_name(), time(*lasts))
}

fn describe_law(law: Law, work: &Work) -> Settings {
    let mut all = settings([("policy", law.to_string())]);
    if law == Law::Work {
        // The parts are for experiments, and no file can switch them.
        let Work { late_after, aim, calm, parts: _ } = work;
        let aim = match aim {
            Aim::Share(share) => ("late_share", share.to_string()),
            Aim::Worth(worth) => ("late_worth", time(*worth)),
        };
        all.extend(settings([aim, ("late_after", time(*late_after)), ("calm", time(*calm))]));
    }
    all
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
            || ((key.starts_with("tmpfs[") || key.starts_with("disks[")) && key.ends_with(".size"))
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
