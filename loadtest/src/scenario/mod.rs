//! Scenarios: a whole load in a file, as TOML or YAML. Files that it names are read by a function of the caller's. `[P]`

mod raw;
pub mod read;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Method};

use crate::{
    Aim, Kind, Options, Pattern, Reuse, Threshold,
    plan::{Plan, Process, Segment, Shape, language, recording::Options as Recorded, trace::Profile},
    template::Template,
};

pub use raw::Form;

/// A load from a file.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What is sent, and how.
    pub options: Options,
    /// When.
    pub pattern: Pattern,
    /// What must hold.
    pub promises: Vec<Threshold>,
    /// Response times up to this are good.
    pub slo: Option<Duration>,
}

/// A scenario that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    /// Where it stands.
    pub key: String,
    /// What is wrong with it, and what would do.
    pub problem: String,
}

/// Reads the files that a scenario names.
pub trait Files {
    /// A body.
    fn body(&mut self, name: &str) -> Result<Vec<u8>, String>;
    /// A recording.
    fn trace(&mut self, name: &str, options: &Recorded) -> Result<Arc<Profile>, String>;
}

impl Scenario {
    /// Reads a scenario. `to`, if given, takes the place of the scheme and host of every target.
    pub fn parse(text: &str, form: Form, to: Option<&str>, files: &mut impl Files) -> Result<Self, Invalid> {
        let raw = raw::Scenario::parse(text, form).map_err(|problem| invalid("the file", problem))?;
        let seed = raw.seed.unwrap_or_default();
        let aims =
            raw.targets.iter().enumerate().map(|(number, target)| aim(&raw, target, number, to, files));
        let aims = aims.collect::<Result<Vec<_>, _>>()?;
        let first =
            aims.first().cloned().ok_or_else(|| invalid("targets", "expected at least one [[targets]]"))?;
        let base = Options::of(first);
        if aims.iter().all(|aim| aim.weight == 0) {
            return Err(invalid("targets", "weight = 0 for all of them; expected one above 0"));
        }
        for (key, number) in [
            ("connections", raw.connections),
            ("h2_connections", raw.h2_connections),
            ("requests_per_connection", raw.requests_per_connection.map(|times| times as usize)),
        ] {
            if number == Some(0) {
                return Err(invalid(key, "0; expected 1 or more"));
            }
        }
        let options = Options {
            aims,
            connections: raw.connections.unwrap_or(base.connections),
            timeout: length("timeout", raw.timeout.as_deref())?.unwrap_or(base.timeout),
            h2: raw.h2.unwrap_or_default().then_some(raw.h2_connections.unwrap_or(1)),
            reuse: raw.requests_per_connection.map_or(Reuse::Keep, Reuse::Times),
            seed,
            ..base
        };
        let promise = |text: &String| text.parse().map_err(|problem| invalid("assert", problem));
        Ok(Self {
            pattern: pattern(&raw, seed, files)?,
            options,
            promises: raw.assert.iter().map(promise).collect::<Result<_, _>>()?,
            slo: length("slo", raw.slo.as_deref())?,
            name: raw.name.unwrap_or_else(|| "scenario".to_owned()),
        })
    }
}

fn invalid(key: impl Into<String>, problem: impl ToString) -> Invalid {
    Invalid { key: key.into(), problem: problem.to_string() }
}

fn length(key: &str, text: Option<&str>) -> Result<Option<Duration>, Invalid> {
    let parse = |text: &str| {
        let length = humantime::parse_duration(text).ok().filter(|length| !length.is_zero());
        length.ok_or_else(|| invalid(key, format!("{text:?}; expected a duration, as in \"30s\"")))
    };
    text.map(parse).transpose()
}

/// When requests go out: by `shape`, by `stages`, or by `users`.
fn pattern(raw: &raw::Scenario, seed: u64, files: &mut impl Files) -> Result<Pattern, Invalid> {
    for (key, given, belongs, to) in [
        ("start_rate", raw.start_rate.is_some(), !raw.stages.is_empty(), "[[stages]]"),
        ("think", raw.think.is_some(), raw.users.is_some(), "users"),
        ("duration", raw.duration.is_some(), raw.users.is_some(), "users"),
        ("h2_connections", raw.h2_connections.is_some(), raw.h2 == Some(true), "h2 = true"),
    ] {
        if given && !belongs {
            return Err(invalid(key, format!("it belongs to {to}; leave it out")));
        }
    }
    let process: Process = match &raw.process {
        Some(text) => text.parse().map_err(|problem| invalid("process", problem))?,
        None => Process::Uniform,
    };
    let shape = match (&raw.shape, raw.stages.as_slice(), raw.users) {
        (Some(text), [], None) => {
            let load = language::parse(text, |name, options| files.trace(name, options));
            match load.map_err(|problem| invalid("shape", problem))? {
                language::Load::Open(shape) => shape,
                language::Load::Closed(closed) => return closed_loop(raw, closed),
            }
        }
        (None, stages @ [_, ..], None) => staged(raw.start_rate.unwrap_or_default(), stages)?,
        (None, [], Some(users)) => {
            let think = raw.think.as_ref().map_or_else(String::new, |think| format!("think={think} "));
            let duration = raw.duration.as_deref().unwrap_or_default();
            let text = format!("users={users} {think}{duration}");
            let load = language::parse(&text, |_, _| Err(String::new()))
                .map_err(|problem| invalid("users", problem))?;
            return match load {
                language::Load::Closed(closed) => closed_loop(raw, closed),
                language::Load::Open(_) => unreachable!("the text begins with users="),
            };
        }
        _ => return Err(invalid("shape", "expected one of shape, [[stages]] and users")),
    };
    Ok(Plan::new(shape, process, seed).map_err(|problem| invalid("shape", problem))?.into())
}

fn closed_loop(raw: &raw::Scenario, closed: language::Closed) -> Result<Pattern, Invalid> {
    match raw.process {
        Some(_) => {
            Err(invalid("process", "it is for rates; users send when they were answered: leave it out"))
        }
        None => Ok(Pattern::Closed(closed)),
    }
}

/// From stage to stage the rate runs straight to what the stage says.
fn staged(start: f64, stages: &[raw::Stage]) -> Result<Shape, Invalid> {
    let (mut shape, mut from) = (Shape::default(), start);
    for (number, stage) in stages.iter().enumerate() {
        let key = format!("stages[{number}]");
        let segment = Segment::Ramp {
            from: if stage.jump { stage.rate } else { from },
            to: stage.rate,
            length: length(&key, Some(&stage.duration))?.unwrap_or_default(),
        };
        segment.check().map_err(|problem| invalid(&key, problem))?;
        let name = stage.name.clone().unwrap_or_else(|| format!("to {}", stage.rate));
        shape.push(name, segment);
        from = stage.rate;
    }
    Ok(shape)
}

fn aim(
    raw: &raw::Scenario,
    target: &raw::Target,
    number: usize,
    to: Option<&str>,
    files: &mut impl Files,
) -> Result<Aim, Invalid> {
    let key = |name: &str| format!("targets[{number}].{name}");
    let url = url(raw, target, to).map_err(|problem| invalid(key("url"), problem))?;
    let template =
        |name: &str, text: &str| Template::parse(text).map_err(|problem| invalid(key(name), problem));
    let body = match (&target.body, &target.body_file) {
        (None, None) => None,
        (Some(text), None) => Some(template("body", text)?),
        (None, Some(file)) => {
            Some(Template::plain(files.body(file).map_err(|problem| invalid(key("body_file"), problem))?))
        }
        (Some(_), Some(_)) => return Err(invalid(key("body"), "expected one of body and body_file")),
    };
    let kind = kind(target).map_err(|problem| invalid(key("kind"), problem))?;
    let usual = if body.is_some() && kind == Kind::Http { Method::POST } else { Method::GET };
    let mut headers = Vec::new();
    for (name, value) in raw.headers.iter().chain(&target.headers) {
        let header = name
            .parse::<HeaderName>()
            .map_err(|_| invalid(key("headers"), format!("{name:?} is not a header's name")))?;
        headers.push((header, template("headers", value)?));
    }
    Ok(Aim {
        name: target.name.clone().unwrap_or_else(|| url.clone()),
        weight: target.weight.unwrap_or(1),
        host: target.host.clone(),
        method: match &target.method {
            Some(method) => {
                method.parse().map_err(|_| invalid(key("method"), format!("{method:?} is not a method")))?
            }
            None => usual,
        },
        headers,
        body: body.unwrap_or_default(),
        kind,
        url,
    })
}

fn kind(target: &raw::Target) -> Result<Kind, Invalid> {
    let hold = length("hold", target.hold.as_deref())?;
    match (target.kind.as_deref().unwrap_or("http"), hold) {
        ("http", None) => Ok(Kind::Http),
        ("ws", None) => Ok(Kind::WebSocketEcho),
        ("ws", Some(hold)) => Ok(Kind::WebSocketHold(hold)),
        ("grpc", None) => Ok(Kind::Grpc),
        ("http" | "grpc", Some(_)) => Err(invalid("hold", "only WebSockets are held")),
        (other, _) => Err(invalid("kind", format!("{other:?}; expected http, ws or grpc"))),
    }
}

/// A target's own address, or its path behind that of all.
fn url(raw: &raw::Scenario, target: &raw::Target, to: Option<&str>) -> Result<String, String> {
    let own = target.url.clone().or_else(|| raw.url.clone()).or_else(|| to.map(str::to_owned));
    let mut url = own.ok_or("expected a url here or for the whole scenario")?;
    if let Some(path) = &target.path {
        if !path.starts_with('/') {
            return Err(format!("path = {path:?}; expected one that begins with /"));
        }
        url = format!("{}{path}", url.trim_end_matches('/'));
    }
    match (to, url.split_once("://")) {
        (Some(to), Some((_, rest))) => {
            let path = rest.find('/').map_or("", |at| &rest[at..]);
            Ok(format!("{}{path}", to.trim_end_matches('/')))
        }
        (Some(_), None) | (None, _) => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Files for Two {
        fn body(&mut self, name: &str) -> Result<Vec<u8>, String> {
            if name == "order.json" { Ok(b"{}".to_vec()) } else { Err(format!("cannot read {name}")) }
        }

        fn trace(&mut self, _: &str, _: &Recorded) -> Result<Arc<Profile>, String> {
            Profile::counts(vec![5.0_f32; 10].into(), Duration::from_secs(1))
                .map(Arc::new)
                .map_err(|e| e.to_string())
        }
    }

    fn parsed(text: &str) -> Result<Scenario, Invalid> {
        Scenario::parse(text, Form::Toml, None, &mut Two)
    }

    const SHOP: &str = r#"
name = "shop"
url = "http://shop.localhost:8080"
process = "poisson"
seed = 7
connections = 200
timeout = "5s"
slo = "200ms"
assert = ["p99<250ms", "slo(200ms)>=99%"]
headers = { accept = "application/json" }

[[stages]]
rate = 100
duration = "1m"
[[stages]]
name = "rush"
rate = 500
duration = "30s"
jump = true

[[targets]]
name = "list"
weight = 9
path = "/items?page={{random 1 9}}"
[[targets]]
name = "order"
path = "/orders"
method = "PUT"
body_file = "order.json"
headers = { x-id = "{{counter}}" }
[[targets]]
url = "http://feed.localhost:8080/ws"
kind = "ws"
hold = "10s"
"#;

    #[test]
    fn a_whole_one() {
        let scenario = parsed(SHOP).expect("valid");
        let options = &scenario.options;
        assert_eq!((scenario.name.as_str(), scenario.slo), ("shop", Some(Duration::from_millis(200))));
        assert_eq!((options.connections, options.timeout, options.seed), (200, Duration::from_secs(5), 7));
        assert_eq!(scenario.promises.len(), 2);
        let Pattern::Open(plan) = &scenario.pattern else { panic!("open") };
        let rates = [0, 30, 60, 89].map(|s| plan.shape().rate_at(Duration::from_secs(s)).round());
        assert_eq!((plan.process(), rates), (Process::Poisson, [0.0, 50.0, 500.0, 500.0]));
        assert_eq!(plan.phases()[1].name, "rush");
        let seen: Vec<_> = options
            .aims
            .iter()
            .map(|aim| {
                (aim.name.as_str(), aim.weight, aim.url.as_str(), aim.method.as_str(), aim.headers.len())
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("list", 9, "http://shop.localhost:8080/items?page={{random 1 9}}", "GET", 1),
                ("order", 1, "http://shop.localhost:8080/orders", "PUT", 2),
                ("http://feed.localhost:8080/ws", 1, "http://feed.localhost:8080/ws", "GET", 1),
            ]
        );
        assert_eq!(options.aims[1].body.fixed(), Some(&b"{}"[..]));
        assert_eq!(options.aims[2].kind, Kind::WebSocketHold(Duration::from_secs(10)));
    }

    #[test]
    fn elsewhere_and_in_yaml() {
        let yaml = "url: http://a:1\nshape: trace x.csv\ntargets:\n  - path: /x\n  - url: http://b/y?z\n";
        let scenario = Scenario::parse(yaml, Form::Yaml, Some("https://c:9/"), &mut Two).expect("valid");
        let urls: Vec<_> = scenario.options.aims.iter().map(|aim| aim.url.as_str()).collect();
        assert_eq!(urls, ["https://c:9/x", "https://c:9/y?z"]);
        assert_eq!(scenario.pattern.duration(), Duration::from_secs(10));
    }

    #[test]
    fn users_wait() {
        let text = "url = \"http://a\"\nusers = 5\nthink = \"exp(1s)\"\nduration = \"2m\"\n[[targets]]\n";
        let Pattern::Closed(closed) = parsed(text).expect("valid").pattern else { panic!("closed") };
        assert_eq!((closed.users, closed.length), (5, Duration::from_secs(120)));
        assert_eq!(closed.think, language::Think::Exponential(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let of = |body: &str| format!("url = \"http://a\"\nshape = \"const 5 1s\"\n{body}");
        for (text, part) in [
            ("nmae = \"x\"".to_owned(), "unknown field `nmae`"),
            (of(""), "targets: expected at least one"),
            ("url = \"http://a\"\n[[targets]]".to_owned(), "one of shape, [[stages]] and users"),
            (of("users = 5\n[[targets]]"), "one of shape, [[stages]] and users"),
            ("shape = \"const 5 1s\"\n[[targets]]".to_owned(), "targets[0].url: expected a url"),
            ("url = \"http://a\"\nshape = \"const 5\"\n[[targets]]".to_owned(), "shape: column 8"),
            (of("timeout = \"5\"\n[[targets]]"), "timeout: \"5\"; expected a duration"),
            (of("process = \"odd\"\n[[targets]]"), "process: \"odd\""),
            (of("assert = [\"p99\"]\n[[targets]]"), "assert: \"p99\""),
            (of("duration = \"5m\"\n[[targets]]"), "duration: it belongs to users"),
            (of("h2_connections = 2\n[[targets]]"), "h2_connections: it belongs to h2 = true"),
            (of("[[targets]]\nweight = 0"), "targets: weight = 0 for all"),
            (of("connections = 0\n[[targets]]"), "connections: 0; expected 1 or more"),
            (
                "url = \"http://a\"\nshape = \"users=5 1s\"\nprocess = \"poisson\"\n[[targets]]".to_owned(),
                "process: it is for rates",
            ),
            (of("[[targets]]\nkind = \"ftp\""), "targets[0].kind"),
            (of("[[targets]]\nhold = \"5s\""), "only WebSockets"),
            (of("[[targets]]\npath = \"x\""), "begins with /"),
            (of("[[targets]]\nbody = \"{{x}}\""), "targets[0].body"),
            (of("[[targets]]\nbody_file = \"gone\""), "cannot read gone"),
            (of("[[targets]]\nmethod = \"a b\""), "is not a method"),
        ] {
            let error = parsed(&text).expect_err(&text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
