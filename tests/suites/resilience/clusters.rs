//! Engines that place by themselves and have no place: what may run elsewhere goes there, what may not waits and says so.

use e2e::world::{Setup, Status, World};
use tidegate_runner::scripted::{Call, Fault};

const FULL: &str = "no suitable node (insufficient resources on 3 nodes)";

/// A cluster, and a host beside it.
fn estate(service: &str) -> Setup {
    Setup::new(&format!(
        "hosts = [{{ name = 'swarm', engine = 'swarm', endpoint = 'unix:///s.sock' }}, {{ name = 'b', endpoint = 'unix:///b.sock' }}]\n\
         services.api = {{ image = 'api:1', scaling = {{ min = 1, hold = '20s' }}, {service} }}"
    ))
}

fn waits(status: &Status) -> bool {
    status.replicas.iter().any(|replica| replica.waits_for.as_deref() == Some(FULL))
}

async fn ready_on(world: &World, host: &str) {
    let there = |status: &Status| status.replicas.iter().any(|r| r.phase == "ready" && r.host == host);
    world.until("api", there).await;
}

#[tokio::test]
async fn the_next_host_takes_over_what_has_no_place() {
    let mut setup = estate("run_on = ['swarm', 'b']");
    let (swarm, b) = (setup.runner.clone(), setup.engine("b"));
    swarm.next_starts([Fault::NoPlace(FULL.into())]);
    let world = setup.start().await;
    ready_on(&world, "b").await;
    assert_eq!((swarm.starts(), b.starts()), (1, 1));
    let status = world.until("api", |status| status.replicas.len() == 1).await;
    assert!(!waits(&status), "{status:?}");
    let removed = async || swarm.calls().iter().any(|call| matches!(call, Call::Remove(_)));
    e2e::eventually::eventually("it is removed from the cluster", async || Ok(removed().await))
        .await
        .expect("it is");
}

#[tokio::test]
async fn what_may_run_nowhere_else_waits_and_is_given_up_in_time() {
    let mut setup = estate("run_on = ['swarm'], health = { start_deadline = '1s' }");
    let (swarm, b) = (setup.runner.clone(), setup.engine("b"));
    swarm.next_starts([Fault::NoPlace(FULL.into())]);
    let world = setup.start().await;
    let seen = world.until("api", |status| waits(status) || status.reason.contains(FULL)).await;
    assert_eq!(b.starts(), 0, "{seen:?}");
    // Once the cluster counts as full no more.
    ready_on(&world, "swarm").await;
    assert_eq!((swarm.starts(), b.starts()), (2, 0));
}

/// What one service lacks, a label or a claim, others may not need.
#[tokio::test]
async fn what_has_no_place_keeps_no_other_service_from_starting() {
    let setup = Setup::new(
        "hosts = [{ name = 'swarm', engine = 'swarm', endpoint = 'unix:///s.sock' }]\n\
         services.api = { image = 'api:1', scaling = { min = 1 } }\n\
         services.other = { image = 'other:1' }",
    );
    let swarm = setup.runner.clone();
    swarm.next_starts([Fault::NoPlace(FULL.into())]);
    let world = setup.start().await;
    world.until("api", waits).await;
    assert_eq!(world.get("other", "/").await.status, 200);
    let status = world.status("api").await;
    assert!(waits(&status), "it waits on: {status:?}");
}
