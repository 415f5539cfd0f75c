//! Replicas that take longer than others, and fresh ones.

use std::time::Duration;

use e2e::world::{World, get};
use futures_util::future::join_all;

use crate::pair::{Crew, Does, addresses};

const THREE: &str = r#"
    [services.api]
    image = "api:1"
    scaling.min = 3
    balance.slow_start = "0s"
"#;

#[tokio::test]
async fn a_slow_replica_gets_little() {
    let crew = Crew::default();
    let world = crew.world(THREE).await;
    let at = addresses(&world, 3).await;
    crew.tell(at[0], Does::Takes(Duration::from_millis(500)));
    let client = async || {
        let mut session = world.http1().await;
        for _ in 0..60 {
            assert_eq!(session.ask(get("api", "/")).await.expect("an answer").status, 200);
        }
    };
    join_all((0..8).map(|_| client())).await;
    let (slow, all) = (crew.requests(at[0]), at.iter().map(|at| crew.requests(*at)).sum::<usize>());
    // By turns it would have had a third of the 480.
    assert!(slow <= all / 10, "the slow one got {slow} of {all}");
    let known = world.status("api").await.replicas;
    assert!(known.iter().all(|replica| replica.balance.latency.is_some()), "{known:?}");
}

#[tokio::test]
async fn what_does_not_fit_a_learned_limit_waits() {
    let file = "[services.api]\nimage = \"app:1\"\nscaling.max = 1\nbalance.adaptive = { min = 2, max = 2 }";
    let world = World::new(file).await;
    world.wake("api").await;
    let held = join_all((0..3).map(|_| world.get("api", "/hold")));
    let watch = async {
        world.until_counts("api", 1, 2).await;
        let limit = world.status("api").await.replicas[0].balance.limit;
        world.targets.release();
        limit
    };
    let (answers, limit) = tokio::join!(held, watch);
    assert_eq!(limit, Some(2));
    assert!(answers.iter().all(|answer| answer.status == 200));
}
