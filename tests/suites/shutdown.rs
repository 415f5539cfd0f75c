//! The gateway stops: what runs finishes, nothing new begins, and the replicas stay for the next one.

use std::{net::SocketAddr, time::Duration};

use e2e::{
    client::{Wire, status},
    eventually::{found, soon},
    world::{Setup, World, get},
};
use tokio::net::TcpStream;

const API: &str = "services.api.image = \"api:1\"";

async fn holding(world: &World) -> Wire {
    let mut wire = world.wire().await;
    wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    world.until_counts("api", 0, 1).await;
    wire
}

async fn until_refused(address: SocketAddr) {
    found("a refused connection", async || match TcpStream::connect(address).await {
        Err(_) => Ok(()),
        Ok(_) => Err("connected".into()),
    })
    .await;
}

#[tokio::test]
async fn what_runs_finishes_and_nothing_new_begins() {
    let world = World::new(API).await;
    let mut wire = holding(&world).await;
    let (address, targets) = (world.address, world.targets.clone());
    let client = async {
        until_refused(address).await;
        targets.release();
        let (head, body) = wire.answer().await.expect("an answer");
        assert_eq!((status(&head), &body[..]), (200, &b"held"[..]));
        assert_eq!(wire.rest().await, "", "and the connection ends");
    };
    // The drain deadline is longer than the patience of `soon`: it ends because all is done.
    let ((clean, runner, _), ()) = soon("a stop", async { tokio::join!(world.stop(), client) }).await;
    assert!(clean);
    assert_eq!(runner.specs().len(), 1, "the replica stays");
}

#[tokio::test]
async fn streams_and_requests_that_wait_finish_too() {
    let setup = Setup::new(API);
    setup.runner.start_delay(Duration::from_millis(200));
    let world = setup.start().await;
    let mut http2 = world.http2().await;
    let (address, targets) = (world.address, world.targets.clone());
    let client = async {
        let answer = async {
            let response = http2.send(get("api", "/endless")).await.expect("an answer");
            e2e::client::Answer::of(response).await.expect("a whole answer")
        };
        let release = async {
            until_refused(address).await;
            targets.release();
        };
        let (answer, ()) = tokio::join!(answer, release);
        assert_eq!((answer.status, answer.text().as_str()), (200, "begun ended"));
    };
    let stop = async {
        world.until_counts("api", 1, 0).await;
        world.stop().await
    };
    let ((clean, ..), ()) = soon("a stop", Box::pin(async { tokio::join!(stop, client) })).await;
    assert!(clean);
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_it_up() {
    let world = World::new(API).await;
    let (mut used, mut http2, silent) = (world.http1().await, world.http2().await, world.wire().await);
    for session in [&mut used, &mut http2] {
        assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
    }
    let (clean, ..) = soon("a stop", world.stop()).await;
    assert!(clean);
    drop((used, http2, silent));
}

#[tokio::test]
async fn the_drain_deadline_cuts_what_is_left() {
    for path in ["/hold", "/upgrade"] {
        let world = World::new(&format!("gateway.drain = \"100ms\"\n{API}")).await;
        let mut wire = world.wire().await;
        let upgrade = "connection: upgrade\r\nupgrade: echo\r\n";
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: api.localhost\r\n{upgrade}\r\n")).await;
        world.until_counts("api", 0, 1).await;
        let (clean, runner, _) = soon("a stop", world.stop()).await;
        assert!(!clean, "{path}: it is said that something was cut off");
        let rest = wire.rest().await;
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"), "{path}");
        assert_eq!(runner.specs().len(), 1);
    }
}

/// "Going away", as a server says it.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// A WebSocket; the origin sends back what it gets.
async fn websocket(world: &World) -> Wire {
    let mut wire = world.wire().await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    wire.send(format!("GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\n{upgrade}\r\n")).await;
    assert_eq!(status(&wire.head().await.expect("an answer")), 101);
    wire
}

#[tokio::test]
async fn websockets_are_told_at_the_drain_deadline() {
    let world = World::new(&format!("gateway.drain = \"100ms\"\n{API}")).await;
    let mut wire = websocket(&world).await;
    wire.send([0x82, 2, 7, 7]).await;
    assert_eq!(wire.exactly(4).await, [0x82, 2, 7, 7][..]);
    let client = async {
        let farewell = wire.exactly(4).await;
        assert_eq!(farewell, GOING_AWAY[..]);
        wire.finish().await;
        // The replica echoes the gateway's farewell to it, and that goes to nobody.
        assert_eq!(wire.rest().await, "");
    };
    let ((clean, ..), ()) = soon("a stop", async { tokio::join!(world.stop(), client) }).await;
    assert!(!clean, "it is said that something was cut off");
}

#[tokio::test]
async fn a_frame_that_is_under_way_is_finished_first() {
    let world = World::new(&format!("gateway.drain = \"100ms\"\n{API}")).await;
    let mut wire = websocket(&world).await;
    // Half of a frame: the other half comes after the deadline.
    wire.send([0x82, 4, 1, 2]).await;
    assert_eq!(wire.exactly(4).await, [0x82, 4, 1, 2][..]);
    let address = world.address;
    let client = async {
        until_refused(address).await;
        wire.send([3, 4]).await;
        let rest = wire.exactly(6).await;
        assert_eq!(rest, [&[3, 4][..], &GOING_AWAY].concat());
    };
    soon("a stop", async { tokio::join!(world.stop(), client) }).await;
}

#[tokio::test]
async fn websockets_of_a_replica_that_is_drained_are_told_too() {
    let world = World::new(&format!("{API}\nservices.api.scaling.drain = \"100ms\"")).await;
    let mut wire = websocket(&world).await;
    let restart = async { world.control().restart(e2e::world::name("api")).await };
    let farewell = async { assert_eq!(wire.exactly(4).await, GOING_AWAY[..]) };
    let (restarted, ()) = soon("a restart", async { tokio::join!(restart, farewell) }).await;
    restarted.expect("a control loop").expect("a new replica");
    wire.finish().await;
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn http2_says_goaway() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    // The preface, and settings without any.
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    wire.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    // The server's own settings: it is served by now.
    let head = wire.exactly(9).await;
    assert_eq!(head[3], 4, "{head:?}");
    let client = async {
        let (mut head, mut kinds) = (head, Vec::new());
        while let [a, b, c, kind, ..] = head[..] {
            kinds.push(kind);
            if kind == 7 {
                return drop(wire);
            }
            wire.exactly(u32::from_be_bytes([0, a, b, c]) as usize).await;
            head = wire.exactly(9).await;
        }
        panic!("frames {kinds:?} without a GOAWAY");
    };
    let ((clean, ..), ()) = soon("a stop", async { tokio::join!(world.stop(), client) }).await;
    assert!(clean);
}

#[tokio::test]
async fn a_tunnel_may_end_by_itself() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    wire.send("GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    assert_eq!(status(&wire.head().await.expect("an answer")), 101);
    let address = world.address;
    let client = async {
        until_refused(address).await;
        wire.send("still there").await;
        assert_eq!(wire.exactly(11).await, "still there");
        wire.finish().await;
        assert_eq!(wire.rest().await, "");
    };
    let ((clean, ..), ()) = soon("a stop", async { tokio::join!(world.stop(), client) }).await;
    assert!(clean);
}

#[tokio::test]
async fn the_next_gateway_goes_on_where_this_one_stopped() {
    let world = World::new(API).await;
    let before = world.get("api", "/").await.echo().replica;
    let (clean, runner, targets) = world.stop().await;
    assert!(clean);
    let mut setup = Setup::new(API).generation(2);
    (setup.runner, setup.targets) = (runner, targets);
    let world = setup.start().await;
    assert_eq!(world.get("api", "/").await.echo().replica, before);
    assert_eq!(world.runner.starts(), 1);
}

#[tokio::test]
async fn replicas_go_with_it_if_the_file_says_so() {
    let world = World::new(&format!("gateway.stop_replicas_on_exit = true\n{API}")).await;
    world.get("api", "/").await;
    let (clean, runner, _) = world.stop().await;
    assert!(clean);
    assert_eq!(runner.specs().len(), 0);
}

#[tokio::test]
async fn nothing_is_started_while_the_replicas_go() {
    let text = format!("gateway.stop_replicas_on_exit = true\n{API}\nservices.api.scaling.min = 2");
    let world = World::new(&text).await;
    world.until_ready("api", 2).await;
    let (_, runner, _) = world.stop().await;
    assert_eq!((runner.specs().len(), runner.starts()), (0, 2));
}

#[tokio::test]
async fn its_socket_goes_with_it() {
    let world = World::new(API).await;
    let socket = world.socket();
    assert!(socket.exists());
    let World { app, .. } = world;
    app.stop().await;
    assert!(!socket.exists());
}
