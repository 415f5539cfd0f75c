//! `tidegate simulate`: what a service's traffic would have felt and cost under other settings, told before they are
//! deployed. Reads a trace, tries each setting, prints a table, JSON, or a page with charts.

pub(super) mod given;
mod page;
pub(super) mod settings;
mod table;

use std::{num::NonZeroU32, path::PathBuf, process::ExitCode, str::FromStr};

use anyhow::Context;
use clap::Args;
use tidegate_loadtest::plan::{Process, Shape, read::shape};

use self::{
    given::{Assumed, Room, Traffic},
    settings::Setting,
};
use super::output::{Misuse, print, print_json};
use crate::simulate::replay::Outcome;

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
    #[command(flatten)]
    room: Room,
    #[command(flatten)]
    assumed: Assumed,
    /// Runs of each setting, with chance of their own
    #[arg(long, value_name = "N", default_value = "1")]
    seeds: NonZeroU32,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Also write a page with charts, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
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
        let page = page::page(&tried, args.assumed.late_after);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        print_json(&table::values(&tried))?;
    } else {
        print(&table::table(&tried, args.assumed.late_after))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn traffic(args: &Simulate) -> anyhow::Result<Vec<Traffic>> {
    if let Some(shape) = &args.shape {
        return Ok(vec![Traffic::shaped(shape.clone(), args.process)?]);
    }
    let file = args.trace.as_ref().context("a trace or a shape is given")?;
    let recorded = given::recorded(file, args.service.as_deref())?;
    Ok(recorded.into_iter().map(|one| Traffic::recorded(one, args.process)).collect::<Result<_, _>>()?)
}

fn settings(args: &Simulate) -> Result<Vec<Setting>, Misuse> {
    let mut texts = args.tries.clone();
    if texts.is_empty() && !args.sweep {
        texts = ["kpa", "work", "hpa"].map(str::to_owned).to_vec();
    }
    if args.sweep {
        texts.extend(settings::sweep());
    }
    texts.iter().map(|text| settings::read(&args.room.base(), text)).collect()
}

fn simulate(args: &Simulate, traffic: &[Traffic], settings: &[Setting]) -> Vec<Outcome> {
    let policies: Vec<_> = settings.iter().map(|setting| setting.scaling.clone()).collect();
    let sums = (policies.len(), |setting, _| setting);
    given::outcomes(&args.assumed, traffic, &policies, args.seeds.get(), sums)
}
