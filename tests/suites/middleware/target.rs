//! Where requests are sent instead, and what of their target is changed.

use e2e::world::World;

use super::{ask, sleeps, with, world};

#[tokio::test]
async fn requests_are_sent_elsewhere_and_wake_nothing() {
    let text = r#"
        [services.api]
        image = "api:1"
        routes = [
          { host = "api.localhost", middleware = { redirect = { scheme = "https" } } },
          { host = "api.localhost", path = "/old", middleware = { redirect = { host = "new.localhost:8443", scheme = "https", prefix = "/new", status = 301 } } },
          { host = "api.localhost", path = "/here", middleware = { redirect = { prefix = "/" } } },
        ]
    "#;
    let world = World::new(text).await;
    let mut session = world.http1().await;
    for (path, code, place) in [
        ("/a?q=1", 308, "https://api.localhost/a?q=1"),
        ("/old", 301, "https://new.localhost:8443/new"),
        ("/old/x/../y?q", 301, "https://new.localhost:8443/new/y?q"),
        ("/here//evil.org/x", 308, "/evil.org/x"),
    ] {
        let answer = ask(&mut session, path, &[]).await;
        assert_eq!((answer.status, answer.header("location")), (code, Some(place)), "{path}");
    }
    sleeps(&world, "api").await;
}

#[tokio::test]
async fn what_is_where_it_would_be_sent_passes() {
    let text = "gateway.trusted_proxies = [\"127.0.0.0/8\"]\n[services.api]\nimage = \"api:1\"\n\
                [services.api.middleware]\nredirect = { scheme = \"https\" }";
    let world = World::new(text).await;
    let https = with("api", "/", &[("x-forwarded-proto", "https")]);
    assert_eq!(world.ask(https).await.expect("an answer").status, 200);
    assert_eq!(world.get("api", "/").await.status, 308);
    let stranger = super::world("redirect = { scheme = \"https\" }").await;
    let forged = with("api", "/", &[("x-forwarded-proto", "https")]);
    assert_eq!(stranger.ask(forged).await.expect("an answer").status, 308, "nobody's word is believed");
}

#[tokio::test]
async fn targets_and_hosts_are_rewritten() {
    let text = r#"
        [services.api]
        image = "api:1"
        routes = [
          { host = "api.localhost", middleware = { rewrite = { add_prefix = "/app", host = "inside:8080" } } },
          { host = "api.localhost", path = "/v1", middleware = { rewrite = { replace_prefix = "/v2" } } },
          { host = "api.localhost", path = "/both", strip = true, middleware = { rewrite = { add_prefix = "/in" } } },
          { host = "api.localhost", path = "/one", middleware = { rewrite = { path = "/index.html" } } },
        ]
    "#;
    let world = World::new(text).await;
    let mut session = world.http1().await;
    for (path, target, host) in [
        ("/", "/app/", "inside:8080"),
        ("/x?q=/v1", "/app/x?q=/v1", "inside:8080"),
        ("/v1/users?q", "/v2/users?q", "api.localhost"),
        ("/v1", "/v2", "api.localhost"),
        ("/both/x", "/in/x", "api.localhost"),
        ("/both", "/in", "api.localhost"),
        ("/one/two?q", "/index.html?q", "api.localhost"),
    ] {
        let echo = ask(&mut session, path, &[]).await.echo();
        assert_eq!((&*echo.target, echo.header("host")), (target, Some(host)), "{path}");
        assert_eq!(echo.header("x-forwarded-host"), Some("api.localhost"), "{path}");
    }
}

#[tokio::test]
async fn a_body_survives_a_rewrite() {
    let world = world("rewrite = { add_prefix = \"/in\" }").await;
    let request = e2e::world::request("POST", "api", "/x", e2e::client::full("hello"));
    let echo = world.ask(request).await.expect("an answer").echo();
    assert_eq!((&*echo.target, &*echo.body), ("/in/x", "hello"));
}
