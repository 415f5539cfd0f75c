//! Copies of requests for another service.

use e2e::{
    client::{full, streamed},
    eventually::found,
    targets::Behaviour,
    world::{Setup, World, request},
};
use hyper::body::Frame;

use super::ask;

fn text(mirror: &str) -> String {
    format!(
        "[services.api]\nimage = \"api:1\"\nmiddleware = {{ mirror = {{ service = \"next\", {mirror} }} }}\n\
         [services.next]\nimage = \"next:1\""
    )
}

/// The targets that a service's replicas saw.
fn seen(world: &World, service: &str) -> Vec<String> {
    let of = |seen: &e2e::targets::Seen| seen.replica.service().as_str() == service;
    world
        .targets
        .seen()
        .into_iter()
        .filter(of)
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect()
}

async fn until_seen(world: &World, service: &str, want: &[&str]) {
    found("copies", async || {
        let seen = seen(world, service);
        if seen == want { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn copies_reach_the_mirror_whole_and_their_answers_nobody() {
    let world = World::new(&text("body = \"1KiB\"")).await;
    world.wake("next").await;
    let mut session = world.http1().await;
    assert_eq!(&*ask(&mut session, "/a?q", &[]).await.echo().service, "api");
    until_seen(&world, "next", &["GET /a?q"]).await;
    let echo = session.ask(request("POST", "api", "/b", full("hello"))).await.expect("an answer").echo();
    assert_eq!((&*echo.service, &*echo.body), ("api", "hello"));
    until_seen(&world, "next", &["GET /a?q", "POST /b"]).await;
    let (sender, body) = streamed();
    let send = async {
        for _ in 0..3 {
            sender.send(Frame::data("piece".into())).await.expect("a reader");
        }
        drop(sender);
    };
    let (answer, ()) = tokio::join!(session.ask(request("POST", "api", "/c", body)), send);
    assert_eq!(answer.expect("an answer").echo().body, "piecepiecepiece");
    until_seen(&world, "next", &["GET /a?q", "POST /b", "POST /c"]).await;
    world.until_counts("next", 0, 0).await;
    let counted = world.metric("tidegate_requests_total", &["service=\"next\""]);
    assert!(counted >= 3.0, "copies are that service's requests: {counted}");
}

#[tokio::test]
async fn long_bodies_are_not_copied() {
    let world = World::new(&text("body = \"1KiB\"")).await;
    world.wake("next").await;
    let mut session = world.http1().await;
    for path in ["/said", "/short"] {
        let body = if path == "/said" { "x".repeat(2000) } else { "short".into() };
        assert_eq!(
            session.ask(request("POST", "api", path, full(body))).await.expect("an answer").status,
            200
        );
    }
    until_seen(&world, "next", &["POST /short"]).await;
}

#[tokio::test]
async fn copies_wake_nobody_unless_they_may() {
    let world = World::new(&text("wake = false")).await;
    assert_eq!(world.get("api", "/").await.status, 200);
    super::sleeps(&world, "next").await;
    let world = World::new(&text("wake = true")).await;
    assert_eq!(world.get("api", "/").await.status, 200);
    until_seen(&world, "next", &["GET /"]).await;
}

#[tokio::test]
async fn a_mirror_that_does_not_answer_delays_and_fails_nobody() {
    let setup = Setup::new(&text("wake = true, concurrency = 2"));
    setup.targets.behave("next:1", Behaviour::Deaf);
    let world = setup.start().await;
    let mut session = world.http1().await;
    for _ in 0..10 {
        assert_eq!(ask(&mut session, "/", &[]).await.status, 200);
    }
    let status = world.status("next").await;
    assert!(status.queued <= 2, "copies under way are bounded: {status:?}");
    assert!(world.stop().await.0, "and hold up no stop");
}

#[tokio::test]
async fn a_mirror_that_breaks_off_fails_nobody() {
    let setup = Setup::new(&text("wake = true"));
    setup.targets.behave("next:1", Behaviour::raw(|stream| async move { drop(stream) }));
    let world = setup.start().await;
    let mut session = world.http1().await;
    for _ in 0..5 {
        let echo = session.ask(request("PUT", "api", "/", full("hello"))).await.expect("an answer").echo();
        assert_eq!(echo.body, "hello");
    }
}
