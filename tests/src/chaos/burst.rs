//! Many requests at one instant, each over a connection of its own.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::load::{Aim, Sample, Tally};

/// Sends so many requests at once and waits for all; a client gives up after the aim's timeout by closing its connection.
pub async fn burst(aim: &Aim, count: usize) -> Tally {
    let mut clients: JoinSet<Sample> = (0..count)
        .map(|number| {
            let (address, limit, path) = (aim.address, aim.timeout, aim.path.clone());
            let host = aim.hosts[number % aim.hosts.len()].clone();
            async move {
                let begun = Instant::now();
                let asked = timeout(limit, ask(address, &host, &path)).await;
                let error = asked.unwrap_or_else(|_| Err("timeout".into())).err();
                Sample { begun, took: begun.elapsed(), error }
            }
        })
        .collect();
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        tally.samples.extend(client.ok());
    }
    tally
}

async fn ask(address: std::net::SocketAddr, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("connect or send: {}", error.kind());
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(|error| format!("read: {}", error.kind()))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => {
            let reason = answer.split("\"reason\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let again = if answer.to_ascii_lowercase().contains("\r\nretry-after:") {
                " with Retry-After"
            } else {
                ""
            };
            Err(format!("{status} {}{again}", reason.unwrap_or("without a reason")))
        }
        None => Err("closed without an answer".into()),
    }
}
