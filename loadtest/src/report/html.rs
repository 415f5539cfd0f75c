//! A report as one page that needs nothing else: style, script and figures are in it, and its own policy forbids it to ask
//! for more. `[P]`

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Mode, Report, human, precise};
use crate::{
    overlay::{FirstReady, Overlay, Summary, recovery},
    record::{Cell, Moment, Spread},
    threshold::Outcome,
};

const PAGE: &str = include_str!("html/page.html");
const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");
/// Stretches of time that are drawn at most.
const STRETCHES: usize = 200;

/// What the script draws.
#[derive(Serialize)]
struct Data<'a> {
    title: &'a str,
    started: String,
    mode: Mode,
    process: &'a str,
    duration: f64,
    elapsed: f64,
    early: bool,
    kept_up: bool,
    pace: Value,
    tiles: Vec<(String, &'static str, bool)>,
    times: Vec<Value>,
    outcomes: &'a [Outcome],
    phases: Vec<Value>,
    targets: Vec<Value>,
    answers: Vec<(String, u64)>,
    examples: &'a std::collections::BTreeMap<String, String>,
    width: f64,
    moments: Vec<Moment>,
    planned: &'a [f64],
    /// Whether the server says what it spends its time on.
    told: bool,
    slo: Option<f64>,
    overlay: Option<&'a Overlay>,
}

/// The page. Response times up to `slo` are good, if that is given.
#[must_use]
pub fn html(report: &Report, outcomes: &[Outcome], slo: Option<Duration>) -> String {
    let timeline = report.counts.timeline.at_most(STRETCHES);
    let data = Data {
        title: if report.name.is_empty() {
            report.targets.first().map_or("", String::as_str)
        } else {
            &report.name
        },
        started: started(report.started),
        mode: report.mode,
        process: &report.process,
        duration: report.duration.as_secs_f64(),
        elapsed: report.elapsed.as_secs_f64(),
        early: report.ended_early(),
        kept_up: report.kept_up,
        pace: serde_json::to_value(report.pace).expect("plain values"),
        tiles: tiles(report, slo),
        times: times(report),
        outcomes,
        phases: phases(report),
        targets: targets(report),
        answers: answers(report),
        examples: &report.counts.examples,
        width: timeline.width().as_secs_f64(),
        moments: timeline.moments(),
        planned: &report.planned,
        told: report.counts.parts.upstream.count() + report.counts.parts.queue.count() > 0,
        slo: slo.map(|slo| slo.as_secs_f64()),
        overlay: report.overlay.as_ref(),
    };
    // Nothing in it may end the script.
    let data = serde_json::to_string(&data).expect("plain values").replace('<', "\\u003c");
    PAGE.replacen("/*STYLE*/", STYLE, 1).replacen("/*SCRIPT*/", SCRIPT, 1).replacen("/*DATA*/", &data, 1)
}

fn started(at: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(at);
    if at == 0 {
        String::new()
    } else {
        humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', " UTC")
    }
}

fn tiles(report: &Report, slo: Option<Duration>) -> Vec<(String, &'static str, bool)> {
    let time = |percent| report.latency.percentile(percent).map_or_else(|| "–".to_owned(), human);
    let errors = report.counts.errors.total();
    let mut tiles = vec![
        (report.requests.to_string(), "requests", false),
        (format!("{:.1}/s", report.rate), "answered well", false),
        (time(50.0), "p50 response", false),
        (time(99.0), "p99 response", false),
        (format!("{:.2} %", report.error_rate * 100.0), "errors", errors > 0),
    ];
    let cold = report.spread(|cell| &cell.response, |key| key.cold);
    if cold.count() > 0 {
        tiles.push((cold.count().to_string(), "cold requests", false));
        tiles.push((cold.percentile(50.0).map_or_else(String::new, human), "p50 of cold ones", false));
        let tax = report
            .counts
            .parts
            .start
            .mean()
            .map_or(0.0, |mean| mean.as_secs_f64() * precise(report.counts.parts.start.count()));
        if tax > 0.0 {
            tiles.push((human(Duration::from_secs_f64(tax)), "cold-start tax, summed", false));
        }
    }
    if let Some(slo) = slo {
        let share = report
            .counts
            .within(slo)
            .map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", share * 100.0));
        tiles.push((share, "within the SLO", false));
        let timeline = &report.counts.timeline;
        let longest = recovery(&timeline.moments(), timeline.width().as_secs_f64(), slo.as_secs_f64());
        tiles.push((
            longest.map_or_else(|| "none".to_owned(), |s| human(Duration::from_secs_f64(s))),
            "longest SLO breach",
            longest.is_some(),
        ));
    }
    tiles.extend(report.replicas().iter().flat_map(replica_tiles));
    tiles
}

fn replica_tiles(summary: &Summary) -> Vec<(String, &'static str, bool)> {
    let first = match summary.first_ready {
        FirstReady::Never => Some(("never".to_owned(), "was a replica ready", true)),
        FirstReady::AtOnce => None,
        FirstReady::Within(s) => {
            Some((human(Duration::from_secs_f64(s)), "at most, to the first ready replica", false))
        }
    };
    [
        (summary.peak.to_string(), "replicas at most", false),
        (format!("{:.0}", summary.replica_seconds), "replica-seconds", false),
        (summary.overshoot.to_string(), "overshoot, replicas", false),
        (summary.flaps.to_string(), "flaps", summary.flaps > 0),
    ]
    .into_iter()
    .chain(first)
    .collect()
}

fn times(report: &Report) -> Vec<Value> {
    let cold = report.spread(|cell: &Cell| &cell.response, |key| key.cold);
    let warm = report.spread(|cell: &Cell| &cell.response, |key| !key.cold);
    let parts = &report.counts.parts;
    let split = cold.count() > 0;
    [
        ("response time", &report.latency, true),
        ("  of cold requests", &cold, split),
        ("  of warm requests", &warm, split),
        ("service time", &report.service_time, true),
        ("schedule lag", &report.lag, true),
        ("server: queue", &parts.queue, parts.queue.count() > 0),
        ("server: start", &parts.start, parts.start.count() > 0),
        ("server: app", &parts.upstream, parts.upstream.count() > 0),
    ]
    .into_iter()
    .filter(|(_, _, shown)| *shown)
    .map(|(name, spread, _)| figures(name, spread))
    .collect()
}

/// All figures of a spread, without its histogram.
fn figures(name: &str, spread: &Spread) -> Value {
    let mut row = json!({ "name": name, "count": spread.count() });
    for (figure, value) in Spread::FIGURES {
        row[figure] = value(spread).map(|value| value.as_secs_f64()).into();
    }
    row
}

fn phases(report: &Report) -> Vec<Value> {
    let row = |(number, phase): (usize, &super::PhaseReport)| {
        let all = report.spread(|cell| &cell.response, |key| key.phase == number);
        let failed = report.spread(|cell| &cell.response, |key| key.phase == number && key.class.is_error());
        let mut row = figures(&phase.name, &all);
        row["begin"] = phase.begin.into();
        row["end"] = phase.end.into();
        row["requests"] = all.count().into();
        row["errors"] = failed.count().into();
        row
    };
    report.phases.iter().enumerate().map(row).collect()
}

fn targets(report: &Report) -> Vec<Value> {
    let row = |(name, target): (&String, &crate::record::TargetCount)| {
        let mut row = figures(name, &target.latency);
        row["requests"] = target.latency.count().into();
        row["errors"] = target.errors.into();
        row
    };
    report.targets.iter().zip(&report.counts.targets).map(row).collect()
}

fn answers(report: &Report) -> Vec<(String, u64)> {
    let errors = report.counts.errors;
    let codes = report.counts.codes.iter().map(|(code, count)| (code.to_string(), *count));
    let grpc = report.counts.grpc.iter().map(|(status, count)| (format!("gRPC {status}"), *count));
    let failed = [
        ("no connection", errors.connect),
        ("broken", errors.reset),
        ("timed out", errors.timeout),
        ("never sent", errors.unsent),
        ("closed before their time", errors.closed),
        ("cut off at the end", errors.cut),
    ];
    let failed =
        failed.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count));
    codes.chain(grpc).chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn everything_is_in_it_and_nothing_is_asked_for() {
        let mut report = sample();
        report.name = "</script><img src=x>".to_owned();
        let page = html(&report, &[], Some(Duration::from_millis(50)));
        assert!(!page.contains("</script><img"), "a name does not end the script");
        for place in ["/*STYLE*/", "/*DATA*/", "/*SCRIPT*/"] {
            assert!(!page.contains(place), "{place}");
        }
        for asking in ["src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest"] {
            let found = page.replace("img src=x", "").contains(asking);
            assert!(!found, "{asking}");
        }
        assert!(page.contains("longest SLO breach"));
    }
}
