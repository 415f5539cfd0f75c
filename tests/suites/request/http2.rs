//! HTTP/2 in clear text, on either side.

use bytes::Bytes;
use e2e::{
    client::{empty, full, streamed},
    eventually::{found, soon},
    h2c,
    world::{World, get, request},
};
use futures_util::future::join_all;
use h2::{Reason, RecvStream, client::SendRequest};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::{body::Frame, ext::Protocol};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
};

const BOTH: &str = r#"
    [services.one]
    image = "one:1"
    [services.two]
    image = "two:1"
    protocol = "h2c"
    health.probe = "http:/status/200"
"#;

#[tokio::test]
async fn each_side_speaks_what_it_speaks() {
    let world = World::new(BOTH).await;
    for (service, version) in [("one", "HTTP/1.1"), ("two", "HTTP/2")] {
        for mut session in [world.http1().await, world.http2().await] {
            let sent = request("PUT", service, "/a?b", full("hello"));
            let echo = session.ask(sent).await.expect("an answer").echo();
            assert_eq!((echo.version.as_str(), echo.body.as_str()), (version, "hello"), "{service}");
            assert!(echo.target.ends_with("/a?b"), "{}", echo.target);
            let host = format!("{service}.localhost");
            assert!(echo.header("host") == Some(&host) || echo.target.contains(&host), "{echo:?}");
            assert_eq!(echo.header("x-forwarded-host"), Some(&*host));
        }
    }
}

#[tokio::test]
async fn refusals_and_empty_answers_pass() {
    let world = World::new(BOTH).await;
    let mut session = world.http2().await;
    let refused = session.ask(get("nobody", "/")).await.expect("an answer");
    assert_eq!(refused.refusal(), (404, "no_route".into()));
    let refused = session.ask(request("HEAD", "nobody", "/", empty())).await.expect("an answer");
    assert_eq!((refused.status, refused.body.len()), (404, 0), "HEAD has no body, also where it is refused");
    for service in ["one", "two"] {
        for code in [204, 304, 404, 500] {
            let answer = session.ask(get(service, &format!("/status/{code}"))).await.expect("an answer");
            assert_eq!((answer.status, answer.body.len()), (code, 0), "{service}");
        }
        let head = session.ask(request("HEAD", service, "/", empty())).await.expect("an answer");
        assert_eq!((head.status, head.body.len()), (200, 0), "{service}");
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_go_side_by_side() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        let session = world.http2().await;
        let mut shares: Vec<_> = (0..100).map(|_| session.share()).collect();
        let answers = join_all(shares.iter_mut().map(|share| share.ask(get(service, "/")))).await;
        let good =
            answers.into_iter().filter(|answer| answer.as_ref().is_ok_and(|a| a.status == 200)).count();
        assert_eq!(good, 100, "{service}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let world = World::new(BOTH).await;
    for service in ["one", "two"] {
        for mut session in [world.http1().await, world.http2().await] {
            let (frames, body) = streamed();
            let mut sent = request("POST", service, "/duplex", body);
            // HTTP/1.1 sends only announced trailers, and only to those who take them.
            sent.headers_mut().insert("te", "trailers".parse().expect("a value"));
            sent.headers_mut().insert("trailer", "x-check".parse().expect("a value"));
            let mut trailers = HeaderMap::new();
            trailers.insert("x-check", "sum".parse().expect("a value"));
            frames.send(Frame::data("data".into())).await.expect("a body that is read");
            frames.send(Frame::trailers(trailers)).await.expect("a body that is read");
            drop(frames);
            let body =
                session.send(sent).await.expect("an answer").into_body().collect().await.expect("a body");
            let check = body.trailers().and_then(|trailers| trailers.get("x-check")).cloned();
            assert_eq!(check.as_ref().map(|value| value.as_bytes()), Some(&b"sum"[..]), "{service}");
            assert_eq!(body.to_bytes(), "data");
        }
    }
}

/// A client with streams of its own making, from an address of this machine.
async fn client(tasks: &mut JoinSet<()>, world: &World, address: [u8; 4]) -> SendRequest<Bytes> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address, 0).into()).expect("an address of this machine");
    let stream = socket.connect(world.address).await.expect("a connection");
    let (send, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tasks.spawn(async { drop(connection.await) });
    send.ready().await.expect("room")
}

/// Asks for what has no end yet. The answer's body, or why there is none.
async fn begin(client: &mut SendRequest<Bytes>) -> Result<RecvStream, Option<Reason>> {
    let request = get("one", "/endless").map(drop);
    let (answer, _) = client.send_request(request, true).map_err(|error| error.reason())?;
    let answer = soon("an answer", answer).await.map_err(|error| error.reason())?;
    assert_eq!(answer.status(), 200);
    Ok(answer.into_body())
}

#[tokio::test]
async fn streams_of_all_connections_together_are_bounded() {
    let world = World::new(&format!("[gateway.limits]\nh2_streams_total = 10\n{BOTH}")).await;
    let refused = |why| world.metric("tidegate_http2_streams_refused_total", &[why]);
    let before = (refused("address"), refused("total"));
    world.wake("one").await;
    let (mut tasks, mut open) = (JoinSet::new(), Vec::new());
    for last in 1..=5 {
        // Two connections, so that it is not the connection that counts.
        let (mut first, mut second) = (
            client(&mut tasks, &world, [127, 0, 1, last]).await,
            client(&mut tasks, &world, [127, 0, 1, last]).await,
        );
        open.push((
            begin(&mut first).await.expect("an answer"),
            begin(&mut second).await.expect("an answer"),
        ));
        assert_eq!(begin(&mut second).await.err(), Some(Some(Reason::REFUSED_STREAM)), "{last}");
    }
    assert!(world.metric("tidegate_http2_streams", &[]) >= 10.0);
    let mut other = client(&mut tasks, &world, [127, 0, 1, 6]).await;
    assert_eq!(begin(&mut other).await.err(), Some(Some(Reason::REFUSED_STREAM)));
    assert!(refused("address") >= before.0 + 5.0 && refused("total") >= before.1 + 1.0);
    // Who speaks HTTP/1.1 is served all the same, and what was refused can be asked again.
    assert_eq!(world.get("one", "/").await.status, 200);
    drop(open.pop());
    let _begun = found("room", async || begin(&mut other).await.map_err(|why| format!("{why:?}"))).await;
    world.targets.release();
}

#[tokio::test]
async fn a_tunnel_is_a_stream_for_as_long_as_it_lasts() {
    let world =
        World::new(&format!("[gateway.limits]\nh2_streams_total = 5\nidle_timeout = \"500ms\"\n{BOTH}"))
            .await;
    let mut session = world.http2().await;
    let connect =
        Request::connect("http://one.localhost/upgrade").extension(Protocol::from_static("websocket"));
    let response = session.send(connect.body(empty()).expect("a request")).await.expect("an answer");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
    // Another one idles meanwhile for longer than it may, and for the time in which it is to confirm its end.
    let mut idle = world.wire().await;
    idle.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    h2c::Frame::new(h2c::SETTINGS, 0, Vec::new()).send(&mut idle).await;
    while soon("a frame, or the end", h2c::Frame::read(&mut idle)).await.is_some() {}
    let mut back = [0; 2];
    tunnel.write_all(b"hi").await.expect("a tunnel that lives");
    soon("an echo", tunnel.read_exact(&mut back)).await.expect("an echo");
    session.ask(get("one", "/")).await.expect_err("an address has a fifth of all");
    drop(tunnel);
    found("room", async || session.ask(get("one", "/")).await.map_err(|why| why.to_string())).await;
}
