//! What is the embedded engine's own, through a real gateway process: sleep, crashes, what is left on the machine, and the
//! limits that Docker does not know. What is the same on each engine is in the suites `engines`, `images` and `launch`.
//! Needs root; fails, never skips, without it.

mod fence;
mod life;

use anyhow::Context;
use e2e::{
    client::{Session, empty},
    debian::recipes,
    process::Gateway,
};
use tidegate::control::status::ReplicaStatus;

/// The sample service, and what is appended to it.
fn echo(rest: &str) -> String {
    format!("[services.echo]\nimage = \"@echo@\"\n{rest}")
}

/// A service of busybox's with one replica.
fn box_with(rest: &str) -> anyhow::Result<String> {
    let image = recipes::BUSYBOX.archive()?;
    Ok(format!(
        "[services.box]\nimage = \"docker-archive:{}\"\nscaling = {{ min = 1, max = 1 }}\n{rest}",
        image.display()
    ))
}

/// Asks a service through its gateway.
async fn get(gateway: &Gateway, service: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let mut session = Session::http1(gateway.address()).await;
    let request = http::Request::get(path).header("host", format!("{service}.localhost")).body(empty())?;
    let answer = session.ask(request).await?;
    Ok((answer.status, answer.text()))
}

/// Asks a replica at its own address.
async fn ask(replica: &ReplicaStatus, path: &str) -> anyhow::Result<u16> {
    let address = replica.address.as_ref().context("an address")?.parse()?;
    let mut session = Session::http1(address).await;
    let request = http::Request::get(path).header("host", "replica").body(empty())?;
    Ok(session.ask(request).await?.status)
}

async fn replicas(gateway: &Gateway, service: &str) -> anyhow::Result<Vec<ReplicaStatus>> {
    Ok(gateway.explain(service).await?.status.replicas)
}

/// The service's only replica.
async fn only(gateway: &Gateway, service: &str) -> anyhow::Result<ReplicaStatus> {
    let found = <[ReplicaStatus; 1]>::try_from(replicas(gateway, service).await?);
    found.map(|[one]| one).map_err(|all| anyhow::anyhow!("not one replica: {all:?}"))
}
