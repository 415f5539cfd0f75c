//! Requests that are sent to a second replica because the first does not answer in time.

use std::time::Duration;

use e2e::{
    client::{empty, full},
    world::{World, request},
};

use crate::pair::{Crew, Does, addresses};

/// Three replicas, the oldest of which is asked first.
fn three(hedge: &str) -> String {
    format!(
        r#"
        [services.api]
        image = "api:1"
        scaling = {{ min = 3, concurrency = 2 }}
        balance.hedge = {{ {hedge} }}
        "#
    )
}

/// Nobody waits that long in a test.
const NEVER: Does = Does::Takes(Duration::from_secs(3600));

async fn status(world: &World, method: &str) -> u16 {
    world.ask(request(method, "api", "/", empty())).await.expect("an answer").status
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_is_answered_by_another() {
    let crew = Crew::default();
    let world = crew.world(&three("after = \"20ms\", max = 1.0")).await;
    let at = addresses(&world, 3).await;
    crew.tell(at[0], NEVER);
    let (before, won) =
        (counted(&world, "tidegate_hedges_total"), counted(&world, "tidegate_hedges_won_total"));
    for method in ["GET", "OPTIONS", "PUT", "DELETE"] {
        assert_eq!(status(&world, method).await, 200, "{method}");
    }
    let small = world.ask(request("PUT", "api", "/", full("small"))).await.expect("an answer");
    assert_eq!(small.status, 200);
    assert_eq!(crew.requests(at[0]), 5);
    assert!(counted(&world, "tidegate_hedges_total") >= before + 5.0);
    assert!(counted(&world, "tidegate_hedges_won_total") >= won + 5.0);
    // Whoever lost gave its slot back, once.
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn what_must_not_happen_twice_is_not_hedged() {
    let crew = Crew::default();
    let world = crew.world(&three("after = \"1ms\", max = 1.0")).await;
    let at = addresses(&world, 3).await;
    crew.tell(at[0], Does::Takes(Duration::from_millis(50)));
    for _ in 0..5 {
        assert_eq!(status(&world, "POST").await, 200);
    }
    assert_eq!(at.iter().map(|at| crew.requests(*at)).collect::<Vec<_>>(), [5, 0, 0]);
}

#[tokio::test]
async fn few_are_hedged_however_slow_all_are() {
    let crew = Crew::default();
    let world = crew.world(&three("after = \"1ms\", max = 0.1")).await;
    let at = addresses(&world, 3).await;
    at.iter().for_each(|at| crew.tell(*at, Does::Takes(Duration::from_millis(10))));
    for _ in 0..60 {
        assert_eq!(status(&world, "GET").await, 200);
    }
    let sent = at.iter().map(|at| crew.requests(*at)).sum::<usize>();
    assert!((60..=60 + 6).contains(&sent), "{sent} for 60 requests");
}

#[tokio::test]
async fn a_hedge_that_fails_costs_nothing() {
    let crew = Crew::default();
    let world = crew.world(&three("after = \"5ms\", max = 1.0")).await;
    let at = addresses(&world, 3).await;
    crew.tell(at[0], Does::Takes(Duration::from_millis(100)));
    crew.tell(at[1], Does::Resets);
    crew.tell(at[2], Does::Resets);
    assert_eq!(status(&world, "GET").await, 200);
    world.until_counts("api", 0, 0).await;
}

fn counted(world: &World, metric: &str) -> f64 {
    world.metric(metric, &["service=\"api\""])
}
