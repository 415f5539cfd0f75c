//! `tidegate load`: open-loop load, with a live line on a terminal and a report at the end.

use std::{
    io::{self, Read},
    num::NonZeroUsize,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_loadtest::{
    Options, Outcome, Snapshot, Threshold,
    plan::{self, Plan, Process, Shape},
    report::human,
    target,
};

use super::output::{Misuse, print, print_json};

#[derive(Debug, Args)]
pub(super) struct Load {
    /// Where to send, as in `http://api.localhost:8080/`
    url: String,
    /// Requests per second, sent whether or not earlier ones were answered
    #[arg(long, value_name = "N", value_parser = rate, requires = "duration")]
    rate: Option<f64>,
    /// How long to send, as in 30s or 2m
    #[arg(long, value_parser = humantime::parse_duration, requires = "rate")]
    duration: Option<Duration>,
    /// How the rate runs over time instead: const, ramp, step, spike, sine, pause and trace with | between them, as in
    /// 'ramp 0..200 1m | const 200 5m' (docs/load-testing.md)
    #[arg(long, value_name = "TEXT", value_parser = plan::read::shape, conflicts_with = "rate", required_unless_present = "rate")]
    shape: Option<Shape>,
    /// Connections at most; as few as needed are opened
    #[arg(long, value_name = "N", default_value = "64")]
    connections: NonZeroUsize,
    /// How long a request may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The method [default: GET, or POST with a body]
    #[arg(long)]
    method: Option<Method>,
    /// A header to send; repeatable
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The body to send: the text itself, or @FILE for a file's content (@- for standard input)
    #[arg(long, value_name = "TEXT|@FILE")]
    body: Option<String>,
    /// The host to ask for instead of the URL's
    #[arg(long)]
    host: Option<String>,
    /// How requests are spread within the rate: uniform, poisson, gamma(CV) or burst(N)
    #[arg(long, value_name = "NAME", default_value = "uniform", value_parser = Process::from_str)]
    process: Process,
    /// The same as --process poisson: random instants, as of many independent users
    #[arg(long, conflicts_with = "process")]
    poisson: bool,
    /// The same seed gives the same random instants
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Speak HTTP/2 without TLS
    #[arg(long)]
    h2c: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// What must hold, as in 'p99<50ms' 'error_rate<0.1%'; else the exit code is 1. Several may follow; repeatable
    #[arg(long = "assert", value_name = "EXPRESSION", num_args = 1.., value_parser = Threshold::from_str)]
    promises: Vec<Threshold>,
}

pub(super) fn run(args: Load) -> anyhow::Result<ExitCode> {
    let (options, plan) = (options(&args)?, planned(&args)?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot make a runtime")?;
    let live = Live::new(plan.duration());
    let sending = tidegate_loadtest::run(options, plan, |snapshot| live.show(&snapshot));
    let result = runtime.block_on(Box::pin(sending));
    live.0.finish_and_clear();
    let report = result.map_err(blame)?;
    let outcomes: Vec<Outcome> = args.promises.iter().map(|promise| promise.check(&report)).collect();
    if args.json {
        print_json(&report.to_json(&outcomes))?;
    } else {
        print(&report.to_text(&outcomes))?;
    }
    Ok(ExitCode::from(report.exit_code(&outcomes)))
}

/// What the command line asks for; a plan that sends nothing is misuse.
fn planned(args: &Load) -> anyhow::Result<Plan> {
    let shape = match (&args.shape, args.rate, args.duration) {
        (Some(shape), ..) => shape.clone(),
        (None, Some(rate), Some(duration)) => Shape::constant(rate, duration),
        (None, ..) => unreachable!("the command line asks for one of the two"),
    };
    let process = if args.poisson { Process::Poisson } else { args.process };
    Plan::new(shape, process, args.seed).map_err(|problem| Misuse(problem.to_string()).into())
}

fn options(args: &Load) -> anyhow::Result<Options> {
    let body = args.body.as_deref().map(body).transpose()?;
    let usual = if body.is_some() { Method::POST } else { Method::GET };
    Ok(Options {
        url: args.url.clone(),
        connections: args.connections.get(),
        timeout: args.timeout,
        method: args.method.clone().unwrap_or(usual),
        headers: args.header.clone(),
        body: body.unwrap_or_default(),
        host: args.host.clone(),
        h2c: args.h2c,
    })
}

/// What was typed wrong is misuse; a name that does not resolve is a failure.
fn blame(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<target::Invalid>() {
        Some(target::Invalid::Url { .. } | target::Invalid::Https(_) | target::Invalid::Host(_)) => {
            let words = error.to_string();
            error.context(Misuse(words))
        }
        Some(target::Invalid::Resolve { .. } | target::Invalid::NoAddress(_)) | None => error,
    }
}

/// The text itself, or what the file behind the @ holds.
fn body(text: &str) -> anyhow::Result<Vec<u8>> {
    match text.strip_prefix('@') {
        None => Ok(text.as_bytes().to_vec()),
        Some("-") => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("cannot read the body from standard input")?;
            Ok(bytes)
        }
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read the body from {file}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.strip_suffix("/s").unwrap_or(text).parse::<f64>();
    rate.ok()
        .filter(|rate| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "expected requests per second above 0, as in 200 or 0.5".into())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE, as in accept:text/html")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is not a header's name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is not a header's value"))?;
    Ok((name, value))
}

/// A line that is drawn over and over on standard error, if that is a terminal.
struct Live(ProgressBar);

impl Live {
    fn new(duration: Duration) -> Self {
        let bar = ProgressBar::new(millis(duration));
        let style =
            ProgressStyle::with_template("  {bar:24} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self(bar)
    }

    fn show(&self, snapshot: &Snapshot) {
        self.0.set_position(millis(snapshot.elapsed));
        self.0.set_message(words(snapshot));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn words(snapshot: &Snapshot) -> String {
    let latency = |value: Option<Duration>| value.map_or_else(|| "-".to_owned(), human);
    let Snapshot { rate, in_flight, p50, p99, errors, behind, .. } = *snapshot;
    let behind = if behind > Duration::from_millis(100) {
        format!(", {} behind", human(behind))
    } else {
        String::new()
    };
    format!(
        "{rate:.0}/s, {in_flight} in flight, p50 {}, p99 {}, {errors} errors{behind}",
        latency(p50),
        latency(p99)
    )
}

#[cfg(test)]
impl Load {
    /// How many promises were given.
    pub(super) fn promises(&self) -> usize {
        self.promises.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_rates() {
        let pair =
            |text| header(text).map(|(name, value)| format!("{name}={}", value.to_str().expect("text")));
        assert_eq!(pair("Accept: a:b"), Ok("accept=a:b".into()));
        assert!(pair("a b:c").is_err() && pair("a:\u{7}").is_err());
        assert_eq!((rate("200/s"), rate("0.5")), (Ok(200.0), Ok(0.5)));
        assert!(rate("-1").is_err() && rate("NaN").is_err());
    }

    #[test]
    fn a_body_is_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "content").expect("written");
        assert_eq!(body(&format!("@{}", file.path().display())).expect("readable"), b"content");
        assert_eq!(body("a text").expect("itself"), b"a text");
        assert!(body("@/nowhere").is_err());
    }

    #[test]
    fn the_live_line_says_when_it_falls_behind() {
        let ms = Duration::from_millis;
        let mut snapshot = Snapshot {
            elapsed: ms(1000),
            expected: 400,
            sent: 200,
            done: 190,
            errors: 1,
            in_flight: 10,
            behind: ms(5),
            rate: 190.4,
            p50: Some(ms(12)),
            p99: None,
            finished: false,
        };
        assert_eq!(words(&snapshot), "190/s, 10 in flight, p50 12.0ms, p99 -, 1 errors");
        snapshot.behind = ms(1500);
        assert!(words(&snapshot).ends_with(", 1.50s behind"));
    }
}
