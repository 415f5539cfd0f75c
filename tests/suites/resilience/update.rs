//! New versions: good ones take over, bad ones are taken back, and people can go back too.

use e2e::{
    eventually::found,
    targets::Behaviour,
    world::{Setup, World, name, under_traffic},
};
use tidegate_config::spec::Digest;
use tidegate_runner::{Kind, Prepared, scripted::Fault};

fn api(version: u32, more: &str) -> String {
    format!(
        "[services.api]\nimage = 'api:{version}'\nenv = {{ VERSION = '{version}' }}\nscaling = {{ max = 4, hold = '20s' }}\n{more}\n"
    )
}

async fn version(world: &World) -> Option<String> {
    world.get("api", "/").await.echo().variable
}

async fn until_version(world: &World, wanted: &str) {
    found(wanted, async || {
        let version = version(world).await;
        if version.as_deref() == Some(wanted) { Ok(()) } else { Err(format!("{version:?}")) }
    })
    .await;
}

async fn taken_back(world: &World) {
    let said =
        |status: &e2e::world::Status| status.rollout.as_ref().is_some_and(|r| r.contains("taken back"));
    world.until("api", said).await;
}

#[tokio::test]
async fn a_version_that_does_not_start_is_taken_back_and_nobody_notices() {
    for awake in [true, false] {
        let world = Setup::new(&api(1, "")).with_file().start().await;
        assert_eq!(version(&world).await.as_deref(), Some("1"));
        if !awake {
            world.control().sleep(name("api")).await.expect("a control loop").expect("it sleeps");
        }
        world.targets.behave("api:2", Behaviour::Deaf);
        world.runner.next_starts([]);
        world.write(&api(2, "health.start_deadline = '300ms'"));
        let (_, bad) = under_traffic(&world, "api", 2, taken_back(&world)).await;
        assert!(bad.is_empty(), "awake {awake}: {bad:?}");
        assert_eq!(version(&world).await.as_deref(), Some("1"));
        // The gateway remembers: the next one does not try it again.
        let world = world.crash_and_start().await;
        assert_eq!(version(&world).await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn a_version_that_the_engine_refuses_is_taken_back() {
    let world = Setup::new(&api(1, "")).with_file().start().await;
    assert_eq!(version(&world).await.as_deref(), Some("1"));
    world.runner.next_starts([Fault::Fail(Kind::Permanent, "exec format error".into())]);
    world.write(&api(2, ""));
    let (_, bad) = under_traffic(&world, "api", 2, taken_back(&world)).await;
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(version(&world).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_canary_gets_its_share_and_is_taken_back_when_it_fails_more() {
    let rollout = "rollout = { steps = [20, 100], every = '1h' }";
    let world = Setup::new(&api(1, rollout)).with_file().start().await;
    assert_eq!(version(&world).await.as_deref(), Some("1"));
    world.write(&api(2, rollout));
    until_version(&world, "2").await;
    let mut new = 0;
    for _ in 0..200 {
        new += u32::from(version(&world).await.as_deref() == Some("2"));
    }
    assert!((15..75).contains(&new), "{new} of 200 for a share of 20 %");

    // It begins to fail: no more of it after a while.
    found("its end", async || {
        let answer = world.get("api", "/fails-in-2").await;
        let status = world.status("api").await;
        if status.rollout.as_ref().is_some_and(|r| r.contains("taken back")) {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    world.until("api", |s| s.replicas.len() == 1 && s.replicas[0].phase == "ready").await;
    for _ in 0..20 {
        assert_eq!(version(&world).await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn people_can_go_back_and_forward_again() {
    let rollout = "rollout = { every = '1ms' }";
    let world = Setup::new(&api(1, rollout)).with_file().start().await;
    assert_eq!(version(&world).await.as_deref(), Some("1"));
    world.write(&api(2, rollout));
    until_version(&world, "2").await;
    world.until("api", |status| !status.earlier.is_empty()).await;
    let before = world.kept();
    let back = async { world.control().roll_back(name("api"), None).await.expect("a control loop") };
    let (outcome, bad) = under_traffic(&world, "api", 2, back).await;
    assert_eq!(outcome, Ok(()));
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(version(&world).await.as_deref(), Some("1"));
    // The answer does not wait for the disk, a crash would.
    found("the order on disk", async || if world.kept() == before { Err(before.clone()) } else { Ok(()) })
        .await;
    let world = world.crash_and_start().await;
    assert_eq!(version(&world).await.as_deref(), Some("1"), "it stays where it was put");
    world.control().restart(name("api")).await.expect("a control loop").expect("it restarts");
    until_version(&world, "2").await;
}

#[tokio::test]
async fn a_rebuilt_tag_is_told_and_taken_up_by_a_restart() {
    let world = World::new("services.api = { image = 'api:1', scaling = { min = 1 } }").await;
    let before = world.until_ready("api", 1).await;
    let rebuilt =
        Prepared { digest: Digest("sha256:rebuilt".into()), exposed: vec![8080], healthcheck: None };
    world.runner.image("api:1", Ok(rebuilt));
    let restart = async {
        world.control().restart(name("api")).await.expect("a control loop").expect("it restarts");
        world.until_ready("api", 1).await
    };
    let (after, bad) = under_traffic(&world, "api", 2, restart).await;
    assert!(bad.is_empty(), "{bad:?}");
    assert_ne!(after, before);
    assert_eq!(world.status("api").await.replicas[0].digest, "sha256:rebuilt");
    assert_eq!(world.runner.starts(), 2, "replaced once, not twice");
}

#[tokio::test]
async fn a_misspelled_probe_takes_nothing_down() {
    let health =
        |path: &str| format!("health = {{ probe = 'http:{path}', interval = '50ms', failures = 2 }}");
    let world = Setup::new(&api(1, &health("/"))).with_file().start().await;
    world.get("api", "/").await;
    let before = world.until_ready("api", 1).await;
    world.write(&api(1, &health("/status/404")));
    let probed = async || {
        let probes = world.targets.paths().iter().filter(|path| *path == "/status/404").count();
        if probes > 5 { Ok(()) } else { Err(probes.to_string()) }
    };
    found("probes", probed).await;
    assert_eq!(world.until_ready("api", 1).await, before);
    // One that has passed counts.
    world.write(&api(1, &health("/")));
    let passed = world.targets.paths().len();
    found(
        "a pass",
        async || if world.targets.paths().len() > passed + 2 { Ok(()) } else { Err(String::new()) },
    )
    .await;
    assert_eq!(world.until_ready("api", 1).await, before);
}

#[tokio::test]
async fn a_version_that_no_host_has_is_not_gone_back_to() {
    let rollout = "rollout = { every = '1ms' }";
    let world = Setup::new(&api(1, rollout)).with_file().start().await;
    assert_eq!(version(&world).await.as_deref(), Some("1"));
    world.write(&api(2, rollout));
    world.until("api", |status| !status.earlier.is_empty()).await;
    until_version(&world, "2").await;
    world.runner.image("sha256:api:1", Err((Kind::Permanent, "no such image".into())));
    let outcome = world.control().roll_back(name("api"), None).await.expect("a control loop");
    assert!(outcome.is_err_and(|why| why.contains("nothing was changed")));
    assert_eq!(version(&world).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn an_image_that_was_removed_is_looked_for_while_requests_wait() {
    let world = World::new("services.api = { image = 'api:1', scaling = { hold = '20s' } }").await;
    world.runner.next_starts([Fault::Fail(Kind::NoImage, "no such image".into())]);
    let rebuilt = Prepared { digest: Digest("sha256:again".into()), exposed: vec![8080], healthcheck: None };
    world.runner.image("api:1", Ok(rebuilt));
    assert_eq!(world.get("api", "/").await.status, 200);
    assert_eq!(world.status("api").await.replicas[0].digest, "sha256:again");
}
