//! What the file allows clients to ask, and what becomes of those who ask for more.

use std::io::ErrorKind;

use e2e::{
    client::{Answer, Session, content_length, full, status, streamed},
    eventually::{found, soon},
    h2c,
    world::{Setup, World, get, request},
};
use http::HeaderValue;
use http_body_util::BodyExt;
use hyper::body::Frame;

const API: &str = "services.api.image = \"api:1\"\n";

async fn world(limits: &str) -> World {
    World::new(&format!("[gateway.limits]\n{limits}\n[services.api]\nimage = \"api:1\"\n")).await
}

async fn both(world: &World) -> [Session; 2] {
    [world.http1().await, world.http2().await]
}

#[tokio::test]
async fn a_target_that_is_too_long_is_refused() {
    let world = world("uri_bytes = \"256B\"").await;
    let long = format!("/?q={}", "x".repeat(300));
    for mut session in both(&world).await {
        let answer = session.ask(get("api", &long)).await.expect("an answer");
        assert_eq!(answer.refusal(), (414, "uri_too_long".into()));
        let answer = session.ask(get("api", "/?q=short")).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_wakes_nothing() {
    let world = world("body_bytes = \"1KiB\"").await;
    let mut wire = world.wire().await;
    wire.send("POST / HTTP/1.1\r\nhost: api.localhost\r\ncontent-length: 1025\r\n\r\n").await;
    assert_eq!(status(&wire.head().await.expect("a head")), 413);
    let answer = world.http2().await.ask(request("POST", "api", "/", full(vec![0; 1025]))).await;
    assert_eq!(answer.expect("an answer").refusal(), (413, "body_too_large".into()));
    assert_eq!(world.runner.starts(), 0);
    let answer = world.ask(request("POST", "api", "/", full(vec![b'x'; 1024]))).await.expect("an answer");
    assert_eq!(answer.echo().body.len(), 1024);
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_cut_off_as_it_comes() {
    let world = world("body_bytes = \"1KiB\"").await;
    for method in ["POST", "PUT"] {
        for mut session in both(&world).await {
            let (frames, body) = streamed();
            for _ in 0..3 {
                frames.send(Frame::data(vec![b'x'; 500].into())).await.expect("room");
            }
            let answer = session.ask(request(method, "api", "/", body)).await.expect("an answer");
            assert_eq!(answer.refusal(), (413, "body_too_large".into()), "{method}");
        }
    }
    world.until_counts("api", 0, 0).await;
    assert_eq!(world.get("api", "/").await.status, 200, "the replica is not blamed");
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_cut_off() {
    let world = world("body_rate = \"1MiB\"\nbody_grace = \"200ms\"").await;
    for method in ["POST", "PUT"] {
        for mut session in both(&world).await {
            let (frames, body) = streamed();
            frames.send(Frame::data("slow".into())).await.expect("room");
            let answer = session.ask(request(method, "api", "/", body)).await.expect("an answer");
            assert_eq!(answer.refusal(), (408, "body_too_slow".into()), "{method}");
        }
    }
    // Whoever says that it is a call of gRPC, to a service that takes none.
    for kind in ["application/grpc", "application/grpc+json"] {
        let (frames, body) = streamed();
        let mut request = request("POST", "api", "/", body);
        request.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        frames.send(Frame::data("slow".into())).await.expect("room");
        let answer = world.http1().await.ask(request).await.expect("an answer");
        assert_eq!(answer.refusal(), (408, "body_too_slow".into()), "{kind}");
    }
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn who_has_been_answered_and_who_calls_by_grpc_may_take_their_time() {
    let world = World::new(
        r#"
        [gateway.limits]
        body_rate = "1MiB"
        body_grace = "1s"
        [services.api]
        image = "api:1"
        protocol = "h2c"
        "#,
    )
    .await;
    let mut patient = Vec::new();
    for (path, kind) in [("/duplex", "text/plain"), ("/duplex", "application/grpc")] {
        let mut session = world.http2().await;
        let (frames, body) = streamed();
        let mut request = request("POST", "api", path, body);
        request.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        frames.send(Frame::data("a".into())).await.expect("room");
        let answer = session.send(request).await.expect("an answer");
        patient.push((session, frames, answer.into_body()));
    }
    // Whoever came after them and may not, is cut off before they go on.
    let (frames, body) = streamed();
    let answer = world.http2().await.ask(request("POST", "api", "/", body)).await.expect("an answer");
    assert_eq!(answer.status, 408);
    drop(frames);
    for (session, frames, body) in patient {
        frames.send(Frame::data("b".into())).await.expect("a body that is read");
        drop(frames);
        let whole = soon("the end", body.collect()).await.expect("an unbroken body");
        assert_eq!(whole.to_bytes(), "ab");
        drop(session);
    }
}

#[tokio::test]
async fn a_request_ends_with_its_deadline_whether_its_answer_has_begun_or_not() {
    let world = world("request_timeout = \"1s\"").await;
    world.wake("api").await;
    let mut wire = world.wire().await;
    wire.send("GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    assert_eq!(status(&wire.head().await.expect("a head")), 101);
    for mut session in both(&world).await {
        let answer = session.ask(get("api", "/hold")).await.expect("an answer");
        assert_eq!(answer.refusal(), (504, "request_deadline".into()));
    }
    for mut session in both(&world).await {
        let answer = session.send(get("api", "/endless")).await.expect("an answer");
        soon("the end", answer.into_body().collect()).await.expect_err("it is cut off");
    }
    // A tunnel is no request any more: the oldest of all of these goes on.
    wire.send("still").await;
    assert_eq!(wire.exactly(5).await, "still");
    world.until_counts("api", 0, 1).await;
}

#[tokio::test]
async fn a_connection_carries_as_many_requests_as_it_may() {
    let world = world("keep_alive_requests = 2").await;
    let mut wire = world.wire().await;
    for closes in [false, true] {
        wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
        let (head, _) = wire.answer().await.expect("an answer");
        assert_eq!(head.to_lowercase().contains("connection: close"), closes, "{head}");
    }
    assert!(wire.rest().await.is_empty());
    let mut session = world.http2().await;
    for _ in 0..2 {
        assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
    }
    found("a connection that takes no more", async || match session.ask(get("api", "/")).await {
        Ok(answer) => Err(format!("{answer:?}")),
        Err(_) => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_idles_is_closed() {
    let world = world("idle_timeout = \"500ms\"\nheader_timeout = \"1s\"").await;
    let mut wire = world.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    wire.answer().await.expect("an answer");
    assert!(wire.rest().await.is_empty());
    // The next one must also come whole.
    let mut wire = world.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\nGET / HT").await;
    wire.answer().await.expect("an answer");
    assert_eq!(status(&wire.head().await.expect("an answer")), 408);
    wire.rest().await;
}

#[tokio::test]
async fn a_connection_idles_from_its_answers_end_on() {
    let world = world("idle_timeout = \"500ms\"").await;
    world.wake("api").await;
    let mut slow = world.wire().await;
    slow.send("GET /large HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    let head = slow.head().await.expect("a head");
    // Another one idles for as long as it may.
    let mut other = world.wire().await;
    other.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    other.answer().await.expect("an answer");
    assert!(other.rest().await.is_empty());
    slow.exactly(content_length(&head)).await;
    slow.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    assert_eq!(status(&slow.answer().await.expect("an answer").0), 200);
}

#[tokio::test]
async fn http2_idles_while_no_request_is_on_it() {
    let world = world("idle_timeout = \"500ms\"").await;
    world.wake("api").await;
    let mut busy = world.http2().await;
    let (frames, body) = streamed();
    let mut sent = request("POST", "api", "/duplex", body);
    sent.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    frames.send(Frame::data("a".into())).await.expect("a body that is read");
    let answer = busy.send(sent).await.expect("a head");
    // Two others idle meanwhile, one after the other, each for as long as it may.
    for _ in 0..2 {
        let mut idle = world.wire().await;
        idle.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        h2c::Frame::new(h2c::SETTINGS, 0, Vec::new()).send(&mut idle).await;
        let mut told = false;
        // It does not confirm that it is told, and is closed all the same.
        while let Some(frame) = soon("a frame, or the end", h2c::Frame::read(&mut idle)).await {
            told |= frame.kind == h2c::GOAWAY;
        }
        assert!(told);
    }
    frames.send(Frame::data("b".into())).await.expect("a body that is read");
    drop(frames);
    let echoed = answer.into_body().collect().await.expect("a whole body");
    assert_eq!(echoed.to_bytes(), "ab");
}

#[tokio::test]
async fn a_connection_that_idles_is_closed_however_much_came_at_once() {
    // A task of tokio has a budget of 128 for each turn: some of these have used it up when they are to set their timer.
    let world = world("idle_timeout = \"500ms\"").await;
    let mut wires = Vec::new();
    for count in 100..150 {
        let mut wire = world.wire().await;
        wire.send("GET /a%2fb HTTP/1.1\r\nhost: api.localhost\r\n\r\n".repeat(count)).await;
        wires.push((count, wire));
    }
    for (count, mut wire) in wires {
        for _ in 0..count {
            assert_eq!(status(&wire.answer().await.expect("an answer").0), 400);
        }
        assert!(wire.rest().await.is_empty());
    }
}

#[tokio::test]
async fn empty_lines_between_requests_are_not_the_next_one() {
    let world = world("header_timeout = \"500ms\"").await;
    let mut wire = world.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n\r\n").await;
    wire.answer().await.expect("an answer");
    // Another one takes longer for its head than it may.
    let mut late = world.wire().await;
    late.send("GET / HT").await;
    assert_eq!(status(&late.head().await.expect("an answer")), 408);
    wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may() {
    let world = world("connections_per_address = 2").await;
    let before = world.metric("tidegate_connections_turned_away_total", &["address"]);
    let (mut first, mut second) = (world.http1().await, world.http1().await);
    for session in [&mut first, &mut second] {
        assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
    }
    let mut third = world.wire().await;
    assert!(third.rest().await.is_empty());
    assert!(world.metric("tidegate_connections_turned_away_total", &["address"]) > before);
    // A tunnel is a connection still.
    drop(second);
    let mut tunnel = found("a place that was given back", async || {
        let mut wire = world.wire().await;
        wire.send(
            "GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        )
        .await;
        wire.head().await.map(|head| (wire, status(&head))).ok_or_else(String::new)
    })
    .await;
    assert_eq!(tunnel.1, 101);
    tunnel.0.send("hi").await;
    assert_eq!(tunnel.0.exactly(2).await, "hi");
    assert!(world.wire().await.rest().await.is_empty());
    drop(first);
    found("a place that was given back", async || {
        let mut wire = world.wire().await;
        wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
        wire.head().await.map(drop).ok_or_else(String::new)
    })
    .await;
}

#[tokio::test]
async fn a_trusted_proxy_has_any_number_of_connections() {
    let text = format!(
        "gateway.trusted_proxies = [\"127.0.0.0/8\"]\ngateway.limits.connections_per_address = 1\n{API}"
    );
    let world = Setup::new(&text).start().await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let mut session = world.http1().await;
        assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
        sessions.push(session);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_connection() {
    let world = world("send_timeout = \"1s\"").await;
    let mut wire = world.wire().await;
    let request = "GET /large HTTP/1.1\r\nhost: api.localhost\r\n\r\n";
    wire.send(request).await;
    wire.head().await.expect("a head");
    world.until_counts("api", 0, 1).await;
    // Nothing is read from here on: the gateway gives up, and with it the replica's slot comes free.
    world.until_counts("api", 0, 0).await;
    drop(wire);
}

#[tokio::test]
async fn an_answer_that_is_taken_too_slowly_is_cut_off() {
    let world = world("send_rate = \"1TiB\"\nsend_grace = \"200ms\"").await;
    world.wake("api").await;
    // Of this one nothing is there to be taken: its replica is waited for.
    let mut begun = world.http1().await;
    let mut quiet = begun.send(get("api", "/endless")).await.expect("a head").into_body();
    soon("a frame", quiet.frame()).await.expect("a frame").expect("an unbroken body");
    let large = async || {
        let mut wire = world.wire().await;
        wire.send("GET /large HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
        let head = wire.head().await.expect("a head");
        (wire, content_length(&head))
    };
    let (mut nothing, _) = large().await;
    world.until_counts("api", 0, 2).await;
    world.until_counts("api", 0, 1).await;
    assert_eq!(nothing.until_end().await.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    // Another takes a little each time.
    const LITTLE: usize = 64 << 10;
    let ((mut little, length), mut taken) = (large().await, 0);
    loop {
        let piece = little.exactly(LITTLE).await.len();
        taken += piece;
        if piece < LITTLE {
            break;
        }
        assert_eq!(world.get("api", "/").await.status, 200);
    }
    assert!(taken < length, "all of it");
    world.targets.release();
    let rest = soon("the end", quiet.collect()).await.expect("an unbroken body");
    assert_eq!(rest.to_bytes(), "ended");
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_taken_keeps_no_replica() {
    let world = world("send_timeout = \"1s\"").await;
    world.wake("api").await;
    let mut session = world.http2().await;
    let unread = session.share().send(get("api", "/large")).await.expect("a head");
    // One that waits for the replica is not late.
    let mut begun = session.send(get("api", "/endless")).await.expect("a head").into_body();
    soon("a frame", begun.frame()).await.expect("a frame").expect("an unbroken body");
    world.until_counts("api", 0, 2).await;
    world.until_counts("api", 0, 1).await;
    assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
    soon("its end", Answer::of(unread)).await.expect_err("it is not whole");
    world.targets.release();
    let rest = soon("the end", begun.collect()).await.expect("an unbroken body");
    assert_eq!(rest.to_bytes(), "ended");
}

#[tokio::test]
async fn open_connections_are_counted() {
    let world = world("").await;
    let session = world.http1().await;
    found("a connection", async || {
        let open = world.metric("tidegate_connections", &[]);
        if open >= 1.0 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    drop(session);
}
