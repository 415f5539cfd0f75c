//! `make bench-wake`: from asleep to the first byte. ENGINE=docker: what Tidegate adds to a container's start ([`floor`]).
//! ENGINE=embedded: our own engine and Docker's, each behind a gateway of its own, in turns ([`pair`]).

mod floor;
mod pair;

use anyhow::ensure;
use e2e::{engine::Engine, process::Gateway};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let cycles = std::env::var("N").ok().filter(|n| !n.is_empty()).map(|n| n.parse()).transpose()?;
    match Engine::named()?.unwrap_or(Engine::Docker) {
        Engine::Docker => floor::run(cycles.unwrap_or(200)).await,
        Engine::Embedded => pair::run(cycles.unwrap_or(1000)).await,
    }
}

/// A file with the sample service, and what is appended to it.
fn config(engine: Engine, image: &str, rest: &str) -> String {
    let text = format!(
        "[services.echo]\nimage = \"{image}\"\npull = \"never\"\nscaling = {{ max = 1, idle = \"10m\" }}\n{rest}"
    );
    engine.on(&text, "")
}

/// A gateway with this file, and the folder that the file is in.
async fn started(config: &str) -> anyhow::Result<(Gateway, TempDir)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, config)?;
    Ok((Gateway::start(&file).await?, folder))
}

/// Sends a request and waits for the first byte of a good answer.
async fn first_byte(address: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: echo.localhost\r\nconnection: close\r\n\r\n").await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    ensure!(&head == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&head));
    Ok(())
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
