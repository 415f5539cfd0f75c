//! What `tidegate load` is asked for.

use std::{
    io::{self, Read},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use http::{HeaderName, HeaderValue, Method};
use tidegate_loadtest::{
    Aim, Kind, Options, Pattern, Reuse, Threshold, Tls,
    plan::{self, Plan, Process, Shape},
    scenario::{self, Scenario},
    template::Template,
};

use crate::cli::{Gateway, output::Misuse};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(in crate::cli) struct Load {
    #[command(subcommand)]
    pub(super) ask: Option<Ask>,
    /// Where to send, as in `http://api.localhost:8080/`, or a scenario (.toml, .yaml). Behind the host there may be
    /// {{counter}}, {{random 1 100}}, {{hex 16}} or {{pick a b}}, as in headers and the body
    #[arg(value_name = "URL|FILE", required = true)]
    target: Option<String>,
    /// Send a scenario there instead, as in http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    /// The service that is loaded: its gateway is asked for replicas, queue and decisions meanwhile
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    #[command(flatten)]
    pub(super) gateway: Gateway,
    /// Response times up to this are good, for the page [default: that of a promise slo(TIME)]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    slo: Option<Duration>,
    /// Show one line instead of the whole screen
    #[arg(long)]
    pub(super) plain: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write the report to a file, as its name ends: .html (a page with charts), .json, .csv (over time) or .hlog
    /// (HdrHistogram); repeatable
    #[arg(long, value_name = "FILE", value_parser = super::files::known)]
    pub(super) out: Vec<PathBuf>,
    /// What must hold, as in 'p99<50ms' 'cold.p95<1.5s' 'slo(200ms)>=99%' 'error_rate<0.1%'; else the exit code is 1.
    /// Several may follow; repeatable
    #[arg(long = "assert", value_name = "EXPRESSION", num_args = 1.., value_parser = Threshold::from_str)]
    promises: Vec<Threshold>,
    /// An earlier report in JSON; if this run is worse, the exit code is 1
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,
    /// How much worse is still good
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = percent, requires = "baseline")]
    pub(super) tolerance: f64,
}

/// When requests go out.
#[derive(Debug, Args)]
struct When {
    /// Requests per second, sent whether or not earlier ones were answered
    #[arg(long, value_name = "N", value_parser = rate, requires = "duration")]
    rate: Option<f64>,
    /// How long to send, as in 30s or 2m
    #[arg(long, value_parser = humantime::parse_duration, requires = "rate")]
    duration: Option<Duration>,
    /// How the rate runs over time instead: const, ramp, step, spike, sine, pause and trace with | between them, as in
    /// 'ramp 0..200 1m | const 200 5m'; or 'users=20 think=exp(1s) 2m', who wait for answers
    #[arg(long, value_name = "TEXT", value_parser = plan::read::load, conflicts_with = "rate")]
    shape: Option<plan::language::Load>,
    /// How requests are spread within the rate: uniform, poisson, gamma(CV), burst(N) or scatter [default: uniform]
    #[arg(long, value_name = "NAME", value_parser = Process::from_str)]
    process: Option<Process>,
    /// The same as --process poisson: random instants, as of many independent users
    #[arg(long, conflicts_with = "process")]
    poisson: bool,
    /// The same seed gives the same random instants, targets and texts [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What a request is.
#[derive(Debug, Args)]
struct What {
    /// The method [default: GET, or POST with a body]
    #[arg(long)]
    method: Option<Method>,
    /// A header to send; repeatable
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(HeaderName, Template)>,
    /// The body to send: the text itself, or @FILE for a file's content (@- for standard input)
    #[arg(long, value_name = "TEXT|@FILE")]
    body: Option<String>,
    /// The host to ask for instead of the URL's
    #[arg(long)]
    host: Option<String>,
    /// Messages over WebSockets, there and back; the body is the message
    #[arg(long)]
    ws: bool,
    /// WebSockets that are opened and held for so long, a connection each
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "ws")]
    ws_hold: Option<Duration>,
    /// Calls of gRPC; the body is the message, without its length
    #[arg(long, conflicts_with_all = ["ws", "ws_hold", "method"])]
    grpc: bool,
}

/// How it is sent.
#[derive(Debug, Args)]
struct How {
    /// Requests at once, and so connections at most (HTTP/2: streams); as few as needed are opened [default: 64]
    #[arg(long, value_name = "N")]
    connections: Option<NonZeroUsize>,
    /// How long a request may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    timeout: Option<Duration>,
    /// Speak HTTP/2: over TLS if the server agrees to it, in clear text without asking
    #[arg(long, alias = "h2c", conflicts_with_all = ["ws", "ws_hold"])]
    h2: bool,
    /// Connections that HTTP/2's streams share
    #[arg(long, value_name = "N", default_value = "1", requires = "h2")]
    h2_connections: NonZeroUsize,
    /// Requests after which a connection of HTTP/1.1 is closed [default: as many as the server takes]
    #[arg(long, value_name = "N")]
    requests_per_connection: Option<std::num::NonZeroU32>,
    /// Believe every certificate
    #[arg(long)]
    insecure: bool,
    /// A PEM file: who signs the server's certificate [default: whom this machine trusts]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// A PEM file: a certificate of our own to show
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// A PEM file: its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The processor to send from, from 0
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

/// What else can be asked.
#[derive(Debug, Subcommand)]
pub(super) enum Ask {
    /// Say how two reports differ
    Compare(super::compare::Compare),
    /// Make one report of several, of generators that ran at the same time
    Merge(super::compare::Merge),
    /// Look for the highest rate that a service bears, and what follows for its concurrency
    FindKnee(Box<super::knee::FindKnee>),
}

/// What is to be done, from the command line or a file.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) options: Options,
    pub(super) pattern: Pattern,
    pub(super) promises: Vec<Threshold>,
    pub(super) slo: Option<Duration>,
}

impl Load {
    /// What is to be done; what cannot be is misuse.
    pub(super) fn asked(&self) -> anyhow::Result<Asked> {
        let target = self.target.as_deref().unwrap_or_default();
        let path = Path::new(target);
        let mut asked = match scenario::read::form(path) {
            _ if target.contains("://") => self.command_line(target)?,
            Some(_) => self.scenario(path)?,
            None => return Err(neither(path).into()),
        };
        self.how.apply(&mut asked.options);
        asked.promises.extend(self.promises.iter().cloned());
        asked.check_promises(self.service.is_some())?;
        let promised = asked.promises.iter().find_map(Threshold::slo);
        asked.slo = self.slo.or(asked.slo).or(promised);
        Ok(asked)
    }

    fn scenario(&self, path: &Path) -> anyhow::Result<Asked> {
        if self.when.is_given() || self.what.is_given() {
            let words =
                "when requests go out and what they are is said in the scenario; leave those options out";
            return Err(Misuse(words.into()).into());
        }
        let read = scenario::read::scenario(path, self.to.as_deref());
        let scenario = read.map_err(super::misused)?;
        let Scenario { name, options, pattern, promises, slo } = scenario;
        Ok(Asked { name, options, pattern, promises, slo })
    }

    fn command_line(&self, url: &str) -> anyhow::Result<Asked> {
        if self.to.is_some() {
            return Err(Misuse("--to is for scenarios; name the URL itself".into()).into());
        }
        let (options, pattern) = (Options::of(self.what.aim(url)?), self.when.pattern()?);
        let options = Options { seed: self.when.seed.unwrap_or_default(), ..options };
        Ok(Asked { name: String::new(), options, pattern, promises: Vec::new(), slo: None })
    }
}

impl Asked {
    /// A promise about what is not there would be broken, after all that time.
    fn check_promises(&self, looked_at: bool) -> Result<(), Misuse> {
        let phases = match &self.pattern {
            Pattern::Open(plan) => plan.phases().len(),
            Pattern::Closed(_) => 1,
        };
        for promise in &self.promises {
            if let Some(phase) = promise.phase().filter(|phase| *phase > phases) {
                return Err(Misuse(format!("{promise}: there is no phase {phase}; the plan has {phases}")));
            }
            if promise.is_about_replicas() && !looked_at {
                let words =
                    format!("{promise}: nobody would look at replicas; name the service with --service");
                return Err(Misuse(words));
            }
        }
        let names = || self.options.aims.iter().map(|aim| aim.name.as_str());
        match self
            .promises
            .iter()
            .filter_map(Threshold::target)
            .find(|target| names().all(|name| name != *target))
        {
            Some(target) => Err(Misuse(format!(
                "no target is called {target:?}; there is {}",
                names().collect::<Vec<_>>().join(", ")
            ))),
            None => Ok(()),
        }
    }
}

/// What is neither a URL nor the name of a scenario.
fn neither(path: &Path) -> Misuse {
    let shown = path.display();
    Misuse(if path.exists() {
        format!("{shown} is no scenario by its name; expected one that ends in .toml, .yaml or .yml")
    } else {
        format!(
            "there is no file {shown:?}; expected a URL, as in http://api.localhost:8080/, or a scenario's file"
        )
    })
}

impl When {
    fn is_given(&self) -> bool {
        let Self { rate, duration, shape, process, poisson, seed } = self;
        rate.is_some()
            || duration.is_some()
            || shape.is_some()
            || process.is_some()
            || *poisson
            || seed.is_some()
    }

    fn pattern(&self) -> anyhow::Result<Pattern> {
        let Self { rate, duration, shape, process, poisson, seed } = self;
        let shape = match (shape, rate, duration) {
            (Some(plan::language::Load::Closed(_)), ..) if *poisson || process.is_some() => {
                let words = "users send when they were answered; --process and --poisson are for rates";
                return Err(Misuse(words.into()).into());
            }
            (Some(plan::language::Load::Closed(closed)), ..) => return Ok(Pattern::Closed(*closed)),
            (Some(plan::language::Load::Open(shape)), ..) => shape.clone(),
            (None, Some(rate), Some(duration)) => Shape::constant(*rate, *duration),
            (None, ..) => {
                return Err(
                    Misuse("expected --rate and --duration, --shape, or a scenario's file".into()).into()
                );
            }
        };
        let process = if *poisson { Process::Poisson } else { process.unwrap_or(Process::Uniform) };
        let plan = Plan::new(shape, process, seed.unwrap_or_default());
        Ok(plan.map_err(|problem| Misuse(problem.to_string()))?.into())
    }
}

impl How {
    /// What was given here counts more than what a scenario says.
    fn apply(&self, options: &mut Options) {
        let Self {
            connections,
            timeout,
            h2,
            h2_connections,
            requests_per_connection,
            insecure,
            ca,
            cert,
            key,
            cpu,
        } = self;
        if let Some(connections) = connections {
            options.connections = connections.get();
        }
        options.timeout = timeout.unwrap_or(options.timeout);
        if *h2 {
            options.h2 = Some(h2_connections.get());
        }
        if let Some(times) = requests_per_connection {
            options.reuse = Reuse::Times(times.get());
        }
        options.tls = Tls { insecure: *insecure, ca: ca.clone(), identity: cert.clone().zip(key.clone()) };
        options.cpu = *cpu;
    }
}

impl What {
    fn is_given(&self) -> bool {
        let Self { method, header, body, host, ws, ws_hold, grpc } = self;
        method.is_some()
            || !header.is_empty()
            || body.is_some()
            || host.is_some()
            || *ws
            || ws_hold.is_some()
            || *grpc
    }

    fn aim(&self, url: &str) -> anyhow::Result<Aim> {
        let Self { method, header, body, host, ws, ws_hold, grpc } = self;
        let kind = match (ws, ws_hold, grpc) {
            (true, ..) => Kind::WebSocketEcho,
            (_, Some(length), _) => Kind::WebSocketHold(*length),
            (.., true) => Kind::Grpc,
            (false, None, false) => Kind::Http,
        };
        let usual = if body.is_some() && kind == Kind::Http { Method::POST } else { Method::GET };
        Ok(Aim {
            host: host.clone(),
            method: method.clone().unwrap_or(usual),
            headers: header.clone(),
            body: body.as_deref().map(content).transpose()?.unwrap_or_default(),
            kind,
            ..Aim::new(url)
        })
    }
}

/// The text itself with its places to fill in, or what the file behind the @ holds, as it is.
fn content(text: &str) -> anyhow::Result<Template> {
    match text.strip_prefix('@') {
        None => Template::parse(text).map_err(|problem| Misuse(problem.to_string()).into()),
        Some("-") => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("cannot read the body from standard input")?;
            Ok(Template::plain(bytes))
        }
        Some(file) => {
            let read = std::fs::read(file).with_context(|| format!("cannot read the body from {file}"));
            let bytes = read.map_err(super::misused)?;
            Ok(Template::plain(bytes))
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let above = |rate: &f64| *rate > 0.0;
    plan::language::rate(text)
        .ok()
        .filter(above)
        .ok_or_else(|| "expected requests per second above 0, at most 1000000, as in 200, 0.5 or 30/m".into())
}

fn positive(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|problem| problem.to_string())?;
    if length.is_zero() { Err("expected more than 0".into()) } else { Ok(length) }
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    percent
        .ok()
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected percent, as in 10%".into())
}

fn header(text: &str) -> Result<(HeaderName, Template), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE, as in accept:text/html")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is not a header's name"))?;
    let value = value.trim();
    value.parse::<HeaderValue>().map_err(|_| format!("{value:?} is not a header's value"))?;
    Ok((name, Template::parse(value).map_err(|problem| problem.to_string())?))
}

#[cfg(test)]
impl Load {
    /// How many promises were given.
    pub(in crate::cli) fn promises(&self) -> usize {
        self.promises.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_rates_and_shares() {
        let pair = |text| {
            header(text).map(|(name, value)| {
                let value = value.fixed().map(|value| String::from_utf8_lossy(value).into_owned());
                format!("{name}={}", value.unwrap_or_else(|| "?".into()))
            })
        };
        assert_eq!(pair("Accept: a:b"), Ok("accept=a:b".into()));
        assert_eq!(pair("X-Id: {{counter}}"), Ok("x-id=?".into()));
        assert!(pair("a b:c").is_err() && pair("a:\u{7}").is_err() && pair("a:{{count}}").is_err());
        assert_eq!((rate("200/s"), rate("0.5"), rate("30/m")), (Ok(200.0), Ok(0.5), Ok(0.5)));
        assert!(rate("-1").is_err() && rate("NaN").is_err() && rate("0").is_err());
        assert!(positive("5s").is_ok() && positive("0s").is_err() && positive("5").is_err());
        assert_eq!((percent("10%"), percent("5")), (Ok(0.1), Ok(0.05)));
        assert!(percent("-1%").is_err());
    }

    #[test]
    fn a_body_is_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "content {{as it is}}").expect("written");
        let read = content(&format!("@{}", file.path().display())).expect("readable");
        assert_eq!(read.fixed(), Some(&b"content {{as it is}}"[..]));
        assert_eq!(content("a text").expect("itself").fixed(), Some(&b"a text"[..]));
        assert!(content("@/nowhere").is_err() && content("{{what}}").is_err());
    }
}
