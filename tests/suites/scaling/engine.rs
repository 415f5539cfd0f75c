//! The engine knows more, or less, than the gateway: earlier runs, lost events, strange hands.

use std::time::Duration;

use e2e::{
    eventually::found,
    world::{Setup, World, name},
};
use tidegate_config::{
    name::ReplicaId,
    spec::{Digest, Launch, Revision, StartSpec, Target},
};
use tidegate_runner::{
    Event, Runner,
    scripted::{Call, EventFault, Scripted},
};

const API: &str = "services.api.image = \"api:1\"";
const KEPT: &str = "services.api = { image = \"api:1\", scaling = { min = 1 } }";

#[tokio::test]
async fn a_new_gateway_takes_over_what_runs() {
    let world = World::new("services.api = { image = \"api:1\", scaling = { min = 2 } }").await;
    let before = world.until_ready("api", 2).await;
    let world = world.crash_and_start().await;
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(world.until_ready("api", 2).await, before);
    assert_eq!(world.runner.starts(), 2, "nothing was started again");
}

#[tokio::test]
async fn what_was_adopted_falls_asleep_and_wakes_like_any_other() {
    let world = World::new(
        "services.api = { image = \"api:1\", scaling = { idle = \"50ms\", stable_window = \"6s\" } }",
    )
    .await;
    world.get("api", "/").await;
    let world = world.crash_and_start().await;
    world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
    assert_eq!(world.runner.specs().len(), 0);
    assert_eq!(world.get("api", "/").await.status, 200);
}

fn spec(service: &str, number: u64) -> StartSpec {
    StartSpec {
        id: ReplicaId::new(name(service), 1, number),
        revision: Revision("old".into()),
        launch: Launch::of("api:1"),
        digest: Digest("sha256:api:1".into()),
        port: 8080,
        target: Target::Host("local".parse().expect("a host's name")),
    }
}

/// A start that an earlier gateway did not live to see the end of: the container is there and was never run.
async fn half_started(runner: &Scripted, spec: &StartSpec) {
    runner.next_delays([Duration::from_secs(3600)]);
    let start = futures_util::FutureExt::now_or_never(runner.start(spec));
    assert!(start.is_none(), "it takes an hour");
}

async fn until_removed(runner: &Scripted, id: &ReplicaId) {
    found("a removal", async || {
        let gone = runner.specs().iter().all(|spec| spec.id != *id);
        let asked = runner.calls().contains(&Call::Remove(id.clone()));
        if gone && asked { Ok(()) } else { Err(format!("{:?}", runner.calls())) }
    })
    .await;
}

#[tokio::test]
async fn leftovers_are_removed_and_no_others() {
    let setup = Setup::new(API).generation(2);
    let (half, unknown, running) = (spec("api", 1), spec("forgotten", 2), spec("api", 3));
    half_started(&setup.runner, &half).await;
    for spec in [&unknown, &running] {
        setup.runner.start(spec).await.expect("a start");
    }
    let world = setup.start().await;
    until_removed(&world.runner, &half.id).await;
    until_removed(&world.runner, &unknown.id).await;
    assert_eq!(world.get("api", "/").await.status, 200);
}

#[tokio::test]
async fn what_events_do_not_tell_a_look_does() {
    let setup = Setup::new(API);
    setup.runner.next_events([EventFault::Drop]);
    let world = setup.start().await;
    // That it runs.
    let look = async {
        world.until("api", |status| status.replicas.len() == 1).await;
        found("a running replica", async || {
            let list = world.runner.list().await.expect("a list");
            if list.iter().any(|seen| seen.address.is_some()) { Ok(()) } else { Err(format!("{list:?}")) }
        })
        .await;
        assert_eq!(world.status("api").await.queued, 1, "nobody has told the gateway");
        world.runner.tell(Event::Resync);
    };
    let (answer, ()) = tokio::join!(world.get("api", "/"), look);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn replicas_that_vanish_unheard_are_replaced_after_a_look() {
    let world = World::new(KEPT).await;
    for how in ["exit", "lose"] {
        let id = world.until_ready("api", 1).await.remove(0);
        world.runner.next_events([EventFault::Drop]);
        match how {
            "exit" => world.exit(&id, 1, false),
            _ => world.runner.lose(&id),
        }
        world.runner.tell(Event::Resync);
        world
            .until("api", |status| {
                status.replicas.iter().any(|r| r.phase == "ready" && r.id != id.to_string())
            })
            .await;
        assert_eq!(world.get("api", "/").await.status, 200, "{how}");
    }
}

#[tokio::test]
async fn events_that_come_twice_or_for_nobody_change_nothing() {
    let setup = Setup::new(API);
    setup.runner.next_events([EventFault::Duplicate, EventFault::Duplicate, EventFault::Duplicate]);
    let world = setup.start().await;
    let id = world.wake("api").await.remove(0);
    let stranger = spec("nobody", 9).id;
    world.runner.tell(Event::Gone(stranger.clone()));
    let exit = tidegate_config::spec::Exit { code: 0, out_of_memory: false, disrupted: false, message: None };
    world.runner.tell(Event::Exited { id: stranger, exit });
    assert_eq!(world.get("api", "/").await.echo().replica, id.to_string());
    assert_eq!(world.runner.starts(), 1);
}

#[tokio::test]
async fn an_engine_that_is_away_for_a_while_loses_nothing() {
    let world = World::new(KEPT).await;
    let before = world.until_ready("api", 1).await;
    world.runner.fail_lists(1);
    world.runner.tell(Event::Resync);
    let calls = |runner: &Scripted| runner.calls().iter().filter(|call| **call == Call::List).count();
    let lists = calls(&world.runner);
    // It is asked again until it answers.
    found("two more lists", async || {
        let now = calls(&world.runner);
        if now >= lists + 2 { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    assert_eq!(world.get("api", "/").await.echo().replica, before[0].to_string());
    assert_eq!(world.runner.starts(), 1);
}
