//! The access log: what a line says, that secrets are not in it, and that no disk keeps a request waiting.

use std::path::Path;

use e2e::{
    client::{Wire, empty, full},
    eventually::found,
    world::{Setup, World, get, name, request},
};
use http::HeaderValue;
use serde_json::Value;

const LOGGED: &str = r#"
    [gateway.access_log]
    to = "access.log"
    [services.api]
    image = "api:1"
"#;

fn text(world: &World) -> String {
    std::fs::read_to_string(world.folder().join("access.log")).unwrap_or_default()
}

/// Waits until there are this many lines, and tells them.
async fn lines(world: &World, count: usize) -> Vec<Value> {
    found("lines", async || {
        let text = text(world);
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        if lines.len() >= count { Ok(lines) } else { Err(text) }
    })
    .await
}

#[tokio::test]
async fn a_line_tells_what_became_of_a_request() {
    let world = World::new(LOGGED).await;
    let mut post = request("POST", "api", "/x?token=1", full("hello"));
    post.headers_mut().insert("user-agent", HeaderValue::from_static("the-suite/1"));
    let answer = world.ask(post).await.expect("a whole answer");
    world.get("api", "/").await;
    let lines = lines(&world, 2).await;
    let (cold, warm) = (&lines[0], &lines[1]);
    for (field, want) in [
        ("method", Value::from("POST")),
        ("host", "api.localhost".into()),
        ("path", "/x?token=*".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("service", "api".into()),
        ("replica", answer.echo().replica.into()),
        ("client", "127.0.0.1".into()),
        ("bytes_in", 5.into()),
        ("bytes_out", answer.body.len().into()),
        ("cold", true.into()),
        ("retries", 0.into()),
        ("user_agent", "the-suite/1".into()),
    ] {
        assert_eq!(cold[field], want, "{field}: {cold}");
    }
    let ms = |line: &Value, field: &str| line[field].as_f64().unwrap_or_else(|| panic!("{field}: {line}"));
    assert!(ms(cold, "total_ms") >= ms(cold, "queue_ms") + ms(cold, "upstream_ms"), "{cold}");
    assert!(ms(cold, "queue_ms") >= ms(cold, "start_ms"), "it waited for all of the start: {cold}");
    assert!(cold["revision"].is_string() && cold["reason"].is_null(), "{cold}");
    assert_eq!((&warm["cold"], &warm["start_ms"], ms(warm, "queue_ms")), (&false.into(), &Value::Null, 0.0));
    assert!(cold["time"].as_str() < warm["time"].as_str(), "by time of arrival: {cold} {warm}");
}

#[tokio::test]
async fn what_is_no_request_is_told_too() {
    let world = World::new(&LOGGED.replace("to =", "sample = 0\nto =")).await;
    for (said, status, reason) in [
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000)), 431, "head_too_large"),
    ] {
        let before = text(&world).lines().count();
        let mut wire = world.wire().await;
        wire.send(said).await;
        wire.rest().await;
        let line = lines(&world, before + 1).await.pop().expect("a line");
        assert_eq!((&line["status"], &line["reason"]), (&status.into(), &reason.into()), "{line}");
        assert_eq!((&line["client"], &line["method"]), (&"127.0.0.1".into(), &"-".into()), "{line}");
    }
}

#[tokio::test]
async fn what_fails_is_told_although_little_is_sampled() {
    let text = LOGGED.replace("to =", "sample = 0\nslow = \"1h\"\nto =");
    let world = World::new(&format!("{text}[services.other]\nimage = \"other:1\"")).await;
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(world.get("api", "/status/404").await.status, 404);
    assert_eq!(world.get("api", "/status/503").await.status, 503);
    let refused = world.get("nobody", "/").await;
    let lines = lines(&world, 2).await;
    assert_eq!((lines.len(), &lines[0]["status"], &lines[0]["reason"]), (2, &503.into(), &Value::Null));
    assert_eq!((&lines[1]["status"], &lines[1]["reason"]), (&404.into(), &"no_route".into()));
    assert_eq!(lines[1]["id"], refused.problem()["request_id"], "by its id it is found");
    assert_eq!(lines[1]["service"], Value::Null);
}

#[tokio::test]
async fn a_refusal_of_the_gate_is_told_once_with_its_service() {
    let setup = Setup::new(LOGGED);
    setup.runner.fail_starts(2, tidegate_runner::Kind::Retryable, "busy");
    let world = setup.start().await;
    let refused = world.get("api", "/").await;
    let lines = lines(&world, 1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["reason"], &lines[0]["service"]), (&"start_failed".into(), &"api".into()));
    assert_eq!(lines[0]["id"], refused.problem()["request_id"]);
}

#[tokio::test]
async fn a_refusal_before_the_gate_names_its_service() {
    let world = World::new(&format!("{LOGGED}\nwake.per_client = \"1/h\"")).await;
    world.get("api", "/").await;
    world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
    world.get("api", "/").await;
    let all = lines(&world, 2).await;
    assert_eq!((&all[1]["reason"], &all[1]["service"]), (&"rate_limited".into(), &"api".into()));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_made() {
    let world = World::new(&LOGGED.replace("access.log", "logs/today/access.log")).await;
    world.get("api", "/").await;
    let file = world.folder().join("logs/today/access.log");
    found("a line", async || std::fs::read_to_string(&file).map_err(|error| error.to_string())).await;
}

#[tokio::test]
async fn bodies_that_break_off_and_clients_that_leave_are_told() {
    let world = World::new(LOGGED).await;
    let mut wire = world.wire().await;
    wire.send("GET /break HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    wire.rest().await;
    assert_eq!(lines(&world, 1).await[0]["broken"], Value::Bool(true));
    let leaver = {
        let mut wire: Wire = world.wire().await;
        wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
        world.until_counts("api", 0, 1).await;
        wire
    };
    drop(leaver);
    assert_eq!(lines(&world, 2).await[1]["status"], 499);
}

#[tokio::test]
async fn who_ended_an_answer_is_told() {
    let limits = "[gateway.limits]\nrequest_timeout = \"3s\"\n";
    let world = World::new(&format!("{limits}{LOGGED}")).await;
    world.wake("api").await;
    let left = || world.metric("tidegate_responses_left_total", &["api"]);
    let (before, whole) = (left(), request("GET", "api", "/?whole=", empty()));
    world.ask(whole).await.expect("a whole answer");
    let ask = async |path: &str| {
        let mut wire = world.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: api.localhost\r\n\r\n")).await;
        wire
    };
    ask("/break?replica=").await.rest().await;
    ask("/endless?late=").await.rest().await;
    let mut leaver = ask("/endless?leaver=").await;
    leaver.head().await.expect("an answer");
    drop(leaver);
    let unheard = ask("/hold?unheard=").await;
    world.until_counts("api", 0, 1).await;
    drop(unheard);
    let mut http2 = world.http2().await;
    drop(http2.send(get("api", "/endless?http2=")).await.expect("an answer"));
    let lines = lines(&world, 6).await;
    let told = |path: &str| {
        let line =
            lines.iter().find(|line| line["path"] == path).unwrap_or_else(|| panic!("{path}: {lines:?}"));
        (line["status"].as_u64(), line["ended_by"].as_str(), line["broken"].as_bool())
    };
    assert_eq!(told("/?whole=*"), (Some(200), None, None));
    assert_eq!(told("/break?replica=*"), (Some(200), Some("replica"), Some(true)));
    assert_eq!(told("/endless?late=*"), (Some(200), Some("deadline"), Some(true)));
    assert_eq!(told("/endless?leaver=*"), (Some(200), Some("client"), None));
    assert_eq!(told("/endless?http2=*"), (Some(200), Some("client"), None));
    assert_eq!(told("/hold?unheard=*"), (Some(499), None, None));
    assert!(left() >= before + 2.0);
}

#[tokio::test]
async fn secrets_of_clients_are_in_no_line() {
    let world = World::new(LOGGED).await;
    let mut request = get("api", "/?password=canary-1&canary-2");
    for (name, value) in [
        ("authorization", "Bearer canary-3"),
        ("cookie", "session=canary-4"),
        ("x-api-key", "canary-5"),
        ("referer", "https://user:canary-6@example.org/?t=canary-7#canary-8"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    world.ask(request).await.expect("a whole answer");
    lines(&world, 1).await;
    assert!(!text(&world).contains("canary"), "{}", text(&world));
}

#[tokio::test]
async fn retries_streams_tunnels_and_http2_are_one_line_each() {
    let world = World::new(LOGGED).await;
    world.http2().await.ask(get("api", "/")).await.expect("a whole answer");
    let mut wire = world.wire().await;
    wire.send("GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    wire.head().await.expect("an answer");
    wire.send("ping").await;
    assert_eq!(wire.exactly(4).await.as_ref(), b"ping");
    drop(wire);
    let lines = lines(&world, 2).await;
    assert_eq!((&lines[0]["protocol"], &lines[0]["status"]), (&"HTTP/2.0".into(), &200.into()));
    assert_eq!(lines[1]["status"], 101, "a tunnel is told when it has ended: {}", lines[1]);
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn a_log_that_was_moved_away_is_made_anew() {
    let world = World::new(LOGGED).await;
    world.get("api", "/first").await;
    lines(&world, 1).await;
    let moved = world.folder().join("access.log.1");
    std::fs::rename(world.folder().join("access.log"), &moved).expect("a file");
    world.get("api", "/second").await;
    assert_eq!(lines(&world, 1).await[0]["path"], "/second");
    assert_eq!(std::fs::read_to_string(moved).expect("a file").lines().count(), 1);
}

async fn served_with_a_log_at(path: &Path) -> World {
    let world = World::new(&LOGGED.replace("access.log", &path.display().to_string())).await;
    for _ in 0..50 {
        assert_eq!(world.get("api", "/").await.status, 200);
    }
    world
}

#[tokio::test]
async fn a_full_disk_loses_lines_and_no_request() {
    let world = served_with_a_log_at(Path::new("/dev/full")).await;
    found("dropped lines", async || {
        let dropped = world.metric("tidegate_access_log_dropped_total", &[]);
        if dropped > 0.0 { Ok(()) } else { Err(dropped.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_request_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody reads from it: whoever opens it to write waits for ever.
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let world = served_with_a_log_at(&pipe).await;
    assert!(world.stop().await.0, "and it does not keep the gateway from ending");
}

#[tokio::test]
async fn a_log_is_switched_on_by_a_reload() {
    let plain = "services.api.image = \"api:1\"";
    let world = Setup::new(plain).with_file().start().await;
    world.get("api", "/before").await;
    world.write(LOGGED);
    found("a log", async || {
        world.ask(request("GET", "api", "/after", empty())).await.expect("a whole answer");
        if text(&world).contains("/after") { Ok(()) } else { Err(text(&world)) }
    })
    .await;
    assert!(!text(&world).contains("/before"));
}
