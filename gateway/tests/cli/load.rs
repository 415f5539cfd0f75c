//! `tidegate load` against servers of its own tests.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use axum::{Router, routing::get};
use nix::{
    sys::signal::{SIGINT, SIGTERM, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tidegate_loadtest::Report;
use tokio::runtime::Runtime;

use super::{folder, tidegate};

#[test]
fn load_measures_and_keeps_its_promises() {
    let server = Runtime::new().expect("a runtime");
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let app = Router::new().route("/", get(|| async { "hello" }).post(|body: String| async { body }));
    let _serving = server.spawn(async { axum::serve(listener, app).await });
    let load =
        |rest: &str| tidegate(Path::new("/"), &format!("load {url} --rate 20 --duration 500ms {rest}"));

    let kept = load("--assert errors<1 p99<30s");
    // A machine that is too busy to send 20 requests per second says so.
    assert!(matches!(kept.code, 0 | 3), "{}{}", kept.out, kept.err);
    assert!(kept.out.contains("200: 10") && kept.out.contains("pass  errors<1"), "{}", kept.out);
    assert_eq!(kept.err, "");

    let broken = load("--json --body hello --assert rate>1000");
    let json: Value = serde_json::from_str(&broken.out).expect("JSON and nothing else");
    assert!(matches!(broken.code, 1 | 3), "{}{}", broken.out, broken.err);
    assert_eq!(
        (&json["requests"], &json["counts"]["bytes"], &json["thresholds"][0]["pass"]),
        (&json!(10), &json!(50), &json!(false))
    );

    let earlier = folder();
    let file = earlier.path().join("earlier.json");
    assert!(matches!(load(&format!("--out {}", file.display())).code, 0 | 3));
    let text = std::fs::read_to_string(&file).expect("written");
    // Once everybody was slower than anybody is now, and once faster.
    for (then, codes, verdict) in [(3600, [0, 3], "pass"), (0, [1, 3], "FAIL")] {
        let mut report = Report::from_json(&text).expect("a report");
        report.kept_up = true;
        report.latency.clear();
        report.latency.add(Duration::from_secs(then));
        std::fs::write(&file, report.to_json(&[]).to_string()).expect("written");
        let now = load(&format!("--baseline {} --tolerance 0%", file.display()));
        assert!(codes.contains(&now.code), "{}{}", now.out, now.err);
        assert!(now.out.contains(&format!("{verdict}  p99 within 0%")), "{}", now.out);
    }
}

#[test]
fn load_says_what_cannot_be_done_before_it_sends() {
    // Nobody listens where somebody has just stopped doing so.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let folder = folder();
    std::fs::write(folder.path().join("typo.toml"), "shap = \"const 5 1s\"").expect("written");
    for (line, code, part) in [
        ("load ftp://a/ --rate 1 --duration 1s", 2, "\"ftp://a/\" is not a URL"),
        ("load http://HERE/ --rate 1 --duration 1h", 1, "cannot be reached at HERE: Connection refused"),
        ("load find-knee http://HERE/", 1, "cannot be reached at HERE"),
        ("load http://HERE/ --rate 1 --duration 1h --out none/a.html", 2, "cannot write none/a.html"),
        ("load http://HERE/ --rate 1 --duration 1h --baseline a.json", 2, "cannot read a.json"),
        ("load http://HERE/ --shape users=1 --poisson", 2, "expected users as in"),
        (
            "load http://HERE/ --rate 1 --duration 1h --assert target(a).p99<1s",
            2,
            "no target is called \"a\"; there is http://HERE/",
        ),
        (
            "load http://HERE/ --rate 1 --duration 1h --assert replica_seconds<9",
            2,
            "replica_seconds<9: nobody would look at replicas; name the service with --service",
        ),
        (
            "load http://HERE/ --rate 1 --duration 1h --assert phase2.p99<1s",
            2,
            "phase2.p99<1s: there is no phase 2; the plan has 1",
        ),
        ("load http://HERE/ --rate 1 --duration 1h --body @nofile", 2, "cannot read the body from nofile"),
        ("load http://HERE/ --rate 1 --duration 1h --cpu 100000", 2, "there is no processor 100000"),
        ("load nofile", 2, "there is no file \"nofile\"; expected a URL"),
        ("load typo.toml", 2, "unknown field `shap`"),
        ("load gone.yaml", 2, "cannot read gone.yaml"),
        ("load compare typo.toml typo.toml", 2, "typo.toml: this is not a report"),
    ] {
        let here = |text: &str| text.replace("HERE", &free.to_string());
        let ran = tidegate(folder.path(), &here(line));
        assert_eq!((ran.code, &*ran.out), (code, ""), "{line}: {}", ran.err);
        assert!(ran.err.starts_with("tidegate: ") && ran.err.contains(&here(part)), "{line}: {}", ran.err);
    }
}

#[test]
fn load_that_is_told_to_end_reports_what_it_has_measured() {
    let server = Runtime::new().expect("a runtime");
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (came, mut comes) = tokio::sync::mpsc::channel(1);
    let app = Router::new().route(
        "/",
        get(move || async move {
            let _ = came.try_send(());
            "hello"
        }),
    );
    let _serving = server.spawn(async { axum::serve(listener, app).await });
    for signal in [SIGINT, SIGTERM] {
        let mut load = Command::new(assert_cmd::cargo::cargo_bin("tidegate"));
        load.args(["load", &url, "--rate", "50", "--duration", "1m", "--assert", "errors<1"]);
        let running = load.stdout(Stdio::piped()).spawn().expect("it runs");
        for _ in 0..3 {
            server.block_on(comes.recv()).expect("a request");
        }
        let id = Pid::from_raw(running.id().cast_signed());
        kill(id, signal).expect("it is there");
        let output = running.wait_with_output().expect("it ends");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(matches!(output.status.code(), Some(0 | 3)), "{signal}: {:?}", output.status);
        assert!(text.contains("ended early: the plan had 60.0s"), "{signal}: {text}");
        assert!(text.contains("pass  errors<1"), "{signal}: {text}");
    }
}

#[test]
fn load_that_is_told_twice_ends_at_once_and_writes_its_reports() {
    let server = Runtime::new().expect("a runtime");
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (came, mut comes) = tokio::sync::mpsc::channel(1);
    let hang = move || async move {
        let _ = came.try_send(());
        std::future::pending::<&str>().await
    };
    let _serving = server.spawn(async { axum::serve(listener, Router::new().route("/", get(hang))).await });
    let folder = folder();
    let mut load = Command::new(assert_cmd::cargo::cargo_bin("tidegate"));
    load.current_dir(folder.path());
    load.args([
        "load",
        &url,
        "--rate",
        "50",
        "--duration",
        "1h",
        "--timeout",
        "1h",
        "--out",
        "a.json",
        "--out",
        "a.html",
    ]);
    let running = load.stdout(Stdio::piped()).spawn().expect("it runs");
    server.block_on(comes.recv()).expect("a request");
    let id = Pid::from_raw(running.id().cast_signed());
    for signal in [SIGINT, SIGTERM] {
        kill(id, signal).expect("it is there");
    }
    let output = running.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("ended early: the plan had 3600s") && text.contains("cut "), "{text}");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}", output.status);
    let json = std::fs::read_to_string(folder.path().join("a.json")).expect("written");
    assert!(Report::from_json(&json).expect("a report").counts.errors.cut > 0);
    assert!(folder.path().join("a.html").exists());
}

#[test]
fn load_writes_what_can_be_written() {
    let server = Runtime::new().expect("a runtime");
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let folder = folder();
    let lost = folder.path().join("lost");
    std::fs::create_dir(&lost).expect("made");
    // Where one of the reports was to go is gone by the time that it is written.
    let app = Router::new().route(
        "/",
        get(move || async move {
            let _ = std::fs::remove_dir(&lost);
            "hello"
        }),
    );
    let _serving = server.spawn(async { axum::serve(listener, app).await });
    let line = format!("load {url} --rate 20 --duration 500ms --out lost/a.json --out b.json --out c.csv");
    let ran = tidegate(folder.path(), &line);
    assert!(
        matches!(ran.code, 1 | 3) && ran.err.contains("cannot write lost/a.json"),
        "{}{}",
        ran.out,
        ran.err
    );
    assert!(folder.path().join("b.json").exists() && folder.path().join("c.csv").exists(), "{}", ran.err);

    let text = std::fs::read_to_string(folder.path().join("b.json")).expect("written");
    let mut other = Report::from_json(&text).expect("a report");
    other.targets = vec!["elsewhere".to_owned()];
    std::fs::write(folder.path().join("d.json"), other.to_json(&[]).to_string()).expect("written");
    let merged = tidegate(folder.path(), "load merge b.json d.json");
    assert!(
        merged.code == 2 && merged.err.contains("d.json does not belong to the others"),
        "{}",
        merged.err
    );
    other.kept_up = true;
    std::fs::write(folder.path().join("d.json"), other.to_json(&[]).to_string()).expect("written");
    let unfit = tidegate(folder.path(), &format!("load {url} --rate 1 --duration 1h --baseline d.json"));
    assert!(unfit.code == 2 && unfit.err.contains("had other targets (elsewhere)"), "{}", unfit.err);
}
