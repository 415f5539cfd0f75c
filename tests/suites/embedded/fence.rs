//! What a replica must not do: reach the cloud's metadata or its neighbours, fill the disk, leave zombies to nobody.

use anyhow::ensure;
use e2e::{
    debian::recipes,
    engine::{Engine, with},
    eventually::eventually,
    outside,
    process::Gateway,
};

use crate::{box_with, get, only, replicas};

async fn sh(gateway: &Gateway, replica: &str, line: &str) -> anyhow::Result<(i64, String)> {
    let done = outside::exec(gateway, replica, &["/bin/busybox", "sh", "-c", line]).await?;
    Ok((done.code, done.output.trim().to_owned()))
}

#[tokio::test]
async fn the_clouds_metadata_is_out_of_reach() -> anyhow::Result<()> {
    with(Engine::Embedded, &box_with("")?, async |gateway, _| {
        ensure!(get(gateway, "box", "/").await?.0 == 200);
        let id = only(gateway, "box").await?.id;
        let (code, said) = sh(gateway, &id, "/bin/busybox wget -qO- http://169.254.169.254/").await?;
        // Refused at once: a name for it other than silence.
        let refused =
            ["refused", "unreachable", "ermission", "prohibited"].iter().any(|word| said.contains(word));
        ensure!(code != 0 && refused, "{code}: {said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn replicas_do_not_reach_each_other() -> anyhow::Result<()> {
    let image = recipes::BUSYBOX.archive()?;
    let other =
        format!("[services.other]\nimage = \"docker-archive:{}\"\nscaling.min = 1\n", image.display());
    with(Engine::Embedded, &format!("{}{other}", box_with("")?), async |gateway, _| {
        eventually("both are ready", async || {
            let all = [replicas(gateway, "box").await?, replicas(gateway, "other").await?].concat();
            Ok(all.len() == 2 && all.iter().all(|replica| replica.phase == "ready"))
        })
        .await?;
        let (id, other) = (only(gateway, "box").await?.id, only(gateway, "other").await?.address);
        let url = format!("http://{}/", other.unwrap_or_default());
        let (code, said) =
            sh(gateway, &id, &format!("/bin/busybox timeout 3 /bin/busybox wget -qO- {url}")).await?;
        ensure!(code != 0, "{url}: {said}");
        let (code, said) = sh(gateway, &id, "/bin/busybox wget -qO- http://other/").await?;
        ensure!(code == 0 && said.contains("a page"), "by its name: {said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_replica_writes_is_bounded() -> anyhow::Result<()> {
    for scratch in ["disk", "memory"] {
        let text = box_with(&format!("resources = {{ disk = \"8MiB\", scratch = \"{scratch}\" }}\n"))?;
        with(Engine::Embedded, &text, async |gateway, _| {
            let (status, body) = get(gateway, "box", "/").await?;
            ensure!(status == 200, "{body}: {:?}", gateway.explain("box").await?.last_failure);
            let id = only(gateway, "box").await?.id;
            let write = |count: u32| format!("/bin/busybox dd if=/dev/zero of=/big bs=1M count={count}");
            let (code, said) = sh(gateway, &id, &write(4)).await?;
            ensure!(code == 0, "{scratch}: 4 MiB fit: {said}");
            let (code, said) = sh(gateway, &id, &write(64)).await?;
            ensure!(code != 0 && said.contains("No space left"), "{scratch}: 64 MiB: {code}: {said}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn orphans_are_reaped() -> anyhow::Result<()> {
    with(Engine::Embedded, &box_with("")?, async |gateway, _| {
        ensure!(get(gateway, "box", "/").await?.0 == 200);
        let id = only(gateway, "box").await?.id;
        for _ in 0..5 {
            sh(gateway, &id, "(/bin/busybox sh -c '/bin/busybox true & exec /bin/busybox true' &)").await?;
        }
        eventually("no zombie is left", async || {
            let (_, states) = sh(gateway, &id, "/bin/busybox cat /proc/[0-9]*/stat").await?;
            Ok(!states.contains(") Z "))
        })
        .await
    })
    .await
}
