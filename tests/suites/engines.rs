//! The main job on real engines, Docker's and our own, through a real gateway process: a file of services in, elastic
//! containers out. Fails, never skips, where an engine or the sample service's image is missing (scripts/image builds it).

use std::{collections::BTreeSet, process::Command, time::Duration};

use anyhow::{Context, ensure};
use e2e::{
    debian::recipes,
    engine::{Engine, File, on_each},
    eventually::eventually,
    outside,
    process::Gateway,
};
use tidegate::control::status::ServiceStatus;
use tidegate_loadtest::{Options, plan::Plan};

const ECHO: &str = r#"
[services.echo]
image = "@echo@"
"#;

/// Runs a test on each engine, with a gateway of its own. `rest` is appended to the echo service.
async fn with(
    rest: &str,
    test: impl AsyncFnMut(&mut Gateway, &File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    on_each(&format!("{ECHO}{rest}"), test).await
}

async fn echo(gateway: &Gateway) -> anyhow::Result<ServiceStatus> {
    gateway.services().await?.into_iter().next().context("the service")
}

/// A request; status and body.
async fn get(gateway: &Gateway, path: &str) -> anyhow::Result<(u16, String)> {
    let address = gateway.address().to_string();
    let stream = tokio::net::TcpStream::connect(&address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    let request = http::Request::get(path).header("host", "echo.localhost");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
        anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => anyhow::bail!("the connection ended: {ended:?}"),
    }
}

async fn replicas(gateway: &Gateway, phase: &str) -> anyhow::Result<BTreeSet<String>> {
    let replicas = echo(gateway).await?.replicas;
    Ok(replicas.into_iter().filter(|replica| replica.phase == phase).map(|replica| replica.id).collect())
}

#[tokio::test]
async fn a_container_starts_on_the_first_request_and_goes_when_idle() -> anyhow::Result<()> {
    with("[services.echo.scaling]\nidle = \"2s\"\n", async |gateway, _file| {
        ensure!(echo(gateway).await?.state == "cold", "nothing runs before the first request");
        let (status, body) = get(gateway, "/").await?;
        ensure!((status, body.contains("echo on")) == (200, true), "{status}: {body}");
        ensure!(replicas(gateway, "ready").await?.len() == 1);
        eventually("nothing is left", async || Ok(echo(gateway).await?.replicas.is_empty())).await?;
        ensure!(gateway.engine().await?.list().await?.is_empty(), "nothing is left in the engine either");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn replicas_multiply_with_load_and_no_request_is_lost() -> anyhow::Result<()> {
    let rest = "env = { SERVICE_MS = \"50\" }\n[services.echo.scaling]\nconcurrency = 2\nmax = 4\nstable_window = \"6s\"\nidle = \"2s\"\n";
    with(rest, async |gateway, _file| {
        let url = format!("http://{}/", gateway.address());
        let most = std::sync::atomic::AtomicUsize::new(0);
        let load = tidegate_loadtest::run(
            Options::new(url),
            Plan::even(80.0, Duration::from_secs(10)).expect("valid"),
            |_| {},
        );
        let watch = async {
            while let Ok(ready) = replicas(gateway, "ready").await {
                most.fetch_max(ready.len(), std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let report = tokio::select! {
            report = load => report?,
            () = watch => anyhow::bail!("the gateway does not answer"),
        };
        ensure!(report.counts.errors.total() == 0, "{:?}", report.counts.errors);
        let most = most.into_inner();
        ensure!((2..=4).contains(&most), "{most} replicas at most");
        eventually("scaled to zero", async || Ok(echo(gateway).await?.replicas.is_empty())).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_replicas_use_asks_for_more_of_them() -> anyhow::Result<()> {
    let rest = "resources = { memory = \"128MiB\" }\nscaling = { target_memory = 0.5 }\n";
    with(rest, async |gateway, _file| {
        ensure!(get(gateway, "/alloc?mb=90").await?.0 == 200);
        eventually("there are more for that reason", async || {
            ensure!(get(gateway, "/").await?.0 == 200);
            let said = echo(gateway).await?.reason.contains("MiB of memory");
            Ok(said && replicas(gateway, "ready").await?.len() >= 2)
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_was_killed_adopts_what_runs() -> anyhow::Result<()> {
    with("", async |gateway, _file| {
        ensure!(get(gateway, "/").await?.0 == 200);
        let before = replicas(gateway, "ready").await?;
        gateway.crash().await?;
        gateway.start_again().await?;
        ensure!(get(gateway, "/").await?.0 == 200);
        ensure!(replicas(gateway, "ready").await? == before, "the same replica serves on");
        ensure!(
            gateway.metric("tidegate_engine_calls_total", &["call=\"start\""]).await? == 0.0,
            "nothing was started"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_replica_that_dies_is_replaced_while_another_serves() -> anyhow::Result<()> {
    with("[services.echo.scaling]\nmin = 2\nconcurrency = 10\n", async |gateway, _file| {
        eventually("two are ready", async || Ok(replicas(gateway, "ready").await?.len() == 2)).await?;
        let before = replicas(gateway, "ready").await?;
        let url = format!("http://{}/", gateway.address());
        let load = tidegate_loadtest::run(
            Options::new(url),
            Plan::even(50.0, Duration::from_secs(4)).expect("valid"),
            |_| {},
        );
        let kill = async {
            let victim = before.first().context("a victim")?;
            outside::kill(gateway, victim).await
        };
        let (report, killed) = tokio::join!(load, kill);
        killed?;
        let report = report?;
        ensure!(report.counts.errors.total() == 0, "{:?}", report.counts.errors);
        eventually("two are ready again", async || {
            let now = replicas(gateway, "ready").await?;
            Ok(now.len() == 2 && now != before)
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_service_that_cannot_start_says_why_and_is_left_alone() -> anyhow::Result<()> {
    with("env = { FAIL_START = \"1\" }\n", async |gateway, _file| {
        let (status, body) = get(gateway, "/").await?;
        ensure!(status == 503 && body.contains("start_failed"), "{status}: {body}");
        eventually("explain has the last lines", async || {
            let failure = gateway.explain("echo").await?.last_failure;
            Ok(failure
                .is_some_and(|failure| failure.cause.contains("exit code 1") && !failure.log.is_empty()))
        })
        .await?;
        let starts = gateway.metric("tidegate_engine_calls_total", &["call=\"start\""]).await?;
        for _ in 0..20 {
            get(gateway, "/").await?;
        }
        let more = gateway.metric("tidegate_engine_calls_total", &["call=\"start\""]).await? - starts;
        ensure!(more <= 2.0, "20 requests made {more} more starts");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn running_out_of_memory_is_named() -> anyhow::Result<()> {
    with(
        "[services.echo.resources]\nmemory = \"16MiB\"\nreserve = { memory = \"16MiB\" }\n",
        async |gateway, _file| {
            // The request dies with its replica; what counts is what people are told. Docker itself does not always learn why one
            // ended: then the next one is told.
            eventually("explain names it", async || {
                drop(get(gateway, "/alloc?mb=64").await);
                let failure = gateway.explain("echo").await?.last_failure;
                Ok(failure.is_some_and(|failure| failure.cause.contains("out of memory")))
            })
            .await?;
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn a_changed_file_moves_traffic_to_a_new_revision_without_a_lost_request() -> anyhow::Result<()> {
    with("env = { ECHO_NAME = \"one\" }\n", async |gateway, file| {
        ensure!(get(gateway, "/").await?.1.contains("one"));
        let url = format!("http://{}/", gateway.address());
        let load = tidegate_loadtest::run(
            Options::new(url),
            Plan::even(50.0, Duration::from_secs(5)).expect("valid"),
            |_| {},
        );
        let change = async {
            file.write(&format!("{ECHO}env = {{ ECHO_NAME = \"two\" }}\n"))?;
            eventually("the new one answers", async || Ok(get(gateway, "/").await?.1.contains("two"))).await
        };
        let (report, changed) = tokio::join!(load, change);
        changed?;
        ensure!(report?.counts.errors.total() == 0);
        eventually("the old one is gone", async || Ok(echo(gateway).await?.replicas.len() == 1)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_that_is_not_there_is_said_at_once_and_holds_nobody_else_up() -> anyhow::Result<()> {
    let rest = "[services.none]\nimage = \"tidegate-no-such-image:1\"\npull = \"never\"\n";
    with(rest, async |gateway, _| {
        ensure!(get(gateway, "/").await?.0 == 200);
        let none = gateway.explain("none").await?.status;
        ensure!(none.state == "failing" && none.reason.contains("tidegate-no-such-image:1"), "{none:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_container_calls_a_service_by_its_name_and_wakes_it() -> anyhow::Result<()> {
    let caller = recipes::BUSYBOX.archive()?;
    let caller = format!(
        "[services.caller]\nimage = \"docker-archive:{}\"\nscaling.min = 1\nport = 80\n",
        caller.display()
    );
    with(&caller, async |gateway, _file| {
        let ready = async |service: &str| {
            let status = gateway.explain(service).await?.status;
            let ready = status.replicas.into_iter().find(|replica| replica.phase == "ready");
            anyhow::Ok(ready.map(|replica| replica.id))
        };
        eventually("the caller is ready", async || Ok(ready("caller").await?.is_some())).await?;
        let caller = ready("caller").await?.context("the caller")?;
        let call =
            async |url: &str| outside::exec(gateway, &caller, &["/bin/busybox", "wget", "-qO-", url]).await;
        ensure!(ready("echo").await?.is_none(), "nothing runs before the call");
        let called = call("http://echo").await?;
        ensure!(called.code == 0 && called.output.contains("echo on"), "{called:?}");
        ensure!(ready("echo").await?.is_some(), "the call has woken it");
        let itself = call("http://CALLER:80/").await?;
        ensure!(itself.code == 0 && itself.output.contains("busybox"), "{itself:?}");
        let nobody = call("http://nobody").await?;
        ensure!(nobody.code != 0, "{nobody:?}");
        Ok(())
    })
    .await
}

/// Runs `tidegate up` where it must fail; its words.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut command = Command::new(e2e::process::binary()?);
    command.arg("up").args(arguments).env("TIDEGATE_GATEWAY__METRICS", "off");
    let output = command.envs(environment.iter().copied()).output()?;
    ensure!(!output.status.success(), "it started");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn what_keeps_a_gateway_from_starting_is_said_at_once() -> anyhow::Result<()> {
    with("", async |gateway, file| {
        let path = file.path();
        let config = path.to_str().context("a path")?;
        let held = gateway.state().to_str().context("a path")?;
        let words =
            refused(&["-c", config, "--state", held], &[("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:0")])?;
        ensure!(words.contains(&format!("process {}", gateway.pid())), "a second gateway: {words}");

        let other = tempfile::tempdir()?;
        let state = other.path().to_str().context("a path")?;
        let taken = gateway.address().to_string();
        let words = refused(&["-c", config, "--state", state], &[("TIDEGATE_GATEWAY__LISTEN", &taken)])?;
        ensure!(words.contains(&taken) && words.contains("another program"), "a port taken: {words}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_named() -> anyhow::Result<()> {
    // Without a host: one that a file names may be away for a moment, and the gateway serves the others.
    let folder = tempfile::tempdir()?;
    let (file, state) = (folder.path().join("tidegate.toml"), folder.path().join("state"));
    std::fs::write(&file, ECHO.replace("@echo@", "echo:1"))?;
    let arguments = ["-c", file.to_str().context("a path")?, "--state", state.to_str().context("a path")?];
    let nowhere =
        [("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:0"), ("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    let words = refused(&arguments, &nowhere)?;
    ensure!(words.contains("/nowhere/docker.sock"), "{words}");
    Ok(())
}

#[tokio::test]
async fn a_state_stays_with_its_engine() -> anyhow::Result<()> {
    with("", async |gateway, file| {
        gateway.terminate().await?;
        let other = match gateway.runs_on() {
            Engine::Docker => Engine::Embedded,
            Engine::Embedded => Engine::Docker,
        };
        let path = file.folder().join("other.toml");
        std::fs::write(&path, other.on(&ECHO.replace("@echo@", "echo:1"), ""))?;
        let state = gateway.state().to_str().context("a path")?;
        let arguments = ["-c", path.to_str().context("a path")?, "--state", state];
        let words = refused(&arguments, &[("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:0")])?;
        ensure!(words.contains("doctor") || words.contains("docker rm"), "{words}");
        gateway.start_again().await
    })
    .await
}
