//! What `tidegate tune` tells: the settings as they stand in the file, what they came to on traffic that they were not
//! fitted on, and what that is worth.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};
use tidegate_config::{Format, model::ScalingPolicy, written};

use super::choose::{Aim, Spread, count, spread};
use crate::{cli::simulate::settings::Setting, simulate::replay::Outcome};

/// Fewer late requests than this in a run make a share that is a guess.
const FEW: f64 = 10.0;

/// Who changes a file wants more than this for it, as a share of what is paid.
const LITTLE: f64 = 0.02;

/// A setting with what it came to.
pub(super) struct Judged {
    pub(super) setting: Setting,
    /// All runs together, on the part that it was fitted on.
    pub(super) fitted: Outcome,
    /// Each run on the other part.
    pub(super) runs: Vec<Outcome>,
}

impl Judged {
    fn late(&self) -> Spread {
        spread(self.runs.iter().map(Outcome::late_share))
    }

    fn cost(&self) -> Spread {
        spread(self.runs.iter().map(|run| run.replica_seconds))
    }

    /// Late requests of one run.
    fn late_requests(&self) -> f64 {
        spread(self.runs.iter().map(|run| count(run.late))).mean
    }

    /// Requests of one run.
    fn requests(&self) -> u64 {
        self.runs.first().map_or(0, |run| run.requests)
    }

    fn value(&self) -> Value {
        let of = |spread: Spread| json!({ "mean": spread.mean, "least": spread.least, "most": spread.most });
        json!({
            "settings": self.setting.name,
            "fitted": { "late_share": self.fitted.late_share() },
            "judged": { "late_share": of(self.late()), "replica_seconds": of(self.cost()) },
        })
    }
}

/// All that is told. The first of `judged` is what is recommended, the second what there is now.
pub(super) struct Told<'t> {
    pub(super) aim: Aim,
    pub(super) late_after: Duration,
    /// What the simulation assumed.
    pub(super) assumed: String,
    /// What is recommended, with what the service has besides.
    pub(super) written: ScalingPolicy,
    /// How the file is written.
    pub(super) format: Format,
    pub(super) service: Option<&'t str>,
    /// What the simulation does not know.
    pub(super) notes: Vec<String>,
    pub(super) judged: [Judged; 2],
}

impl Told<'_> {
    /// For people.
    pub(super) fn text(&self) -> String {
        let [best, now] = &self.judged;
        let requests = best.requests();
        let (said, effect) = match self.too_little() {
            Some(why) => (stay(best, now, why), String::new()),
            None => (
                format!("All that is to stand under `scaling` of the service:\n\n{}", self.advice()),
                effect(best, now) + "\n",
            ),
        };
        format!(
            "{}\n\n{said}\nJudged on the last third of the recording ({requests} requests, {} runs), which nothing was fitted on. late: waited \
             more than {}.\n{}\n{effect}{}",
            self.table(),
            best.runs.len(),
            humantime::format_duration(self.late_after),
            self.assumed,
            self.doubts().into_iter().map(|doubt| format!("Note: {doubt}\n")).collect::<String>(),
        )
    }

    /// For machines.
    pub(super) fn value(&self) -> Value {
        let [best, now] = &self.judged;
        let too_little = self.too_little();
        let clear = |value: Value| if too_little.is_some() { Value::Null } else { value };
        json!({
            "recommended": clear(best.value()),
            "found": best.value(),
            "now": now.value(),
            "block": clear(self.advice().into()),
            "too_little": too_little,
            "late_after_ms": self.late_after.as_secs_f64() * 1e3,
            "aim": match self.aim {
                Aim::Share(share) => json!({ "late_share": share }),
                Aim::Worth(worth) => json!({ "late_worth_seconds": worth }),
            },
            "assumed": self.assumed,
            "notes": self.doubts(),
        })
    }

    /// Why what was found cannot be told from what is now, if it cannot.
    fn too_little(&self) -> Option<&'static str> {
        let [best, now] = &self.judged;
        if overlap(best.late(), now.late()) && overlap(best.cost(), now.cost()) {
            return Some("the runs of both overlap. Record for longer, or while more comes");
        }
        if self.gain() < LITTLE {
            return Some("so little is not worth a change");
        }
        let few = [best, now].iter().all(|one| one.late_requests() < FEW);
        // Whether so many late ones more, which would be chance, could turn the choice.
        let could_turn = match self.aim {
            Aim::Share(share) => share * count(best.requests()) < FEW,
            Aim::Worth(worth) => (now.cost().mean - best.cost().mean).abs() < FEW * worth,
        };
        (few && could_turn).then_some(
            "ten late requests more or less would turn that. Record for longer, or while more comes",
        )
    }

    /// What the recommended one spares, as a share of what is paid now; all of it where only it reaches what is wanted.
    fn gain(&self) -> f64 {
        let [best, now] = self.judged.each_ref().map(|one| match self.aim {
            Aim::Share(_) => one.cost().mean,
            Aim::Worth(worth) => one.cost().mean + worth * one.late_requests(),
        });
        let is_missed = matches!(self.aim, Aim::Share(share) if self.judged[1].late().mean > share);
        if is_missed { 1.0 } else { 1.0 - best / now }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        table.set_header(["settings", "late, fitted", "late, judged", "replica-s, judged"]);
        for one in &self.judged {
            let (late, cost) = (one.late(), one.cost());
            table.add_row([
                one.setting.name.clone(),
                percent(one.fitted.late_share()),
                format!("{} ({} to {})", percent(late.mean), percent(late.least), percent(late.most)),
                format!("{:.0} ({:.0} to {:.0})", cost.mean, cost.least, cost.most),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The block for the file, as the file is written.
    fn advice(&self) -> String {
        let name = self.service.unwrap_or("NAME");
        let all = written::written(&self.written);
        match self.format {
            Format::Toml => {
                let lines = all.iter().map(|(key, value)| format!("{key} = {}\n", written::toml(value)));
                format!("[services.{name}.scaling]\n{}", lines.collect::<String>())
            }
            // A value of JSON is one of YAML.
            Format::Yaml => {
                let lines = all.iter().map(|(key, value)| format!("      {key}: {value}\n"));
                format!("services:\n  {name}:\n    scaling:\n{}", lines.collect::<String>())
            }
            Format::Json => {
                let all: Map<String, Value> =
                    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                let file = json!({ "services": { name: { "scaling": all } } });
                format!("{file:#}\n")
            }
        }
    }

    /// Why it may come otherwise.
    fn doubts(&self) -> Vec<String> {
        let [best, _] = &self.judged;
        let mut doubts = self.notes.clone();
        let late = best.late();
        if let Aim::Share(share) = self.aim {
            if best.fitted.late_share() > share {
                doubts.push(format!(
                    "no setting that was tried came down to {}; this one is the closest",
                    percent(share)
                ));
            } else if late.least > share {
                doubts.push(format!(
                    "{} were late on the part that it was not fitted on, more than the {} that were asked for: the traffic differs \
                     between the parts. Record for longer, or ask for less",
                    percent(late.mean),
                    percent(share)
                ));
            }
        }
        if best.late_requests() < FEW {
            doubts.push(format!(
                "{:.1} requests were late in a run: their share is a guess",
                best.late_requests()
            ));
        }
        doubts
    }
}

fn overlap(a: Spread, b: Spread) -> bool {
    a.least <= b.most && b.least <= a.most
}

/// What there is to do where nothing is recommended, and the figures.
fn stay(best: &Judged, now: &Judged, why: &str) -> String {
    format!(
        "Stay with {}. Under {} {:.1} of {} requests were late in a run instead of {:.1}, for {:.0} replica-seconds \
         instead of {:.0}; {why}.\n",
        now.setting.name,
        best.setting.name,
        best.late_requests(),
        best.requests(),
        now.late_requests(),
        best.cost().mean,
        now.cost().mean
    )
}

/// The recommended settings against those of now, in words.
fn effect(best: &Judged, now: &Judged) -> String {
    let (late, cost) = (best.late(), best.cost());
    let (late_now, cost_now) = (now.late(), now.cost());
    let change = if cost_now.mean > 0.0 { (cost.mean / cost_now.mean - 1.0) * 100.0 } else { 0.0 };
    format!(
        "Against {}: {} late instead of {}, {change:+.0} % replica-seconds.",
        now.setting.name,
        percent(late.mean),
        percent(late_now.mean)
    )
}

/// Two decimal places, and for what is less than those show two digits.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let places = (2..12).find(|places| percent == 0.0 || percent * 10_f64.powi(*places) >= 9.5).unwrap_or(12);
    let mut text = format!("{percent:.0$}", usize::try_from(places).unwrap_or(2));
    let shortest = text.find('.').map_or(text.len(), |point| point + 3);
    while text.len() > shortest && text.ends_with('0') {
        text.pop();
    }
    text + "%"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::settings;

    fn told(format: Format, late: [u64; 2]) -> Told<'static> {
        let text = r#"policy=work,late_worth=5s,min=1,keep_warm=[{ cron = "0 8 * * 1-5", replicas = 2, zone = "Europe/Berlin" }]"#;
        let setting = settings::read(&ScalingPolicy::default(), text).expect("good");
        let run = |late| Outcome { requests: 1000, late, ..Outcome::default() };
        let one = Judged { setting: setting.clone(), fitted: run(9), runs: late.map(run).to_vec() };
        let other = Judged { setting: setting.clone(), fitted: run(0), runs: vec![run(0)] };
        Told {
            aim: Aim::Share(0.01),
            late_after: Duration::from_millis(500),
            assumed: String::new(),
            written: setting.scaling,
            format,
            service: Some("api"),
            notes: Vec::new(),
            judged: [one, other],
        }
    }

    #[test]
    fn the_block_is_what_a_file_of_that_language_takes() {
        for (format, image) in [
            (Format::Toml, "\n[services.api]\nimage = \"a\"\n"),
            (Format::Yaml, "    image: a\n"),
            (Format::Json, ""),
        ] {
            let told = told(format, [9, 9]);
            let mut file = told.advice() + image;
            if format == Format::Json {
                file = file.replace("\"scaling\":", "\"image\": \"a\", \"scaling\":");
            }
            let model =
                tidegate_config::parse(&file, format).unwrap_or_else(|problems| panic!("{file}{problems}"));
            let service = model.services.into_values().next().expect("one");
            assert_eq!(service.scaling, told.written, "{file}");
        }
    }

    #[test]
    fn shares_are_told_as_fine_as_they_are() {
        for (share, text) in [
            (0.0, "0.00%"),
            (0.051_234, "5.12%"),
            (1.0, "100.00%"),
            (0.000_5, "0.05%"),
            (0.000_01, "0.001%"),
            (0.000_043_21, "0.0043%"),
            (0.000_000_123, "0.000012%"),
        ] {
            assert_eq!(percent(share), text);
        }
        let mut told = told(Format::Toml, [30, 30]);
        told.aim = Aim::Share(0.000_01);
        assert!(told.doubts()[0].contains("came down to 0.001%"), "{:?}", told.doubts());
    }

    #[test]
    fn parts_differ_where_every_run_was_late_more_often_than_asked_for() {
        let doubts = |late| told(Format::Toml, late).doubts().join("\n");
        assert!(doubts([15, 20]).contains("the traffic differs between the parts"));
        assert_eq!(doubts([10, 20]), "", "that is chance");
        assert!(doubts([1, 2]).contains("their share is a guess"));
    }

    /// What is told of runs of so many requests: of each late ones and replica-seconds, first what was found, then what is now.
    fn told_of(aim: Aim, requests: u64, found: &[(u64, f64)], now: &[(u64, f64)]) -> Told<'static> {
        let mut told = told(Format::Toml, [0, 0]);
        let run = |(late, replica_seconds): &(u64, f64)| Outcome {
            requests,
            late: *late,
            replica_seconds: *replica_seconds,
            ..Outcome::default()
        };
        told.aim = aim;
        told.judged[0].runs = found.iter().map(run).collect();
        told.judged[1].runs = now.iter().map(run).collect();
        told
    }

    #[test]
    fn too_little_to_tell_recommends_nothing() {
        let share = Aim::Share(0.01);
        for (aim, requests, found, now) in [
            (share, 100, &[(0, 7.0), (0, 7.0)][..], &[(0, 9.0), (0, 9.0)][..]),
            (share, 5000, &[(30, 700.0), (40, 800.0)], &[(35, 750.0), (45, 900.0)]),
            (Aim::Worth(1.0), 5000, &[(1, 7.0)], &[(0, 9.0)]),
        ] {
            let told = told_of(aim, requests, found, now);
            let text = told.text();
            assert!(text.contains("Stay with policy=work"), "{text}");
            assert!(!text.contains("[services.api.scaling]"), "{text}");
            let value = told.value();
            assert!(value["recommended"].is_null() && value["block"].is_null(), "{value}");
        }
        let text = told_of(share, 100, &[(0, 7.0)], &[(0, 9.0)]).text();
        assert!(
            text.contains(
                "0.0 of 100 requests were late in a run instead of 0.0, for 7 replica-seconds instead of 9;"
            ),
            "{text}"
        );
    }

    #[test]
    fn hardly_anything_gained_is_no_reason_to_change() {
        let share = Aim::Share(0.01);
        let told = |aim, found, now| told_of(aim, 5000, &[found], &[now]).text();
        assert!(told(share, (20, 891.0), (20, 900.0)).contains("; so little is not worth a change."));
        assert!(told(share, (20, 880.0), (20, 900.0)).contains("[services.api.scaling]"));
        assert!(
            told(share, (20, 891.0), (60, 890.0)).contains("[services.api.scaling]"),
            "the share is missed now"
        );
        assert!(
            told(Aim::Worth(10.0), (20, 890.0), (21, 890.0)).contains("; so little is not worth a change.")
        );
    }

    #[test]
    fn what_is_clear_is_recommended() {
        let share = Aim::Share(0.01);
        for (aim, requests, found, now) in [
            (share, 5000, &[(0, 700.0)][..], &[(0, 900.0)][..]),
            (share, 100, &[(0, 7.0)], &[(20, 7.0)]),
            (Aim::Worth(1.0), 5000, &[(1, 700.0)], &[(0, 900.0)]),
        ] {
            let text = told_of(aim, requests, found, now).text();
            assert!(text.contains("[services.api.scaling]"), "{text}");
        }
    }
}
