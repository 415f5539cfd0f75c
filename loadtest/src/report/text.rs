//! A report for people. `[P]`

use std::fmt::{self, Write};

use super::{Mode, Report, human};
use crate::{
    overlay::{FirstReady, Overlay, Summary},
    pace::BOUND,
    record::{Errors, Spread},
    threshold::Outcome,
};

/// Phases that are listed.
const PHASES: usize = 30;

pub(super) fn text(report: &Report, outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    write(report, outcomes, &mut out).expect("a string takes everything");
    out
}

fn write(report: &Report, outcomes: &[Outcome], out: &mut String) -> fmt::Result {
    summary(report, out)?;
    writeln!(out)?;
    times(report, out)?;
    if report.phases.len() > 1 {
        writeln!(out)?;
        phases(report, out)?;
    }
    if report.counts.targets.len() > 1 {
        writeln!(out)?;
        targets(report, out)?;
    }
    if !outcomes.is_empty() {
        writeln!(out)?;
    }
    for outcome in outcomes {
        let verdict = if outcome.pass { "pass" } else { "FAIL" };
        writeln!(out, "  {verdict}  {}  (found {})", outcome.expression, outcome.found)?;
    }
    if report.kept_up { Ok(()) } else { warning(report, out) }
}

fn summary(report: &Report, out: &mut String) -> fmt::Result {
    let mut row = |name: &str, value: &str| writeln!(out, "  {name:<12} {value}");
    row("target", &report.targets.join(", "))?;
    row(
        "requests",
        &format!("{} in {} over {} connections", report.requests, human(report.elapsed), report.connections),
    )?;
    if report.ended_early() {
        row("", &format!("ended early: the plan had {}", human(report.duration)))?;
    }
    match report.mode {
        Mode::Open => {
            row("rate", &format!("{:.1}/s good, {:.1}/s planned", report.rate, report.planned_rate))?
        }
        Mode::Closed => {
            row("rate", &format!("{:.1}/s good, from {} in a closed loop", report.rate, report.process))?;
            row(
                "",
                "who waits for an answer sends nothing: response times leave out what would have queued",
            )?;
        }
    }
    let errors = report.counts.errors;
    row("errors", &format!("{} ({:.2} %){}", errors.total(), report.error_rate * 1e2, kinds(errors)))?;
    for (kind, words) in &report.counts.examples {
        row("", &format!("{kind}, for one: {words}"))?;
    }
    let codes = report.counts.codes.iter().map(|(code, count)| format!("{code}: {count}"));
    let grpc = report.counts.grpc.iter().map(|(status, count)| format!("gRPC {status}: {count}"));
    let answers: Vec<String> = codes.chain(grpc).collect();
    if !answers.is_empty() {
        row("answers", &answers.join(", "))?;
    }
    if let Some(summary) = report.replicas() {
        row("replicas", &replicas(&summary))?;
    }
    if let Some(Overlay { decisions, repeated, left_out, .. }) = &report.overlay
        && repeated + left_out > 0
    {
        let kept = decisions.len();
        row(
            "decisions",
            &format!("{kept} kept; {repeated} more said the same, {left_out} more are left out"),
        )?;
    }
    match &report.overlay {
        Some(Overlay { unseen, until, .. }) if *unseen > 0.0 => row(
            "",
            &format!("the gateway did not answer for {unseen:.1}s of {until:.1}s: that part is not in it"),
        ),
        Some(_) | None => Ok(()),
    }
}

fn replicas(summary: &Summary) -> String {
    let first = match summary.first_ready {
        FirstReady::Never => ", none was ever ready".to_owned(),
        FirstReady::AtOnce => String::new(),
        FirstReady::Within(seconds) => format!(", the first within {seconds:.2}s"),
    };
    format!(
        "{} at most, {:.0} replica-seconds, overshoot {}, flaps {}{}",
        summary.peak, summary.replica_seconds, summary.overshoot, summary.flaps, first
    )
}

fn times(report: &Report, out: &mut String) -> fmt::Result {
    heading("", out)?;
    let cold = report.spread(|cell| &cell.response, |key| key.cold);
    let warm = report.spread(|cell| &cell.response, |key| !key.cold);
    let parts = &report.counts.parts;
    let rows = [
        ("response", &report.latency, true),
        ("  cold", &cold, cold.count() > 0),
        ("  warm", &warm, cold.count() > 0),
        ("service", &report.service_time, true),
        ("lag", &report.lag, true),
        ("told: queue", &parts.queue, parts.queue.count() > 0),
        ("told: start", &parts.start, parts.start.count() > 0),
        ("told: app", &parts.upstream, parts.upstream.count() > 0),
    ];
    rows.iter().filter(|(_, _, shown)| *shown).try_for_each(|(name, spread, _)| figures(name, spread, out))
}

fn heading(name: &str, out: &mut String) -> fmt::Result {
    write!(out, "  {name:<12}")?;
    Spread::FIGURES.iter().try_for_each(|(name, _)| write!(out, "{name:>9}"))?;
    writeln!(out)
}

fn figures(name: &str, spread: &Spread, out: &mut String) -> fmt::Result {
    write!(out, "  {name:<12}")?;
    for (_, figure) in Spread::FIGURES {
        write!(out, "{:>9}", shown(figure(spread)))?;
    }
    writeln!(out)
}

fn shown(duration: Option<std::time::Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), human)
}

fn phases(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "  {:<34}{:>9}{:>9}{:>9}{:>9}{:>9}", "phase", "requests", "errors", "p50", "p99", "max")?;
    for (number, phase) in report.phases.iter().enumerate().take(PHASES) {
        let all = report.spread(|cell| &cell.response, |key| key.phase == number);
        let failed = report.spread(|cell| &cell.response, |key| key.phase == number && key.class.is_error());
        let name: String = format!("{} {}", number + 1, phase.name).chars().take(33).collect();
        writeln!(
            out,
            "  {name:<34}{:>9}{:>9}{:>9}{:>9}{:>9}",
            all.count(),
            failed.count(),
            shown(all.percentile(50.0)),
            shown(all.percentile(99.0)),
            shown(all.max())
        )?;
    }
    match report.phases.len().checked_sub(PHASES) {
        Some(more @ 1..) => writeln!(out, "  and {more} more"),
        Some(0) | None => Ok(()),
    }
}

fn targets(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "  {:<34}{:>9}{:>9}{:>9}{:>9}{:>9}", "target", "requests", "errors", "p50", "p99", "max")?;
    for (name, target) in report.targets.iter().zip(&report.counts.targets) {
        let name: String = name.chars().take(33).collect();
        let latency = &target.latency;
        writeln!(
            out,
            "  {name:<34}{:>9}{:>9}{:>9}{:>9}{:>9}",
            latency.count(),
            target.errors,
            shown(latency.percentile(50.0)),
            shown(latency.percentile(99.0)),
            shown(latency.max())
        )?;
    }
    Ok(())
}

fn kinds(errors: Errors) -> String {
    let Errors { connect, reset, timeout, status, unsent, closed, cut } = errors;
    let kinds = [
        ("connect", connect),
        ("reset", reset),
        ("timeout", timeout),
        ("status", status),
        ("unsent", unsent),
        ("closed", closed),
        ("cut", cut),
    ];
    let shown: Vec<String> =
        kinds.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{kind} {count}")).collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

fn warning(report: &Report, out: &mut String) -> fmt::Result {
    let pace = report.pace;
    writeln!(out)?;
    writeln!(
        out,
        "  INVALID: the generator could not keep up. {} of {} requests went out over {} late",
        pace.late,
        pace.sent,
        human(BOUND)
    )?;
    writeln!(
        out,
        "  by its own fault; it stood still for {}, and had no rest while requests were overdue",
        human(pace.stalled)
    )?;
    writeln!(
        out,
        "  for {} (up to 1 %, 1 % and 5 % are normal). The figures above say little about the server:",
        human(pace.saturated)
    )?;
    writeln!(out, "  lower the rate, or run the generator where it has a processor to itself.")
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;

    #[test]
    fn it_says_it_all() {
        let text = sample().to_text(&[]);
        for part in [
            "100 in 10.0s over 4 connections",
            "9.9/s good, 10.0/s planned",
            "1 (1.00 %): reset 1",
            "200: 99",
            "  cold         1.00ms",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("keep up") && !text.contains("phase") && !text.contains("closed"), "{text}");
    }

    #[test]
    fn what_a_reader_must_not_miss() {
        let mut report = sample();
        assert!(!report.to_text(&[]).contains("ended early"));
        report.duration = 2 * report.elapsed;
        report.kept_up = false;
        let mut lost = crate::overlay::Overlay::new("api");
        lost.look(crate::overlay::Look::default());
        lost.end(30.0);
        (lost.repeated, lost.left_out) = (7, 3);
        report.overlay = Some(lost);
        report.mode = super::Mode::Closed;
        let text = report.to_text(&[]);
        assert!(text.contains("ended early: the plan had 20.0s"), "{text}");
        assert!(text.contains("INVALID: the generator could not keep up"), "{text}");
        assert!(text.contains("0 kept; 7 more said the same, 3 more are left out"), "{text}");
        assert!(text.contains("none was ever ready"), "{text}");
        assert!(text.contains("did not answer for 30.0s of 30.0s"), "{text}");
        assert!(text.contains("leave out what would have queued"), "{text}");
    }
}
