//! Hosts that fall silent, are lost, come back, and do as they are told.

use e2e::{
    eventually::found,
    world::{Setup, World, under_traffic},
};
use tidegate_autoscaler::snapshot::HostOrder;
use tidegate_config::name::ReplicaId;
use tidegate_runner::scripted::Call;

/// Two hosts, lost after a second, and a service with this many replicas.
fn two_hosts(min: u32) -> Setup {
    let mut setup = Setup::new(&format!(
        "hosts = [{{ name = 'a', lost_after = '1s' }}, {{ name = 'b', endpoint = 'unix:///b.sock', lost_after = '1s' }}]\n\
         services.api = {{ image = 'api:1', scaling = {{ min = {min}, hold = '20s' }}, upstream = {{ connect_timeout = '200ms' }} }}"
    ));
    setup.engine("b");
    setup
}

async fn host_is(world: &World, host: &str, state: &str) {
    found(host, async || {
        let hosts = world.control().hosts().await.expect("a control loop");
        if hosts.iter().any(|known| known.host == host && known.state == state) {
            Ok(())
        } else {
            Err(format!("{hosts:#?}"))
        }
    })
    .await;
}

/// The replica on a host.
async fn on(world: &World, host: &str) -> ReplicaId {
    let status = world.status("api").await;
    let replica = status.replicas.iter().find(|replica| replica.host == host).expect("a replica there");
    replica.id.parse().expect("a replica's name")
}

#[tokio::test]
async fn an_engine_that_hangs_takes_nothing_out_of_traffic() {
    let world = two_hosts(2).start().await;
    let before = world.until_ready("api", 2).await;
    let engine = world.engines["b"].clone();
    let hang = async {
        engine.hang(true);
        host_is(&world, "b", "lost").await;
        engine.hang(false);
        host_is(&world, "b", "up").await;
    };
    let ((), bad) = under_traffic(&world, "api", 2, hang).await;
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(world.until_ready("api", 2).await, before, "both served on, and nothing else was started");
}

#[tokio::test]
async fn replicas_of_a_lost_host_are_started_elsewhere_and_drained_when_it_returns() {
    let world = two_hosts(2).start().await;
    world.until_ready("api", 2).await;
    let (engine, lost) = (world.engines["b"].clone(), on(&world, "b").await);
    let fail = async {
        engine.down(true);
        world.targets.deafen(&lost);
        let moved = |status: &e2e::world::Status| {
            let ready = status.replicas.iter().filter(|r| r.phase == "ready" && r.host == "a").count();
            ready == 2 && status.replicas.iter().any(|r| r.phase == "lost")
        };
        world.until("api", moved).await;
    };
    let ((), bad) = under_traffic(&world, "api", 2, fail).await;
    assert!(bad.is_empty(), "{bad:?}");
    assert!(!engine.calls().contains(&Call::Remove(lost.clone())), "nobody knows whether it still works");

    world.targets.listen_again(&lost).await;
    let back = async {
        engine.down(false);
        world.until_ready("api", 2).await
    };
    let (left, bad) = under_traffic(&world, "api", 2, back).await;
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(left.len(), 2);
    assert!(
        !engine.calls().contains(&Call::Remove(lost)),
        "the surplus one was drained and stopped, not removed"
    );
}

#[tokio::test]
async fn a_host_that_is_silent_from_the_start_holds_nobody_up() {
    let mut setup = two_hosts(0);
    setup.engine("b").down(true);
    let world = setup.start().await;
    assert_eq!(world.get("api", "/").await.status, 200);
    host_is(&world, "b", "lost").await;
    world.engines["b"].down(false);
    host_is(&world, "b", "up").await;
}

#[tokio::test]
async fn a_drained_host_is_emptied_without_an_error_and_gets_nothing_until_told() {
    let world = two_hosts(2).start().await;
    world.until_ready("api", 2).await;
    let drain = async {
        let host = "b".parse().expect("a host's name");
        world.control().order(host, HostOrder::Draining).await.expect("a control loop").expect("it empties");
    };
    let ((), bad) = under_traffic(&world, "api", 2, drain).await;
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(world.engines["b"].specs().len(), 0);
    world.until_ready("api", 2).await;

    // The order outlives the gateway, once it is written down.
    found("the order on disk", async || {
        let kept = world.kept();
        if kept.contains("draining") { Ok(()) } else { Err(kept) }
    })
    .await;
    let world = world.crash_and_start().await;
    let hosts = world.control().hosts().await.expect("a control loop");
    assert_eq!(hosts.iter().map(|host| host.order.as_str()).collect::<Vec<_>>(), ["open", "draining"]);
}

#[tokio::test]
async fn a_cordoned_host_keeps_what_it_has() {
    let world = two_hosts(2).start().await;
    let before = world.until_ready("api", 2).await;
    let host = "b".parse().expect("a host's name");
    world.control().order(host, HostOrder::Cordoned).await.expect("a control loop").expect("at once");
    assert_eq!(world.until_ready("api", 2).await, before);
    let gone = on(&world, "b").await;
    world.engines["b"].lose(&gone);
    let moved =
        |status: &e2e::world::Status| status.replicas.iter().all(|r| r.host == "a" && r.phase == "ready");
    world.until("api", |status| status.replicas.len() == 2 && moved(status)).await;
}
