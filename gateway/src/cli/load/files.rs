//! Reports as files: the ending of a name says what is written.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tidegate_loadtest::{
    Outcome, Report,
    report::{csv::csv, log::log},
};

/// A file whose ending says what to write.
pub(super) fn known(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match ending(&path) {
        Some("json" | "csv" | "hlog") => Ok(path),
        Some(_) | None => Err("expected a name that ends in .json, .csv or .hlog".into()),
    }
}

/// Writes a report.
pub(super) fn write(path: &Path, report: &Report, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let text = match ending(path) {
        Some("csv") => csv(report),
        Some("hlog") => log(report),
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
        for (name, fine) in
            [("a.json", true), ("/x/b.csv", true), ("c.hlog", true), ("d", false), ("e.txt", false)]
        {
            assert_eq!(known(name).is_ok(), fine, "{name}");
        }
    }
}
