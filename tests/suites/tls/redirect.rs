//! From HTTP to HTTPS.

use e2e::{
    client::{Session, full, status},
    secure::Authority,
    world::{Setup, World, request},
};

const FILE: &str = r#"
[gateway]
listen = [
    { address = "127.0.0.1:0", redirect_to_https = true },
    { address = "127.0.0.1:0", tls = true },
]
tls = { certificates = [{ cert = "a.pem", key = "a.key" }] }
[services.a]
image = "a:1"
"#;

async fn world() -> World {
    let setup = Setup::new(FILE);
    Authority::new(setup.folder(), "ca").write("a", &["a.localhost"]);
    setup.start().await
}

#[tokio::test]
async fn requests_are_sent_on_with_path_and_query_and_wake_nothing() {
    let world = world().await;
    let answer = world.ask(request("POST", "a", "/x/y?q=1", full("body"))).await.expect("an answer");
    assert_eq!(answer.status, 308);
    // Port 0 is what the file says; real files say 443, which is left out.
    assert_eq!(answer.header("location"), Some("https://a.localhost:0/x/y?q=1"));
    let answer = Session::http2(world.address).await.ask(request("GET", "b", "/", full(""))).await;
    assert_eq!(answer.expect("an answer").header("location"), Some("https://b.localhost:0/"));
    assert!(world.targets.seen().is_empty());
    assert_eq!(world.runner.starts(), 0);
}

#[tokio::test]
async fn challenges_of_acme_are_answered_where_they_are_asked() {
    let world = world().await;
    let path = "/.well-known/acme-challenge/of-the-service";
    let answer = world.ask(request("GET", "a", path, full(""))).await.expect("an answer");
    assert_eq!(answer.echo().target, path);
}

#[tokio::test]
async fn a_request_that_names_no_host_is_not_sent_anywhere() {
    let world = world().await;
    let mut wire = world.wire().await;
    wire.send("GET / HTTP/1.1\r\nhost: a@b\r\n\r\n").await;
    assert_eq!(status(&wire.head().await.expect("a head")), 400);
}
