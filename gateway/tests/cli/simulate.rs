//! `tidegate simulate` and `tune` from the command line.

use serde_json::Value;

use super::{folder, tidegate};

/// Half a minute of requests, with pauses.
fn counts() -> tempfile::TempDir {
    let folder = folder();
    std::fs::write(folder.path().join("counts"), "1 0 0 9 4 0 0 0 0 0 ".repeat(3)).expect("written");
    folder
}

#[test]
fn work_is_told_what_late_means() {
    let folder = counts();
    let told = "`work` is told that more than 50ms is late, where no setting says `late_after`";
    let of = |settings: &str| {
        let ran =
            tidegate(folder.path(), &format!("simulate counts --late-after 50ms --json --try {settings}"));
        let all: Vec<Value> = serde_json::from_str(&ran.out).expect("JSON");
        let [one] = <[Value; 1]>::try_from(all).expect("one");
        one
    };
    let (passed, said) = (of("work"), of("work,late_after=50ms"));
    for key in ["late", "replica_seconds", "starts"] {
        assert_eq!(passed[key], said[key], "{key}");
    }
    let assumed = |one: &Value| one["assumed"].as_str().expect("a text").contains(told);
    assert!(assumed(&passed), "{}", passed["assumed"]);
    assert!(!assumed(&said) && !assumed(&of("kpa")) && !assumed(&of("work,late_after=1s")));
    let other = tidegate(folder.path(), "simulate counts --late-after 50ms --try work,late_after=1s").out;
    assert!(
        other.contains(
            "Note: work,late_after=1s spares waits of more than 1s: what that does is told by --late-after 1s"
        ),
        "{other}"
    );
}

#[test]
fn numbers_that_are_none_are_told_what_would_do() {
    let folder = counts();
    for (option, expected) in [
        ("--concurrency 0", "expected a whole number from 1 on, or unlimited"),
        ("--concurrency none", "expected a whole number from 1 on, or unlimited"),
        ("--max 0", "expected a whole number from 1 on"),
        ("--seeds 0", "expected a whole number from 1 on"),
        ("--threads none", "expected a whole number from 1 on"),
    ] {
        for command in ["simulate", "tune"] {
            let ran = tidegate(folder.path(), &format!("{command} counts {option}"));
            assert!(ran.code == 2 && ran.err.contains(expected), "{command} {option}: {}", ran.err);
        }
    }
    let ran = tidegate(folder.path(), "simulate counts --try work --concurrency unlimited");
    assert!(
        ran.code == 0 && ran.out.contains("Note: the service has no `concurrency`"),
        "{}{}",
        ran.out,
        ran.err
    );
}

#[test]
fn a_page_that_cannot_be_written_is_told_before_anything_is_tried() {
    let folder = counts();
    let ran = tidegate(folder.path(), "simulate absent --html none/page.html");
    assert!(ran.code != 0 && ran.err.contains("cannot write none/page.html"), "{}", ran.err);
    let ran = tidegate(folder.path(), "simulate absent --html page.html");
    assert!(ran.err.contains("absent") && !folder.path().join("page.html").exists(), "{}", ran.err);
}
