//! HTTP/1.1 as clients speak it.

use e2e::{
    client::{Wire, content_length, full, status},
    origin::Echo,
    world::{World, request},
};

const API: &str = r#"services.api.image = "api:1""#;

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: api.localhost\r\n{more}\r\n")
}

fn target(body: &[u8]) -> String {
    serde_json::from_slice::<Echo>(body).expect("the origin's JSON").target
}

#[tokio::test]
async fn a_client_that_never_asks_does_not_keep_its_place() {
    let world = World::new(&format!("gateway.limits.header_timeout = \"1s\"\n{API}")).await;
    for silent in ["", "P", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut wire = world.wire().await;
        wire.send(silent).await;
        // Ends by the gateway's deadline, or the test by its own.
        wire.rest().await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    for path in ["/1", "/2", "/3"] {
        wire.send(head("GET", path, "")).await;
        let (_, body) = wire.answer().await.expect("an answer");
        assert_eq!(target(&body), path);
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_too() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    for (path, code) in [("/a%2fb", 400), ("/", 200)] {
        wire.send(head("GET", path, "")).await;
        assert_eq!(status(&wire.answer().await.expect("an answer").0), code);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    let body = "content-length: 2\r\n";
    wire.send(head("GET", "/1", "") + &head("POST", "/2", body) + "hi" + &head("GET", "/3", "")).await;
    for path in ["/1", "/2", "/3"] {
        let (_, body) = wire.answer().await.expect("an answer");
        assert_eq!(target(&body), path);
    }
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    wire.send(head("HEAD", "/", "") + &head("GET", "/next", "")).await;
    let first = wire.head().await.expect("an answer");
    assert!(content_length(&first) > 0, "{first}");
    let (_, body) = wire.answer().await.expect("an answer");
    assert_eq!(target(&body), "/next");
}

#[tokio::test]
async fn statuses_without_a_body_have_none() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    for code in [204, 304] {
        wire.send(head("GET", &format!("/status/{code}"), "")).await;
        let head = wire.head().await.expect("an answer");
        assert_eq!(status(&head), code);
        assert!(!head.contains("chunked"), "{head}");
    }
    wire.send(head("GET", "/next", "")).await;
    assert_eq!(target(&wire.answer().await.expect("an answer").1), "/next");
}

#[tokio::test]
async fn a_client_that_expects_it_is_told_to_continue() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    wire.send(head("POST", "/", "content-length: 5\r\nexpect: 100-continue\r\n")).await;
    assert_eq!(status(&wire.head().await.expect("an interim answer")), 100);
    wire.send("hello").await;
    let (head, body) = wire.answer().await.expect("an answer");
    assert_eq!(status(&head), 200);
    assert_eq!(serde_json::from_slice::<Echo>(&body).expect("the origin's JSON").body, "hello");
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_closed() {
    let world = World::new(API).await;
    for request in
        [head("GET", "/", "connection: close\r\n"), "GET / HTTP/1.0\r\nhost: api.localhost\r\n\r\n".into()]
    {
        let mut wire = world.wire().await;
        wire.send(request).await;
        wire.answer().await.expect("an answer");
        assert_eq!(wire.rest().await, "");
    }
}

#[tokio::test]
async fn bodies_arrive_whole() {
    let world = World::new(API).await;
    for size in [0, 1, 64 << 10, (64 << 10) + 1, 3 << 20] {
        for method in ["POST", "PUT"] {
            let body = "x".repeat(size);
            let echo =
                world.ask(request(method, "api", "/", full(body.clone()))).await.expect("an answer").echo();
            assert!(echo.body == body, "{method} {size}: {} arrived", echo.body.len());
        }
    }
}

/// The next answer's head; interim ones are passed over.
async fn answered(wire: &mut Wire) -> String {
    loop {
        let head = wire.head().await.expect("an answer");
        if status(&head) != 100 {
            return head;
        }
    }
}

#[tokio::test]
async fn a_client_that_only_sends_nothing_more_is_answered() {
    let world = World::new(API).await;
    // The first one waits for a start.
    for paths in [&["/"][..], &["/large"], &["/", "/status/404"], &["/hold"], &["/endless"]] {
        let mut wire = world.wire().await;
        wire.send(paths.iter().map(|path| head("GET", path, "")).collect::<String>()).await;
        wire.finish().await;
        if paths[0] == "/hold" {
            assert_eq!(status(&wire.head().await.expect("a knock")), 100);
            world.targets.release();
        }
        for path in paths {
            let head = answered(&mut wire).await;
            assert_eq!(status(&head), if path.contains("404") { 404 } else { 200 }, "{path}");
            if head.to_lowercase().contains("content-length") {
                assert_eq!(wire.exactly(content_length(&head)).await.len(), content_length(&head), "{path}");
            } else {
                assert!(wire.rest().await.ends_with(b"0\r\n\r\n"), "{path}: its end");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_has_gone_is_not_taken_for_one() {
    let world = World::new(API).await;
    world.wake("api").await;
    for (version, path) in [("1.1", "/hold"), ("1.0", "/hold"), ("1.1", "/endless")] {
        let mut wire = world.wire().await;
        wire.send(format!("GET {path} HTTP/{version}\r\nhost: api.localhost\r\n\r\n")).await;
        if path == "/endless" {
            wire.head().await.expect("an answer");
        }
        world.until_counts("api", 0, 1).await;
        drop(wire);
        world.until_counts("api", 0, 0).await;
    }
}
