//! Services with data of their own: never two replicas at once, never away from the data.

use e2e::{
    eventually::found,
    world::{Setup, World, name, under_traffic},
};
use tidegate_runner::scripted::Call;

fn keeper(version: u32) -> String {
    format!(
        "hosts = [{{ name = 'a', lost_after = '1s' }}, {{ name = 'b', endpoint = 'unix:///b.sock' }}]\n\
         [services.api]\nimage = 'db:1'\nenv = {{ VERSION = '{version}' }}\nvolumes = ['data:/data']\nscaling = {{ min = 1, hold = '30s' }}\n"
    )
}

#[tokio::test]
async fn an_update_never_runs_two_and_loses_no_request() {
    let world = Setup::new(&keeper(1)).with_file().start().await;
    let old = world.until_ready("api", 1).await;
    world.write(&keeper(2));
    let new = async {
        let changed = |status: &e2e::world::Status| {
            status.replicas.iter().all(|r| r.phase == "ready" && r.id != old[0].to_string())
                && status.replicas.len() == 1
        };
        world.until("api", changed).await
    };
    let (_, bad) = under_traffic(&world, "api", 2, new).await;
    assert!(bad.is_empty(), "{bad:?}");
    let calls = world.runner.calls();
    let at = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted).expect("it was called");
    let stopped = at(&|call| matches!(call, Call::Stop(id, _) if *id == old[0]));
    let started = at(&|call| matches!(call, Call::Start(id) if *id != old[0]));
    assert!(stopped < started, "{calls:?}");
}

#[tokio::test]
async fn it_waits_for_the_host_that_has_its_data() {
    let world: World = Setup::new(&keeper(1)).start().await;
    let before = world.until_ready("api", 1).await;
    assert_eq!(world.status("api").await.replicas[0].host, "a");
    world.runner.down(true);
    world.targets.deafen(&before[0]);
    let waits = |status: &e2e::world::Status| {
        status.replicas.iter().all(|r| r.phase == "lost") && status.reason.contains("host a")
    };
    world.until("api", waits).await;
    assert_eq!(world.engines["b"].starts(), 0);
    world.targets.listen_again(&before[0]).await;
    let (answer, ()) = tokio::join!(world.get("api", "/"), async { world.runner.down(false) });
    assert_eq!(answer.status, 200);
    assert_eq!(world.until_ready("api", 1).await, before, "the same one, found again");
}

#[tokio::test]
async fn its_host_is_remembered_while_it_is_out_of_the_file() {
    let world = Setup::new(&keeper(1)).with_file().start().await;
    world.until_ready("api", 1).await;
    let kept = || std::fs::read_to_string(world.folder().join("kept.json")).unwrap_or_default();
    world.write(keeper(1).lines().next().expect("the hosts"));
    world.until_gone("api").await;
    found("what is kept", async || if kept().contains("\"pinned\":\"a\"") { Ok(()) } else { Err(kept()) })
        .await;
    // It comes back while its host is away: it is not started on the other one.
    world.runner.down(true);
    world.write(&keeper(1));
    let waits = |status: &e2e::world::Status| {
        ["host a", "on a", "a: "].iter().any(|words| status.reason.contains(words))
    };
    found("api", async || {
        let status = world.control().explain(name("api")).await.expect("a control loop").map(|e| e.status);
        if status.as_ref().is_some_and(waits) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(world.engines["b"].starts(), 0);
}
