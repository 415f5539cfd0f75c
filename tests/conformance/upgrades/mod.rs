//! Twenty thousand upgrades against a backend that answers at once, 101 and its first frame in one piece, while both cores are
//! busy (F18): not one may close early or lose a byte.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, ensure};
use e2e::process::Gateway;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Duration, timeout},
};

use crate::{Tally, file};

const UPGRADES: usize = 20_000;

/// So many at a time that both cores always have something to do.
const AT_ONCE: usize = 64;

/// Failures that are told one by one.
const TOLD: usize = 10;

const BOUND: Duration = Duration::from_secs(20);

const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: api.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The answer and a text frame right behind it.
const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05first";

const FIRST: &[u8] = b"\x81\x05first";

/// A text frame of a client, and what it is at the other end.
const SAID: &[u8] = b"\x81\x82\0\0\0\0hi";

/// Runs them all; every upgrade is a case.
pub(crate) async fn run() -> anyhow::Result<Tally> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let file = file("[services.api]\n", listener.local_addr()?)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(backend(listener));
    let gateway = Gateway::start(file.path()).await.context("the gateway")?;
    let (mut tally, mut running) = (Tally::default(), JoinSet::new());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    for number in 0..UPGRADES {
        let place = Arc::clone(&places).acquire_owned().await?;
        let address = gateway.address();
        running.spawn(async move {
            let outcome = timeout(BOUND, upgrade(address)).await;
            drop(place);
            (number, outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not come to its end"))))
        });
        while let Some(ended) = running.try_join_next() {
            note(&mut tally, ended?);
        }
    }
    while let Some(ended) = running.join_next().await {
        note(&mut tally, ended?);
    }
    gateway.stop().await?;
    Ok(tally)
}

fn note(tally: &mut Tally, (number, outcome): (usize, anyhow::Result<()>)) {
    tally.cases += 1;
    if let Err(error) = outcome {
        tally.failed += 1;
        if tally.failed <= TOLD {
            println!("FAILED upgrade {number}: {error:#}");
        }
    }
}

async fn upgrade(gateway: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    stream.write_all(ASK).await?;
    let head = head(&mut stream).await?;
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "answered {:?}", String::from_utf8_lossy(&head));
    let mut first = [0; FIRST.len()];
    stream.read_exact(&mut first).await.context("closed before the first frame")?;
    ensure!(first == FIRST, "the first frame is {first:?}");
    stream.write_all(SAID).await?;
    let mut echo = [0; SAID.len()];
    stream.read_exact(&mut echo).await.context("closed before the echo")?;
    ensure!(echo == SAID, "the echo is {echo:?}");
    stream.shutdown().await?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    ensure!(rest.is_empty(), "behind the echo: {rest:?}");
    Ok(())
}

/// A head and not a byte more.
async fn head(stream: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.context("closed within the head")?);
    }
    Ok(head)
}

async fn backend(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.spawn(async move {
            if head(&mut stream).await.is_ok() && stream.write_all(ANSWER).await.is_ok() {
                let (mut read, mut write) = stream.split();
                // The client ends it.
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
