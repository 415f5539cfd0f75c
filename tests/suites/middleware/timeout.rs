//! How long a request may take until its response begins.

use e2e::{
    targets::Behaviour,
    world::{Setup, World},
};

use super::{ask, world};

#[tokio::test]
async fn a_response_that_does_not_begin_in_time_gets_504_and_gives_back_its_slot() {
    let world = world("timeout = \"200ms\"").await;
    world.wake("api").await;
    let mut session = world.http1().await;
    assert_eq!(ask(&mut session, "/hold", &[]).await.refusal(), (504, "upstream_timeout".into()));
    world.until_counts("api", 0, 0).await;
    assert_eq!(ask(&mut session, "/", &[]).await.status, 200, "over the same connection");
}

#[tokio::test]
async fn waiting_for_a_replica_is_part_of_it() {
    let setup = Setup::new("[services.api]\nimage = \"api:1\"\nmiddleware = { timeout = \"200ms\" }");
    setup.targets.behave("api:1", Behaviour::Deaf);
    let world = setup.start().await;
    assert_eq!(world.get("api", "/").await.refusal(), (504, "upstream_timeout".into()));
    world.until_counts("api", 0, 0).await;
}

#[tokio::test]
async fn what_has_begun_is_not_cut() {
    let world = world("timeout = \"200ms\"").await;
    world.wake("api").await;
    let mut session = world.http1().await;
    let response = session.send(e2e::world::get("api", "/endless")).await.expect("a head");
    // Longer than the limit: another request runs into it meanwhile.
    assert_eq!(world.get("api", "/hold").await.status, 504);
    world.targets.release();
    let answer = e2e::client::Answer::of(response).await.expect("a whole answer");
    assert_eq!(answer.text(), "begun ended");
}

#[tokio::test]
async fn the_gateways_own_limit_is_told_like_any_refusal() {
    let limits = "gateway.limits.request_timeout = \"1s\"";
    let middleware = "{ request_id = \"keep\", response_headers = { set = { x-seen = \"1\" } } }";
    let world =
        World::new(&format!("{limits}\n[services.api]\nimage = \"api:1\"\nmiddleware = {middleware}")).await;
    let mut session = world.http1().await;
    let answer = ask(&mut session, "/hold", &[("x-request-id", "mine-1")]).await;
    assert_eq!(answer.refusal(), (504, "request_deadline".into()));
    assert_eq!((answer.header("x-request-id"), answer.header("x-seen")), (Some("mine-1"), Some("1")));
    assert!(answer.text().contains("\"request_id\":\"mine-1\""), "{}", answer.text());
}
