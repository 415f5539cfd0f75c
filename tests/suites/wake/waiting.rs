//! The page that a browser gets from a service that sleeps: it follows the real start, which it has caused.

use std::time::Duration;

use e2e::{
    client::{Answer, Body, Wire, empty},
    eventually::found,
    world::{Setup, World, name},
};
use http::Request;
use tidegate_runner::Kind;

const PAGE: &str = "services.api = { image = 'api:1', wake.waiting_page = true }";
const FOLLOW: &str = "GET /.well-known/tidegate/wake?for=%2Fshop HTTP/1.1\r\nhost: api.localhost\r\n\r\n";

fn opened(path: &str) -> Request<Body> {
    let request = Request::get(path).header("host", "api.localhost");
    let request = request.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document");
    request.body(empty()).expect("a valid request")
}

async fn open(world: &World, path: &str) -> Answer {
    world.ask(opened(path)).await.expect("a whole answer")
}

fn is_page(answer: &Answer) -> bool {
    answer.status == 503 && answer.header("content-type") == Some("text/html; charset=utf-8")
}

/// Reads events until one of that name comes; tells its data.
async fn event(wire: &mut Wire, text: &mut String, wanted: &str) -> serde_json::Value {
    let wanted = format!("event: {wanted}\ndata: ");
    loop {
        if let Some((data, rest)) = text.split_once(&wanted).and_then(|(_, rest)| rest.split_once("\n\n")) {
            let data = serde_json::from_str(data).expect("JSON");
            *text = rest.to_owned();
            return data;
        }
        let more = wire.exactly(1).await;
        assert!(!more.is_empty(), "the stream ended before {wanted:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&more));
    }
}

async fn following(world: &World) -> (Wire, String) {
    let mut wire = world.wire().await;
    wire.send(FOLLOW).await;
    let head = wire.head().await.expect("an answer");
    assert!(head.contains("text/event-stream") && head.contains("no-store"), "{head}");
    (wire, String::new())
}

#[tokio::test]
async fn who_opens_a_page_sees_the_start_and_then_the_service() {
    let setup = Setup::new(PAGE);
    setup.runner.start_delay(Duration::from_millis(300));
    let world = setup.start().await;
    let page = open(&world, "/shop?a=b").await;
    assert!(is_page(&page), "{page:?}");
    assert_eq!((page.header("cache-control"), page.header("retry-after")), (Some("no-store"), Some("4")));
    assert!(page.header("content-security-policy").is_some_and(|csp| csp.starts_with("default-src 'none'")));
    // The page alone has woken it, also where no script follows.
    world.until("api", |status| status.queued == 1).await;
    let (mut wire, mut text) = following(&world).await;
    let phase = event(&mut wire, &mut text, "phase").await;
    assert_eq!((&phase["phase"], &phase["service"]), (&"starting".into(), &"api".into()));
    event(&mut wire, &mut text, "ready").await;
    assert_eq!(open(&world, "/shop?a=b").await.echo().target, "/shop?a=b");
    assert_eq!(world.runner.starts(), 1);
    // All worlds of a process share their metrics.
    assert!(world.metric("tidegate_waiting_pages_total", &["service=\"api\""]) >= 1.0);
    assert!(world.metric("tidegate_wakes_total", &["service=\"api\"", "cause=\"page\""]) >= 1.0);
}

#[tokio::test]
async fn calls_are_held_as_ever() {
    let world = World::new(PAGE).await;
    assert_eq!(world.get("api", "/").await.echo().service, "api");
}

#[tokio::test]
async fn a_page_that_is_followed_is_demand_and_one_that_is_left_is_not() {
    let setup = Setup::new(PAGE);
    setup.runner.start_delay(Duration::from_secs(60));
    let world = setup.start().await;
    let (mut wire, mut text) = following(&world).await;
    event(&mut wire, &mut text, "phase").await;
    world.until_counts("api", 1, 0).await;
    drop(wire);
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn a_start_that_fails_is_said_with_its_cause_only_where_that_is_wanted() {
    for expose in [false, true] {
        let setup = Setup::new(&format!("gateway.expose_errors = {expose}\n{PAGE}"));
        setup.runner.fail_starts(2, Kind::Retryable, "no such file");
        let world = setup.start().await;
        let (mut wire, mut text) = following(&world).await;
        let failed = event(&mut wire, &mut text, "failed").await;
        assert_eq!(failed["reason"], "start_failed");
        assert_eq!(
            failed["cause"].as_str().is_some_and(|cause| cause.contains("no such file")),
            expose,
            "{failed}"
        );
        // Whoever opens it now is told at once, and nothing waits.
        let page = found("a page that says so", async || {
            let page = open(&world, "/").await;
            if page.text().contains("did not start") { Ok(page) } else { Err(format!("{page:?}")) }
        })
        .await;
        assert!(is_page(&page) && !page.text().contains("no such file"));
        world.until_counts("api", 0, 0).await;
    }
}

#[tokio::test]
async fn a_download_is_told_as_one() {
    let setup = Setup::new(PAGE).unsettled();
    setup.runner.hold_downloads(true);
    let world = setup.start().await;
    let (mut wire, mut text) = following(&world).await;
    found("a download", async || {
        let phase = event(&mut wire, &mut text, "phase").await;
        if phase["phase"] == "pulling" { Ok(()) } else { Err(phase.to_string()) }
    })
    .await;
    world.runner.hold_downloads(false);
    event(&mut wire, &mut text, "ready").await;
}

#[tokio::test]
async fn the_path_is_reserved_only_where_there_are_pages() {
    let world = World::new("services.api.image = 'api:1'").await;
    let path = "/.well-known/tidegate/wake?for=%2F";
    assert_eq!(world.get("api", path).await.echo().target, path);
    assert_eq!(open(&world, "/").await.echo().service, "api", "and browsers are held like all others");
}

#[tokio::test]
async fn a_page_of_ones_own_is_shown_instead() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("waiting.html");
    std::fs::write(&file, "<html><body><h1>{{service}} comes</h1></body></html>").expect("a file");
    let world = World::new(&PAGE.replace("true", &format!("'{}'", file.display()))).await;
    let page = open(&world, "/").await;
    assert!(is_page(&page) && page.text().contains("<h1>api comes</h1><script nonce="), "{page:?}");
}

#[tokio::test]
async fn a_browser_does_not_wake_it_more_often_than_others() {
    let world = World::new(
        &PAGE.replace("wake.waiting_page = true", "wake = { waiting_page = true, per_client = '1/h' }"),
    )
    .await;
    assert!(is_page(&open(&world, "/").await));
    // Loading the page anew while the start is under way is no other wake.
    found("the service", async || {
        let answer = open(&world, "/").await;
        if answer.status == 200 {
            Ok(())
        } else if is_page(&answer) {
            Err("still the page".to_owned())
        } else {
            panic!("{answer:?}")
        }
    })
    .await;
    world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
    assert_eq!(open(&world, "/").await.refusal(), (429, "rate_limited".into()));
    assert_eq!(world.get("api", "/").await.refusal().0, 429);
}
