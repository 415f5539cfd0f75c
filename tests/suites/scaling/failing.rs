//! Replicas that end, never get ready, or fall ill.

use std::time::Duration;

use e2e::{
    eventually::{found, soon},
    targets::Behaviour,
    world::{Setup, World, under_traffic},
};
use tidegate_config::{name::ReplicaId, spec::Exit};
use tidegate_runner::{Kind, scripted::Fault};

const ASLEEP: &str = "gateway.expose_errors = true\nservices.api.image = \"api:1\"";

fn exit(code: i64) -> Fault {
    Fault::Exit(Exit { code, out_of_memory: false, disrupted: false, message: None })
}

/// Why a replica of `api` failed last, once that is told.
async fn last_cause(world: &World) -> String {
    let failed = async || world.explain("api").await.last_failure.ok_or("no failure".into());
    found("a failure", failed).await.cause
}

#[tokio::test]
async fn a_replica_that_ends_is_replaced_without_a_client_noticing() {
    let world = World::new("services.api = { image = \"api:1\", scaling = { min = 2 } }").await;
    let before = world.until_ready("api", 2).await;
    let change = async {
        world.exit(&before[0], 1, false);
        found("a replacement", async || {
            let now = world.until_ready("api", 2).await;
            if now.contains(&before[0]) { Err(format!("{now:?}")) } else { Ok(now) }
        })
        .await
    };
    let (after, bad) = under_traffic(&world, "api", 2, change).await;
    assert!(after.contains(&before[1]), "the other one stays: {before:?} {after:?}");
    assert!(bad.iter().all(|answer| answer.status == 502), "only what ran on it may be lost: {bad:?}");
    assert!(bad.is_empty(), "and GETs are made again: {bad:?}");
}

#[tokio::test]
async fn the_cause_of_an_end_is_named() {
    for (code, out_of_memory, words) in [(3, false, "exit code 3"), (137, true, "out of memory")] {
        let world = World::new(ASLEEP).await;
        let id = world.wake("api").await.remove(0);
        world.exit(&id, code, out_of_memory);
        let failure = found("a failure", async || {
            let last = world.explain("api").await.last_failure;
            last.clone().filter(|last| last.replica == id.to_string()).ok_or(format!("{last:?}"))
        })
        .await;
        assert!(failure.cause.contains(words), "{failure:?}");
    }
}

#[tokio::test]
async fn a_start_that_fails_once_is_tried_again_at_once() {
    for fault in [exit(1), Fault::Fail(Kind::Retryable, "busy".into())] {
        let setup = Setup::new(ASLEEP);
        setup.runner.next_starts([fault]);
        let world = setup.start().await;
        assert_eq!((world.get("api", "/").await.status, world.runner.starts()), (200, 2));
    }
}

#[tokio::test]
async fn a_crash_loop_refuses_with_a_reason_and_is_not_fed_by_requests() {
    let setup = Setup::new(ASLEEP);
    setup.runner.next_starts(std::iter::repeat_n(exit(7), 1000));
    let world = setup.start().await;
    let first = world.get("api", "/").await;
    assert_eq!(first.refusal(), (503, "start_failed".into()));
    let mut asked = 0;
    let looping = loop {
        let answer = world.get("api", "/").await;
        assert_eq!(answer.status, 503);
        asked += 1;
        if answer.refusal().1 == "crash_looping" {
            break answer;
        }
    };
    let wait: u64 = looping.header("retry-after").and_then(|s| s.parse().ok()).expect("a number of seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    assert!(
        looping.problem()["detail"].as_str().is_some_and(|s| s.contains("exit code 7")),
        "{}",
        looping.text()
    );
    assert!(
        asked > 10 && world.runner.starts() <= 3,
        "{} starts for {asked} requests",
        world.runner.starts()
    );
    for _ in 0..100 {
        assert_eq!(world.get("api", "/").await.status, 503);
    }
    assert!(world.runner.starts() <= 4, "{} starts", world.runner.starts());
}

#[tokio::test]
async fn somebody_who_asks_by_hand_ends_the_wait() {
    let setup = Setup::new(ASLEEP);
    setup.runner.next_starts([exit(1), exit(1)]);
    let world = setup.start().await;
    assert_eq!(world.get("api", "/").await.refusal(), (503, "start_failed".into()));
    world.wake("api").await;
    assert_eq!(world.get("api", "/").await.status, 200);
}

#[tokio::test]
async fn the_last_lines_of_a_failed_replica_are_kept() {
    let setup = Setup::new(ASLEEP);
    setup.targets.behave("api:1", Behaviour::Deaf);
    let world = setup.start().await;
    let crash = async {
        for _ in 0..2 {
            let running = |status: &tidegate::control::status::ServiceStatus| {
                status.replicas.iter().any(|replica| replica.phase == "starting" && replica.address.is_some())
            };
            let status = world.until("api", running).await;
            let id: ReplicaId = status.replicas[0].id.parse().expect("a replica's name");
            world.runner.print(&id, "cannot open config.yaml");
            world.exit(&id, 78, false);
            world.until("api", |status| status.replicas.iter().all(|r| r.id != id.to_string())).await;
        }
    };
    let (answer, ()) = soon("a refusal", async { tokio::join!(world.get("api", "/"), crash) }).await;
    assert_eq!(answer.refusal(), (503, "start_failed".into()));
    let failure = found("the lines", async || {
        let last = world.explain("api").await.last_failure;
        last.clone().filter(|last| !last.log.is_empty()).ok_or(format!("{last:?}"))
    })
    .await;
    assert_eq!(failure.log, ["cannot open config.yaml"]);
    assert!(failure.cause.contains("exit code 78"), "{failure:?}");
}

#[tokio::test]
async fn a_start_that_never_gets_ready_is_given_up_with_its_cause() {
    for probe in ["", "probe = \"http:/status/503\", "] {
        let text = format!("{ASLEEP}\nservices.api.health = {{ {probe}start_deadline = \"150ms\" }}");
        let setup = Setup::new(&text);
        if probe.is_empty() {
            setup.targets.behave("api:1", Behaviour::Deaf);
        }
        let world = setup.start().await;
        let answer = world.get("api", "/").await;
        assert_eq!(answer.refusal(), (503, "start_failed".into()));
        assert!(answer.text().contains("not ready after"), "{}", answer.text());
        let cause = last_cause(&world).await;
        let last = if probe.is_empty() { "connection refused" } else { "answered 503" };
        assert!(cause.starts_with("not ready after") && cause.contains(last), "{cause}");
        let removed = found("an empty engine", async || match world.runner.specs().len() {
            0 => Ok(()),
            n => Err(format!("{n} replicas")),
        });
        removed.await;
    }
}

#[tokio::test]
async fn causes_are_kept_from_strangers() {
    let setup = Setup::new("services.api.image = \"api:1\"");
    setup.runner.fail_starts(5, Kind::Permanent, "secret path /srv/x");
    let world = setup.start().await;
    let answer = world.get("api", "/").await;
    assert_eq!(answer.refusal(), (503, "start_failed".into()));
    assert!(!answer.text().contains("secret"), "{}", answer.text());
    let explained = last_cause(&world).await;
    assert!(explained.contains("secret path /srv/x"), "{explained}");
}

#[tokio::test]
async fn a_replica_that_falls_ill_is_replaced() {
    let text = r#"
        [services.api]
        image = "api:1"
        scaling = { min = 1 }
        health = { probe = "tcp", interval = "20ms", timeout = "1s", failures = 2 }
    "#;
    let world = World::new(text).await;
    let ill = world.until_ready("api", 1).await.remove(0);
    world.targets.deafen(&ill);
    let well = found("another", async || {
        let now = world.until_ready("api", 1).await.remove(0);
        if now == ill { Err("the same".to_owned()) } else { Ok(now) }
    })
    .await;
    assert_eq!(world.get("api", "/").await.echo().replica, well.to_string());
    assert!(last_cause(&world).await.starts_with("unhealthy"));
}

#[tokio::test]
async fn waiting_requests_survive_a_slow_engine() {
    let setup = Setup::new(ASLEEP);
    setup.runner.next_delays([Duration::from_millis(400)]);
    setup.runner.fail_lists(1);
    let world = setup.unsettled().start().await;
    assert_eq!(world.get("api", "/").await.status, 200);
}
