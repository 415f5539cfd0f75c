//! A service that fails too much is not asked for a while.

use e2e::client::empty;
use e2e::world::request;

use crate::pair::{Crew, Does, addresses};

/// One replica, and a circuit.
fn one(circuit: &str) -> String {
    format!(
        r#"
        [services.api]
        image = "api:1"
        scaling.min = 1
        balance.circuit = {{ least = 10, {circuit} }}
        "#
    )
}

#[tokio::test]
async fn a_service_that_fails_too_much_is_refused_at_once() {
    let crew = Crew::default();
    let world = crew.world(&one("base = \"1h\", longest = \"1h\"")).await;
    let at = addresses(&world, 1).await[0];
    crew.tell(at, Does::Resets);
    let post = async || world.ask(request("POST", "api", "/", empty())).await.expect("an answer");
    for _ in 0..10 {
        assert_eq!(post().await.refusal(), (502, "upstream_reset".into()));
    }
    let refused = post().await;
    assert_eq!(refused.refusal(), (503, "circuit_open".into()));
    let wait: u64 =
        refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("when to come back");
    assert!((3500..=3600).contains(&wait), "{wait} s");
    assert_eq!(crew.requests(at), 10, "it was spared");
    assert!(world.status("api").await.circuit_open.is_some());
    assert!(world.metric("tidegate_circuit_opened_total", &["service=\"api\""]) >= 1.0);
}

#[tokio::test]
async fn one_request_finds_out_whether_it_is_well_again() {
    let crew = Crew::default();
    let world = crew.world(&one("base = \"10ms\", longest = \"20ms\"")).await;
    let at = addresses(&world, 1).await[0];
    crew.tell(at, Does::Resets);
    for _ in 0..10 {
        world.ask(request("POST", "api", "/", empty())).await.expect("an answer");
    }
    crew.tell(at, Does::Answers);
    // Each refusal says that the time is not up.
    while world.get("api", "/").await.status != 200 {}
    assert_eq!(world.status("api").await.circuit_open, None);
    for _ in 0..20 {
        assert_eq!(world.get("api", "/").await.status, 200);
    }
}
