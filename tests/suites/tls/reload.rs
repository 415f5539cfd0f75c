//! Certificates that change while the gateway runs.

use e2e::{
    client::Session,
    eventually::found,
    secure::{Authority, Good, put},
    world::{Setup, World, get},
};

const FILE: &str = r#"
[gateway]
listen = [{ address = "127.0.0.1:0", tls = true }]
[gateway.tls]
certificates = [{ cert = "a.pem", key = "a.key" }]
[services.a]
image = "a:1"
routes = [{ host = "*" }]
"#;

async fn world() -> (World, Authority) {
    let setup = Setup::new(FILE).with_file();
    let authority = Authority::new(setup.folder(), "ca");
    authority.write("a", &["a.localhost"]);
    (setup.start().await, authority)
}

/// Waits until a new connection gets a certificate for the name.
async fn until_served(world: &World, authority: &Authority, name: &str) {
    found(name, async || match authority.client(&[]).connect(world.address, name).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_connections_stay() {
    let (world, authority) = world().await;
    let stream = authority.client(&[]).connect(world.address, "a.localhost").await.expect("a handshake");
    let mut session = Session::over(stream).await;
    assert_eq!(session.ask(get("a", "/")).await.expect("an answer").status, 200);
    authority.write("a", &["a.localhost", "new.localhost"]);
    until_served(&world, &authority, "new.localhost").await;
    assert_eq!(session.ask(get("a", "/")).await.expect("the same connection").status, 200);
}

#[tokio::test]
async fn a_broken_file_changes_nothing() {
    let (world, authority) = world().await;
    let bad = |world: &World| world.metric("tidegate_tls_certificate_reloads_total", &["bad"]);
    let before = bad(&world);
    put(world.folder(), "a.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n", 0o644);
    found("a complaint", async || if bad(&world) > before { Ok(()) } else { Err(String::new()) }).await;
    until_served(&world, &authority, "a.localhost").await;
    // And it is mended without a restart.
    authority.write("a", &["mended.localhost"]);
    until_served(&world, &authority, "mended.localhost").await;
}

#[tokio::test]
async fn a_certificate_is_added_in_the_file() {
    let (world, authority) = world().await;
    authority.write("b", &["b.localhost"]);
    let (_, key) = authority.issue(&["c.localhost"], Good::Now);
    put(world.folder(), "stray.key", &key, 0o600);
    let list = |more: &str| FILE.replace("a.key\" }", &format!("a.key\" }}, {more}"));
    // With the wrong key: refused as a whole.
    let bad = world.metric("tidegate_reloads_total", &["bad"]);
    world.write(&list("{ cert = \"b.pem\", key = \"stray.key\" }"));
    found("a refusal", async || {
        if world.metric("tidegate_reloads_total", &["bad"]) > bad { Ok(()) } else { Err(String::new()) }
    })
    .await;
    assert!(authority.client(&[]).connect(world.address, "b.localhost").await.is_err());
    world.write(&list("{ cert = \"b.pem\", key = \"b.key\" }"));
    until_served(&world, &authority, "b.localhost").await;
    until_served(&world, &authority, "a.localhost").await;
}
