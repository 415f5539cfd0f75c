//! The program as people and scripts meet it: what it prints where, and how it exits. Client commands talk to a made-up
//! gateway that answers with the admin API's own types.

mod load;
mod simulate;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use axum::{
    Json, Router,
    extract::Path as Segment,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tidegate::control::{
    history::{Entry, What},
    status::{BalanceStatus, Explanation, FailureStatus, ReplicaStatus, ServiceStatus},
};
use tokio::runtime::Runtime;

/// What a run came to.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn tidegate(folder: &Path, line: &str) -> Ran {
    let mut command = Command::cargo_bin("tidegate").expect("the program is built");
    for option in ["CONFIG", "STATE", "SOCKET", "LOG"] {
        command.env_remove(format!("TIDEGATE_{option}"));
    }
    let output = command.current_dir(folder).args(line.split_whitespace()).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code().expect("no signal"), out: text(output.stdout), err: text(output.stderr) }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_kubeconfig_that_is_named_and_not_there_is_told() {
    let folder = folder();
    let file = |kubernetes: &str| {
        format!(
            "[[hosts]]\nname = \"k\"\nengine = \"kubernetes\"\n{kubernetes}\n[services.api]\nimage = \"api:1\"\n"
        )
    };
    let write = |kubernetes: &str| {
        std::fs::write(folder.path().join("tidegate.toml"), file(kubernetes)).expect("written")
    };
    write("kubernetes = { kubeconfig = \"absent.conf\" }");
    let check = tidegate(folder.path(), "check");
    assert_eq!((check.code, &*check.out), (2, ""));
    assert!(
        check.err.starts_with("hosts.k.kubernetes: ") && check.err.contains("absent.conf"),
        "{}",
        check.err
    );
    let said: serde_json::Value =
        serde_json::from_str(&tidegate(folder.path(), "check --json").out).expect("JSON");
    assert_eq!((&said["ok"], said["clusters"].as_array().map(Vec::len)), (&false.into(), Some(1)), "{said}");
    // Where it comes from by itself, it may be there where the gateway will run.
    write("");
    assert_eq!(tidegate(folder.path(), "check").code, 0);
}

#[test]
fn a_first_file_is_written_and_lacks_only_its_image() {
    let folder = folder();
    let first = tidegate(folder.path(), "init");
    assert_eq!((first.code, &*first.err), (0, ""));
    assert!(first.out.contains("wrote tidegate.toml") && first.out.contains("tidegate up`"), "{}", first.out);

    let check = tidegate(folder.path(), "check");
    assert_eq!((check.code, &*check.out), (2, ""));
    assert!(
        check.err.starts_with("tidegate.toml:") && check.err.contains("services.hello.image"),
        "{}",
        check.err
    );

    let file = folder.path().join("tidegate.toml");
    let text = std::fs::read_to_string(&file).expect("it was written").replace("\"IMAGE\"", "\"nginx:1.27\"");
    std::fs::write(&file, &text).expect("writable");
    let check = tidegate(folder.path(), "check");
    assert_eq!((check.code, &*check.out, &*check.err), (0, "tidegate.toml: ok, 1 service\n", ""));

    let again = tidegate(folder.path(), "init");
    assert_eq!((again.code, &*again.out), (1, ""));
    assert_eq!(
        again.err,
        "tidegate: tidegate.toml is there already; use --force to replace it, or name another file\n"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), text);
    assert_eq!(tidegate(folder.path(), "init --force").code, 0);
    assert_ne!(std::fs::read_to_string(&file).expect("replaced"), text);
}

#[test]
fn init_says_how_to_run_another_file_and_writes_toml_only() {
    let folder = folder();
    let other = tidegate(folder.path(), "init other.toml");
    assert!(other.out.contains("tidegate up --config other.toml"), "{}", other.out);
    let yaml = tidegate(folder.path(), "init other.yaml");
    assert_eq!((yaml.code, &*yaml.err), (2, "tidegate: what init writes is TOML; name it other.toml\n"));
    let nowhere = tidegate(folder.path(), "init no/such/folder.toml");
    assert_eq!(nowhere.code, 1);
    assert!(
        nowhere.err.starts_with("tidegate: cannot write no/such/folder.toml: No such file"),
        "{}",
        nowhere.err
    );
}

#[test]
fn check_reports_every_problem_as_text_and_json() {
    let folder = folder();
    let text = "[services.api]\nimage = \"a:1\"\nprot = 80\n[services.api.scaling]\nmin = 5\nmax = 2\n";
    std::fs::write(folder.path().join("bad.toml"), text).expect("writable");
    let bad = tidegate(folder.path(), "check bad.toml");
    assert_eq!(bad.code, 2);
    assert!(bad.err.contains("bad.toml:3:1: ") && bad.err.ends_with("2 problems\n"), "{}", bad.err);

    let bad = tidegate(folder.path(), "check bad.toml --json");
    let json: Value = serde_json::from_str(&bad.out).expect("JSON and nothing else");
    assert_eq!((bad.code, &*bad.err, &json["ok"]), (2, "", &json!(false)));
    assert_eq!(json["problems"][0]["place"], json!({ "file": "bad.toml", "line": 3, "column": 1 }));

    std::fs::write(folder.path().join("tidegate.json"), r#"{"services":{"a":{"image":"a:1"}}}"#)
        .expect("writable");
    let good = tidegate(folder.path(), "check --json");
    let json: Value = serde_json::from_str(&good.out).expect("JSON");
    let want = json!({ "file": "tidegate.json", "ok": true, "services": ["a"], "notes": [] });
    assert_eq!((good.code, json), (0, want));

    let text = "[[hosts]]\nname = \"there\"\nendpoint = \"ssh://root@10.0.0.2\"\naddress = \"10.0.0.2\"\n";
    std::fs::write(folder.path().join("remote.toml"), text).expect("writable");
    let noted = tidegate(folder.path(), "check remote.toml");
    assert_eq!((noted.code, &*noted.err), (0, ""));
    assert!(
        noted.out.starts_with("remote.toml: ok, 0 services\nnote: names of services do not resolve"),
        "{}",
        noted.out
    );
}

#[test]
fn a_missing_file_is_said_with_what_to_do() {
    let folder = folder();
    for line in ["check", "up"] {
        let ran = tidegate(folder.path(), line);
        assert_eq!((ran.code, &*ran.out), (2, ""), "{line}");
        assert!(
            ran.err.starts_with("tidegate: there is no tidegate.toml") && ran.err.contains("init"),
            "{}",
            ran.err
        );
    }
    let named = tidegate(folder.path(), "check other.toml");
    assert_eq!(named.code, 2);
    assert!(named.err.contains("other.toml"), "{}", named.err);
}

#[test]
fn schema_is_json() {
    let folder = folder();
    let schema = tidegate(folder.path(), "schema");
    let json: Value = serde_json::from_str(&schema.out).expect("JSON");
    assert_eq!(schema.code, 0);
    assert!(json["properties"]["services"].is_object(), "{json}");
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let folder = folder();
    let wrong = tidegate(folder.path(), "ps --nope");
    assert_eq!((wrong.code, &*wrong.out), (2, ""));
    assert!(wrong.err.starts_with("tidegate: unexpected argument '--nope'"), "{}", wrong.err);
    let nothing = tidegate(folder.path(), "");
    assert_eq!((nothing.code, &*nothing.out), (2, ""));
    assert!(nothing.err.contains("restart"), "{}", nothing.err);
    for line in ["--help", "load --help", "--version"] {
        let ran = tidegate(folder.path(), line);
        assert_eq!((ran.code, &*ran.err), (0, ""), "{line}");
        assert!(ran.out.to_lowercase().contains("tidegate"), "{}", ran.out);
    }
}

#[test]
fn no_gateway_is_said_with_the_socket_that_was_tried() {
    let folder = folder();
    let state = folder.path().join("state");
    let line = |command: &str| format!("{command} --state {}", state.display());
    std::fs::write(folder.path().join("tidegate.toml"), FILE).expect("writable");
    for command in
        ["ps", "plan", "ps --json", "explain api", "logs api", "wake api", "sleep api", "restart api"]
    {
        let ran = tidegate(folder.path(), &line(command));
        let want = format!(
            "tidegate: no gateway answers on {}/admin.sock; is \"tidegate up\" running? (--state or --socket names another)\n",
            state.display()
        );
        assert_eq!((ran.code, &*ran.out, ran.err), (1, "", want), "{command}");
    }
    // A gateway that was killed leaves its socket behind.
    std::fs::create_dir(&state).expect("a folder");
    drop(std::os::unix::net::UnixListener::bind(state.join("admin.sock")).expect("a socket"));
    assert!(tidegate(folder.path(), &line("ps")).err.contains("no gateway answers"));
}

#[test]
fn a_service_and_its_replicas_are_listed() {
    let gateway = Gateway::new();
    let ps = gateway.ask("ps");
    assert_eq!((ps.code, &*ps.err), (0, ""));
    let lines: Vec<&str> = ps.out.lines().collect();
    assert!(lines[0].starts_with("SERVICE  STATE  REPLICAS"), "{}", ps.out);
    assert!(lines[1].starts_with("api      ready") && lines[1].contains("1/1"), "{}", ps.out);
    assert_eq!(lines[2], "  api-1-1  ready  local  172.20.0.3:8080  2 in flight  1 h 1 min");
    let json: Vec<ServiceStatus> = serde_json::from_str(&gateway.ask("ps --json").out).expect("JSON");
    assert_eq!(json, [status()]);
    let watch = gateway.ask("ps --watch");
    assert_eq!(watch.code, 2);
    assert!(watch.err.contains("needs a terminal"), "{}", watch.err);
}

#[test]
fn a_service_is_explained() {
    let gateway = Gateway::new();
    let explain = gateway.ask("explain api");
    assert_eq!((explain.code, &*explain.err), (0, ""));
    for part in
        ["api: ready, 1 of 1 replica", "last failure: api-1-0", "  | out of cheese", "want 1 (demand)"]
    {
        assert!(explain.out.contains(part), "{part} in\n{}", explain.out);
    }
    let json: Explanation = serde_json::from_str(&gateway.ask("explain api --json").out).expect("JSON");
    assert_eq!(json, explanation());
}

#[test]
fn a_plan_says_what_a_file_would_change() {
    let gateway = Gateway::new();
    let plan = |text: &str, options: &str| {
        std::fs::write(gateway.folder.path().join("new.toml"), text).expect("writable");
        gateway.ask(&format!("plan new.toml{options}"))
    };
    let same = plan(FILE, "");
    assert_eq!((same.code, &*same.out, &*same.err), (0, "nothing changes\n", ""));

    let text = FILE.replace("canary-1", "canary-2").replace("api:1", "api:2").replace("max = 3", "max = 5");
    let text =
        format!("{text}[services.site]\nimage = \"nginx:1.27\"\n[gateway]\nlisten = \"127.0.0.1:1\"\n");
    let changed = plan(&text, "");
    let want = "~ api   update: new revision (env.TOKEN changed, image api:1 -> api:2); 1 replica replaced once the new one \
        is ready\n        no restart: routes [api.localhost/, */] -> [api.localhost/], scaling.max 3 -> 5\n\
        + site  add: image nginx:1.27\n\
        gateway, at its next start: gateway.listen [0.0.0.0:8080] -> [127.0.0.1:1]\n";
    assert_eq!((changed.code, &*changed.out, &*changed.err), (0, want, ""));

    let json: Value = serde_json::from_str(&plan(&text, " --json").out).expect("JSON and nothing else");
    let api = &json["changes"]["services"][0];
    assert_eq!((&api["action"], &api["takes_over"]), (&json!("new_revision"), &json!("at_once")));
    assert_eq!(api["live"][1], json!({ "key": "scaling.max", "from": "3", "to": "5" }));
    assert!(!json.to_string().contains("canary"), "{json}");

    let gone = plan("", "");
    assert_eq!((gone.code, &*gone.out), (0, "- api  remove: 1 replica drained\n"));

    let bad = plan("[services.api]\nimage = 5\n", "");
    assert_eq!((bad.code, &*bad.out), (2, ""));
    assert!(bad.err.contains("new.toml:2:9: services.api.image"), "{}", bad.err);
}

#[test]
fn logs_come_line_by_line() {
    let gateway = Gateway::new();
    let logs = gateway.ask("logs api --tail 7");
    assert_eq!((logs.code, &*logs.out), (0, "api-1-1 | follow=false&tail=7\napi-1-1 | second\n"));
    let logs = gateway.ask("logs api -f --json");
    let first: Value = serde_json::from_str(logs.out.lines().next().unwrap_or_default()).expect("JSON");
    assert_eq!((&first["replica"], &first["text"]), (&json!("api-1-1"), &json!("follow=true")));
}

#[test]
fn wake_sleep_and_restart_wait_for_their_answers() {
    let gateway = Gateway::new();
    for (line, code, out, err) in [
        ("wake api", 0, "api: ready\n", ""),
        ("sleep api", 0, "api: asleep\n", ""),
        ("wake api --json", 0, "{\n  \"done\": true\n}\n", ""),
        ("restart api", 1, "", "tidegate: api: exit code 1; `tidegate explain api` says more\n"),
        ("wake apj", 1, "", "tidegate: no service is called apj; there is api\n"),
        ("wake A/../b", 1, "", "tidegate: no service is called \"A/../b\"; there is api\n"),
        ("explain apj", 1, "", "tidegate: no service is called apj; there is api\n"),
        ("logs apj", 1, "", "tidegate: no service is called apj; there is api\n"),
    ] {
        let ran = gateway.ask(line);
        assert_eq!((ran.code, &*ran.out, &*ran.err), (code, out, err), "{line}");
    }
}

#[test]
fn closed_output_is_no_failure() {
    let folder = folder();
    let mut schema = std::process::Command::new(assert_cmd::cargo::cargo_bin("tidegate"));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = schema.arg("schema").current_dir(folder.path()).stdout(writer).output().expect("it runs");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

/// Answers on an admin socket as long as this lives.
struct Gateway {
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

impl Gateway {
    fn new() -> Self {
        let (folder, runtime) = (folder(), Runtime::new().expect("a runtime"));
        let listener =
            runtime.block_on(async { tokio::net::UnixListener::bind(socket(&folder)) }).expect("a socket");
        let routes = Router::new()
            .route("/v1/configuration", get(|| async { Json(running()) }))
            .route("/v1/services", get(|| async { Json([status()]) }))
            .route(
                "/v1/services/{name}",
                get(|name| async { known(name, || Json(explanation()).into_response()) }),
            )
            .route("/v1/services/{name}/logs", get(logs))
            .route("/v1/services/{name}/{wish}", post(asked));
        runtime.spawn(async { axum::serve(listener, routes).await });
        Self { folder, _runtime: runtime }
    }

    fn ask(&self, line: &str) -> Ran {
        tidegate(self.folder.path(), &format!("{line} --socket {}", socket(&self.folder).display()))
    }
}

fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("s")
}

fn known(Segment(name): Segment<String>, answer: impl FnOnce() -> Response) -> Response {
    if name == "api" {
        return answer();
    }
    (StatusCode::NOT_FOUND, Json(json!({ "error": format!("no service is called {name}") }))).into_response()
}

async fn logs(name: Segment<String>, request: axum::extract::RawQuery) -> Response {
    let line = |text: &str| {
        format!(
            "{}\n",
            json!({ "replica": "api-1-1", "at": "2030-01-01T00:00:00Z", "stderr": false, "text": text })
        )
    };
    known(name, || format!("{}{}", line(&request.0.unwrap_or_default()), line("second")).into_response())
}

async fn asked(Segment((name, wish)): Segment<(String, String)>) -> Response {
    known(Segment(name), || match &*wish {
        "restart" => (StatusCode::CONFLICT, Json(json!({ "error": "exit code 1" }))).into_response(),
        _ => Json(json!({ "done": true })).into_response(),
    })
}

/// What the made-up gateway runs with.
const FILE: &str = "[services.api]\nimage = \"api:1\"\nenv.TOKEN = \"canary-1\"\nscaling.max = 3\n";

fn running() -> tidegate_config::Description {
    let model = tidegate_config::parse(FILE, tidegate_config::Format::Toml).expect("a good file");
    tidegate_config::describe(&model)
}

fn status() -> ServiceStatus {
    ServiceStatus {
        service: "api".into(),
        state: "ready".into(),
        upstreams: Vec::new(),
        image: "api:1".into(),
        digest: Some("sha256:0123456789abcdef".into()),
        revision: Some("5f2c".into()),
        rollout: None,
        newer: None,
        earlier: Vec::new(),
        want: 1,
        in_flight: 2,
        queued: 0,
        circuit_open: None,
        reason: "2 requests at once".into(),
        routes: vec!["api.localhost/".into()],
        replicas: vec![ReplicaStatus {
            balance: BalanceStatus { latency: Some(1.5), ..BalanceStatus::default() },
            id: "api-1-1".into(),
            phase: "ready".into(),
            host: "local".into(),
            address: Some("172.20.0.3:8080".into()),
            revision: "5f2c".into(),
            digest: "sha256:0123456789abcdef".into(),
            in_flight: 2,
            age: 3660,
            waits_for: None,
            trouble: None,
        }],
    }
}

fn explanation() -> Explanation {
    let want = What::Want { replicas: 1, because: "demand".into() };
    Explanation {
        status: status(),
        history: vec![Entry { at: 1, what: want, reason: "2 requests at once".into(), times: 3 }],
        last_failure: Some(FailureStatus {
            replica: "api-1-0".into(),
            at: 1,
            cause: "exited with code 1".into(),
            log: vec!["out of cheese".into()],
        }),
        no_fit: None,
        waits: None,
        learned: None,
    }
}

#[test]
fn doctor_says_what_it_found_and_touches_no_gateways_things() {
    let folder = folder();
    let state = folder.path().join("state");
    let doctor = tidegate(folder.path(), "doctor --json --state state");
    let report: Value = serde_json::from_str(&doctor.out).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let failed = checks.iter().any(|check| check["verdict"] == "fail");
    assert_eq!((doctor.code, &*doctor.err), (i32::from(failed), ""));
    assert!(checks.iter().any(|check| check["what"] == "kernel"), "{report}");
    assert!(!state.exists(), "a look leaves nothing behind");

    let nothing = tidegate(folder.path(), "doctor --purge --state state");
    assert_eq!((nothing.code, nothing.err.contains("no state directory")), (1, true), "{}", nothing.err);
    let held = tidegate::state_dir::StateDir::take(&state).expect("free");
    let refused = tidegate(folder.path(), "doctor --purge --state state");
    assert_eq!((refused.code, refused.err.contains("a gateway runs on state")), (1, true), "{}", refused.err);
    drop(held);
}

#[test]
fn images_of_an_engine_that_never_ran_are_none() {
    let folder = folder();
    let images = tidegate(folder.path(), "images --state state");
    assert_eq!((images.code, &*images.out), (0, "no images in state/embedded\n"));
    assert_eq!(tidegate(folder.path(), "images --json --state state").out, "[]\n");
    let prune = tidegate(folder.path(), "images prune --state state");
    assert_eq!((prune.code, &*prune.err), (1, "tidegate: there are no images in state/embedded\n"));
}

#[test]
fn a_shim_is_no_command_for_people() {
    let folder = folder();
    let shim = tidegate(folder.path(), "shim");
    assert!(shim.code != 0 && shim.out.is_empty(), "{}", shim.out);
    assert!(!tidegate(folder.path(), "--help").out.contains("shim"));
}
