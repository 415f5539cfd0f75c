//! `make bench-stampede`: a thousand first requests at once to a sleeping service that takes a second to start.
//! Each must be answered, and no more containers started than the load needs.

use std::time::Duration;

use anyhow::ensure;
use e2e::{engine::Engine, process::Gateway};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

const CLIENTS: usize = 1000;

const CONFIG: &str = r#"
[services.echo]
image = "tidegate-echo:bench"
pull = "never"
env = { START_DELAY_MS = "1000" }
[services.echo.scaling]
concurrency = 100
max = 20
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("tidegate.toml");
    std::fs::write(&config, Engine::Docker.on(CONFIG, ""))?;
    let gateway = Gateway::start(&config).await?;
    let address = gateway.address();
    let mut clients: JoinSet<anyhow::Result<Duration>> = (0..CLIENTS)
        .map(|_| async move {
            let begun = Instant::now();
            request(address).await?;
            Ok(begun.elapsed())
        })
        .collect();
    let (mut times, mut errors) = (Vec::with_capacity(CLIENTS), 0_usize);
    while let Some(client) = clients.join_next().await {
        match client? {
            Ok(time) => times.push(time),
            Err(error) => {
                if errors == 0 {
                    eprintln!("a client failed: {error:#}");
                }
                errors += 1;
            }
        }
    }
    let starts = gateway.metric("tidegate_engine_calls_total", &["call=\"start\""]).await?;
    gateway.stop().await?;
    times.sort();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    println!(
        "stampede clients={CLIENTS} errors={errors} starts={starts} p99_ms={:.0}",
        p99.as_secs_f64() * 1e3
    );
    ensure!(errors == 0, "{errors} of {CLIENTS} requests failed");
    Ok(())
}

async fn request(address: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: echo.localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let status = answer.get(..12).unwrap_or(&answer);
    ensure!(status == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&answer));
    Ok(())
}
