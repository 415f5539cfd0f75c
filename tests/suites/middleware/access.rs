//! Which clients may come, how often, and what their requests are called.

use e2e::{eventually::found, world::World};

use super::{ask, sleeps, with, world};

#[tokio::test]
async fn addresses_that_may_not_come_get_403_and_wake_nothing() {
    let world = world("ip = { allow = [\"127.0.0.0/8\"], deny = [\"127.0.0.1\"] }").await;
    let mut session = world.http1().await;
    for _ in 0..3 {
        let answer = ask(&mut session, "/", &[("x-forwarded-for", "127.0.0.2")]).await;
        assert_eq!(answer.refusal(), (403, "forbidden".into()), "nobody's word is believed");
    }
    sleeps(&world, "api").await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_is_the_one_that_it_names() {
    let text = "gateway.trusted_proxies = [\"127.0.0.0/8\"]\n[services.api]\nimage = \"api:1\"\n\
                [services.api.middleware]\nip = { deny = [\"10.6.6.0/24\"] }";
    let world = World::new(text).await;
    let mut session = world.http1().await;
    for (line, want) in
        [("10.1.1.1", 200), ("10.6.6.6", 403), ("10.1.1.1, 10.6.6.6", 403), ("10.6.6.6, 10.1.1.1", 200)]
    {
        assert_eq!(ask(&mut session, "/", &[("x-forwarded-for", line)]).await.status, want, "{line}");
    }
    let twice = [("x-forwarded-for", "10.1.1.1"), ("x-forwarded-for", "10.6.6.6")];
    assert_eq!(ask(&mut session, "/", &twice).await.status, 403, "the last line is the proxy's");
}

#[tokio::test]
async fn too_many_requests_get_429_and_are_told_when_to_come_back() {
    let world = world("rate_limit = { rate = \"2/h\" }").await;
    let mut session = world.http1().await;
    for want in [200, 200, 429, 429] {
        assert_eq!(ask(&mut session, "/", &[]).await.status, want);
    }
    let refused = ask(&mut session, "/", &[]).await;
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    let after: u32 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=1800).contains(&after), "{after}");
    assert_eq!(world.targets.seen().len(), 2);
}

#[tokio::test]
async fn requests_are_counted_by_header_or_all_together() {
    let world = world("rate_limit = { rate = \"1/h\", by = \"header\", header = \"X-Api-Key\" }").await;
    let mut session = world.http1().await;
    for (key, want) in [("a", 200), ("b", 200), ("a", 429), ("b", 429), ("c", 200)] {
        assert_eq!(ask(&mut session, "/", &[("x-api-key", key)]).await.status, want, "{key}");
    }
    let world = super::world("rate_limit = { rate = \"1/h\", by = \"route\", burst = 2 }").await;
    let mut session = world.http1().await;
    for want in [200, 200, 429] {
        assert_eq!(ask(&mut session, "/", &[]).await.status, want);
    }
}

#[tokio::test]
async fn routes_share_the_limit_of_their_service() {
    let text = r#"
        [services.api]
        image = "api:1"
        routes = [
          { host = "api.localhost" },
          { host = "api.localhost", path = "/more" },
          { host = "api.localhost", path = "/free", middleware = { rate_limit = false } },
        ]
        [services.api.middleware]
        rate_limit = { rate = "2/h" }
    "#;
    let world = World::new(text).await;
    let mut session = world.http1().await;
    for (path, want) in [("/", 200), ("/more", 200), ("/", 429), ("/more", 429), ("/free", 200)] {
        assert_eq!(ask(&mut session, path, &[]).await.status, want, "{path}");
    }
}

#[tokio::test]
async fn requests_are_named_for_the_service_the_client_and_refusals() {
    let world = world("request_id = \"keep\"\nrate_limit = { rate = \"2/h\" }").await;
    let mut session = world.http1().await;
    let kept = ask(&mut session, "/", &[("x-request-id", "from-the-client.1")]).await;
    assert_eq!(kept.header("x-request-id"), Some("from-the-client.1"));
    assert_eq!(kept.echo().header("x-request-id"), Some("from-the-client.1"));
    let made = ask(&mut session, "/", &[("x-request-id", "not sensible\"")]).await;
    let name = made.header("x-request-id").expect("a name").to_owned();
    assert_eq!((name.len(), made.echo().header("x-request-id")), (32, Some(&*name)));
    let refused = ask(&mut session, "/", &[("x-request-id", "the-third")]).await;
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    assert_eq!(refused.header("x-request-id"), Some("the-third"));
    assert_eq!(refused.problem()["request_id"], "the-third");
}

#[tokio::test]
async fn names_of_clients_are_replaced_where_the_file_says_so() {
    let world = world("request_id = \"make\"").await;
    let answer = world.ask(with("api", "/", &[("x-request-id", "mine")])).await.expect("an answer");
    let name = answer.header("x-request-id").expect("a name").to_owned();
    assert_ne!(name, "mine");
    assert_eq!(answer.echo().all("x-request-id"), [&*name]);
}

#[tokio::test]
async fn the_access_log_calls_a_request_by_its_name() {
    let text = "gateway.access_log = { to = \"access.log\" }\n[services.api]\nimage = \"api:1\"\n\
                middleware = { request_id = \"keep\", ip = { deny = [\"127.0.0.1\"] } }";
    let world = World::new(text).await;
    let answer = world.ask(with("api", "/", &[("x-request-id", "the-name.1")])).await.expect("an answer");
    assert_eq!(answer.refusal(), (403, "forbidden".into()));
    let file = world.folder().join("access.log");
    found("its line", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.contains("\"id\":\"the-name.1\"") { Ok(()) } else { Err(text) }
    })
    .await;
}
