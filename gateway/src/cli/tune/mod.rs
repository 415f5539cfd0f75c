//! `tidegate tune`: searches settings for a service on its own recorded traffic, and prints those that it recommends as they
//! stand in the file. They are fitted on the first part of the recording and judged on the rest of it, which the search has
//! not seen; what is told is what came out there.

mod choose;
mod text;

use std::{num::NonZeroU32, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use tidegate_config::{
    Format,
    model::{self, Goal, ScalingPolicy},
};
use tidegate_loadtest::plan::{Process, recording::Recording};

use self::{choose::Aim, text::Judged};
use super::{
    output::{Misuse, print, print_json},
    simulate::{
        given::{self, Assumed, Traffic, Trial},
        settings::{self, Setting},
        subject::{Base, Subject},
    },
};
use crate::simulate::replay::Outcome;

/// The part of the recording that settings are fitted on.
const FITTED: f64 = 2.0 / 3.0;
/// Fewer requests than this in either part tell nothing.
const LEAST: f64 = 30.0;
/// How many settings are tried around the best one, once it is known.
const AROUND: i32 = 6;
/// Goals that are tried, as parts of the share that may be late.
const STRICTER: [f64; 3] = [1.0, 0.5, 0.25];

#[derive(Debug, Args)]
pub(super) struct Tune {
    /// The service's own traffic: an access log of ours or what `tidegate record` wrote, times, or requests per second; - for
    /// standard input
    trace: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// How many requests may be late, as in 1% [default: as the service's goal says, else 1%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    late: Option<f64>,
    /// Instead of that: what it may cost to spare one request being late, in seconds of a replica
    #[arg(long, value_name = "DURATION", conflicts_with = "late", value_parser = given::span, allow_hyphen_values = true)]
    worth: Option<Duration>,
    #[command(flatten)]
    assumed: Assumed,
    /// Runs of each setting, with chance of their own
    #[arg(long, value_name = "N", default_value = "5", value_parser = given::from_one::<NonZeroU32>)]
    seeds: NonZeroU32,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
    if let Some(percent) = percent.filter(|percent| (0.0..=100.0).contains(percent)) {
        return Ok(percent / 100.0);
    }
    Err(match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1.0 => {
            let percent = (number * 1e6).round() / 1e4;
            format!("expected a share with its unit, {percent}% or {text}%")
        }
        Ok(_) => format!("expected a share with its unit, as in {text}%"),
        Err(_) => "expected a share from 0% to 100%, as in 1%".to_owned(),
    })
}

/// The share of requests that may be late where nothing is asked for.
fn allowed(own: &ScalingPolicy) -> f64 {
    match own.work.aim {
        model::Aim::Share(goal) => goal,
        model::Aim::Worth(_) => 0.01,
    }
}

pub(super) fn run(args: &Tune) -> anyhow::Result<ExitCode> {
    let (fit, judge) = parts(args)?;
    let base = args.subject.base()?;
    let late_after = args.assumed.late_after(&base.tried, None);
    let aim = match args.worth {
        Some(worth) => Aim::Worth(worth.as_secs_f64()),
        None => Aim::Share(args.late.unwrap_or_else(|| allowed(&base.tried))),
    };
    let on = |part| Trial {
        assumed: &args.assumed,
        late_after,
        traffic: std::slice::from_ref(part),
        seeds: args.seeds.get(),
    };
    let search = Search { base: &base, fit: on(&fit) };
    let now = Setting::own(args.subject.now(), base.tried.clone());
    let rivals = [search.best(aim)?, search.tried(now)];
    let shown = rivals.iter().map(|(setting, _)| &setting.scaling);
    let assumed = base.told(&args.assumed, std::slice::from_ref(&judge), shown);
    let judged = rivals.map(|(setting, fitted)| {
        let runs = on(&judge).runs(&setting.scaling);
        Judged { setting, fitted, runs }
    });
    let told = text::Told {
        aim,
        late_after,
        assumed,
        written: base.written(&judged[0].setting.scaling),
        format: args.subject.config.as_deref().map_or(Format::Toml, Format::of),
        service: args.subject.service.as_deref(),
        notes: base.notes(),
        judged,
    };
    if args.json {
        print_json(&told.value())?
    } else {
        print(&told.text())?
    }
    Ok(ExitCode::SUCCESS)
}

/// What the settings are fitted on, and what they are judged on.
fn parts(args: &Tune) -> anyhow::Result<(Traffic, Traffic)> {
    let recorded = args.subject.recorded(&args.trace)?;
    let [whole]: [Recording; 1] = recorded.try_into().map_err(|recorded: Vec<_>| {
        let them = recorded.len();
        Misuse(format!(
            "{} has the traffic of {them} services, one in each row; settings are for one: write its row, below the header, to a \
             file of its own, and name that",
            args.trace.display()
        ))
    })?;
    let split = whole.split(whole.profile.length().mul_f64(FITTED));
    let requests = |part: &Recording| part.profile.requests();
    // What cannot be split has all its requests in one part.
    let fewest = split.as_ref().map_or(0.0, |(fit, judge)| requests(fit).min(requests(judge)));
    if fewest < LEAST {
        return Err(Misuse(format!(
            "{} has too few requests to tell: {:.0} in all, {fewest:.0} in one of the parts that settings are fitted on and judged on. \
             Record for longer; at least {LEAST} in each third are needed",
            args.trace.display(),
            whole.profile.requests()
        ))
        .into());
    }
    let (fit, judge) = split?;
    let traffic = |part| Traffic::recorded(part, Process::Scatter);
    Ok((traffic(fit)?, traffic(judge)?))
}

/// Tries settings on the part that they are fitted on.
struct Search<'a> {
    base: &'a Base,
    fit: Trial<'a>,
}

impl Search<'_> {
    /// The best that can be found: of many that are far apart, and then of some around the best of those.
    fn best(&self, aim: Aim) -> anyhow::Result<(Setting, Outcome)> {
        let first =
            self.try_all([settings::sweep(&self.base.tried)?, goals(aim, self.fit.late_after)].concat())?;
        let place = choose::best(first.iter().map(|(_, outcome)| outcome), aim).context("some were tried")?;
        let near = around(&first[place].0.name);
        let mut all = vec![first[place].clone()];
        all.extend(self.try_all(near)?);
        let place = choose::best(all.iter().map(|(_, outcome)| outcome), aim).context("some were tried")?;
        Ok(all.swap_remove(place))
    }

    fn try_all(&self, texts: Vec<String>) -> anyhow::Result<Vec<(Setting, Outcome)>> {
        let read = |text: String| {
            let mut setting = settings::read(&self.base.tried, &text)?;
            if setting.asks_what_is_late() {
                setting.scaling.work.late_after = self.fit.late_after;
            }
            Ok::<_, Misuse>(setting)
        };
        let settings = texts.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let outcomes = self.fit.outcomes(settings.iter().map(|setting| &setting.scaling));
        Ok(settings.into_iter().zip(outcomes).collect())
    }

    fn tried(&self, setting: Setting) -> (Setting, Outcome) {
        let outcome = self.fit.outcomes([&setting.scaling]).swap_remove(0);
        (setting, outcome)
    }
}

/// What is asked for as a goal, which steers by itself, and stricter ones: on the way to it more requests are late.
fn goals(aim: Aim, late_after: Duration) -> Vec<String> {
    let Aim::Share(share) = aim else { return Vec::new() };
    let in_words = |part| match share * part {
        share if late_after.is_zero() => format!("policy=work,wait_probability={share}"),
        share => format!("policy=work,goal={}", Goal { share, wait: late_after }),
    };
    let can_be_asked = |text: &String| settings::read(&ScalingPolicy::default(), text).is_ok();
    STRICTER.map(in_words).into_iter().filter(can_be_asked).collect()
}

/// Settings like this one whose late requests are worth somewhat less or more; none of a law that has no such knob.
fn around(name: &str) -> Vec<String> {
    let said = name.split(',').find_map(|part| part.strip_prefix("late_worth="));
    let Some((said, worth)) = said.and_then(|said| Some((said, humantime::parse_duration(said).ok()?)))
    else {
        return Vec::new();
    };
    // Up to both neighbours, in steps of equal ratio.
    let steps = (-AROUND / 2..=AROUND / 2).filter(|step| *step != 0);
    let near = steps.map(|step| worth.mul_f64(3_f64.powf(f64::from(step) / f64::from(AROUND))));
    let tenths = |near: Duration| ((near.as_secs_f64() * 10.0).round() * 100.0).max(100.0);
    near.map(|near| name.replace(&format!("late_worth={said}"), &format!("late_worth={:.0}ms", tenths(near))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_its_unit() {
        for (text, said) in [
            ("5%", Ok(0.05)),
            ("0.05", Err("expected a share with its unit, 5% or 0.05%")),
            ("5", Err("expected a share with its unit, as in 5%")),
            ("101%", Err("expected a share from 0% to 100%, as in 1%")),
        ] {
            assert_eq!(share(text), said.map_err(str::to_owned), "{text}");
        }
    }

    /// What is said of a recording that nothing can be tuned by, behind its name.
    fn refused(recording: &str) -> String {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            tune: Tune,
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("recording");
        std::fs::write(&file, recording).expect("written");
        let Cli { tune } = clap::Parser::parse_from(["tune".as_ref(), file.as_os_str()]);
        let said = parts(&tune).expect_err(recording).to_string();
        said.strip_prefix(&file.display().to_string()).expect(&said).to_owned()
    }

    #[test]
    fn a_recording_that_cannot_be_split_is_too_short() {
        for (counts, requests) in [("500 0 0 0", 500), ("0 0 0 500", 500), ("3 4 5", 12)] {
            let (said, begin) =
                (refused(counts), format!(" has too few requests to tell: {requests} in all, "));
            assert!(said.starts_with(&begin) && said.contains("Record for longer"), "{said}");
        }
    }

    #[test]
    fn of_several_services_one_is_to_be_taken() {
        assert_eq!(
            refused("name,1,2\na,3,4\nb,3,4\n"),
            " has the traffic of 2 services, one in each row; settings are for one: \
             write its row, below the header, to a file of its own, and name that"
        );
    }

    #[test]
    fn goals_are_what_is_asked_for_and_stricter_ones() {
        let goals = goals(Aim::Share(0.01), Duration::from_millis(500));
        let all = ["p99", "p99.5", "p99.75"]
            .map(|percentile| format!("policy=work,goal={percentile} wait < 500ms"));
        assert_eq!(goals, all);
        for goal in goals {
            settings::read(&ScalingPolicy::default(), &goal).expect("good");
        }
    }

    #[test]
    fn what_is_near_differs_in_nothing_else() {
        let near = around("policy=work,late_worth=10s,idle=60s");
        let (least, most) =
            ("policy=work,late_worth=5800ms,idle=60s", "policy=work,late_worth=17300ms,idle=60s");
        assert_eq!((&*near[0], &*near[near.len() - 1]), (least, most), "{near:?}");
        assert!(around("policy=kpa,target=0.5").is_empty());
    }

    #[test]
    fn what_no_goal_can_say_is_not_tried() {
        assert!(goals(Aim::Share(0.0), Duration::ZERO).is_empty(), "nobody may be late");
        assert_eq!(goals(Aim::Share(0.1), Duration::ZERO)[0], "policy=work,wait_probability=0.1");
        assert!(goals(Aim::Worth(60.0), Duration::ZERO).is_empty());
    }
}
