//! What a simulation is given besides settings: traffic, and how long services and starts take. Shared by `simulate` and `tune`;
//! what settings begin with is [`subject`](super::subject).

use std::{
    io::IsTerminal,
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use parking_lot::Mutex;
use tidegate_config::model::{ScalingPolicy, Service};
use tidegate_loadtest::plan::{
    Plan, Process, Shape,
    read::recordings,
    recording::{Form, Options, Recording},
};

use crate::{
    cli::output::Misuse,
    clock,
    simulate::replay::{Case, Outcome, Takes, run_all},
};

/// The first moment of a Monday: 2024-01-01, in UTC.
const MONDAY: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// How long things take, what the clock shows, and what counts as late.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Assumed {
    /// How long a replica works on a request, on average [default: as the trace says, else 200ms]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    service_time: Option<Duration>,
    /// How much that varies: standard deviation over mean (lognormal); 0 for not at all
    #[arg(long, value_name = "CV", default_value_t = 1.0, value_parser = spread)]
    service_spread: f64,
    /// How long a start takes, in the middle [default: as those that the trace tells of, else 2s]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    start_time: Option<Duration>,
    /// How much that varies: deviation of its logarithm (lognormal); 0 for not at all
    #[arg(long, value_name = "SIGMA", default_value_t = 0.5, value_parser = spread)]
    start_spread: f64,
    /// When the traffic begins, for `keep_warm` [default: as the trace says, else a Monday at midnight, UTC]
    #[arg(long, value_name = "TIME")]
    begins: Option<Timestamp>,
    /// A request that waits longer is late [default: as the file says under `policy = "work"`, else 500ms]
    #[arg(long, value_name = "DURATION", value_parser = span)]
    late_after: Option<Duration>,
    /// Threads [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Assumed {
    /// What counts as late where settings begin with these.
    pub(in crate::cli) fn late_after(&self, base: &ScalingPolicy) -> Duration {
        self.late_after.unwrap_or(base.work.late_after)
    }

    fn service_time(&self, traffic: &Traffic) -> Takes {
        let mean = self.service_time.or(traffic.mean).unwrap_or(Duration::from_millis(200));
        Takes::with_mean(mean, self.service_spread)
    }

    fn start_time(&self, traffic: &Traffic) -> Takes {
        match self.start_time {
            None if !traffic.starts.is_empty() => Takes::Measured(Arc::clone(&traffic.starts)),
            given => Takes::with_median(given.unwrap_or(Duration::from_secs(2)), self.start_spread),
        }
    }

    /// What is assumed, in a sentence; `base`: what settings begin with.
    pub(in crate::cli) fn told(&self, traffic: &[Traffic], base: &ScalingPolicy) -> String {
        let time = |takes: &Takes| {
            let mean = Duration::from_millis(u64::try_from(takes.mean().as_millis()).unwrap_or(u64::MAX));
            humantime::format_duration(mean).to_string()
        };
        let [first, ..] = traffic else { return String::new() };
        let service = match traffic {
            [one] if one.took.iter().any(Option::is_some) => "a request takes as long as it did".to_owned(),
            [one] => format!("a request takes {} on average", time(&self.service_time(one))),
            _ if self.service_time.is_none() => "requests of each service take as the trace says".to_owned(),
            _ => format!("a request takes {} on average", time(&self.service_time(first))),
        };
        let start = self.start_time(first);
        let starts = match &start {
            Takes::Measured(times) => format!("a start as one of {} that were recorded, ", times.len()),
            Takes::Always(_) | Takes::Lognormal { .. } => "a start ".to_owned(),
        };
        let limit = base.concurrency.map_or_else(
            || "any number of requests".to_owned(),
            |limit| format!("{limit} request{}", if limit.get() == 1 { "" } else { "s" }),
        );
        format!(
            "Assumed, where settings say nothing else: {service}, {starts}{} on average; a replica gets {limit} at once, and there are at \
             most {}.",
            time(&start),
            base.max
        )
    }
}

/// A duration with its unit.
pub(in crate::cli) fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a number with a unit, as in 500ms, 30s or 5m".to_owned())
}

fn spread(text: &str) -> Result<f64, String> {
    let allowed = || "expected a number from 0 to 10".to_owned();
    let spread: f64 = text.parse().map_err(|_| allowed())?;
    (0.0..=10.0).contains(&spread).then_some(spread).ok_or_else(allowed)
}

/// What comes to one service.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Traffic {
    pub(in crate::cli) plan: Plan,
    took: Arc<[Option<Duration>]>,
    mean: Option<Duration>,
    begins: Option<Timestamp>,
    starts: Arc<[Duration]>,
}

impl Traffic {
    /// What a shape says.
    pub(in crate::cli) fn shaped(shape: Shape, process: Process) -> Result<Self, Misuse> {
        Ok(Self {
            plan: plan(shape, process)?,
            took: Arc::default(),
            mean: None,
            begins: None,
            starts: Arc::default(),
        })
    }

    /// What was recorded.
    pub(in crate::cli) fn recorded(recording: Recording, process: Process) -> Result<Self, Misuse> {
        let Recording { profile, took, mean, begins, starts } = recording;
        let begins = begins.and_then(|since| Timestamp::from_duration(since.try_into().ok()?).ok());
        Ok(Self { plan: plan(Shape::recorded("trace", profile), process)?, took, mean, begins, starts })
    }
}

fn plan(shape: Shape, process: Process) -> Result<Plan, Misuse> {
    Plan::new(shape, process, 0).map_err(|problem| Misuse(problem.to_string()))
}

/// The recordings of a file, each of a service of its own. `own`: what names no services is the traffic of that one.
pub(in crate::cli) fn recorded(
    file: &Path,
    form: Option<Form>,
    service: Option<&str>,
    own: bool,
) -> Result<Vec<Recording>, Misuse> {
    let options = Options { form, service: service.map(str::to_owned), own, ..Options::default() };
    recordings(file, &options).map_err(|error| Misuse(format!("{error:#}")))
}

/// Simulates each setting with so many seeds, and shows how far it is. `late_after`: who waits longer is late; `sum`: which of the sums that are returned, of so many, the
/// outcome of a setting with a seed goes into.
pub(in crate::cli) fn outcomes(
    (assumed, late_after): (&Assumed, Duration),
    traffic: &[Traffic],
    settings: &[ScalingPolicy],
    seeds: u32,
    (sums, sum): (usize, impl Fn(usize, u32) -> usize),
) -> Vec<Outcome> {
    run(assumed, &cases((assumed, late_after), traffic, settings, seeds, sum), sums)
}

/// One case for each setting, seed and service.
fn cases(
    (assumed, late_after): (&Assumed, Duration),
    traffic: &[Traffic],
    settings: &[ScalingPolicy],
    seeds: u32,
    sum: impl Fn(usize, u32) -> usize,
) -> Vec<(usize, Case)> {
    let mut cases = Vec::new();
    for (number, setting) in settings.iter().enumerate() {
        let mut service = Service::of("simulated".parse().expect("a valid name"), "simulated");
        service.scaling = setting.clone();
        let service = Arc::new(service);
        for seed in 0..seeds {
            for (at, one) in traffic.iter().enumerate() {
                let case = Case {
                    service: Arc::clone(&service),
                    plan: one.plan.clone(),
                    begins: assumed.begins.or(one.begins).unwrap_or(MONDAY),
                    took: Arc::clone(&one.took),
                    service_time: assumed.service_time(one),
                    start_time: assumed.start_time(one),
                    late_after,
                    seed: u64::from(seed) * 1_000_000 + at as u64,
                };
                cases.push((sum(number, seed), case));
            }
        }
    }
    cases
}

fn run(assumed: &Assumed, cases: &[(usize, Case)], sums: usize) -> Vec<Outcome> {
    let bar = ProgressBar::new(cases.len() as u64);
    let style = "{pos}/{len} runs [{bar:30}] {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    let threads = assumed.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.unwrap_or(NonZeroUsize::MIN);
    let log = Log { of: cases.len(), last: Mutex::new(clock::now()) };
    let shown = std::io::stderr().is_terminal();
    let tell = |done: usize| if shown { bar.set_position(done as u64) } else { log.tell(done) };
    let outcomes = run_all(cases, sums, threads, &tell);
    bar.finish_and_clear();
    outcomes
}

/// How far it is, where no terminal shows it: a line now and then.
struct Log {
    of: usize,
    last: Mutex<Instant>,
}

impl Log {
    const EVERY: Duration = Duration::from_secs(10);

    fn tell(&self, done: usize) {
        let (now, mut last) = (clock::now(), self.last.lock());
        if now.saturating_duration_since(*last) >= Self::EVERY {
            *last = now;
            eprintln!("{done} of {} runs", self.of);
        }
    }
}
