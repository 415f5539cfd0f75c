//! What a simulation is given besides settings: traffic, and how long services and starts take. Shared by `simulate` and `tune`.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tidegate_config::model::{ScalingPolicy, Service};
use tidegate_loadtest::plan::{
    Plan, Process, Shape,
    read::recordings,
    recording::{Options, Recording},
};

use crate::{
    cli::output::Misuse,
    simulate::replay::{Case, Outcome, Takes, run_all},
};

/// The first moment of a Monday: 2024-01-01, in UTC.
const MONDAY: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// How long things take, what the clock shows, and what counts as late.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Assumed {
    /// How long a replica works on a request, on average [default: as the trace says, else 200ms]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    service_time: Option<Duration>,
    /// How much that varies: standard deviation over mean (lognormal); 0 for not at all
    #[arg(long, value_name = "CV", default_value_t = 1.0, value_parser = spread)]
    service_spread: f64,
    /// How long a start takes, in the middle
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    start_time: Duration,
    /// How much that varies: deviation of its logarithm (lognormal); 0 for not at all
    #[arg(long, value_name = "SIGMA", default_value_t = 0.5, value_parser = spread)]
    start_spread: f64,
    /// When the traffic begins, for `keep_warm` [default: as the trace says, else a Monday at midnight, UTC]
    #[arg(long, value_name = "TIME")]
    begins: Option<Timestamp>,
    /// A request that waits longer is late
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(in crate::cli) late_after: Duration,
    /// Threads [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

fn spread(text: &str) -> Result<f64, String> {
    let allowed = || "expected a number from 0 to 10".to_owned();
    let spread: f64 = text.parse().map_err(|_| allowed())?;
    (0.0..=10.0).contains(&spread).then_some(spread).ok_or_else(allowed)
}

/// What a replica bears, and how many there may be.
#[derive(Debug, Clone, Copy, Args)]
pub(in crate::cli) struct Room {
    /// Requests that a replica gets at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub(in crate::cli) concurrency: NonZeroU32,
    /// Replicas at most
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(in crate::cli) max: NonZeroU32,
}

impl Room {
    /// What every setting begins with. What a simulation asks for is what it measures: nobody gives up, nothing is cut off.
    pub(in crate::cli) fn base(self) -> Vec<(String, String)> {
        let base = [
            ("concurrency", self.concurrency.to_string()),
            ("max", self.max.to_string()),
            ("hold", "1h".to_owned()),
            ("drain", "1h".to_owned()),
            ("queue", "1000000".to_owned()),
        ];
        base.map(|(key, value)| (key.to_owned(), value)).into()
    }
}

/// What comes to one service.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Traffic {
    pub(in crate::cli) plan: Plan,
    took: Arc<[Option<Duration>]>,
    mean: Option<Duration>,
    begins: Option<Timestamp>,
}

impl Traffic {
    /// What a shape says.
    pub(in crate::cli) fn shaped(shape: Shape, process: Process) -> Result<Self, Misuse> {
        Ok(Self { plan: plan(shape, process)?, took: Arc::default(), mean: None, begins: None })
    }

    /// What was recorded.
    pub(in crate::cli) fn recorded(recording: Recording, process: Process) -> Result<Self, Misuse> {
        let Recording { profile, took, mean, begins } = recording;
        let begins = begins.and_then(|since| Timestamp::from_duration(since.try_into().ok()?).ok());
        Ok(Self { plan: plan(Shape::recorded("trace", profile), process)?, took, mean, begins })
    }
}

fn plan(shape: Shape, process: Process) -> Result<Plan, Misuse> {
    Plan::new(shape, process, 0).map_err(|problem| Misuse(problem.to_string()))
}

/// The recordings of a file, each of a service of its own.
pub(in crate::cli) fn recorded(file: &Path, service: Option<&str>) -> Result<Vec<Recording>, Misuse> {
    let options = Options { service: service.map(str::to_owned), ..Options::default() };
    recordings(file, &options).map_err(|error| Misuse(format!("{error:#}")))
}

/// Simulates each setting with so many seeds, and shows how far it is. `sum`: which of the sums that are returned, of so many, the
/// outcome of a setting with a seed goes into.
pub(in crate::cli) fn outcomes(
    assumed: &Assumed,
    traffic: &[Traffic],
    settings: &[ScalingPolicy],
    seeds: u32,
    (sums, sum): (usize, impl Fn(usize, u32) -> usize),
) -> Vec<Outcome> {
    run(assumed, &cases(assumed, traffic, settings, seeds, sum), sums)
}

/// One case for each setting, seed and service.
fn cases(
    assumed: &Assumed,
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
                let mean = assumed.service_time.or(one.mean).unwrap_or(Duration::from_millis(200));
                let case = Case {
                    service: Arc::clone(&service),
                    plan: one.plan.clone(),
                    begins: assumed.begins.or(one.begins).unwrap_or(MONDAY),
                    took: Arc::clone(&one.took),
                    service_time: Takes::with_mean(mean, assumed.service_spread),
                    start_time: Takes::with_median(assumed.start_time, assumed.start_spread),
                    late_after: assumed.late_after,
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
    let outcomes = run_all(cases, sums, threads, &|done| bar.set_position(done as u64));
    bar.finish_and_clear();
    outcomes
}
