//! `tidegate simulate`: what a service's traffic would have felt and cost under other settings, told before they are
//! deployed. Reads a trace, tries each setting, prints a table, JSON, or a page with charts.

mod page;
mod settings;
mod table;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_config::model::Service;
use tidegate_loadtest::plan::{
    Plan, Process, Shape,
    read::{recordings, shape},
    recording::{Options, Recording},
};

use self::settings::Setting;
use super::output::{Misuse, print, print_json};
use crate::simulate::replay::{Case, Outcome, Takes, run_all};

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The traffic: an access log of ours (JSON), times, requests per second, or requests per minute (CSV with columns 1, 2,
    /// ..., in which each row is a service of its own); plain or packed (gzip, bzip2); - for standard input
    #[arg(required_unless_present = "shape", conflicts_with = "shape")]
    trace: Option<PathBuf>,
    /// The traffic in words, as `tidegate load` has them: 'const 20 10m | ramp 20..100 5m', or 'trace FILE from=6h for=1h'
    #[arg(long, value_name = "TEXT", value_parser = shape)]
    shape: Option<Shape>,
    /// How requests are spread within the rate: scatter (random instants, as many as the rate says), poisson, uniform,
    /// gamma(CV) or burst(N)
    #[arg(long, value_name = "NAME", default_value = "scatter", value_parser = Process::from_str)]
    process: Process,
    /// Which service's requests to take from an access log [default: all]
    #[arg(long, value_name = "NAME", conflicts_with = "shape")]
    service: Option<String>,
    /// Settings to try, as they stand under `scaling` in the file: policy=work,late_worth=60s; repeatable [default: kpa, work
    /// and hpa as they are]
    #[arg(long = "try", value_name = "SETTINGS")]
    tries: Vec<String>,
    /// Also try kpa and work over the settings that are usually turned
    #[arg(long)]
    sweep: bool,
    /// Requests that a replica gets at once
    #[arg(long, value_name = "N", default_value = "1")]
    concurrency: NonZeroU32,
    /// Replicas at most
    #[arg(long, value_name = "N", default_value = "1000")]
    max: NonZeroU32,
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
    /// A request that waits longer is late
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    late_after: Duration,
    /// Runs of each setting, with chance of their own
    #[arg(long, value_name = "N", default_value = "1")]
    seeds: NonZeroU32,
    /// Threads [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Also write a page with charts, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn spread(text: &str) -> Result<f64, String> {
    let allowed = || "expected a number from 0 to 10".to_owned();
    let spread: f64 = text.parse().map_err(|_| allowed())?;
    (0.0..=10.0).contains(&spread).then_some(spread).ok_or_else(allowed)
}

/// A setting and what came of it.
struct Tried {
    setting: Setting,
    outcome: Outcome,
}

pub(super) fn run(args: &Simulate) -> anyhow::Result<ExitCode> {
    let traffic = traffic(args)?;
    let settings = settings(args)?;
    let outcomes = simulate(args, &traffic, &settings);
    let tried: Vec<Tried> =
        settings.into_iter().zip(outcomes).map(|(setting, outcome)| Tried { setting, outcome }).collect();
    if let Some(file) = &args.html {
        let page = page::page(&tried, args.late_after);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        print_json(&table::values(&tried))?;
    } else {
        print(&table::table(&tried, args.late_after))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What comes to one service.
struct Traffic {
    plan: Plan,
    took: Arc<[Option<Duration>]>,
    mean: Option<Duration>,
}

fn traffic(args: &Simulate) -> anyhow::Result<Vec<Traffic>> {
    let plan = |shape| Plan::new(shape, args.process, 0).map_err(|problem| Misuse(problem.to_string()));
    if let Some(shape) = &args.shape {
        return Ok(vec![Traffic { plan: plan(shape.clone())?, took: Arc::default(), mean: None }]);
    }
    let file = args.trace.as_ref().context("a trace or a shape is given")?;
    let options = Options { service: args.service.clone(), ..Options::default() };
    let recorded = recordings(file, &options).map_err(|error| Misuse(format!("{error:#}")))?;
    let traffic = |Recording { profile, took, mean }| {
        Ok(Traffic { plan: plan(Shape::recorded("trace", profile))?, took, mean })
    };
    recorded.into_iter().map(traffic).collect()
}

fn settings(args: &Simulate) -> Result<Vec<Setting>, Misuse> {
    let mut texts = args.tries.clone();
    if texts.is_empty() && !args.sweep {
        texts = ["kpa", "work", "hpa"].map(str::to_owned).to_vec();
    }
    if args.sweep {
        texts.extend(settings::sweep());
    }
    let base = [
        ("concurrency", args.concurrency.to_string()),
        ("max", args.max.to_string()),
        // What the simulation asks for is what it measures: nobody gives up, nothing is cut off.
        ("hold", "1h".to_owned()),
        ("drain", "1h".to_owned()),
        ("queue", "1000000".to_owned()),
    ];
    let base = base.map(|(key, value)| (key.to_owned(), value));
    texts.iter().map(|text| settings::read(&base, text)).collect()
}

fn simulate(args: &Simulate, traffic: &[Traffic], settings: &[Setting]) -> Vec<Outcome> {
    let cases = cases(args, traffic, settings);
    let bar = ProgressBar::new(cases.len() as u64);
    let style = "{pos}/{len} runs [{bar:30}] {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.unwrap_or(NonZeroUsize::MIN);
    let outcomes = run_all(&cases, settings.len(), threads, &|done| bar.set_position(done as u64));
    bar.finish_and_clear();
    outcomes
}

fn cases(args: &Simulate, traffic: &[Traffic], settings: &[Setting]) -> Vec<(usize, Case)> {
    let mut cases = Vec::new();
    for (number, setting) in settings.iter().enumerate() {
        let mut service = Service::of("simulated".parse().expect("a valid name"), "simulated");
        service.scaling = setting.scaling.clone();
        let service = Arc::new(service);
        for seed in 0..args.seeds.get() {
            for (at, one) in traffic.iter().enumerate() {
                let mean = args.service_time.or(one.mean).unwrap_or(Duration::from_millis(200));
                let case = Case {
                    service: Arc::clone(&service),
                    plan: one.plan.clone(),
                    took: Arc::clone(&one.took),
                    service_time: Takes::with_mean(mean, args.service_spread),
                    start_time: Takes::with_median(args.start_time, args.start_spread),
                    late_after: args.late_after,
                    seed: u64::from(seed) * 1_000_000 + at as u64,
                };
                cases.push((number, case));
            }
        }
    }
    cases
}
