//! What people ask for by hand.

use e2e::{
    eventually::soon,
    world::{World, name, under_traffic},
};

const KEPT: &str = "services.api = { image = \"api:1\", scaling = { min = 1 } }";
const ASLEEP: &str = "services.api.image = \"api:1\"";

#[tokio::test]
async fn wake_starts_without_a_request() {
    let world = World::new(ASLEEP).await;
    let ids = world.wake("api").await;
    assert_eq!((ids.len(), world.targets.seen().len()), (1, 0));
    assert_eq!(world.get("api", "/").await.echo().replica, ids[0].to_string());
}

#[tokio::test]
async fn sleep_ends_when_nothing_is_left_also_below_the_minimum() {
    let world = World::new(KEPT).await;
    world.until_ready("api", 1).await;
    soon("asleep", world.control().sleep(name("api"))).await.expect("a control loop").expect("it sleeps");
    assert_eq!((world.status("api").await.replicas.len(), world.runner.specs().len()), (0, 0));
    assert_eq!(world.get("api", "/").await.status, 200, "the next request wakes it");
}

#[tokio::test]
async fn sleep_waits_for_what_runs() {
    let world = World::new(ASLEEP).await;
    let mut wire = world.wire().await;
    wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    world.until_counts("api", 0, 1).await;
    let asleep = async { world.control().sleep(name("api")).await.expect("a control loop") };
    let request = async {
        world.until("api", |status| status.reason.contains("sleep") || status.in_flight == 1).await;
        world.targets.release();
        wire.answer().await.expect("an answer").1
    };
    let (asleep, body) = soon("both", async { tokio::join!(asleep, request) }).await;
    assert_eq!((asleep, &body[..]), (Ok(()), &b"held"[..]));
    assert_eq!(world.runner.specs().len(), 0);
}

#[tokio::test]
async fn restart_replaces_every_replica_without_a_client_noticing() {
    let world = World::new("services.api = { image = \"api:1\", scaling = { min = 2 } }").await;
    let before = world.until_ready("api", 2).await;
    let restart = async {
        world.control().restart(name("api")).await.expect("a control loop").expect("restarted");
        world.until_ready("api", 2).await
    };
    let (after, bad) = under_traffic(&world, "api", 3, restart).await;
    assert!(after.iter().all(|id| !before.contains(id)), "{before:?} {after:?}");
    assert!(bad.is_empty(), "{bad:?}");
}

#[tokio::test]
async fn unknown_services_are_said_to_be_unknown() {
    let world = World::new(ASLEEP).await;
    let asked = [
        world.control().wake(name("nobody")).await,
        world.control().sleep(name("nobody")).await,
        world.control().restart(name("nobody")).await,
    ];
    for answer in asked {
        let words = answer.expect("a control loop").expect_err("there is no such service");
        assert!(words.contains("nobody"), "{words}");
    }
    assert!(world.control().explain(name("nobody")).await.expect("a control loop").is_none());
}
