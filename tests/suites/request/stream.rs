//! Bodies that flow: both ways at once, for long, and to a bitter end.

use std::io::ErrorKind;

use e2e::{
    client::{Answer, streamed},
    eventually::soon,
    world::{World, get, request},
};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};

const BOTH: &str = r#"
    [services.one]
    image = "one:1"
    scaling = { idle = "100ms" }
    [services.two]
    image = "two:1"
    protocol = "h2c"
    scaling = { idle = "100ms" }
"#;

async fn data(body: &mut Incoming) -> String {
    let frame = soon("a frame", body.frame()).await.expect("a frame").expect("an unbroken body");
    String::from_utf8_lossy(&frame.into_data().unwrap_or_default()).into_owned()
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        for mut session in [world.http1().await, world.http2().await] {
            let (frames, body) = streamed();
            frames.send(Frame::data("0".into())).await.expect("a body that is read");
            let answer = session.send(request("POST", service, "/duplex", body)).await.expect("an answer");
            let mut back = answer.into_body();
            assert_eq!(data(&mut back).await, "0");
            for n in 1..20 {
                let piece = n.to_string();
                frames.send(Frame::data(piece.clone().into())).await.expect("a body that is read");
                assert_eq!(data(&mut back).await, piece, "{service}: before the request has ended");
            }
            drop(frames);
            let rest = soon("the end", back.collect()).await.expect("an unbroken body");
            assert_eq!(rest.to_bytes(), "");
            world.until_counts(service, 0, 0).await;
        }
    }
}

#[tokio::test]
async fn a_replica_that_streams_is_not_idle() {
    let world = World::new(BOTH).await;
    let mut session = world.http1().await;
    let mut body = session.send(get("one", "/endless")).await.expect("an answer").into_body();
    assert_eq!(data(&mut body).await, "begun ");
    // Two's replica comes, falls idle as long as one's has been, and goes.
    world.get("two", "/").await;
    world.until("two", |status| status.replicas.is_empty()).await;
    let one = world.status("one").await;
    assert_eq!((one.in_flight, one.replicas.len()), (1, 1), "{one:?}");
    world.targets.release();
    assert_eq!(data(&mut body).await, "ended");
    assert!(soon("the end", body.frame()).await.is_none());
    world.until("one", |status| status.replicas.is_empty()).await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_passed_on_as_whole() {
    let world = World::new(BOTH).await;
    let before = world.metric("tidegate_responses_broken_total", &["one"]);
    for path in ["/break", "/break-length"] {
        for mut session in [world.http1().await, world.http2().await] {
            let answer = session.send(get("one", path)).await.expect("a head");
            assert_eq!(answer.status(), 200);
            let whole = soon("an end", Answer::of(answer)).await;
            assert!(whole.is_err(), "{path}: {whole:?}");
        }
    }
    let raw = async |path: &str| {
        let mut wire = world.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: one.localhost\r\n\r\n")).await;
        String::from_utf8_lossy(&wire.rest().await).into_owned()
    };
    assert!(!raw("/break").await.ends_with("0\r\n\r\n"), "the last chunk would say that it is whole");
    assert!(world.metric("tidegate_responses_broken_total", &["one"]) > before);
    // Whoever speaks HTTP/1.0 has nothing but the connection's end to go by.
    let mut wire = world.wire().await;
    wire.send("GET /break HTTP/1.0\r\nhost: one.localhost\r\n\r\n").await;
    assert!(wire.head().await.is_some_and(|head| !head.contains("content-length")));
    assert_eq!(wire.until_end().await.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    world.until_counts("one", 0, 0).await;
}

#[tokio::test]
async fn a_request_that_breaks_off_reaches_the_replica_as_broken() {
    let world = World::new(BOTH).await;
    let mut wire = world.wire().await;
    wire.send("POST /duplex HTTP/1.1\r\nhost: one.localhost\r\ncontent-length: 8\r\n\r\nhalf").await;
    let head = wire.head().await.expect("an answer begins");
    assert!(head.contains("200"), "{head}");
    wire.finish().await;
    let rest = String::from_utf8_lossy(&wire.rest().await).into_owned();
    assert!(!rest.ends_with("0\r\n\r\n"), "an echo of half a body is not whole: {rest:?}");
    world.until_counts("one", 0, 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_ends_the_exchange() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        for mut session in [world.http1().await, world.http2().await] {
            let mut body = session.send(get(service, "/endless")).await.expect("an answer").into_body();
            assert_eq!(data(&mut body).await, "begun ");
            world.until_counts(service, 0, 1).await;
            drop((body, session));
            world.until_counts(service, 0, 0).await;
        }
    }
}

#[tokio::test]
async fn an_answer_before_the_request_has_ended_is_passed_on() {
    let world = World::new(BOTH).await;
    let (frames, body) = streamed();
    let mut session = world.http2().await;
    frames.send(Frame::data("begun".into())).await.expect("a body that is read");
    let answer = session.ask(request("POST", "one", "/status/413", body)).await.expect("an answer");
    assert_eq!(answer.status, 413);
    // Its connection is still busy with the rest of the body, and nobody else may have to wait for that.
    assert_eq!(soon("another client's answer", world.get("one", "/")).await.status, 200);
    drop(frames);
    world.until_counts("one", 0, 0).await;
}
