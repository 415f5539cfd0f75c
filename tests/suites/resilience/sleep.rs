//! Replicas that nobody needs are frozen, then stopped, then removed; requests wake them from wherever they are.

use e2e::{
    eventually::found,
    world::{Setup, Status, World, name},
};
use tidegate_runner::scripted::Call;

fn sleeper(tiers: &str) -> String {
    format!("services.api = {{ image = 'api:1', sleep = {{ {tiers} }}, scaling = {{ idle = '1s' }} }}")
}

async fn phase(world: &World, phase: &str) {
    let asleep = |status: &Status| {
        !status.replicas.is_empty() && status.replicas.iter().all(|replica| replica.phase == phase)
    };
    world.until("api", asleep).await;
}

async fn put_to_sleep(world: &World) {
    world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
}

#[tokio::test]
async fn a_frozen_replica_is_thawed_by_the_next_request() {
    let world = World::new(&sleeper("frozen = '1h'")).await;
    assert_eq!(world.get("api", "/").await.status, 200);
    let before = world.until_ready("api", 1).await;
    put_to_sleep(&world).await;
    phase(&world, "frozen").await;
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(world.until_ready("api", 1).await, before);
    assert!(world.runner.calls().contains(&Call::Thaw(before[0].clone())));
    assert_eq!(world.runner.starts(), 1);
}

#[tokio::test]
async fn a_stopped_replica_is_started_again() {
    let world = World::new(&sleeper("stopped = '1h'")).await;
    world.get("api", "/").await;
    let before = world.until_ready("api", 1).await;
    put_to_sleep(&world).await;
    phase(&world, "stopped").await;
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(world.until_ready("api", 1).await, before);
    assert!(world.runner.calls().contains(&Call::Restart(before[0].clone())));
    assert_eq!(world.runner.starts(), 1);
}

#[tokio::test]
async fn each_sleep_ends_in_the_next_deeper_one() {
    let world = World::new(&sleeper("frozen = '200ms', stopped = '200ms'")).await;
    world.get("api", "/").await;
    put_to_sleep(&world).await;
    world.until("api", |status| status.replicas.is_empty()).await;
    let calls = world.runner.calls();
    let at = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted).expect("it was called");
    let (frozen, kept) = (at(&|c| matches!(c, Call::Freeze(_))), at(&|c| matches!(c, Call::Stop(_, true))));
    let removed = at(&|c| matches!(c, Call::Stop(_, false) | Call::Remove(_)));
    assert!(frozen < kept && kept < removed, "{calls:?}");
    assert_eq!(world.get("api", "/").await.status, 200);
}

#[tokio::test]
async fn sleepers_survive_the_gateway() {
    for (tiers, asleep) in [("frozen = '1h'", "frozen"), ("stopped = '1h'", "stopped")] {
        let world = Setup::new(&sleeper(tiers)).start().await;
        world.get("api", "/").await;
        let before = world.until_ready("api", 1).await;
        put_to_sleep(&world).await;
        phase(&world, asleep).await;
        // What is stopped is written down a moment later, and nobody knows it again before.
        found("what is kept", async || {
            let kept = world.kept();
            if asleep == "frozen" || kept.contains(before[0].to_string().as_str()) {
                Ok(())
            } else {
                Err(kept)
            }
        })
        .await;
        let world = world.crash_and_start().await;
        phase(&world, asleep).await;
        assert_eq!(world.get("api", "/").await.status, 200);
        assert_eq!(world.until_ready("api", 1).await, before, "{asleep}");
    }
}

#[tokio::test]
async fn a_replica_that_cannot_be_thawed_is_replaced_while_requests_wait() {
    let world = World::new(&sleeper("frozen = '1h'")).await;
    world.get("api", "/").await;
    let before = world.until_ready("api", 1).await;
    put_to_sleep(&world).await;
    phase(&world, "frozen").await;
    world.runner.lose(&before[0]);
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_ne!(world.until_ready("api", 1).await, before);
}

#[tokio::test]
async fn the_idlest_makes_room_for_who_is_called() {
    let full = "hosts = [{ name = 'local', capacity = { memory = '100MiB' } }]\n";
    for (host, sleep) in [(full, ""), (full, "sleep = { frozen = '1h' }")] {
        let text = format!(
            "{host}services.api = {{ image = 'api:1', {sleep} }}\nservices.web = {{ image = 'web:1' }}"
        );
        let world = World::new(&text).await;
        assert_eq!(world.get("api", "/").await.status, 200);
        world.until_ready("api", 1).await;
        assert_eq!(world.get("web", "/").await.status, 200, "it waits until there is room");
        world.until("api", |status| status.replicas.is_empty()).await;
        assert_eq!(world.get("api", "/").await.status, 200, "and the other way round");
    }
}

#[tokio::test]
async fn a_budget_puts_the_idlest_to_sleep() {
    let world = World::new(
        "hosts = [{ name = 'local', memory_budget = '100MiB' }]\n\
         services.api = { image = 'api:1', scaling.idle = '1h' }\n\
         services.web = { image = 'web:1', scaling.idle = '1h' }",
    )
    .await;
    world.get("api", "/").await;
    world.get("web", "/").await;
    world.until("api", |status| status.replicas.is_empty()).await;
    world.until_ready("web", 1).await;
}

#[tokio::test]
async fn a_replica_that_a_stranger_froze_is_thawed() {
    let world = World::new("services.api = { image = 'api:1', scaling = { min = 1 } }").await;
    let id = world.until_ready("api", 1).await[0].clone();
    tidegate_runner::Runner::freeze(&world.runner, &id).await.expect("it can be frozen");
    world.runner.tell(tidegate_runner::Event::Resync);
    found("a thaw", async || {
        let calls = world.runner.calls();
        if calls.contains(&Call::Thaw(id.clone())) { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
    assert_eq!(world.until_ready("api", 1).await, [id]);
}
