//! Reports as files: the ending of a name says what is written.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
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

/// Whether a report can be written there; to be known before a long run, not after it. What is there stays as it is.
pub(in crate::cli) fn writable(path: &Path) -> anyhow::Result<()> {
    let new = !path.exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))?;
    if new {
        // Nobody is left with an empty file if nothing comes of it.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Writes a report to each of the files that can be written.
pub(super) fn write_all(
    paths: &[PathBuf],
    report: &Report,
    outcomes: &[Outcome],
    slo: Option<Duration>,
) -> anyhow::Result<()> {
    let failed = paths.iter().filter_map(|path| write(path, report, outcomes, slo).err());
    let failed: Vec<String> = failed.map(|error| format!("{error:#}")).collect();
    anyhow::ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// How the process ends: a file that could not be written is a failure, but figures that mean nothing are the worse news.
#[expect(clippy::print_stderr, reason = "it is said, and is not what the process ends with")]
pub(super) fn exit(written: anyhow::Result<()>, code: u8) -> anyhow::Result<ExitCode> {
    match written {
        Err(error) if code == 3 => eprintln!("tidegate: {error:#}"),
        written => written?,
    }
    Ok(ExitCode::from(code))
}

/// Writes a report. Response times up to `slo` are good, if that is given.
fn write(path: &Path, report: &Report, outcomes: &[Outcome], slo: Option<Duration>) -> anyhow::Result<()> {
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
    fn looking_whether_it_can_be_written_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (folder.path().join("old.json"), folder.path().join("new.json"));
        std::fs::write(&old, "kept").expect("written");
        writable(&old).and_then(|()| writable(&new)).expect("both can be written");
        assert_eq!(std::fs::read(&old).expect("there"), b"kept");
        assert!(!new.exists());
        let error = writable(&folder.path().join("none/new.json")).expect_err("there is no such folder");
        assert!(format!("{error:#}").contains("none/new.json: No such file"), "{error:#}");
    }

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
