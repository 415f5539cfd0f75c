//! Two runs side by side. `[P]`

use std::{fmt::Write, time::Duration};

use crate::{
    record::Spread,
    report::{Report, human, precise},
};

/// A table of the figures of both, and by how much the second differs.
#[must_use]
pub fn text(first: &Report, second: &Report) -> String {
    let mut out = format!("  {:<22}{:>12}{:>12}{:>10}\n", "", "first", "second", "change");
    let mut row = |name: &str, values: [Option<f64>; 2], show: fn(f64) -> String| {
        let [a, b] = values;
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), show);
        let change = a.zip(b).and_then(|(a, b)| change(a, b)).unwrap_or_else(|| "-".to_owned());
        writeln!(out, "  {name:<22}{:>12}{:>12}{change:>10}", shown(a), shown(b))
            .expect("a string takes everything");
    };
    let both = |figure: &dyn Fn(&Report) -> Option<f64>| [figure(first), figure(second)];
    row("requests", both(&|report| Some(precise(report.requests))), count);
    row("good per second", both(&|report| Some(report.rate)), decimal);
    row("error rate", both(&|report| Some(report.error_rate)), share);
    for (name, percent) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)] {
        row(&format!("response {name}"), both(&|report| seconds(&report.latency, percent)), time);
    }
    row("service p50", both(&|report| seconds(&report.service_time, 50.0)), time);
    row("service p99", both(&|report| seconds(&report.service_time, 99.0)), time);
    let cold = |report: &Report| report.spread(|cell| &cell.response, |key| key.cold);
    row("cold requests", both(&|report| Some(precise(cold(report).count()))), count);
    row("cold p50", both(&|report| seconds(&cold(report), 50.0)), time);
    let summary = Report::replicas;
    if first.overlay.is_some() || second.overlay.is_some() {
        row("replica-seconds", both(&|report| summary(report).map(|s| s.replica_seconds)), decimal);
        row("replicas at most", both(&|report| summary(report).map(|s| f64::from(s.peak))), count);
        row("first ready", both(&|report| summary(report).and_then(|s| s.first_ready.seconds())), time);
        row("flaps", both(&|report| summary(report).map(|s| f64::from(s.flaps))), count);
    }
    for (name, report) in [("first", first), ("second", second)] {
        if !report.kept_up {
            writeln!(out, "  the {name} run is INVALID: its generator could not keep up")
                .expect("a string takes everything");
        }
    }
    out
}

fn seconds(spread: &Spread, percent: f64) -> Option<f64> {
    spread.percentile(percent).map(|time| time.as_secs_f64())
}

fn change(from: f64, to: f64) -> Option<String> {
    (from > 0.0).then(|| format!("{:+.1} %", (to / from - 1.0) * 100.0))
}

fn count(value: f64) -> String {
    format!("{value:.0}")
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

fn share(value: f64) -> String {
    format!("{:.3} %", value * 100.0)
}

fn time(value: f64) -> String {
    human(Duration::try_from_secs_f64(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn differences_are_said() {
        let (first, mut second) = (sample(), sample());
        second.rate = 19.8;
        second.kept_up = false;
        second.latency.clear();
        let text = text(&first, &second);
        let line = |name: &str| {
            text.lines().find(|line| line.trim_start().starts_with(name)).expect(name).to_owned()
        };
        assert!(line("good per second").ends_with("+100.0 %"), "{text}");
        assert!(line("requests").ends_with("+0.0 %"), "{text}");
        assert!(line("response p50").ends_with('-'), "{text}");
        assert!(text.contains("the second run is INVALID") && !text.contains("the first run"), "{text}");
    }
}
