//! Upgrades over HTTP/2 (extended CONNECT), and from one dialect to the other.

use bytes::Bytes;
use e2e::{
    client::{Answer, Body, Session, empty, status},
    eventually::soon,
    h2c,
    world::{Setup, World},
};
use http::{Request, Response};
use hyper::{body::Incoming, ext::Protocol};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOTH: &str = r#"
    [services.one]
    image = "one:1"
    [services.two]
    image = "two:1"
    protocol = "h2c"
"#;

fn connect(service: &str, path: &str, to: &'static str) -> Request<Body> {
    let request = Request::connect(format!("http://{service}.localhost{path}"));
    let request = request.extension(Protocol::from_static(to)).header("sec-websocket-version", "13");
    request.body(empty()).expect("a request")
}

async fn open(session: &mut Session, service: &str) -> Response<Incoming> {
    let response = session.send(connect(service, "/upgrade", "websocket")).await.expect("an answer");
    assert_eq!(response.status(), 200, "{service}");
    for name in ["connection", "upgrade", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(name), "{service}: {name}");
    }
    response
}

#[tokio::test]
async fn a_stream_of_http2_carries_bytes_to_either_kind_of_replica() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        let mut session = world.http2().await;
        let response = open(&mut session, service).await;
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
        for piece in ["one", "two", "three"] {
            tunnel.write_all(piece.as_bytes()).await.expect("a tunnel");
            let mut back = vec![0; piece.len()];
            soon("an echo", tunnel.read_exact(&mut back)).await.expect("an echo");
            assert_eq!(back, piece.as_bytes(), "{service}");
        }
        let counts = world.status(service).await;
        assert_eq!(counts.in_flight, 1, "{service}: a tunnel holds its lease");
        tunnel.shutdown().await.expect("a tunnel");
        let mut rest = Vec::new();
        soon("the end", tunnel.read_to_end(&mut rest)).await.expect("an end");
        assert_eq!(Bytes::from(rest), "", "{service}");
        world.until_counts(service, 0, 0).await;
        let again = world.http2().await;
        drop((session, again));
    }
}

#[tokio::test]
async fn replicas_see_an_upgrade_in_their_own_dialect() {
    let world = World::new(BOTH).await;
    let mut session = world.http2().await;
    drop(open(&mut session, "one").await);
    drop(open(&mut session, "two").await);
    let methods: Vec<String> = world.targets.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["GET", "CONNECT"]);
}

#[tokio::test]
async fn a_client_of_http1_upgrades_at_a_replica_of_http2() {
    let world = World::new(BOTH).await;
    let mut wire = world.wire().await;
    wire.send(
        "GET /upgrade HTTP/1.1\r\nhost: two.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    )
    .await;
    let head = wire.head().await.expect("an answer");
    assert_eq!(status(&head), 101, "{head}");
    let lower = head.to_lowercase();
    assert!(lower.contains("upgrade: websocket"), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the answer to its key: {head}");
    // A whole frame, masked with nothing: what passes is looked at.
    let frame = [0x82, 0x85, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    wire.send(frame).await;
    assert_eq!(wire.exactly(frame.len()).await, frame[..]);
    drop(wire);
    world.until_counts("two", 0, 0).await;
}

#[tokio::test]
async fn what_is_no_upgrade_does_not_look_like_one() {
    let setup = Setup::new(&format!("{BOTH}\n[services.three]\nimage = \"three:1\"\nprotocol = \"h2c\""));
    setup.targets.behave("three:1", h2c::grpc());
    let world = setup.start().await;
    let mut session = world.http2().await;
    let mut ask = async |request| {
        let response = session.send(request).await.expect("an answer");
        soon("an answer", Answer::of(response)).await.expect("a whole answer")
    };
    let answer = ask(connect("one", "/", "websocket")).await;
    assert_eq!(answer.refusal(), (502, "upstream_reset".into()), "200 would say that it has changed");
    for service in ["one", "two"] {
        let answer = ask(connect(service, "/status/404", "websocket")).await;
        assert_eq!(answer.status, 404, "{service}");
    }
    let answer = ask(connect("three", "/", "websocket")).await;
    assert_eq!(answer.refusal(), (400, "bad_request".into()), "its SETTINGS do not allow it");
    let plain = Request::connect("one.localhost:443").body(empty()).expect("a request");
    assert_eq!(ask(plain).await.refusal(), (400, "bad_request".into()), "a tunnel to somewhere else");
}
