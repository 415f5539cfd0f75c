//! Replicas follow the load.

use std::collections::BTreeSet;

use e2e::{
    client::{Wire, status},
    eventually::found,
    world::World,
};
use tidegate::control::history::What;

const ELASTIC: &str = r#"
    [services.api]
    image = "api:1"
    scaling = { concurrency = 1, max = 4, idle = "50ms" }
    [services.other]
    image = "other:1"
    scaling = { idle = "50ms" }
"#;

async fn held(world: &World, count: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..count {
        let mut wire = world.wire().await;
        wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
        wires.push(wire);
    }
    wires
}

#[tokio::test]
async fn replicas_come_with_the_load_and_go_with_it() {
    let world = World::new(ELASTIC).await;
    let wires = held(&world, 6).await;
    let full = world.until("api", |status| status.in_flight == 4).await;
    assert_eq!((full.queued, full.replicas.len()), (2, 4), "at its maximum, the rest waits");
    let on: BTreeSet<_> = world.until_seen(4).await.into_iter().map(|seen| seen.replica).collect();
    assert_eq!(on.len(), 4, "each replica runs one");
    world.targets.release();
    for mut wire in wires {
        assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
    }
    world.until("api", |status| status.replicas.is_empty()).await;
    assert_eq!(world.runner.specs().len(), 0, "nothing is left on the engine");
    assert_eq!(world.get("api", "/").await.status, 200, "and it wakes again");
}

#[tokio::test]
async fn what_replicas_use_brings_more_of_them() {
    let text = r#"
        [services.api]
        image = "api:1"
        resources = { cpu = 1.0 }
        scaling = { target_cpu = 0.5, max = 4 }
    "#;
    let world = World::new(text).await;
    world.runner.uses(0.7);
    let wires = held(&world, 1).await;
    // One request runs. One replica that uses 0.7 of a core asks for a second one, two of them for a third, and so on.
    let status = world.until("api", |status| status.replicas.len() == 4).await;
    assert_eq!(status.in_flight, 1, "{}", status.reason);
    drop(wires);
}

#[tokio::test]
async fn the_law_work_brings_what_those_who_wait_need_and_lets_go() {
    let text = r#"
        [services.api]
        image = "api:1"
        scaling = { policy = "work", late_worth = "1s", calm = "0s", concurrency = 1, max = 2 }
    "#;
    let world = World::new(text).await;
    let wires = held(&world, 3).await;
    let full = world.until("api", |status| status.in_flight == 2).await;
    assert_eq!((full.queued, full.replicas.len()), (1, 2), "no tick was waited for, and the rest waits");
    world.targets.release();
    for mut wire in wires {
        assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
    }
    world.until("api", |status| status.replicas.is_empty()).await;
    assert_eq!(world.get("api", "/").await.status, 200, "and it wakes again");
}

#[tokio::test]
async fn the_minimum_stays() {
    let world = World::new(&format!(
        "{ELASTIC}\n[services.kept]\nimage = \"kept:1\"\nscaling = {{ min = 2, idle = \"50ms\" }}"
    ))
    .await;
    let before = world.until_ready("kept", 2).await;
    // Another service comes, falls idle for as long, and goes.
    world.get("other", "/").await;
    world.until("other", |status| status.replicas.is_empty()).await;
    assert_eq!(world.until_ready("kept", 2).await, before);
}

#[tokio::test]
async fn a_wake_may_bring_several() {
    let world = World::new("services.api = { image = \"api:1\", scaling = { initial = 3 } }").await;
    assert_eq!(world.get("api", "/").await.status, 200);
    let ready = async |world: &World| {
        let history = world.explain("api").await.history;
        history.iter().filter(|entry| matches!(&entry.what, What::Phase { to, .. } if to == "ready")).count()
    };
    found("three that were ready", async || match ready(&world).await {
        3 => Ok(()),
        n => Err(n.to_string()),
    })
    .await;
    assert_eq!(world.runner.starts(), 3);
}

#[tokio::test]
async fn a_host_without_room_refuses_what_does_not_fit() {
    let text = r#"
        [[hosts]]
        name = "local"
        capacity = { replicas = 1 }
        [services.a]
        image = "a:1"
        [services.b]
        image = "b:1"
    "#;
    let world = World::new(text).await;
    assert_eq!(world.get("a", "/").await.status, 200);
    let refused = world.get("b", "/").await;
    assert_eq!(refused.refusal(), (503, "out_of_resources".into()));
    assert_eq!(refused.header("retry-after"), Some("10"));
    world.control().sleep(e2e::world::name("a")).await.expect("a control loop").expect("asleep");
    assert_eq!(world.get("b", "/").await.status, 200);
}

#[tokio::test]
async fn explain_tells_what_was_decided_and_why() {
    let world = World::new(ELASTIC).await;
    world.get("api", "/").await;
    world.until("api", |status| status.replicas.is_empty()).await;
    let history = world.explain("api").await.history;
    let words: Vec<String> = history.iter().map(|entry| format!("{:?}", entry.what)).collect();
    for word in ["wake", "ready", "idle", "draining", "stopping", "gone"] {
        assert!(words.iter().any(|entry| entry.contains(word)), "{word}: {words:#?}");
    }
}
