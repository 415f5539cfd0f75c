//! Upgrades: after `101` both ends talk bytes, and the replica is kept as long as they may.

use e2e::{
    client::{Wire, status},
    targets::Behaviour,
    world::{Setup, World},
};

const API: &str = r#"
    [services.api]
    image = "api:1"
    scaling = { idle = "50ms" }
    [services.other]
    image = "other:1"
    scaling = { idle = "50ms" }
"#;

const ASK: &str =
    "GET /upgrade HTTP/1.1\r\nhost: api.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

async fn tunnel(world: &World) -> Wire {
    let mut wire = world.wire().await;
    wire.send(ASK).await;
    let head = wire.head().await.expect("an answer");
    assert_eq!(status(&head), 101, "{head}");
    let lower = head.to_lowercase();
    assert!(lower.contains("upgrade: echo") && lower.contains("connection: upgrade"), "{head}");
    wire
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let world = World::new(API).await;
    let mut wire = tunnel(&world).await;
    for piece in ["one", "\u{0}two", "three"] {
        wire.send(piece).await;
        assert_eq!(wire.exactly(piece.len()).await, piece);
    }
    wire.send("last").await;
    wire.finish().await;
    assert_eq!(wire.rest().await, "last", "half-closed, the other half goes on");
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn two_hundred_one_after_another_lose_nothing() {
    let setup = Setup::new(API);
    // Answers at once, and talks in the same breath.
    let server = Behaviour::raw(|stream| async move {
        let mut wire = Wire::accepted(stream);
        while wire.head().await.is_some() {
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello",
            )
            .await;
            let said = wire.exactly(2).await;
            wire.send(said).await;
            wire.finish().await;
            wire.rest().await;
        }
    });
    setup.targets.behave("api:1", server);
    let world = setup.start().await;
    for n in 0..200 {
        let mut wire = tunnel(&world).await;
        assert_eq!(wire.exactly(5).await, "hello", "tunnel {n}");
        wire.send("hi").await;
        wire.finish().await;
        assert_eq!(wire.rest().await, "hi", "tunnel {n}");
    }
}

#[tokio::test]
async fn bytes_sent_with_the_request_are_passed_on() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    wire.send(format!("{ASK}early")).await;
    assert_eq!(status(&wire.head().await.expect("an answer")), 101);
    assert_eq!(wire.exactly(5).await, "early");
}

#[tokio::test]
async fn a_replica_with_a_tunnel_is_not_idle() {
    let world = World::new(API).await;
    let mut wire = tunnel(&world).await;
    world.get("other", "/").await;
    world.until("other", |status| status.replicas.is_empty()).await;
    let api = world.status("api").await;
    assert_eq!((api.in_flight, api.replicas.len()), (1, 1), "{api:?}");
    wire.send("still there").await;
    assert_eq!(wire.exactly(11).await, "still there");
    drop(wire);
    world.until("api", |status| status.replicas.is_empty()).await;
}

#[tokio::test]
async fn a_replica_that_ends_ends_its_tunnels() {
    let world = World::new(API).await;
    let mut wire = tunnel(&world).await;
    let [id] = &world.until_ready("api", 1).await[..] else { unreachable!("one was asked for") };
    world.targets.deafen(id);
    assert_eq!(wire.rest().await, "");
    drop(wire);
    world.until("api", |status| status.in_flight == 0).await;
}

#[tokio::test]
async fn a_replica_may_decline() {
    let world = World::new(API).await;
    let mut wire = world.wire().await;
    wire.send(ASK.replace("/upgrade", "/status/426")).await;
    assert_eq!(status(&wire.answer().await.expect("an answer").0), 426);
    wire.send("GET /status/200 HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    assert_eq!(status(&wire.answer().await.expect("the connection goes on").0), 200);
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_not_passed_on() {
    let world = World::new(API).await;
    let answer = world.get("api", "/upgrade").await;
    assert_eq!(answer.refusal(), (502, "upstream_reset".into()));
}
