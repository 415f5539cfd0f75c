//! Requests that wait for a replica or a slot.

use std::time::Duration;

use e2e::{
    client::{Answer, Session, Wire, status},
    eventually::{found, soon},
    world::{Setup, World, get},
};
use futures_util::future::join_all;

const ONE_AT_A_TIME: &str = r#"
    [services.api]
    image = "api:1"
    [services.api.scaling]
    concurrency = 1
    max = 1
    queue = 3
"#;

#[tokio::test]
async fn the_first_request_is_held_and_answered() {
    let world = World::new(r#"services.api.image = "api:1""#).await;
    assert_eq!((world.status("api").await.state.as_str(), world.runner.starts()), ("cold", 0));
    let echo = world.get("api", "/x?y=1").await.echo();
    assert_eq!((echo.service.as_str(), echo.target.as_str()), ("api", "/x?y=1"));
    let again = world.get("api", "/").await.echo();
    assert_eq!((again.replica, world.runner.starts()), (echo.replica, 1));
}

#[tokio::test]
async fn a_thousand_first_requests_are_all_answered_by_few_replicas() {
    let setup = Setup::new(
        r#"
        [services.api]
        image = "api:1"
        [services.api.scaling]
        concurrency = 100
        max = 20
        "#,
    );
    setup.runner.start_delay(Duration::from_millis(500));
    let world = setup.start().await;
    let answers = join_all((0..1000).map(|_| world.get("api", "/"))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1000);
    assert!(world.runner.starts() <= 15, "{} starts", world.runner.starts());
}

/// A connection with a request that holds the only slot.
async fn holding(world: &World) -> Wire {
    let mut wire = sent(world, "/hold").await;
    // Reading is what tells when it has ended.
    world.until_counts("api", 0, 1).await;
    assert!(wire.head_now().is_none());
    wire
}

/// A connection on which a request was sent.
async fn sent(world: &World, path: &str) -> Wire {
    let mut wire = world.wire().await;
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: api.localhost\r\n\r\n")).await;
    wire
}

#[tokio::test]
async fn requests_go_in_the_order_in_which_they_came() {
    let world = World::new(ONE_AT_A_TIME).await;
    let mut first = holding(&world).await;
    let mut waiting = Vec::new();
    for n in 1..=3 {
        waiting.push(sent(&world, &format!("/{n}")).await);
        world.until_counts("api", n, 1).await;
    }
    world.targets.release();
    assert_eq!(status(&first.head().await.expect("an answer")), 200);
    for mut wire in waiting {
        assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
    }
    assert_eq!(world.targets.paths(), ["/hold", "/1", "/2", "/3"]);
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_come_back() {
    let world = World::new(ONE_AT_A_TIME).await;
    let _first = holding(&world).await;
    let mut waiting = Vec::new();
    for n in 1..=3 {
        waiting.push(sent(&world, "/").await);
        world.until_counts("api", n, 1).await;
    }
    let refused = world.get("api", "/").await;
    assert_eq!(refused.refusal(), (503, "queue_full".into()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let problem = refused.problem();
    assert_eq!((&problem["status"], &problem["type"]), (&503.into(), &"about:blank".into()));
    assert_eq!(problem["request_id"].as_str().map(str::len), Some(16));
    // One that leaves makes room for another.
    waiting.pop();
    world.until_counts("api", 2, 1).await;
    waiting.push(sent(&world, "/").await);
    world.until_counts("api", 3, 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_gives_back_its_ticket_and_cancels_no_start() {
    let setup = Setup::new(r#"services.api.image = "api:1""#);
    setup.runner.start_delay(Duration::from_millis(300));
    let world = setup.start().await;
    let leaver = sent(&world, "/left").await;
    world.until_counts("api", 1, 0).await;
    drop(leaver);
    world.until_counts("api", 0, 0).await;
    let stays = world.get("api", "/stayed").await;
    assert_eq!((stays.status, world.runner.starts()), (200, 1));
    assert_eq!(world.targets.paths(), ["/stayed"], "nothing is sent for one that has left");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_served_gives_back_its_slot() {
    let world = World::new(ONE_AT_A_TIME).await;
    drop(holding(&world).await);
    assert_eq!(world.get("api", "/").await.status, 200);
}

#[tokio::test]
async fn a_request_waits_no_longer_than_the_hold_deadline() {
    let text = format!("{ONE_AT_A_TIME}\nhold = \"100ms\"");
    let world = World::new(&text).await;
    let _first = holding(&world).await;
    let late = world.get("api", "/").await;
    assert_eq!(late.refusal(), (504, "hold_deadline".into()));
    world.until_counts("api", 0, 1).await;
}

#[tokio::test]
async fn no_more_run_at_once_than_the_limit_says() {
    let text = r#"
        [services.api]
        image = "api:1"
        [services.api.scaling]
        concurrency = 2
        max = 1
    "#;
    let world = World::new(text).await;
    let wires = join_all((0..5).map(|_| sent(&world, "/hold"))).await;
    world.until_counts("api", 3, 2).await;
    assert_eq!(world.until_seen(2).await.len(), 2);
    world.targets.release();
    for mut wire in wires {
        assert_eq!(status(&wire.answer().await.expect("an answer").0), 200);
    }
}

#[tokio::test]
async fn one_connection_may_carry_many_requests_that_wait() {
    let world = World::new(ONE_AT_A_TIME).await;
    world.wake("api").await;
    let session = world.http2().await;
    let (mut clones, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        clones.push(session.share());
    }
    for clone in &mut clones {
        answers.push(clone.ask(get("api", "/hold")));
    }
    let check = async {
        world.until_counts("api", 3, 1).await;
        world.targets.release();
    };
    let (answers, ()) = soon("four answers", async { tokio::join!(join_all(answers), check) }).await;
    let codes: Vec<u16> =
        answers.into_iter().map(|answer: hyper::Result<Answer>| answer.expect("one").status).collect();
    assert_eq!(codes, [200; 4]);
    drop::<Session>(session);
}

#[tokio::test]
async fn timing_fields_tell_where_the_time_went() {
    let world = World::new("gateway.timing_headers = true\nservices.api.image = \"api:1\"").await;
    let cold = world.get("api", "/").await;
    assert_eq!(cold.header("x-tidegate-cold"), Some("1"));
    let parts = cold.header("server-timing").expect("a field").to_owned();
    for part in ["queue;dur=", "start;dur=", "upstream;dur="] {
        assert!(parts.contains(part), "{parts}");
    }
    let warm = found("a warm answer", async || Ok(world.get("api", "/hop").await)).await;
    assert_eq!(warm.header("x-tidegate-cold"), None, "also where the replica says so");
    assert!(!warm.header("server-timing").expect("a field").contains("start"), "{warm:?}");
}
