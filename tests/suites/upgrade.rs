//! One gateway takes over from another without anybody noticing: on the same sockets, with what runs counted by both.

use std::net::SocketAddr;

use bytes::Bytes;
use e2e::{
    client::{Session, Wire, status},
    eventually::{found, soon},
    world::{Setup, World, get},
};
use futures_util::future::join_all;
use tidegate::{
    app::App,
    handover::{self, Outcome},
    state_dir::StateDir,
};
use tokio_util::sync::CancellationToken;

const API: &str = "services.api.image = \"api:1\"";

/// One replica that runs one request at a time.
const ONE: &str = "services.api = { image = \"api:1\", scaling = { max = 1, concurrency = 1 } }";

const ASK: &str =
    "GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

async fn websocket(world: &World) -> Wire {
    let mut wire = world.wire().await;
    wire.send(ASK).await;
    assert_eq!(status(&wire.head().await.expect("an answer")), 101);
    wire
}

/// A text frame as a client sends it; the origin sends it back as it is.
async fn echoes(wire: &mut Wire, text: &str) {
    let length = u8::try_from(text.len()).expect("a short text");
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend(text.as_bytes());
    wire.send(&frame).await;
    assert_eq!(wire.exactly(frame.len()).await, Bytes::from(frame));
}

async fn retired(old: App) {
    assert!(soon("the old gateway's end", old.retire()).await, "nothing was cut off");
}

/// Asks again and again on `clients` connections at a time, each as long as the gateway lets it; the answers that were
/// not 200, and how many came.
async fn load(address: SocketAddr, clients: usize, over: &CancellationToken) -> (usize, Vec<u16>) {
    let client = async || {
        let (mut session, mut bad, mut count) = (Session::http1(address).await, Vec::new(), 0);
        while !over.is_cancelled() {
            let answer = session.ask(get("api", "/")).await.expect("a whole answer");
            count += 1;
            bad.extend((answer.status != 200).then_some(answer.status));
            if answer.header("connection") == Some("close") {
                session = Session::http1(address).await;
            }
        }
        (count, bad)
    };
    let all = join_all((0..clients).map(|_| client())).await;
    (all.iter().map(|(count, _)| count).sum(), all.into_iter().flat_map(|(_, bad)| bad).collect())
}

#[tokio::test]
async fn nobody_notices() {
    let mut world = World::new(API).await;
    world.get("api", "/").await;
    let (address, over) = (world.address, CancellationToken::new());
    let upgrades = async {
        for _ in 0..3 {
            let before = world.generation();
            let (new, old) = world.upgrade().await;
            retired(old).await;
            assert!(new.generation() > before);
            world = new;
        }
        over.cancel();
        world
    };
    let (world, (count, bad)) = tokio::join!(upgrades, load(address, 8, &over));
    assert!(count > 0 && bad.is_empty(), "{count} answers, of which {bad:?}");
    assert_eq!(world.runner.starts(), 1, "the replica was adopted each time");
}

#[tokio::test]
async fn a_request_that_runs_finishes_on_the_old_gateway() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    world.until_counts("api", 0, 1).await;
    let (world, old) = world.upgrade().await;
    assert_eq!(world.get("api", "/").await.status, 200, "the new one answers meanwhile");
    let release = async {
        world.targets.release();
        let (head, body) = wire.answer().await.expect("an answer");
        assert_eq!((status(&head), &body[..]), (200, &b"held"[..]));
        assert!(head.to_lowercase().contains("connection: close"), "{head}");
        assert_eq!(wire.rest().await, "");
    };
    tokio::join!(retired(old), release);
}

#[tokio::test]
async fn a_websocket_lives_on_and_its_replica_with_it() {
    let text = "
        [services.api]
        image = \"api:1\"
        scaling = { idle = \"50ms\", stable_window = \"6s\" }
        [services.other]
        image = \"other:1\"
        scaling = { idle = \"50ms\", stable_window = \"6s\" }
    ";
    let world = World::new(text).await;
    let mut wire = websocket(&world).await;
    world.get("other", "/").await;
    let (world, old) = world.upgrade().await;
    // A second handover: the one that serves the tunnel finds the new leader by itself.
    let (world, second) = world.upgrade().await;
    retired(second).await;
    echoes(&mut wire, "still there").await;
    // Long idle where the new gateway looks; the other service, which really is, goes.
    world.until("other", |status| status.replicas.is_empty()).await;
    let api = world.status("api").await;
    assert_eq!(api.replicas.len(), 1, "{api:?}");
    echoes(&mut wire, "and now").await;
    let close = async {
        wire.finish().await;
        assert_eq!(wire.rest().await, "");
    };
    tokio::join!(retired(old), close);
    world.until("api", |status| status.replicas.is_empty()).await;
}

#[tokio::test]
async fn a_new_gateway_that_dies_leaves_the_old_one_serving() {
    let mut world = World::new(API).await;
    let before = world.get("api", "/").await.echo().replica;
    let folder = world.folder().to_owned();
    let state = StateDir::take(&folder).expect("a free state directory");
    let hand = async {
        let request = world.app.asked_for().await;
        handover::hand_over(&mut world.app, state, request).await
    };
    let die = async {
        let taken = handover::take_over(&handover::socket(&folder), String::new()).await;
        let mut taken = taken.expect("an answer").expect("a gateway");
        assert_eq!(taken.sockets().len(), 1);
        drop(StateDir::take(&folder).expect("the lock is free by now"));
        drop(taken);
    };
    let (handed, ()) = soon("a handover", async { tokio::join!(hand, die) }).await;
    assert!(matches!(handed, Ok(Outcome::TakenBack(_))), "{handed:?}");
    drop(handed);
    assert_eq!(world.get("api", "/").await.echo().replica, before);
    assert_eq!(world.status("api").await.replicas.len(), 1, "the loop and what operators ask are back");
    assert!(world.socket().exists());
    // And it can be replaced by one that lives.
    let (world, old) = world.upgrade().await;
    retired(old).await;
    assert_eq!(world.get("api", "/").await.echo().replica, before);
    assert_eq!(world.runner.starts(), 1);
}

#[tokio::test]
async fn both_gateways_together_keep_a_hard_limit() {
    let world = World::new(ONE).await;
    let ask = async |wire: &mut Wire, path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: api.localhost\r\n\r\n")).await;
    };
    let mut wires = vec![world.wire().await, world.wire().await];
    ask(&mut wires[0], "/hold").await;
    world.until_counts("api", 0, 1).await;
    ask(&mut wires[1], "/old").await;
    world.until_counts("api", 1, 1).await;
    let (world, old) = world.upgrade().await;
    // The old one may take a connection in the very moment in which it leaves.
    found("a request that waits in the new gateway", async || {
        let mut wire = world.wire().await;
        ask(&mut wire, "/new").await;
        wires.push(wire);
        let status = world.status("api").await;
        if status.queued > 0 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(world.targets.paths(), ["/hold"], "one at a time, wherever it came in");
    let answers = async {
        for wire in &mut wires {
            assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
        }
    };
    world.targets.release();
    tokio::join!(retired(old), answers);
    let paths = world.targets.paths();
    assert!(paths.len() >= 3, "{paths:?}");
    assert_eq!(world.get("api", "/").await.status, 200, "what was lent has come back");
}

#[tokio::test]
async fn a_request_that_waits_in_the_old_gateway_wakes_its_service() {
    let setup = Setup::new(API);
    let world = setup.start().await;
    // Its connection was there before; nothing was asked yet.
    let mut wire = world.wire().await;
    let other = world.http1().await;
    let (world, old) = world.upgrade().await;
    wire.send("GET / HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    let (head, _) = wire.answer().await.expect("an answer");
    assert_eq!(status(&head), 200);
    assert_eq!(world.runner.starts(), 1);
    drop((wire, other));
    retired(old).await;
}

#[tokio::test]
async fn a_second_gateway_is_told_how_to_take_over() {
    let world = World::new(API).await;
    let _held = StateDir::take(world.folder()).expect("a free state directory");
    let error = StateDir::take(world.folder()).expect_err("it is held").to_string();
    assert!(error.contains("--take-over"), "{error}");
}

#[tokio::test]
async fn what_cannot_take_over_is_refused() {
    let world = World::new(API).await;
    let socket = handover::socket(world.folder());
    let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("a gateway");
    let hello = r#"{"protocol":999,"version":"9.9.9","pid":1,"wish":{"take_over":{"fingerprint":""}}}"#;
    let mut frame = u32::try_from(hello.len()).expect("short").to_be_bytes().to_vec();
    frame.extend(hello.as_bytes());
    tokio::io::AsyncWriteExt::write_all(&mut stream, &frame).await.expect("written");
    let mut said = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said);
    soon("an answer", read).await.expect("an answer");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("refused") && said.contains("9.9.9") && said.contains("999"), "{said}");
    assert_eq!(world.get("api", "/").await.status, 200);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn connections_that_ask_nothing_end_after_a_moment() {
    let world = World::new(API).await;
    let (mut http1, mut http2) = (world.http1().await, world.http2().await);
    for session in [&mut http1, &mut http2] {
        assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
    }
    let (world, old) = world.upgrade().await;
    retired(old).await;
    for session in [&mut http1, &mut http2] {
        assert!(session.send(get("api", "/")).await.is_err(), "the idle one was closed");
    }
    for mut session in [world.http1().await, world.http2().await] {
        assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
    }
}
