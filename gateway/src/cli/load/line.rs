//! How a run goes, in one line.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tidegate_loadtest::{Snapshot, report::human};

/// A line that is drawn over and over on standard error, if that is a terminal.
pub(super) struct Line(ProgressBar);

impl Line {
    pub(super) fn new(duration: Duration) -> Self {
        let bar = ProgressBar::new(millis(duration));
        let style =
            ProgressStyle::with_template("  {bar:24} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self(bar)
    }

    pub(super) fn show(&self, snapshot: &Snapshot) {
        self.0.set_position(millis(snapshot.elapsed));
        self.0.set_message(words(snapshot));
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn words(snapshot: &Snapshot) -> String {
    let latency = |value: Option<Duration>| value.map_or_else(|| "-".to_owned(), human);
    let Snapshot { rate, in_flight, p50, p99, errors, behind, .. } = *snapshot;
    let behind = if behind > Duration::from_millis(100) {
        format!(", {} behind", human(behind))
    } else {
        String::new()
    };
    format!(
        "{rate:.0}/s, {in_flight} in flight, p50 {}, p99 {}, {errors} errors{behind}",
        latency(p50),
        latency(p99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_says_when_it_falls_behind() {
        let ms = Duration::from_millis;
        let mut snapshot = Snapshot {
            elapsed: ms(1000),
            expected: 400,
            sent: 200,
            done: 190,
            errors: 1,
            in_flight: 10,
            behind: ms(5),
            rate: 190.4,
            p50: Some(ms(12)),
            p90: None,
            p99: None,
            finished: false,
        };
        assert_eq!(words(&snapshot), "190/s, 10 in flight, p50 12.0ms, p99 -, 1 errors");
        snapshot.behind = ms(1500);
        assert!(words(&snapshot).ends_with(", 1.50s behind"));
    }
}
