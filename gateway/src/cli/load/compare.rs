//! `tidegate load compare` and `tidegate load merge`: what is done with reports afterwards.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use tidegate_loadtest::compare;

use super::{files, misused};
use crate::cli::output::{print, print_json};

/// Two reports.
#[derive(Debug, Args)]
pub(in crate::cli) struct Compare {
    /// A report in JSON
    first: PathBuf,
    /// Another one
    second: PathBuf,
}

/// Several reports of the same time.
#[derive(Debug, Args)]
pub(in crate::cli) struct Merge {
    /// Reports in JSON, of generators that ran at the same time
    #[arg(required = true, num_args = 2..)]
    reports: Vec<PathBuf>,
    /// Print the whole as JSON
    #[arg(long)]
    json: bool,
    /// Write the whole to a file, as its name ends: .json, .csv, .hlog or .html; repeatable
    #[arg(long, value_name = "FILE", value_parser = files::known)]
    out: Vec<PathBuf>,
}

pub(super) fn compare(args: &Compare) -> anyhow::Result<ExitCode> {
    let read = |file| files::read(file).map_err(misused);
    print(&compare::text(&read(&args.first)?, &read(&args.second)?))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn merge(args: &Merge) -> anyhow::Result<ExitCode> {
    args.out.iter().try_for_each(|file| files::writable(file)).map_err(misused)?;
    let mut reports = args.reports.iter().map(|file| files::read(file).map_err(misused));
    // At least two are required.
    let mut whole = reports.next().unwrap_or_else(|| anyhow::bail!("nothing to merge"))?;
    for (file, report) in args.reports.iter().skip(1).zip(reports) {
        let merged = whole.merge(&report?);
        merged
            .with_context(|| format!("{} does not belong to the others", file.display()))
            .map_err(misused)?;
    }
    let written = files::write_all(&args.out, &whole, &[], None);
    if args.json {
        print_json(&whole.to_json(&[]))?
    } else {
        print(&whole.to_text(&[]))?
    }
    files::exit(written, whole.exit_code(&[]))
}
