//! Replicas that sleep, that outlive their gateway, and of which nothing is left.

use anyhow::ensure;
use e2e::{
    engine::{Engine, tidegate, with},
    eventually::eventually,
    outside,
    remains::{Remains, purge},
};

use crate::{ask, box_with, echo, get, only, replicas};

#[tokio::test]
async fn a_frozen_replica_wakes_as_the_same() -> anyhow::Result<()> {
    with(Engine::Embedded, &echo("sleep = { frozen = \"1h\" }\n"), async |gateway, _| {
        let (_, first) = get(gateway, "echo", "/").await?;
        let before = only(gateway, "echo").await?;
        for _ in 0..3 {
            gateway.sleep("echo").await?;
            let frozen = only(gateway, "echo").await?;
            ensure!((frozen.phase.as_str(), &frozen.id) == ("frozen", &before.id), "{frozen:?}");
            let (status, again) = get(gateway, "echo", "/").await?;
            ensure!((status, &again) == (200, &first), "{status}: {again}");
            ensure!(only(gateway, "echo").await?.id == before.id);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stopped_replica_keeps_its_files_and_its_address() -> anyhow::Result<()> {
    let text = box_with("sleep = { frozen = \"500ms\", stopped = \"1h\" }\n")?.replace("min = 1", "min = 0");
    with(Engine::Embedded, &text, async |gateway, _| {
        ensure!(get(gateway, "box", "/").await?.0 == 200);
        let before = only(gateway, "box").await?;
        let wrote = outside::exec(gateway, &before.id, &["/bin/busybox", "touch", "/www/kept"]).await?;
        ensure!(wrote.code == 0, "{wrote:?}");
        gateway.sleep("box").await?;
        eventually("it is stopped", async || Ok(only(gateway, "box").await?.phase == "stopped")).await?;
        let gone = outside::init(gateway, &before.id).await;
        let runs = gone.is_ok_and(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists());
        ensure!(!runs, "its process runs");
        ensure!(get(gateway, "box", "/kept").await?.0 == 200, "its file is there");
        let after = only(gateway, "box").await?;
        ensure!((&after.id, &after.address) == (&before.id, &before.address), "{after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn replicas_outlive_their_gateway_and_ends_are_known() -> anyhow::Result<()> {
    let text = echo("scaling.min = 2\n");
    with(Engine::Embedded, &text, async |gateway, _| {
        eventually("two are ready", async || {
            let all = replicas(gateway, "echo").await?;
            Ok(all.iter().filter(|replica| replica.phase == "ready").count() == 2)
        })
        .await?;
        let before = replicas(gateway, "echo").await?;
        gateway.crash().await?;
        for replica in &before {
            ensure!(ask(replica, "/").await? == 200, "{} serves on", replica.id);
        }
        // One ends while nobody looks; its answer may be lost with it.
        drop(ask(&before[0], "/exit?code=7").await);
        eventually("it has ended", async || {
            Ok(outside::exit_code(gateway, &before[0].id).await.is_ok_and(|code| code == 7))
        })
        .await?;
        gateway.start_again().await?;
        ensure!(get(gateway, "echo", "/").await?.0 == 200);
        let now = replicas(gateway, "echo").await?;
        ensure!(now.iter().any(|replica| replica.id == before[1].id && replica.phase == "ready"), "{now:?}");
        eventually("how the other ended is known", async || {
            let failure = gateway.explain("echo").await?.last_failure;
            Ok(failure.is_some_and(|f| f.replica == before[0].id && f.cause.contains("exit code 7")))
        })
        .await?;
        eventually("there are two again", async || {
            let all = replicas(gateway, "echo").await?;
            Ok(all.iter().filter(|replica| replica.phase == "ready").count() == 2)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_of_a_gateway_that_was_killed() -> anyhow::Result<()> {
    let text = format!(
        "{}resources.scratch = \"memory\"\nvolumes = [\"kept:/kept\", {{ target = \"/memory\", tmpfs = \"1MiB\" }}]\n[services.echo]\nimage = \"@echo@\"\nscaling.min = 2\n[services.asleep]\nimage = \"@echo@\"\nsleep = {{ frozen = \"1h\" }}\n",
        box_with("")?
    );
    with(Engine::Embedded, &text, async |gateway, _| {
        eventually("all are ready", async || {
            let all = [replicas(gateway, "box").await?, replicas(gateway, "echo").await?].concat();
            Ok(all.iter().filter(|replica| replica.phase == "ready").count() == 3)
        })
        .await?;
        ensure!(get(gateway, "asleep", "/").await?.0 == 200);
        gateway.sleep("asleep").await?;
        gateway.crash().await?;
        let instance = gateway.instance()?;
        let there = Remains::of(&instance, gateway.state());
        ensure!(there.processes.len() >= 8, "four shims and what they run: {there:?}");
        ensure!(there.namespaces.len() >= 4 && there.cgroups.len() >= 4, "{there:?}");
        ensure!(there.links.len() >= 5 && !there.mounts.is_empty(), "{there:?}");
        purge(gateway.state(), &instance).await?;
        let left = Remains::of(&instance, gateway.state());
        ensure!(left.is_empty(), "{left:?}");
        // The next one begins anew.
        gateway.start_again().await?;
        ensure!(get(gateway, "asleep", "/").await?.0 == 200);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_was_printed_while_no_gateway_ran_is_there() -> anyhow::Result<()> {
    let text = box_with("")?;
    with(Engine::Embedded, &text, async |gateway, _| {
        ensure!(get(gateway, "box", "/?before").await?.0 == 200);
        let replica = only(gateway, "box").await?;
        gateway.crash().await?;
        ensure!(ask(&replica, "/?between").await? == 200);
        gateway.start_again().await?;
        ensure!(get(gateway, "box", "/?after").await?.0 == 200);
        eventually("the log has all three", async || {
            let log = tidegate(gateway, &["logs", "box"])?;
            Ok(log.matches("url:/").count() >= 3)
        })
        .await
    })
    .await
}
