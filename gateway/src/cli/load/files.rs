//! Reports as files: the ending of a name says what is written.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use tidegate_loadtest::{
    Outcome, Report,
    report::{csv::csv, html::html, log::log},
};

/// A file whose ending says what to write.
pub(super) fn known(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match ending(&path) {
        Some("json" | "csv" | "hlog" | "html") => Ok(path),
        Some(_) | None => Err("expected a name that ends in .json, .csv, .hlog or .html".into()),
    }
}

/// Writes a report. Response times up to `slo` are good, if that is given.
pub(super) fn write(
    path: &Path,
    report: &Report,
    outcomes: &[Outcome],
    slo: Option<Duration>,
) -> anyhow::Result<()> {
    let text = match ending(path) {
        Some("csv") => csv(report),
        Some("hlog") => log(report),
        Some("html") => html(report, outcomes, slo),
        Some(_) | None => format!("{:#}\n", report.to_json(outcomes)),
    };
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a report in JSON.
pub(super) fn read(path: &Path) -> anyhow::Result<Report> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    Report::from_json(&text).with_context(|| format!("{shown}"))
}

fn ending(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        for (name, fine) in [
            ("a.json", true),
            ("/x/b.csv", true),
            ("c.hlog", true),
            ("e.html", true),
            ("d", false),
            ("f.txt", false),
        ] {
            assert_eq!(known(name).is_ok(), fine, "{name}");
        }
    }
}
