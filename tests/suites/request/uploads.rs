//! Requests with a body whose client, replica or answer does not keep pace with it.

use e2e::{
    client::{Wire, full, status},
    eventually::soon,
    targets::Behaviour,
    world::{Setup, World, request},
};

const API: &str = "services.api.image = \"api:1\"\n";

fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: api.localhost\r\n{fields}\r\n\r\n{body}")
}

async fn sent(world: &World, request: impl AsRef<[u8]>) -> Wire {
    let mut wire = world.wire().await;
    wire.send(request).await;
    wire
}

/// Takes bodies in small pieces and lets others go first, then says how much came.
fn slow_reader() -> Behaviour {
    Behaviour::raw(|stream| async move {
        let mut wire = Wire::accepted(stream);
        let Some(head) = wire.head().await else { return };
        let (length, mut come) = (e2e::client::content_length(&head), 0);
        while come < length {
            let piece = wire.exactly((length - come).min(16 << 10)).await;
            if piece.is_empty() {
                return;
            }
            come += piece.len();
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        let said = come.to_string();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len())).await;
    })
}

#[tokio::test]
async fn a_replica_that_reads_slowly_gets_all_of_it() {
    let setup = Setup::new(API);
    setup.targets.behave("api:1", slow_reader());
    let world = setup.start().await;
    const LENGTH: usize = 24 << 20;
    let answer = soon("the end", world.ask(request("POST", "api", "/", full(vec![b'x'; LENGTH])))).await;
    assert_eq!(answer.expect("an answer").text(), LENGTH.to_string());
}

#[tokio::test]
async fn a_client_that_leaves_behind_what_it_has_sent_waits_no_longer() {
    let world =
        World::new("services.api = { image = \"api:1\", scaling = { concurrency = 1, max = 1, queue = 9 } }")
            .await;
    let mut first = sent(&world, "GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    world.until_counts("api", 0, 1).await;
    for request in [
        post("/left", "content-length: 5", "hello"),
        post("/left", "content-length: 50", "hello"),
        post("/left", "transfer-encoding: chunked", "5\r\nhello\r\n"),
        post("/left", "content-length: 20000", &"x".repeat(20_000)),
        "GET /left HTTP/1.1\r\nhost: api.localhost\r\n\r\nGET /left HTTP/1.1\r\n".into(),
        "GET /left HTTP/1.1\r\nhost: api.localhost\r\n\r\n\r\n".into(),
    ] {
        let wire = sent(&world, &request).await;
        world.until_counts("api", 1, 1).await;
        drop(wire);
        world.until_counts("api", 0, 1).await;
    }
    world.targets.release();
    assert_eq!(status(&first.head().await.expect("an answer")), 200);
    assert_eq!(world.targets.paths(), ["/hold"], "nothing is sent for those that have left");
}

#[tokio::test]
async fn what_comes_ahead_of_its_turn_is_not_lost() {
    let world =
        World::new("services.api = { image = \"api:1\", scaling = { concurrency = 1, max = 1 } }").await;
    let _first = sent(&world, "GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    world.until_counts("api", 0, 1).await;
    // More than is read ahead, and a request behind it.
    let body = "x".repeat(300_000);
    let next = post("/next", "content-length: 2", "hi");
    let mut wire = sent(&world, post("/big", "content-length: 300000", "")).await;
    let sending = wire.send(body.clone() + &next);
    let release = async {
        world.until_counts("api", 1, 1).await;
        world.targets.release();
    };
    tokio::join!(sending, release);
    for want in [body.as_str(), "hi"] {
        let (_, got) = wire.answer().await.expect("an answer");
        let echo: e2e::origin::Echo = serde_json::from_slice(&got).expect("the origin's JSON");
        assert!(echo.body == want, "{} bytes arrived", echo.body.len());
    }
}

#[tokio::test]
async fn an_answer_that_comes_first_says_when_its_connection_ends() {
    let world = World::new(API).await;
    for (fields, body) in [
        ("content-length: 5\r\nexpect: 100-continue", ""),
        ("content-length: 5", "he"),
        ("transfer-encoding: chunked", "5\r\nhe"),
    ] {
        let mut wire = sent(&world, post("/a%2fb", fields, body)).await;
        let (head, _) = wire.answer().await.expect("an answer");
        assert_eq!(status(&head), 400, "{fields:?}");
        assert!(head.to_lowercase().contains("connection: close"), "{fields:?}: {head}");
        assert!(wire.rest().await.is_empty(), "{fields:?}");
    }
    // All of it is there: nothing stands in the way of the next request.
    let mut wire = sent(&world, post("/a%2fb", "content-length: 5", "hello")).await;
    wire.answer().await.expect("an answer");
    wire.send(post("/", "content-length: 0", "")).await;
    assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
}

#[tokio::test]
async fn an_upload_that_stands_still_behind_its_answer_ends() {
    let setup = Setup::new(&format!("gateway.limits.idle_timeout = \"500ms\"\n{API}"));
    let answers_first = Behaviour::raw(|stream| async move {
        let mut wire = Wire::accepted(stream);
        if wire.head().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            wire.rest().await;
        }
    });
    setup.targets.behave("api:1", answers_first);
    let world = setup.start().await;
    let mut wire = sent(&world, post("/", "content-length: 5", "he")).await;
    assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
    assert!(wire.rest().await.is_empty());
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn behind_trailers_that_cannot_be_read_nothing_is() {
    let world = World::new(API).await;
    // Good trailers, if one were to read on, and a request.
    let hidden = "x: y\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: api.localhost\r\n\r\n";
    for trailers in ["no colon\r\n\r\n", "x y: z\r\n\r\n", "x: a\r\n folded\r\n\r\n"] {
        for method in ["POST", "PUT"] {
            let body = format!("5\r\nhello\r\n0\r\n{trailers}{hidden}");
            let request = post("/first", "transfer-encoding: chunked", &body).replacen("POST", method, 1);
            let mut wire = sent(&world, request).await;
            let (head, _) = wire.answer().await.expect("an answer");
            assert_eq!(status(&head), 400, "{method} {trailers:?}");
            assert!(wire.rest().await.is_empty(), "{method} {trailers:?}");
        }
    }
    assert!(!world.targets.paths().iter().any(|path| path == "/smuggled"));
}
