//! `tidegate simulate`: what a service's traffic would have felt and cost under other settings, told before they are
//! deployed. Reads a trace, tries each setting, prints a table, JSON, or a page with charts.

pub(super) mod given;
mod page;
mod said;
pub(super) mod settings;
pub(super) mod subject;
mod table;

use std::{num::NonZeroU32, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use anyhow::Context;
use clap::Args;
use tidegate_config::model::{Aim, Law, ScalingPolicy, Work};
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
    let tried: Vec<Tried> =
        settings.into_iter().zip(outcomes).map(|(setting, outcome)| Tried { setting, outcome }).collect();
    if args.json {
        print_json(&table::values(&tried, late_after, &assumed))?;
    } else {
        print(&table::table(&tried, late_after, traffic[0].length(), &assumed))?;
        let goals = tried
            .iter()
            .filter_map(|one| judged(one, late_after).or_else(|| other_bound(&one.setting, late_after)));
        let idle = tried.iter().filter_map(|one| never_by_clock(&one.setting, args, &traffic));
        let mut notes = base.notes().into_iter().chain(goals).chain(idle);
        notes.try_for_each(|note| print(&format!("Note: {note}\n")))?;
    }
    if let Some(file) = &args.html {
        let page = page::page(&tried, late_after, &assumed);
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

/// Where replicas are weighed against other waits than those that count as late.
fn other_bound(setting: &Setting, late_after: Duration) -> Option<String> {
    let ScalingPolicy { law: Law::Work, work: Work { aim: Aim::Worth(_), late_after: own, .. }, .. } =
        setting.scaling
    else {
        return None;
    };
    let (name, wait) = (&setting.name, humantime::format_duration(own));
    (own != late_after).then(|| {
        format!("{name} spares waits of more than {wait}: what that does is told by --late-after {wait}")
    })
}

/// Whether a goal is met, by its own bound; where `late` in the table tells that, only one that is not.
fn judged(Tried { setting, outcome }: &Tried, late_after: Duration) -> Option<String> {
    let goal = setting.goal()?;
    let own = setting.scaling.work.late_after;
    let (share, later) = (outcome.beyond_share(), outcome.halves[1].share());
    let is_met = share <= goal;
    if is_met && own == late_after {
        return None;
    }
    let [share, later, goal] = [share, later, goal].map(table::percent);
    let (verdict, own) = (if is_met { "met" } else { "missed" }, humantime::format_duration(own));
    Some(format!(
        "{} is {verdict}: {share} waited more than {own}, {goal} may; {later} of those in the second half did, when more was learned",
        setting.name
    ))
}

/// Replicas by the clock of which nothing is seen, as it never shows their times.
fn never_by_clock(setting: &Setting, args: &Simulate, traffic: &[Traffic]) -> Option<String> {
    let keep_warm = &setting.scaling.keep_warm;
    let holds = |one: &Traffic| {
        keep_warm.iter().any(|keep| keep.holds_within(args.assumed.begins(one), one.length()))
    };
    let never = !keep_warm.is_empty() && !traffic.iter().any(holds);
    never.then(|| {
        format!(
            "`keep_warm` of {} does not hold while this traffic lasts; --begins says when it begins",
            setting.name
        )
    })
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
    if let Some((_, twice)) =
        args.tries.iter().enumerate().find(|(at, text)| args.tries[..*at].contains(text))
    {
        return Err(Misuse(format!("--try '{twice}' is said twice; leave one of them out")));
    }
    let mut texts = args.tries.clone();
    if texts.is_empty() && !args.sweep {
        texts = Law::ALL.map(|law| law.to_string()).to_vec();
    }
    if args.sweep {
        texts.extend(settings::sweep(&base.tried)?);
    }
    let now = Setting::own(args.subject.now(), base.tried.clone());
    let now = args.subject.config.is_some().then_some(Ok(now));
    now.into_iter().chain(texts.iter().map(|text| settings::read(&base.tried, text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::replay::outcome::Half;

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
    fn replicas_that_the_clock_never_asks_for_are_told() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            simulate: Simulate,
        }
        let told = |begins: &str| {
            let args = ["simulate", "--shape", "const 5 5m", "--begins", begins];
            let Cli { simulate } = clap::Parser::parse_from(args);
            let warm = &of(&["work,keep_warm=[{ cron = '0 8 * * *' }]"])[0];
            never_by_clock(warm, &simulate, &traffic(&simulate).expect("good"))
        };
        assert_eq!(told("2026-11-29T07:58:00Z"), None);
        let said = told("2026-11-29T08:01:00Z").expect("it is over");
        assert!(
            said.ends_with(" does not hold while this traffic lasts; --begins says when it begins"),
            "{said}"
        );
    }

    #[test]
    fn what_is_late_is_passed_on_to_who_does_not_say_it() {
        let mut settings =
            of(&["work", "work,late_after=500ms", "work, late_after = 500ms", "work,late_after=1s"]);
        pass_on(&mut settings, Duration::from_millis(50), false);
        let late = settings.iter().map(|one| one.scaling.work.late_after.as_millis());
        assert_eq!(late.collect::<Vec<_>>(), [50, 500, 500, 1000]);
    }

    #[test]
    fn a_goal_is_judged_by_its_own_bound() {
        let told = |beyond, late_after| {
            let setting = of(&["work,goal=p95 wait < 50ms"]).remove(0);
            let halves = [Half { requests: 50, beyond }, Half { requests: 50, beyond: 1 }];
            let outcome = Outcome { requests: 100, late: 90, halves, ..Outcome::default() };
            judged(&Tried { setting, outcome }, Duration::from_millis(late_after))
        };
        let missed = "work,goal=p95 wait < 50ms is missed: 6.000% waited more than 50ms, 5.000% may; 2.000% of those in the second \
                      half did, when more was learned";
        assert_eq!(told(5, 50).as_deref(), Some(missed));
        assert_eq!(told(5, 500).as_deref(), Some(missed));
        assert_eq!(told(4, 50), None, "the table tells it");
        assert!(told(4, 500).expect("the table tells of other waits").contains(" is met: 5.000%"));
    }
}
