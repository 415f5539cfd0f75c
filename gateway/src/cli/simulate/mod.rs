//! `tidegate simulate`: what a service's traffic would have felt and cost under other settings, told before they are
//! deployed. Reads a trace, tries each setting, prints a table, JSON, or a page with charts.

pub(super) mod given;
mod notes;
mod page;
mod said;
pub(super) mod settings;
pub(super) mod subject;
mod table;

use std::{num::NonZeroU32, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use anyhow::Context;
use clap::Args;
use tidegate_config::model::{Law, Work};
use tidegate_loadtest::plan::{Process, Shape, read::shape};

use self::{
    given::{Assumed, Traffic, Trial},
    settings::Setting,
    subject::{Base, Subject},
};
use super::{
    load::files::writable,
    output::{Misuse, print, print_json},
};
use crate::simulate::replay::Outcome;

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The traffic: an access log of ours (JSON), times, requests per second, or requests per minute (CSV with columns 1, 2,
    /// ..., in which each row is a service of its own); plain or packed (gzip, bzip2); - for standard input
    #[arg(conflicts_with = "shape")]
    trace: Option<PathBuf>,
    /// The traffic in words, as `tidegate load` has them: 'const 20 10m | ramp 20..100 5m', or 'trace FILE from=6h for=1h'
    #[arg(long, value_name = "TEXT", value_parser = shape, conflicts_with = "form")]
    shape: Option<Shape>,
    /// How requests are spread within the rate: scatter (random instants, as many as the rate says), poisson, uniform,
    /// gamma(CV) or burst(N)
    #[arg(long, value_name = "NAME", default_value = "scatter", value_parser = Process::from_str)]
    process: Process,
    #[command(flatten)]
    subject: Subject,
    /// Settings to try, as they stand under `scaling` in the file: policy=work,late_worth=60s; repeatable [default: kpa, work
    /// and hpa as they are]. With --config those of the file are tried first
    #[arg(long = "try", value_name = "SETTINGS")]
    tries: Vec<String>,
    /// Also try kpa and work over the settings that are usually turned
    #[arg(long)]
    sweep: bool,
    #[command(flatten)]
    assumed: Assumed,
    /// Runs of each setting, with chance of their own
    #[arg(long, value_name = "N", default_value = "1", value_parser = given::from_one::<NonZeroU32>)]
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
    /// What the figures alone do not tell.
    notes: Vec<String>,
}

/// What holds for all that was tried.
#[derive(Default)]
struct About {
    late_after: Duration,
    /// Of the traffic.
    length: Duration,
    assumed: String,
    notes: Vec<String>,
}

impl About {
    fn all_notes<'a>(&'a self, tried: &'a [Tried]) -> impl Iterator<Item = &'a String> {
        self.notes.iter().chain(tried.iter().flat_map(|one| &one.notes))
    }
}

pub(super) fn run(args: &Simulate) -> anyhow::Result<ExitCode> {
    let base = args.subject.base()?;
    args.html.as_deref().map_or(Ok(()), writable)?;
    let (traffic, mut settings) = (traffic(args)?, settings(args, &base)?);
    // What the file says is tried as it stands there.
    let own = usize::from(args.subject.config.is_some());
    let agreed = if own == 0 { agreed(&settings) } else { None };
    let late_after = args.assumed.late_after(&base.tried, agreed);
    let passed = pass_on(&mut settings[own..], late_after, own > 0);
    let trial = Trial { assumed: &args.assumed, late_after, traffic: &traffic, seeds: args.seeds.get() };
    let outcomes = trial.outcomes(settings.iter().map(|setting| &setting.scaling));
    let assumed =
        base.told(&args.assumed, &traffic, settings.iter().map(|setting| &setting.scaling)) + &passed;
    let lasts: Vec<_> = traffic.iter().map(|one| (args.assumed.begins(one), one.length())).collect();
    let tried = |(setting, outcome)| {
        let notes = notes::of(&setting, &outcome, late_after, &lasts);
        Tried { setting, outcome, notes }
    };
    let tried: Vec<Tried> = settings.into_iter().zip(outcomes).map(tried).collect();
    let about = About { late_after, length: traffic[0].length(), assumed, notes: base.notes() };
    if args.json {
        print_json(&table::values(&tried, &about))?;
    } else {
        print(&table::table(&tried, &about))?;
        about.all_notes(&tried).try_for_each(|note| print(&format!("Note: {note}\n")))?;
    }
    if let Some(file) = &args.html {
        let page = page::page(&tried, &about);
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is late for all settings that say it, where they agree.
fn agreed(settings: &[Setting]) -> Option<Duration> {
    let mut said =
        settings.iter().filter(|one| one.says_what_is_late()).map(|one| one.scaling.work.late_after);
    let first = said.next()?;
    said.all(|other| other == first).then_some(first)
}

/// Tells `work` what is late, where neither the file nor the setting says it, and says so.
fn pass_on(settings: &mut [Setting], late_after: Duration, has_file: bool) -> String {
    let usual = Work::default().late_after;
    let is_silent = |one: &&mut Setting| one.scaling.law == Law::Work && !one.says_what_is_late();
    let silent = settings.iter_mut().filter(is_silent).filter(|_| late_after != usual);
    let passed = silent.map(|one| one.scaling.work.late_after = late_after).count();
    if passed == 0 {
        return String::new();
    }
    let late_after = humantime::format_duration(late_after);
    let but = humantime::format_duration(usual);
    let file = if has_file { format!(", nor the file another than {but}") } else { String::new() };
    format!(" `work` is told that more than {late_after} is late, where no setting says `late_after`{file}.")
}

fn traffic(args: &Simulate) -> anyhow::Result<Vec<Traffic>> {
    if let Some(shape) = &args.shape {
        if args.subject.service.is_some() && args.subject.config.is_none() {
            return Err(Misuse(
                "a shape names no services; --service goes with an access log or --config".to_owned(),
            )
            .into());
        }
        return Ok(vec![Traffic::shaped(shape.clone(), args.process)?]);
    }
    let file = args.trace.as_ref().ok_or_else(|| {
        Misuse("no traffic is given; name a trace, or say --shape 'const 20 10m' (see --help)".to_owned())
    })?;
    let recorded = args.subject.recorded(file)?;
    Ok(recorded.into_iter().map(|one| Traffic::recorded(one, args.process)).collect::<Result<_, _>>()?)
}

fn settings(args: &Simulate, base: &Base) -> Result<Vec<Setting>, Misuse> {
    let read = |text: &String| settings::read(&base.tried, text);
    let tried = args.tries.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    each_once(&tried)?;
    let more = if args.sweep {
        settings::sweep(&base.tried)?
    } else if tried.is_empty() {
        Law::ALL.map(|law| law.to_string()).to_vec()
    } else {
        Vec::new()
    };
    let more = more.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let now = Setting::own(args.subject.now(), base.tried.clone());
    let now = args.subject.config.is_some().then_some(now);
    Ok(now.into_iter().chain(tried).chain(more).collect())
}

/// Nobody waits for the same figures twice.
fn each_once(tried: &[Setting]) -> Result<(), Misuse> {
    let same = |at: usize| tried[..at].iter().find(|before| before.is_same(&tried[at]));
    match (0..tried.len()).find_map(|at| Some((same(at)?, &tried[at]))) {
        Some((before, twice)) if before.name == twice.name => {
            Err(Misuse(format!("--try '{}' is said twice; leave one of them out", twice.name)))
        }
        Some((before, twice)) => Err(Misuse(format!(
            "--try '{}' says the same as --try '{}'; leave one of them out",
            twice.name, before.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::model::ScalingPolicy;

    use super::*;

    fn of(texts: &[&str]) -> Vec<Setting> {
        texts.iter().map(|text| settings::read(&ScalingPolicy::default(), text).expect("good")).collect()
    }

    #[test]
    fn late_is_what_all_goals_call_late() {
        let agreed = |texts: &[&str]| agreed(&of(texts));
        let goal = "work,goal=p95 wait < 50ms";
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(agreed(&["kpa", "work", "work,late_worth=5s"]), None);
        assert_eq!(agreed(&["kpa", "work", goal, "work,goal=p99 wait < 50ms"]), millis(50));
        assert_eq!(agreed(&["work,wait_probability=0.1"]), millis(0));
        assert_eq!(agreed(&["work,late_after=2s"]), millis(2000));
        assert_eq!(agreed(&[goal, "work,goal=p95 wait < 1s"]), None, "there is no one");
    }

    #[test]
    fn nothing_is_tried_twice() {
        let refused = |texts: &[&str]| each_once(&of(texts)).err().map(|misuse| misuse.0);
        assert_eq!(refused(&["kpa", "work", "work,late_after=500ms"]), None);
        let twice = refused(&["kpa", "work", "kpa"]).expect("refused");
        assert_eq!(twice, "--try 'kpa' is said twice; leave one of them out");
        let same = refused(&["work", "policy=work"]).expect("refused");
        assert_eq!(same, "--try 'policy=work' says the same as --try 'work'; leave one of them out");
    }

    #[test]
    fn what_is_late_is_passed_on_to_who_does_not_say_it() {
        let mut settings =
            of(&["work", "work,late_after=500ms", "work, late_after = 500ms", "work,late_after=1s"]);
        pass_on(&mut settings, Duration::from_millis(50), false);
        let late = settings.iter().map(|one| one.scaling.work.late_after.as_millis());
        assert_eq!(late.collect::<Vec<_>>(), [50, 500, 500, 1000]);
    }
}
