//! What came of a run, as text for people and as JSON for programs. `[P]`

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use serde::{Serialize, Serializer};

use crate::{
    pace::{BOUND, Pace},
    plan::Plan,
    record::{Errors, Spread},
    send::Tally,
    threshold::Outcome,
};

/// What came of a run. Durations are seconds in JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where requests went.
    pub url: String,
    /// How long the plan was.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// From the start to the last outcome, and at least `duration`.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Requests with an outcome: all that the plan held.
    pub requests: u64,
    /// Requests per second that were answered without an error.
    pub rate: f64,
    /// Requests per second that the plan asked for.
    pub planned_rate: f64,
    /// Share of requests that failed, 0 to 1.
    pub error_rate: f64,
    /// Failures by kind.
    pub errors: Errors,
    /// Answers by status code.
    pub codes: BTreeMap<u16, u64>,
    /// Bytes of answers' bodies.
    pub bytes: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// From the planned instant to the end of the answer.
    #[serde(serialize_with = "spread")]
    pub latency: Spread,
    /// From having a connection (or starting to open one) to the end of the answer.
    #[serde(serialize_with = "spread")]
    pub service_time: Spread,
    /// Whether the generator itself was fast enough; see [`pace`](crate::pace).
    pub kept_up: bool,
    /// The figures behind `kept_up`.
    pub pace: Pace,
}

impl Report {
    pub(crate) fn new(url: String, plan: &Plan, tally: Tally) -> Self {
        let Tally { record, pace, opened } = tally;
        Self {
            url,
            duration: plan.duration(),
            elapsed: pace.elapsed,
            requests: record.done(),
            rate: per(record.good(), pace.elapsed.as_secs_f64()),
            planned_rate: per(plan.expected(), plan.duration().as_secs_f64()),
            error_rate: per(record.errors.total(), precise(record.done())),
            errors: record.errors,
            codes: record.codes,
            bytes: record.bytes,
            connections: opened,
            latency: record.latency,
            service_time: record.service,
            kept_up: pace.kept_up(),
            pace,
        }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self, outcomes: &[Outcome]) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("plain values");
        json["thresholds"] = serde_json::to_value(outcomes).expect("plain values");
        json
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self, outcomes: &[Outcome]) -> String {
        let mut out = String::new();
        self.write_text(&mut out, outcomes).expect("a string takes everything");
        out
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

    fn write_text(&self, out: &mut String, outcomes: &[Outcome]) -> fmt::Result {
        let errors = self.errors;
        writeln!(out, "  {:<12} {}", "target", self.url)?;
        writeln!(
            out,
            "  {:<12} {} in {} over {} connections",
            "requests",
            self.requests,
            human(self.elapsed),
            self.connections
        )?;
        writeln!(out, "  {:<12} {:.1}/s good, {:.1}/s planned", "rate", self.rate, self.planned_rate)?;
        writeln!(
            out,
            "  {:<12} {} ({:.2} %){}",
            "errors",
            errors.total(),
            self.error_rate * 1e2,
            kinds(errors)
        )?;
        let codes: Vec<String> = self.codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        if !codes.is_empty() {
            writeln!(out, "  {:<12} {}", "answers", codes.join(", "))?;
        }
        writeln!(out)?;
        write!(out, "  {:<12}", "")?;
        for (name, _) in COLUMNS {
            write!(out, "{name:>9}")?;
        }
        writeln!(out)?;
        for (name, spread) in [("latency", &self.latency), ("service time", &self.service_time)] {
            write!(out, "  {name:<12}")?;
            for (_, column) in COLUMNS {
                write!(out, "{:>9}", column(spread).map_or_else(|| "-".to_owned(), human))?;
            }
            writeln!(out)?;
        }
        if !outcomes.is_empty() {
            writeln!(out)?;
        }
        for outcome in outcomes {
            let verdict = if outcome.pass { "pass" } else { "FAIL" };
            writeln!(out, "  {verdict}  {}  (found {})", outcome.expression, outcome.found)?;
        }
        if !self.kept_up {
            self.write_warning(out)?;
        }
        Ok(())
    }

    fn write_warning(&self, out: &mut String) -> fmt::Result {
        writeln!(out)?;
        writeln!(
            out,
            "  The generator could not keep up: {} of {} requests went out over {} late by its own fault, and it",
            self.pace.late,
            self.pace.sent,
            human(BOUND)
        )?;
        writeln!(
            out,
            "  stood still for {} in all (up to 1 % of each is normal). The figures above say little about the",
            human(self.pace.stalled)
        )?;
        writeln!(out, "  server: lower the rate, or run the generator where it has a processor to itself.")
    }
}

type Column = fn(&Spread) -> Option<Duration>;

const COLUMNS: [(&str, Column); 7] = [
    ("min", Spread::min),
    ("mean", Spread::mean),
    ("p50", |spread| spread.percentile(50.0)),
    ("p90", |spread| spread.percentile(90.0)),
    ("p99", |spread| spread.percentile(99.0)),
    ("p99.9", |spread| spread.percentile(99.9)),
    ("max", Spread::max),
];

fn kinds(errors: Errors) -> String {
    let Errors { connect, reset, timeout, status, unsent } = errors;
    let kinds = [
        ("connect", connect),
        ("reset", reset),
        ("timeout", timeout),
        ("status", status),
        ("unsent", unsent),
    ];
    let shown: Vec<String> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind} {count}")).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
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

fn per(count: u64, of: f64) -> f64 {
    if of > 0.0 { precise(count) / of } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn precise(count: u64) -> f64 {
    count as f64
}

pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn spread<S: Serializer>(spread: &Spread, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        COLUMNS.iter().map(|(name, column)| (name, column(spread).map(|duration| duration.as_secs_f64()))),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use http::StatusCode;

    use super::*;
    use crate::record::{Answer, Failure, Record};

    const MS: Duration = Duration::from_millis(1);

    /// 100 requests in 10 s with latencies of 1 to 100 ms; the last one failed.
    pub(crate) fn sample() -> Report {
        let plan = Plan::even(10.0, 10_000 * MS).expect("valid");
        let mut record = Record::default();
        for ms in 1..100 {
            record.add(Answer::Status { code: StatusCode::OK, bytes: 2 }, ms * MS, MS);
        }
        record.add(Answer::Failed(Failure::Reset), 100 * MS, MS);
        let pace = Pace { sent: 100, elapsed: 10_000 * MS, ..Pace::default() };
        Report::new("http://a.localhost/".to_owned(), &plan, Tally { record, pace, opened: 4 })
    }

    #[test]
    fn text_says_it_all() {
        let text = sample().to_text(&[]);
        for part in [
            "100 in 10.0s over 4 connections",
            "9.9/s good, 10.0/s planned",
            "1 (1.00 %): reset 1",
            "200: 99",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("keep up"), "{text}");
    }

    #[test]
    fn json_has_seconds_and_shares() {
        let json = sample().to_json(&[]);
        assert_eq!(json["error_rate"], 0.01);
        assert_eq!(json["errors"]["reset"], 1);
        assert_eq!(json["codes"]["200"], 99);
        assert_eq!(json["elapsed"], 10.0);
        assert!((json["latency"]["p50"].as_f64().expect("a number") - 0.05).abs() < 1e-4, "{json}");
        assert_eq!(json["kept_up"], true);
    }

    #[test]
    fn a_run_that_fell_behind_says_so() {
        let mut report = sample();
        let failed = Outcome { expression: "p50<1ms".to_owned(), found: "50ms".to_owned(), pass: false };
        assert_eq!(report.exit_code(&[]), 0);
        assert_eq!(report.exit_code(std::slice::from_ref(&failed)), 1);
        report.kept_up = false;
        assert_eq!(report.exit_code(&[failed]), 3);
        assert!(report.to_text(&[]).contains("could not keep up"));
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
