//! The file changes while requests flow.

use std::sync::Arc;

use e2e::{
    eventually::found,
    targets::Behaviour,
    world::{Setup, World, model, request, under_traffic},
};
use tidegate_config::Change;
use tidegate_runner::Kind;

async fn world(text: &str) -> World {
    Setup::new(text).with_file().start().await
}

/// The service `api` as this version of this image.
fn api(image: &str, version: u32, more: &str) -> String {
    format!(
        "[services.api]\nimage = \"{image}\"\nenv = {{ VERSION = \"{version}\" }}\nroutes = [{{ host = \"api.localhost\" }}]\n{more}\n"
    )
}

/// Waits until the service answers as this version, with one replica.
async fn until_version(world: &World, version: &str) {
    found(version, async || {
        let echo = world.get("api", "/").await.echo();
        if echo.variable.as_deref() == Some(version) { Ok(()) } else { Err(format!("{echo:?}")) }
    })
    .await;
    world.until_ready("api", 1).await;
}

#[tokio::test]
async fn a_new_revision_takes_over_without_a_client_noticing() {
    for (image, version) in [("api:1", 2), ("api:2", 2)] {
        let world = world(&api("api:1", 1, "")).await;
        let old = world.wake("api").await;
        world.write(&api(image, version, ""));
        let ((), bad) = under_traffic(&world, "api", 3, until_version(&world, "2")).await;
        assert!(bad.is_empty(), "{bad:?}");
        let new = world.until_ready("api", 1).await;
        assert!(!new.contains(&old[0]));
        assert_eq!(world.runner.starts(), 2);
    }
}

#[tokio::test]
async fn the_old_revision_finishes_what_it_runs() {
    let world = world(&api("api:1", 1, "")).await;
    let mut wire = world.wire().await;
    wire.send("GET /endless HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
    wire.head().await.expect("a head");
    world.write(&api("api:1", 2, ""));
    world.until("api", |status| status.replicas.iter().any(|replica| replica.phase == "draining")).await;
    let echo = world.get("api", "/").await.echo();
    assert_eq!(echo.variable.as_deref(), Some("2"));
    assert_eq!(world.status("api").await.replicas.len(), 2);
    world.targets.release();
    let rest = wire.exactly(b"6\r\nbegun \r\n5\r\nended\r\n0\r\n\r\n".len()).await;
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    world.until_ready("api", 1).await;
}

#[tokio::test]
async fn a_new_revision_that_does_not_start_leaves_the_old_one_serving() {
    let health = "health = { start_deadline = \"100ms\" }";
    for broken in ["deaf:1", "missing:1"] {
        let setup = Setup::new(&api("api:1", 1, health)).with_file();
        setup.targets.behave("deaf:1", Behaviour::Deaf);
        setup.runner.image("missing:1", Err((Kind::Permanent, "no such image".into())));
        let world = setup.start().await;
        let old = world.wake("api").await;
        world.write(&api(broken, 2, health));
        let told = async {
            found("a cause", async || {
                let explained = world.explain("api").await;
                let failed =
                    explained.last_failure.is_some() || explained.status.reason.contains("no such image");
                if failed { Ok(()) } else { Err(format!("{explained:?}")) }
            })
            .await;
        };
        let ((), bad) = under_traffic(&world, "api", 2, told).await;
        assert!(bad.is_empty(), "{broken}: {bad:?}");
        assert_eq!(world.get("api", "/").await.echo().replica, old[0].to_string());
        // And back.
        world.write(&api("api:1", 3, health));
        until_version(&world, "3").await;
    }
}

#[tokio::test]
async fn what_is_not_a_launch_setting_restarts_nothing() {
    let world = world(&api("api:1", 1, "")).await;
    let old = world.wake("api").await;
    let more = "scaling = { min = 2, concurrency = 7 }\nhealth = { interval = \"1s\" }\nupstream = { first_byte_timeout = \"9s\" }";
    world.write(&api("api:1", 1, more).replace("\"api.localhost\"", "\"new.localhost\""));
    let new = world.until_ready("api", 2).await;
    assert!(new.contains(&old[0]), "the new minimum adds one");
    assert_eq!(world.get("new", "/").await.echo().service, "api");
    assert_eq!(world.get("api", "/").await.refusal(), (404, "no_route".into()));
    assert_eq!(world.runner.starts(), 2);
}

#[tokio::test]
async fn a_lower_limit_holds_for_the_next_request() {
    let world = world(&api("api:1", 1, "")).await;
    world.wake("api").await;
    world.write(&api("api:1", 1, "scaling = { concurrency = 1, max = 1 }"));
    found("one at a time", async || {
        let wires = [world.wire().await, world.wire().await];
        let mut kept = Vec::new();
        for mut wire in wires {
            wire.send("GET /hold HTTP/1.1\r\nhost: api.localhost\r\n\r\n").await;
            kept.push(wire);
        }
        let status = world.until("api", |status| status.queued + status.in_flight == 2).await;
        drop(kept);
        world.until_counts("api", 0, 0).await;
        if (status.queued, status.in_flight) == (1, 1) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

#[tokio::test]
async fn services_come_and_go() {
    let both =
        api("api:1", 1, "") + "[services.new]\nimage = \"new:1\"\nroutes = [{ host = \"new.localhost\" }]\n";
    let world = world(&api("api:1", 1, "")).await;
    let kept = world.wake("api").await;
    assert_eq!(world.get("new", "/").await.refusal(), (404, "no_route".into()));
    world.write(&both);
    found("a route", async || {
        let answer = world.get("new", "/").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    // A request that runs when its service leaves.
    let mut wire = world.wire().await;
    wire.send("GET /hold HTTP/1.1\r\nhost: new.localhost\r\n\r\n").await;
    world.until_counts("new", 0, 1).await;
    world.write(&api("api:1", 1, ""));
    found("no route", async || {
        let answer = world.get("new", "/").await;
        if answer.status == 404 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    world.targets.release();
    assert_eq!(wire.answer().await.expect("an answer").1, "held");
    found("an engine without it", async || {
        let left: Vec<_> = world.runner.specs().into_iter().map(|spec| spec.id).collect();
        if left == kept { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    // It may come back.
    world.write(&both);
    found("a route", async || {
        let answer = world.get("new", "/").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let world = world(&api("api:1", 1, "")).await;
    let ids = world.wake("api").await;
    for bad in ["not TOML", "[services.api]\nimage = 7\n", "[services.other]\nimage = \"x:1\"\nrouts = []\n"]
    {
        let before = world.metric("tidegate_reloads_total", &["bad"]);
        world.write(bad);
        found("a bad reload", async || {
            let now = world.metric("tidegate_reloads_total", &["bad"]);
            if now > before { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
        let echo =
            world.ask(request("GET", "api", "/", e2e::client::empty())).await.expect("an answer").echo();
        assert_eq!(
            (echo.replica.as_str(), echo.variable.as_deref()),
            (&*ids[0].to_string(), Some("1")),
            "{bad:?}"
        );
    }
    world.write(&api("api:1", 2, ""));
    until_version(&world, "2").await;
}

#[tokio::test]
async fn it_can_be_asked_for() {
    let world = world(&api("api:1", 1, "")).await;
    world.wake("api").await;
    world.write(&api("api:1", 2, ""));
    world.app.reload();
    until_version(&world, "2").await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_applied() {
    let old = api("api:1", 1, "");
    let world = world(&old).await;
    let new = format!("gateway = {{ listen = \"127.0.0.1:1\", timing_headers = true }}\n{old}");
    let changes = world.control().change(Arc::new(model(&new))).await.expect("a control loop");
    assert!(changes.contains(&Change::NeedsRestart { key: "gateway.listen" }), "{changes:?}");
    assert!(changes.contains(&Change::Gateway), "{changes:?}");
    assert!(world.get("api", "/").await.header("server-timing").is_some());
}
