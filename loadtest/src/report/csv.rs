//! A run over time, as a table for spreadsheets and programs. `[P]`

use std::fmt::Write;

use super::Report;

/// A line for each stretch of time: when it begins, what was planned and what came of the requests that were due in it.
/// Times are seconds; what is not known is empty.
#[must_use]
pub fn csv(report: &Report) -> String {
    let mut out = String::from(
        "at,planned_rate,requests,errors,cold,p50,p90,p99,max,told_queue,told_start,told_upstream\n",
    );
    for moment in report.counts.timeline.moments() {
        let middle = moment.at + report.counts.timeline.width().as_secs_f64() / 2.0;
        let row = [
            Some(moment.at),
            report.planned_at(middle),
            Some(super::precise(moment.count)),
            Some(super::precise(moment.errors)),
            Some(super::precise(moment.cold)),
            moment.p50,
            moment.p90,
            moment.p99,
            moment.max,
            moment.queue,
            moment.start,
            moment.upstream,
        ];
        let cells: Vec<String> = row.iter().map(|cell| cell.map_or_else(String::new, trimmed)).collect();
        writeln!(out, "{}", cells.join(",")).expect("a string takes everything");
    }
    out
}

/// Microseconds are all that is measured.
fn trimmed(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_line_for_each_stretch() {
        let text = csv(&sample());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 101);
        assert!(lines[1].starts_with("0,10,1,0,1,0.001") && lines[1].ends_with(",,,"), "{}", lines[1]);
        assert!(lines[100].starts_with("9.9,10,1,1,0,0.100"), "{}", lines[100]);
        assert!(lines.iter().all(|line| line.matches(',').count() == 11));
    }
}
