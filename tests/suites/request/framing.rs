//! Where one request ends and the next begins: the gateway and the replica must never disagree.

use e2e::{client::status, world::World};

const API: &str = r#"services.api.image = "api:1""#;

/// What hides behind a request whose end could be read in two ways.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nhost: api.localhost\r\n\r\n";

/// Sends a POST with these fields and this body, then [`HIDDEN`], and tells the status codes that came back.
async fn codes(world: &World, version: &str, fields: &str, body: &str) -> Vec<u16> {
    let mut wire = world.wire().await;
    wire.send(format!("POST /first HTTP/{version}\r\nhost: api.localhost\r\n{fields}\r\n\r\n{body}{HIDDEN}"))
        .await;
    let said = String::from_utf8_lossy(&wire.rest().await).into_owned();
    said.lines().filter(|line| line.starts_with("HTTP/1.")).map(status).collect()
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_hide_nothing() {
    let world = World::new(API).await;
    for (fields, body) in [
        ("content-length: 0\r\ncontent-length: 56", ""),
        ("content-length: 0, 56", ""),
        ("content-length: +0", ""),
        ("content-length: 0x0", ""),
        ("content-length: -1", ""),
        ("content-length: ", ""),
        ("content-length: 99999999999999999999", ""),
        ("transfer-encoding: xchunked", "0\r\n\r\n"),
        ("transfer-encoding: chunked, identity", "0\r\n\r\n"),
        ("transfer-encoding: identity", "0\r\n\r\n"),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity", "0\r\n\r\n"),
        ("transfer-encoding : chunked", "0\r\n\r\n"),
        ("transfer-encoding: \u{b}chunked", "0\r\n\r\n"),
        ("x: y\r\n transfer-encoding: chunked", "0\r\n\r\n"),
        ("x: y\r\n\tfolded", ""),
        ("x\u{0}: y", ""),
        ("x: a\u{0}b", ""),
        ("x: a\rb", ""),
        (": y", ""),
        ("x y: z", ""),
        ("no colon", ""),
    ] {
        assert_eq!(codes(&world, "1.1", fields, body).await, [400], "{fields:?}");
    }
    assert_eq!(codes(&world, "1.0", "transfer-encoding: chunked", "0\r\n\r\n").await, [400]);
    assert_eq!(world.targets.paths(), [""; 0], "nothing of it reached the replica");
}

#[tokio::test]
async fn where_both_framings_are_named_chunks_win_and_the_connection_ends() {
    // RFC 9112, 6.3.
    let world = World::new(API).await;
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked\r\nconnection: keep-alive",
    ] {
        assert_eq!(codes(&world, "1.1", fields, "2\r\nhi\r\n0\r\n\r\n").await, [200], "{fields:?}");
    }
    assert_eq!(world.targets.paths(), ["/first"; 3]);
}

#[tokio::test]
async fn bodies_that_are_framed_wrongly_never_become_requests() {
    let world = World::new(API).await;
    for body in [
        "x\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhelloGET /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n",
    ] {
        codes(&world, "1.1", "transfer-encoding: chunked", body).await;
        let paths = world.targets.paths();
        assert!(!paths.iter().any(|path| path == "/smuggled"), "{body:?}: {paths:?}");
    }
}

#[tokio::test]
async fn what_is_odd_but_clear_is_one_request_for_the_replica_too() {
    let world = World::new(API).await;
    for (fields, body, want) in [
        ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("Transfer-Encoding:\tCHUNKED", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("transfer-encoding: chunked", "5;ext=\"a\"\r\nhello\r\n000\r\n\r\n", "hello"),
        ("content-length: 5\r\nconnection: content-length", "hello", "hello"),
        ("content-length: 5\r\nx-a: b\nx-c: d", "hello", "hello"),
    ] {
        let mut wire = world.wire().await;
        wire.send(format!("POST /first HTTP/1.1\r\nhost: api.localhost\r\n{fields}\r\n\r\n{body}")).await;
        let (head, body) = wire.answer().await.expect("an answer");
        assert_eq!(status(&head), 200, "{fields:?}: {head}");
        let echo: e2e::origin::Echo = serde_json::from_slice(&body).expect("the origin's JSON");
        assert_eq!(echo.body, want, "{fields:?}");
        let (lengths, codings) = (echo.all("content-length").len(), echo.all("transfer-encoding").len());
        assert_eq!(lengths + codings, 1, "one framing: {echo:?}");
        // The connection goes on with the next request and not with what is left of this one.
        wire.send("GET /next HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
        let (_, body) = wire.answer().await.expect("an answer");
        let echo: e2e::origin::Echo = serde_json::from_slice(&body).expect("the origin's JSON");
        assert_eq!(echo.target, "/next");
    }
}
