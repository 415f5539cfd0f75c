//! What cases of all engines do with a gateway.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use e2e::{
    chaos::{IMAGE, gateway::Gateway},
    eventually::eventually,
};

/// A service of the sample's image.
pub(crate) fn service(name: &str, keys: &str, scaling: &str) -> String {
    format!("[services.{name}]\nimage = \"{IMAGE}\"\n{keys}\n[services.{name}.scaling]\n{scaling}\n")
}

/// Waits until so many are ready.
pub(crate) async fn ready(gateway: &Gateway, service: &str, count: usize) -> Result<()> {
    let what = format!("{count} replicas of {service} are ready");
    let waited = eventually(&what, async || Ok(gateway.in_phase(service, "ready").await? >= count)).await;
    match waited {
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!("{:?}", gateway.service(service).await?.reason))),
    }
}

/// The ids of its replicas.
pub(crate) async fn replicas(gateway: &Gateway, service: &str) -> Result<BTreeSet<String>> {
    Ok(gateway.service(service).await?.replicas.into_iter().map(|replica| replica.id).collect())
}

/// Ends a gateway, and looks whether it has.
pub(crate) async fn end(mut gateway: Gateway) -> Result<()> {
    gateway.terminate().await?;
    ensure!(gateway.ended()?, "the gateway has ended");
    Ok(())
}
