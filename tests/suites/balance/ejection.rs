//! Replicas that fail again and again although they pass their probes.

use std::time::Duration;

use tidegate::control::status::ServiceStatus;

use crate::pair::{Crew, Does, addresses};

/// Three replicas, the oldest of which is asked first.
fn three(ejection: &str) -> String {
    format!(
        r#"
        [services.api]
        image = "api:1"
        scaling = {{ min = 3, concurrency = 1 }}
        balance.ejection = {{ failures = 3, {ejection} }}
        "#
    )
}

fn ejected(status: &ServiceStatus) -> usize {
    status.replicas.iter().filter(|replica| replica.balance.ejected.is_some()).count()
}

#[tokio::test]
async fn a_replica_that_fails_again_and_again_gets_nothing_more() {
    let crew = Crew::default();
    let world = crew.world(&three("base = \"1h\", longest = \"1h\"")).await;
    let at = addresses(&world, 3).await;
    crew.tell(at[0], Does::Resets);
    let before = world.metric("tidegate_ejections_total", &["service=\"api\""]);
    for _ in 0..50 {
        assert_eq!(world.get("api", "/").await.status, 200, "it is made good elsewhere");
    }
    assert_eq!((crew.requests(at[0]), ejected(&world.status("api").await)), (3, 1));
    assert!(world.metric("tidegate_ejections_total", &["service=\"api\""]) > before);
}

#[tokio::test]
async fn who_is_cut_off_by_a_deadline_has_failed() {
    for (limit, refusal) in [
        ("[services.api.middleware]\ntimeout = \"1s\"", "upstream_timeout"),
        ("[gateway.limits]\nrequest_timeout = \"1s\"", "request_deadline"),
    ] {
        let crew = Crew::default();
        let ejection = three("base = \"1h\", longest = \"1h\"");
        let world = crew.world(&format!("{ejection}\n{limit}")).await;
        let at = addresses(&world, 3).await;
        crew.tell(at[0], Does::Takes(Duration::from_secs(3600)));
        for _ in 0..3 {
            assert_eq!(world.get("api", "/").await.refusal(), (504, refusal.into()), "{limit}");
        }
        for _ in 0..20 {
            assert_eq!(world.get("api", "/").await.status, 200, "{limit}");
        }
        assert_eq!((crew.requests(at[0]), ejected(&world.status("api").await)), (3, 1), "{limit}");
    }
}

#[tokio::test]
async fn an_ejected_replica_comes_back_when_one_request_goes_well() {
    let crew = Crew::default();
    let world = crew.world(&three("base = \"10ms\", longest = \"50ms\"")).await;
    let at = addresses(&world, 3).await;
    crew.tell(at[0], Does::Resets);
    while crew.requests(at[0]) < 6 {
        assert_eq!(world.get("api", "/").await.status, 200, "who tries in vain is made good elsewhere");
    }
    crew.tell(at[0], Does::Answers);
    while ejected(&world.status("api").await) > 0 {
        assert_eq!(world.get("api", "/").await.status, 200);
    }
    let had = crew.requests(at[0]);
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(crew.requests(at[0]), had + 1, "the oldest is asked first again");
}

#[tokio::test]
async fn half_of_them_stay_however_many_fail() {
    let crew = Crew::default();
    let world = crew.world(&three("base = \"10ms\"")).await;
    let at = addresses(&world, 3).await;
    at.iter().for_each(|at| crew.tell(*at, Does::Resets));
    for _ in 0..20 {
        assert_eq!(world.get("api", "/").await.status, 502);
        assert!(ejected(&world.status("api").await) <= 1);
    }
    at.iter().for_each(|at| crew.tell(*at, Does::Answers));
    assert_eq!(world.get("api", "/").await.status, 200);
}
