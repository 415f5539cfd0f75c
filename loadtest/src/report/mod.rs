//! What came of a run. Can be written, read back, compared and added to another. `[P]`
//! [`text`] is for people, [`html`] is for both, [`csv`] and [`log`] are for programs; JSON is this struct, with durations in seconds.

pub mod csv;
pub mod html;
pub mod log;
mod merge;
mod text;

use std::time::Duration;

pub use merge::Apart;
use serde::{Deserialize, Serialize};

use crate::{
    Options, Pattern,
    overlay::{Overlay, Summary},
    pace::Pace,
    plan::Phase,
    record::{Cell, Counts, Key, Spread},
    send::Tally,
    threshold::Outcome,
};

/// Points of the planned rate that are kept.
const PLANNED_POINTS: u32 = 300;
/// The form of the JSON; another number means that old files cannot be read.
const FORMAT: u32 = 1;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form that this is written in.
    pub format: u32,
    /// What the load is called; empty if it has no name.
    #[serde(default)]
    pub name: String,
    /// When it began, in seconds since 1970; 0 if nobody has noted it.
    #[serde(default)]
    pub started: u64,
    /// Where requests went, by the order of targets.
    pub targets: Vec<String>,
    /// Whether requests went out when the plan said.
    pub mode: Mode,
    /// How they were spread, as `--process` says it; for a closed loop, the users.
    pub process: String,
    /// How long the plan was.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// From the start to the last outcome, and at least `duration` unless somebody has ended it early.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
    /// Whether somebody ended it before all of it was sent and answered.
    #[serde(default)]
    pub stopped: bool,
    /// Requests with an outcome: all that the plan held.
    pub requests: u64,
    /// Requests per second that were answered without an error.
    pub rate: f64,
    /// Requests per second that the plan asked for.
    pub planned_rate: f64,
    /// Share of requests that failed, 0 to 1.
    pub error_rate: f64,
    /// Connections that were opened.
    pub connections: u64,
    /// Connections that were found closed by the server; what they were to carry went over fresh ones.
    pub stale: u64,
    /// From the planned instant to the end of the answer.
    pub latency: Spread,
    /// From being sent (or beginning to open a connection) to the end of the answer.
    pub service_time: Spread,
    /// From the planned instant to being sent.
    pub lag: Spread,
    /// The parts of the plan.
    pub phases: Vec<PhaseReport>,
    /// Requests per second that the plan asked for, at equal distances from start to end.
    pub planned: Vec<f64>,
    /// Everything, apart.
    pub counts: Counts,
    /// What the server's side did meanwhile, if somebody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// Whether the generator itself was fast enough; see [`pace`](crate::pace).
    pub kept_up: bool,
    /// The figures behind `kept_up`.
    pub pace: Pace,
}

/// Whether requests wait for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests went out when the plan said.
    Open,
    /// Users waited for answers: what would have waited was not sent, and is in no figure.
    Closed,
}

/// A part of the plan. Seconds since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// As a person would call it.
    pub name: String,
    /// Where it begins.
    pub begin: f64,
    /// Where the next one begins.
    pub end: f64,
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not a report.
    #[error("this is not a report of tidegate load")]
    Form(#[source] serde_json::Error),
    /// A report of another version.
    #[error("this report has the form {0}; expected {FORMAT}")]
    Format(u32),
}

impl Report {
    pub(crate) fn new(options: &Options, pattern: &Pattern, tally: Tally) -> Self {
        let Tally { counts, pace, opened, stale, stopped } = tally;
        let requests: u64 = counts.cells.iter().map(|(_, cell)| cell.response.count()).sum();
        let (mode, process, phases, planned, expected) = planned(pattern);
        Self {
            format: FORMAT,
            name: String::new(),
            started: 0,
            targets: options.aims.iter().map(|aim| aim.name.clone()).collect(),
            mode,
            process,
            duration: pattern.duration(),
            elapsed: pace.elapsed,
            stopped,
            requests,
            rate: per(requests - counts.errors.total(), pace.elapsed.as_secs_f64()),
            planned_rate: per(expected, pattern.duration().as_secs_f64()),
            error_rate: per(counts.errors.total(), precise(requests)),
            connections: opened,
            stale,
            latency: counts.all(|cell| &cell.response, |_| true),
            service_time: counts.all(|cell| &cell.service, |_| true),
            lag: counts.all(|cell| &cell.lag, |_| true),
            phases,
            planned,
            counts,
            overlay: None,
            kept_up: pace.kept_up(),
            pace,
        }
    }

    /// Reads one that was written.
    pub fn from_json(text: &str) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        match serde_json::from_str::<Form>(text).map_err(Unreadable::Form)?.format {
            FORMAT => serde_json::from_str(text).map_err(Unreadable::Form),
            other => Err(Unreadable::Format(other)),
        }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self, outcomes: &[Outcome]) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("plain values");
        json["thresholds"] = serde_json::to_value(outcomes).expect("plain values");
        json
    }

    /// The planned rate at an instant, in seconds; `None` in a closed loop.
    #[must_use]
    pub fn planned_at(&self, at: f64) -> Option<f64> {
        let share = at / self.duration.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in memory")]
        let index = (share * precise(self.planned.len() as u64)) as usize;
        (!self.planned.is_empty()).then(|| self.planned.get(index).copied().unwrap_or_default())
    }

    /// Whether somebody ended it before its plan did, however long what was under way then took.
    #[must_use]
    pub fn ended_early(&self) -> bool {
        self.stopped || self.elapsed < self.duration
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self, outcomes: &[Outcome]) -> String {
        text::text(self, outcomes)
    }

    /// What the process should exit with: 3 when the generator could not keep up (the other figures then mean little),
    /// 1 when a threshold failed, else 0.
    #[must_use]
    pub fn exit_code(&self, outcomes: &[Outcome]) -> u8 {
        match (self.kept_up, outcomes.iter().all(|outcome| outcome.pass)) {
            (false, _) => 3,
            (true, false) => 1,
            (true, true) => 0,
        }
    }

    /// One of the times of the requests that `wanted` picks.
    pub fn spread(&self, time: impl Fn(&Cell) -> &Spread, wanted: impl Fn(&Key) -> bool) -> Spread {
        self.counts.all(time, wanted)
    }

    /// What the server's side did, if somebody looked. Its first request is that of the first target that leads there.
    #[must_use]
    pub fn replicas(&self) -> Option<Summary> {
        let overlay = self.overlay.as_ref()?;
        let targets = self.targets.iter().zip(&self.counts.targets);
        let leading = targets.filter(|(name, _)| overlay.targets.contains(name));
        let first = leading.filter_map(|(_, target)| target.first).reduce(f64::min);
        let moments = self.counts.timeline.moments();
        let any = || moments.iter().find(|moment| moment.count > 0).map_or(0.0, |moment| moment.at);
        Some(overlay.summary(first.unwrap_or_else(any)))
    }
}

fn planned(pattern: &Pattern) -> (Mode, String, Vec<PhaseReport>, Vec<f64>, u64) {
    match pattern {
        Pattern::Open(plan) => {
            let step = plan.duration() / PLANNED_POINTS;
            let points =
                (0..PLANNED_POINTS).map(|point| plan.shape().rate_at(step * point + step / 2)).collect();
            let phases = plan.phases().into_iter().map(PhaseReport::from).collect();
            (Mode::Open, plan.process().to_string(), phases, points, plan.expected())
        }
        Pattern::Closed(closed) => {
            let name = format!("{} users", closed.users);
            let phase = PhaseReport { name: name.clone(), begin: 0.0, end: closed.length.as_secs_f64() };
            (Mode::Closed, name, vec![phase], Vec::new(), 0)
        }
    }
}

impl From<Phase> for PhaseReport {
    fn from(phase: Phase) -> Self {
        Self { name: phase.name, begin: phase.begin.as_secs_f64(), end: phase.end.as_secs_f64() }
    }
}

/// A duration to three digits with the unit that suits it.
#[must_use]
pub fn human(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    let (value, unit) = match micros {
        ..1e3 => (micros, "us"),
        1e3..1e6 => (micros / 1e3, "ms"),
        _ => (micros / 1e6, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    // Whole microseconds are all that is measured.
    let digits = if unit == "us" { 0 } else { digits };
    format!("{value:.digits$}{unit}")
}

pub(crate) fn per(count: u64, of: f64) -> f64 {
    if of > 0.0 { precise(count) / of } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}

/// Durations as seconds.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        plan::Plan,
        record::{Answer, Failure, Record, Sample, TargetCount, Told},
    };

    pub(crate) const MS: Duration = Duration::from_millis(1);

    /// 100 requests in 10 s with response times of 1 to 100 ms; the last one failed, the first five were cold.
    pub(crate) fn sample() -> Report {
        let plan = Plan::even(10.0, 10_000 * MS).expect("valid");
        let mut record = Record::new(vec![10_000 * MS], 1);
        for ms in 1..=100 {
            let answer = match ms {
                100 => Answer::Failed(Failure::Reset),
                _ => Answer::Status { code: 200, grpc: None, bytes: 2 },
            };
            let (due, told) = ((ms - 1) * 100 * MS, Told { cold: ms <= 5, ..Told::default() });
            let done = due + ms * MS;
            record.add(&Sample { due, sent: done - MS, done, answer, told, target: 0 });
        }
        let pace = Pace { sent: 100, elapsed: 10_000 * MS, ..Pace::default() };
        let tally = Tally { counts: record.into_counts(), pace, opened: 4, stale: 0, stopped: false };
        Report::new(&Options::new("http://a.localhost/"), &plan.into(), tally)
    }

    #[test]
    fn json_has_seconds_and_shares_and_can_be_read() {
        let json = sample().to_json(&[]);
        assert_eq!(json["error_rate"], 0.01);
        assert_eq!(json["counts"]["errors"]["reset"], 1);
        assert_eq!(json["counts"]["codes"]["200"], 99);
        assert_eq!(json["elapsed"], 10.0);
        assert!((json["latency"]["p50"].as_f64().expect("a number") - 0.05).abs() < 1e-4, "{json}");
        assert_eq!(json["kept_up"], true);
        assert_eq!(Report::from_json(&json.to_string()).expect("readable"), sample());
    }

    #[test]
    fn what_is_no_report() {
        for (text, part) in
            [("{}", "not a report"), ("[", "not a report"), ("{\"format\":9}", "has the form 9")]
        {
            assert!(Report::from_json(text).expect_err(text).to_string().contains(part), "{text}");
        }
    }

    #[test]
    fn the_first_request_is_that_of_the_target_that_is_watched() {
        let mut report = sample();
        report.targets = vec!["other".to_owned(), "watched".to_owned()];
        let first = |at| TargetCount { first: Some(at), ..TargetCount::default() };
        report.counts.targets = vec![first(0.0), first(3.0)];
        let mut seen = Overlay::new("api");
        for (at, ready) in [(0.0, 0), (2.9, 0), (4.5, 1)] {
            seen.look(crate::overlay::Look { at, ready, ..Default::default() });
        }
        for (targets, expected) in [(vec!["watched".to_owned()], 1.5), (Vec::new(), 4.5)] {
            report.overlay = Some(Overlay { targets, ..seen.clone() });
            let summary = report.replicas().expect("somebody looked");
            assert_eq!(summary.first_ready.seconds(), Some(expected));
        }
    }

    #[test]
    fn a_run_that_fell_behind_says_so() {
        let mut report = sample();
        let failed = Outcome { expression: "p50<1ms".to_owned(), found: "50ms".to_owned(), pass: false };
        assert_eq!(report.exit_code(&[]), 0);
        assert_eq!(report.exit_code(std::slice::from_ref(&failed)), 1);
        report.kept_up = false;
        assert_eq!(report.exit_code(&[failed]), 3);
    }

    #[test]
    fn durations_for_people() {
        for (micros, text) in [
            (0, "0us"),
            (999, "999us"),
            (1234, "1.23ms"),
            (12_345, "12.3ms"),
            (123_456, "123ms"),
            (1_234_567, "1.23s"),
            (600_000_000, "600s"),
        ] {
            assert_eq!(human(Duration::from_micros(micros)), text);
        }
    }
}
