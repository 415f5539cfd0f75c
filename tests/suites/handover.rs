//! Real processes that pass their sockets on, and sockets that systemd passes in, with real engines.
//! Fails, never skips, without an engine and the sample service's image (scripts/image builds it).

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd,
    process::{Output, Stdio},
};

use anyhow::{Context, ensure};
use e2e::{
    client::{Session, Wire, status},
    engine::{Engine, File},
    eventually::soon,
    process::{Gateway, binary},
    world::get,
};
use futures_util::future::join_all;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const ECHO: &str = "services.echo = { image = \"@echo@\" }";

/// Asks again and again, on a connection as long as the gateway lets it; errors and answers other than 200, and the rest.
async fn load(address: SocketAddr, over: &CancellationToken) -> (usize, Vec<String>) {
    let (mut session, mut count, mut bad) = (Session::http1(address).await, 0, Vec::new());
    while !over.is_cancelled() {
        match session.ask(get("echo", "/")).await {
            Ok(answer) if answer.status == 200 => {
                count += 1;
                if answer.header("connection") != Some("close") {
                    continue;
                }
            }
            Ok(answer) => bad.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => bad.push(error.to_string()),
        }
        session = Session::http1(address).await;
    }
    (count, bad)
}

async fn tunnel(address: SocketAddr) -> anyhow::Result<Wire> {
    let mut wire = Wire::connect(address).await;
    wire.send("GET /ws HTTP/1.1\r\nhost: echo.localhost\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n")
        .await;
    let head = wire.head().await.context("an answer")?;
    ensure!(status(&head) == 101, "{head}");
    Ok(wire)
}

#[tokio::test]
async fn sigquit_replaces_the_process_and_nobody_notices() -> anyhow::Result<()> {
    for engine in Engine::all()? {
        replaced(engine).await.with_context(|| format!("on the engine {engine}"))?;
    }
    Ok(())
}

async fn replaced(engine: Engine) -> anyhow::Result<()> {
    let file = File::new(engine, &format!("gateway.drain = \"5m\"\n{ECHO}"))?;
    let mut gateway = Gateway::start(&file.path()).await?;
    let (address, over) = (gateway.address(), CancellationToken::new());
    let mut wire = tunnel(address).await?;
    let first = gateway.pid();
    let upgrades = async {
        let mut done = Ok(());
        // `UPGRADES=20 cargo test -p e2e --test handover` takes a little longer.
        let wanted = std::env::var("UPGRADES").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
        for _ in 0..wanted {
            done = gateway.upgrade().await;
            if done.is_err() {
                break;
            }
        }
        over.cancel();
        done
    };
    let (done, loads) = tokio::join!(upgrades, join_all((0..4).map(|_| load(address, &over))));
    let tested = async {
        done?;
        let (count, bad) = loads.into_iter().fold((0, Vec::new()), |(count, mut all), (more, bad)| {
            all.extend(bad);
            (count + more, all)
        });
        ensure!(count > 0 && bad.is_empty(), "{count} answers, and {bad:?}");
        ensure!(gateway.pid() != first, "another process is the gateway");
        wire.send("ping").await;
        ensure!(wire.exactly(4).await == "ping", "the tunnel of the first process lives");
        let service = gateway.services().await?.into_iter().next().context("the service")?;
        ensure!(service.replicas.len() == 1 && service.replicas[0].phase == "ready", "{service:?}");
        // A successor that is killed leaves what the next start finds; the tunnel is the first process's.
        gateway.crash().await?;
        wire.send("pong").await;
        ensure!(wire.exactly(4).await == "pong", "the tunnel of the first process lives");
        Ok(())
    }
    .await;
    drop(wire);
    tested?;
    gateway.start_again().await?;
    gateway.stop().await
}

/// `tidegate up` with a socket as systemd passes it: as descriptor 3, which is said to be for this process.
fn activated(file: &File, socket: &TcpListener, listen: &str) -> anyhow::Result<Child> {
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let passed = socket.as_raw_fd();
    let script =
        format!("export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$0\" \"$@\" 3<&{passed}");
    let child = Command::new("bash")
        .arg("-c")
        .arg(script)
        .arg(binary()?)
        .args(["up", "--config"])
        .arg(file.path())
        .arg("--state")
        .arg(file.folder().join("state"))
        .env("TIDEGATE_GATEWAY__LISTEN", listen)
        .env("TIDEGATE_GATEWAY__METRICS", "off")
        .env("TIDEGATE_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(child)
}

#[tokio::test]
async fn a_connect_waits_in_systemds_socket() -> anyhow::Result<()> {
    let file = File::new(Engine::Docker, ECHO)?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    // Nobody accepts yet; the request is sent all the same.
    let mut wire = Wire::connect(address).await;
    wire.send("GET /none HTTP/1.1\r\nhost: nobody.example\r\nconnection: close\r\n\r\n").await;
    for _ in 0..2 {
        let mut child = activated(&file, &socket, &address.to_string())?;
        let head = wire.head().await.context("an answer")?;
        ensure!(status(&head) == 404, "{head}");
        let pid = i32::try_from(child.id().context("a process")?)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        let ended = soon("the gateway's end", child.wait()).await?;
        ensure!(ended.success(), "{ended}");
        // The socket is still there, and takes connects for the next one.
        wire = Wire::connect(address).await;
        wire.send("GET /none HTTP/1.1\r\nhost: nobody.example\r\nconnection: close\r\n\r\n").await;
    }
    // Its only service has answered, and its container runs on.
    e2e::process::clear_docker(&file.folder().join("state")).await
}

#[tokio::test]
async fn a_socket_that_fits_no_address_is_named() -> anyhow::Result<()> {
    let file = File::new(Engine::Docker, ECHO)?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?.to_string();
    let child = activated(&file, &socket, "127.0.0.1:0")?;
    let Output { status, stderr, .. } = soon("an end", child.wait_with_output()).await?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(!status.success(), "it serves");
    for word in [&address, "127.0.0.1:0", "(web)", "ListenStream="] {
        ensure!(said.contains(word), "{word} in: {said}");
    }
    Ok(())
}
