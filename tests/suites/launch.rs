//! What a service's file says of how it is to run, looked at from inside its container: the same on each engine.

use std::{path::Path, process::Command};

use anyhow::{Context, ensure};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use e2e::{
    debian::recipes,
    engine::{Engine, on_each},
    eventually::eventually,
    outside,
    process::Gateway,
};

/// A value that must be seen in the container and nowhere on the engine's disk.
const CANARY: &str = "canary-c0ffee-d15ea5e";

/// A service of busybox's, one replica of which always runs.
fn box_with(rest: &str) -> anyhow::Result<String> {
    let image = recipes::BUSYBOX.archive()?;
    Ok(format!(
        "[services.box]\nimage = \"docker-archive:{}\"\nscaling = {{ min = 1, max = 1 }}\n{rest}",
        image.display()
    ))
}

/// The replica that is ready, once there is one other than `before`.
async fn replica(gateway: &Gateway, before: Option<&str>) -> anyhow::Result<String> {
    let mut found = None;
    eventually("the box is ready", async || {
        let replicas = gateway.explain("box").await?.status.replicas;
        let ready = replicas.into_iter().find(|replica| replica.phase == "ready").map(|replica| replica.id);
        found = ready.filter(|id| Some(id.as_str()) != before);
        Ok(found.is_some())
    })
    .await?;
    found.context("a replica")
}

/// Runs a line of shell in it: exit code and output.
async fn sh(gateway: &Gateway, replica: &str, line: &str) -> anyhow::Result<(i64, String)> {
    let done = outside::exec(gateway, replica, &["/bin/busybox", "sh", "-c", line]).await?;
    Ok((done.code, done.output.trim().to_owned()))
}

/// Lines of shell and what each must print.
async fn prints(gateway: &Gateway, replica: &str, rows: &[(&str, &str)]) -> anyhow::Result<()> {
    for (line, expected) in rows {
        let (code, output) = sh(gateway, replica, line).await?;
        ensure!((code, output.as_str()) == (0, *expected), "{line}: {code}: {output:?}, not {expected:?}");
    }
    Ok(())
}

/// A variable in the environment of the service's own processes, whichever numbers they have.
fn variable(name: &str) -> String {
    let found = format!("/bin/busybox tr '\\0' '\\n' <$p/environ | /bin/busybox grep ^{name}=");
    // The brackets keep the line from finding itself.
    let each = format!("/bin/busybox grep -q '[h]ttpd' $p/cmdline 2>/dev/null && {found}");
    format!("for p in /proc/[0-9]*; do {each}; done | /bin/busybox sort -u")
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> anyhow::Result<String> {
    let found = Command::new("grep").args(["-rlaFs", text]).arg(folder).output()?;
    Ok(String::from_utf8_lossy(&found.stdout).into_owned())
}

#[tokio::test]
async fn the_environment_is_the_services_own() -> anyhow::Result<()> {
    let text = box_with("port = 80\nenv = { GREETING = \"hello there\" }\nworking_dir = \"/www\"\n")?;
    on_each(&text, async |gateway, _| {
        let id = replica(gateway, None).await?;
        let greeting = variable("GREETING");
        let port = variable("PORT");
        let rows = [
            (greeting.as_str(), "GREETING=hello there"),
            (&port, "PORT=80"),
            ("echo $GREETING", "hello there"),
            ("/bin/busybox pwd", "/www"),
        ];
        prints(gateway, &id, &rows).await
    })
    .await
}

#[tokio::test]
async fn secrets_are_in_memory_only() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{CANARY}\n"))?;
    let at = secret.display();
    let text = box_with(&format!(
        "secrets = {{ TOKEN = \"{at}\" }}\nsecret_files = {{ \"db-password\" = \"{at}\" }}\n"
    ))?;
    on_each(&text, async |gateway, _| {
        let id = replica(gateway, None).await?;
        let token = variable("TOKEN");
        let rows = [
            (token.as_str(), "TOKEN=canary-c0ffee-d15ea5e"),
            ("/bin/busybox cat /run/secrets/db-password", CANARY),
        ];
        prints(gateway, &id, &rows).await?;
        let found = holding(gateway.state(), CANARY)?;
        ensure!(found.is_empty(), "the secret is in {found}");
        gateway.crash().await?;
        gateway.start_again().await?;
        let found = holding(gateway.state(), CANARY)?;
        ensure!(found.is_empty(), "the secret is in {found}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn volumes_hold_what_is_to_stay() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let host = folder.path();
    std::fs::write(host.join("read"), "from outside\n")?;
    std::fs::create_dir(host.join("both"))?;
    let name = format!("tg-test-{}", std::process::id());
    let allowed = host.display();
    let text = format!(
        "gateway.allow_mounts = [\"{allowed}\"]\n{}",
        box_with(&format!(
            "volumes = [\"{allowed}/read:/in:ro\", \"{allowed}/both:/both\", \"{name}:/named\", {{ target = \"/memory\", tmpfs = \"4MiB\" }}]\n"
        ))?
    );
    let tested = on_each(&text, async |gateway, _| {
        let first = replica(gateway, None).await?;
        prints(gateway, &first, &[("/bin/busybox cat /in", "from outside"), ("echo inside >/both/file", "")])
            .await?;
        ensure!(sh(gateway, &first, "echo more >/in").await?.0 != 0, "a read-only mount was written to");
        ensure!(std::fs::read_to_string(host.join("both/file"))? == "inside\n");
        prints(gateway, &first, &[("echo kept >/named/file; echo gone >/memory/file", "")]).await?;
        let full = "/bin/busybox dd if=/dev/zero of=/memory/full bs=1M count=8";
        ensure!(sh(gateway, &first, full).await?.0 != 0, "more than 4 MiB fit into memory");
        outside::kill(gateway, &first).await?;
        let second = replica(gateway, Some(&first)).await?;
        let rows = [("/bin/busybox cat /named/file", "kept"), ("/bin/busybox ls /memory", "")];
        prints(gateway, &second, &rows).await
    })
    .await;
    // Named volumes outlive those who use them; Docker's go by hand.
    if Engine::all()?.contains(&Engine::Docker) {
        let docker = bollard::Docker::connect_with_local_defaults()?;
        let all = docker.list_volumes(None::<ListVolumesOptions>).await?.volumes.unwrap_or_default();
        for volume in all.into_iter().filter(|volume| volume.name.contains(&name)) {
            docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await?;
        }
    }
    tested
}

#[tokio::test]
async fn a_probe_runs_a_command_inside() -> anyhow::Result<()> {
    let text = box_with(
        "health = { probe = { exec = [\"/bin/busybox\", \"test\", \"-e\", \"/healthy\"] }, interval = \"200ms\" }\ncommand = [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox touch /healthy; exec /bin/busybox httpd -f -p 80 -h /www\"]\n",
    )?;
    on_each(&text, async |gateway, _| {
        let first = replica(gateway, None).await?;
        prints(gateway, &first, &[("/bin/busybox rm /healthy", "")]).await?;
        replica(gateway, Some(&first)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_run_is_named() -> anyhow::Result<()> {
    let image = recipes::BUSYBOX.archive()?;
    let text = format!(
        "[services.box]\nimage = \"docker-archive:{}\"\ncommand = [\"/no/such/program\"]\n",
        image.display()
    );
    on_each(&text, async |gateway, _| {
        ensure!(gateway.wake("box").await.is_err(), "it started");
        eventually("explain names the program", async || {
            let failure = gateway.explain("box").await?.last_failure;
            // Docker's init prints it, our own tells the engine.
            let told = failure.map(|failure| format!("{} {}", failure.cause, failure.log.join(" ")));
            Ok(told.is_some_and(|told| told.contains("/no/such/program")))
        })
        .await
    })
    .await
}

/// What the status of all processes in the container says in a field.
fn status(field: &str) -> String {
    format!("/bin/busybox awk '/^{field}:/ {{ print $2 }}' /proc/[0-9]*/status | /bin/busybox sort -u")
}

#[tokio::test]
async fn every_replica_is_locked_in() -> anyhow::Result<()> {
    on_each(&box_with("")?, async |gateway, _| {
        let id = replica(gateway, None).await?;
        let (privileges, filter) = (status("NoNewPrivs"), status("Seccomp"));
        prints(gateway, &id, &[(&privileges, "1"), (&filter, "2"), ("/bin/busybox id -u", "0")]).await?;
        let (_, held) = sh(gateway, &id, &status("CapEff")).await?;
        // Neither CAP_SYS_ADMIN (21) nor CAP_NET_ADMIN (12) nor CAP_NET_RAW (13).
        let held = u64::from_str_radix(&held, 16)?;
        ensure!(held & (1 << 21 | 1 << 12 | 1 << 13) == 0, "it holds {held:x}");
        // What the engine does without for itself is no business of the replica's.
        let huge_pages = "/bin/busybox awk '/^THP_enabled:/ { print $2 }' /proc/self/status";
        prints(gateway, &id, &[(huge_pages, "1")]).await?;
        for line in [
            "/bin/busybox mount -t tmpfs none /mnt",
            "echo 1 >/proc/sys/kernel/sysrq",
            "echo c >/proc/sysrq-trigger",
        ] {
            ensure!(sh(gateway, &id, line).await?.0 != 0, "{line}: was let");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_strict_replica_can_write_to_tmp_only() -> anyhow::Result<()> {
    let text = box_with(
        "profile = \"strict\"\nuser = \"65534:65534\"\nport = 8080\ncommand = [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n",
    )?;
    on_each(&text, async |gateway, _| {
        let id = replica(gateway, None).await?;
        let (held, filter) = (status("CapEff"), status("Seccomp"));
        let rows = [
            ("/bin/busybox id -u", "65534"),
            (&held, "0000000000000000"),
            (&filter, "2"),
            ("echo here >/tmp/file && /bin/busybox cat /tmp/file", "here"),
        ];
        prints(gateway, &id, &rows).await?;
        for line in ["echo x >/file", "echo x >/www/index.html", "echo x >/etc/passwd"] {
            ensure!(sh(gateway, &id, line).await?.0 != 0, "{line}: was let");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn processes_are_counted() -> anyhow::Result<()> {
    on_each(&box_with("resources = { pids = 16 }\n")?, async |gateway, _| {
        let id = replica(gateway, None).await?;
        let line =
            "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do /bin/busybox sleep 2 & done; wait";
        let (_, output) = sh(gateway, &id, line).await?;
        ensure!(output.contains("fork"), "more than 16 processes: {output:?}");
        Ok(())
    })
    .await
}
