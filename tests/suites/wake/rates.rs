//! How often clients may wake a service.

use std::time::Duration;

use e2e::{
    client::Answer,
    world::{Setup, World, get, name},
};
use futures_util::future::join_all;
use http::HeaderValue;

async fn put_to_sleep(world: &World) {
    world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
}

fn setup(wake: &str) -> Setup {
    Setup::new(&format!(
        "gateway.trusted_proxies = ['127.0.0.1']\nservices.api = {{ image = 'api:1', wake = {{ {wake} }} }}"
    ))
}

async fn from(world: &World, client: &'static str) -> Answer {
    let mut request = get("api", "/");
    request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static(client));
    world.ask(request).await.expect("a whole answer")
}

#[tokio::test]
async fn a_client_may_wake_a_service_so_often_and_no_more() {
    let world = setup("per_client = '2/h'").start().await;
    for _ in 0..2 {
        assert_eq!(from(&world, "192.0.2.1").await.status, 200);
        put_to_sleep(&world).await;
    }
    let refused = from(&world, "192.0.2.1").await;
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    let after: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=1800).contains(&after), "{after}");
    assert_eq!(world.runner.starts(), 2);
    // Another one wakes it, and then it is there for everybody.
    for client in ["192.0.2.2", "192.0.2.1"] {
        assert_eq!(from(&world, client).await.status, 200);
    }
    // All worlds of a process share their metrics.
    assert!(world.metric("tidegate_wakes_total", &["service=\"api\"", "cause=\"call\""]) >= 3.0);
}

#[tokio::test]
async fn all_clients_together_may_wake_a_service_so_often_and_no_more() {
    let world = setup("per_service = '1/h'").start().await;
    assert_eq!(from(&world, "192.0.2.1").await.status, 200);
    put_to_sleep(&world).await;
    let refused = from(&world, "192.0.2.2").await;
    assert_eq!(refused.refusal(), (503, "too_many_wakes".into()));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_thousand_requests_that_wait_for_one_start_are_one_wake() {
    let setup = setup("per_client = '1/h', per_service = '1/h'");
    setup.runner.start_delay(Duration::from_millis(300));
    let world = setup.start().await;
    let answers = join_all((0..200).map(|_| from(&world, "192.0.2.1"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
}
