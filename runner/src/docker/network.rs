//! The instance's own network: found, or made with a subnet of its own, once per process.
//! Holds: containers on it cannot reach each other; a network of somebody else's with our name is refused.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use bollard::{
    models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect},
    query_parameters::InspectNetworkOptions,
};
use ipnet::Ipv4Net;
use parking_lot::Mutex;

use super::{call::Api, labels, reach::Bridge};
use crate::{
    Error, InstanceId, Kind, Result,
    call::{READ, WRITE},
    subnet,
};

/// The network of one instance on one engine.
pub(super) struct Network {
    pub name: String,
    instance: InstanceId,
    wanted: Option<Ipv4Net>,
    ready: AtomicBool,
    making: tokio::sync::Mutex<()>,
    bridge: Mutex<Option<Bridge>>,
}

impl Network {
    pub(super) fn new(instance: InstanceId, wanted: Option<Ipv4Net>) -> Self {
        let name = labels::network(&instance);
        let (ready, making, bridge) =
            (AtomicBool::new(false), tokio::sync::Mutex::default(), Mutex::default());
        Self { name, instance, wanted, ready, making, bridge }
    }

    /// Sees to it that the network is there; costs nothing once it is.
    pub(super) async fn ensure(&self, api: &Api) -> Result<()> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.making.lock().await;
        if !self.ready.load(Ordering::Acquire) {
            match self.inspect(api).await? {
                Some(found) => self.adopt(&found)?,
                None => self.make(api).await?,
            }
            self.look(api).await?;
            self.ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// What the network's gateway is, if there is such a network by now; makes none.
    pub(super) async fn bridge(&self, api: &Api) -> Result<Option<Bridge>> {
        let known = self.bridge.lock().clone();
        match known {
            Some(bridge) => Ok(Some(bridge)),
            None => self.look(api).await,
        }
    }

    async fn look(&self, api: &Api) -> Result<Option<Bridge>> {
        let found =
            self.inspect(api).await?.filter(|found| self.is_ours(found)).and_then(|found| bridge(&found));
        self.bridge.lock().clone_from(&found);
        Ok(found)
    }

    /// Looks again next time, because the engine said that the network is gone.
    pub(super) fn forget(&self) {
        self.ready.store(false, Ordering::Release);
        *self.bridge.lock() = None;
    }

    /// Removes the network; not an error if there is none.
    pub(super) async fn remove(&self, api: &Api) -> Result<()> {
        self.forget();
        let Some(found) = self.inspect(api).await? else { return Ok(()) };
        self.adopt(&found)?;
        let id = found.id.unwrap_or_default();
        match api.call("network remove", WRITE, api.remove_network(&id)).await {
            Err(failed) if !failed.is(404) => Err(failed.during(format!("remove network {}", self.name))),
            _ => Ok(()),
        }
    }

    async fn inspect(&self, api: &Api) -> Result<Option<NetworkInspect>> {
        let call = api.inspect_network(&self.name, None::<InspectNetworkOptions>);
        match api.call("network inspect", READ, call).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.is(404) => Ok(None),
            Err(failed) => Err(failed.during(format!("look for network {}", self.name))),
        }
    }

    fn is_ours(&self, found: &NetworkInspect) -> bool {
        let label = found.labels.as_ref().and_then(|l| l.get(labels::INSTANCE));
        label.map(String::as_str) == Some(self.instance.as_str())
    }

    fn adopt(&self, found: &NetworkInspect) -> Result<()> {
        if !self.is_ours(found) {
            return Err(Error::new(
                Kind::Permanent,
                format!(
                    "the network {} exists but is not this instance's: remove it with `docker network rm {}`",
                    self.name, self.name
                ),
            ));
        }
        let has = found.ipam.as_ref().and_then(|i| i.config.as_ref()?.first()?.subnet.clone());
        if let (Some(wanted), Some(has)) = (self.wanted, has)
            && wanted.to_string() != has
        {
            tracing::warn!(
                network = self.name,
                %wanted,
                %has,
                "the network keeps its subnet until it is removed with `docker network rm`"
            );
        }
        Ok(())
    }

    async fn make(&self, api: &Api) -> Result<()> {
        let mut refusal = String::new();
        for subnet in subnet::candidates(&self.instance, self.wanted) {
            let call = api.create_network(request(&self.name, &self.instance, subnet));
            match api.call("network create", WRITE, call).await {
                Ok(_) => {
                    tracing::info!(network = self.name, %subnet, "made the network of this instance");
                    return Ok(());
                }
                Err(failed) if overlaps(&failed.words) => refusal = failed.words,
                Err(failed) => {
                    return Err(failed.during(format!("make network {} on {subnet}", self.name)));
                }
            }
        }
        Err(Error::new(
            Kind::Permanent,
            format!(
                "no free subnet for network {}: {refusal}; set `subnet` under [gateway] to one that is free",
                self.name
            ),
        ))
    }
}

/// The gateway of a network. Engines that say no address give the first one of the subnet.
fn bridge(found: &NetworkInspect) -> Option<Bridge> {
    let config = found.ipam.as_ref()?.config.as_ref()?.first()?;
    let told = config.gateway.as_deref().and_then(|ip| ip.split('/').next()?.parse().ok());
    let first = || config.subnet.as_deref()?.parse::<Ipv4Net>().ok()?.hosts().next().map(IpAddr::V4);
    let named = found.options.as_ref().and_then(|o| o.get("com.docker.network.bridge.name").cloned());
    let id = found.id.as_deref().unwrap_or_default();
    let interface = named.unwrap_or_else(|| format!("br-{}", id.get(..12).unwrap_or(id)));
    Some(Bridge { address: told.or_else(first)?, interface })
}

/// The error for a network that has no room left, if that is what the engine's words mean.
pub(super) fn full(network: &str, words: &str) -> Option<Error> {
    let words = words.to_ascii_lowercase();
    let full = words.contains("exchange full") || words.contains("no available ipv4 addresses");
    full.then(|| {
        Error::new(
            Kind::Retryable,
            format!(
                "the network {network} is full: a Linux bridge ends at 1024 ports; \
                 stop replicas or add a host ({words})"
            ),
        )
    })
}

fn overlaps(words: &str) -> bool {
    words.to_ascii_lowercase().contains("overlap")
}

fn request(name: &str, instance: &InstanceId, subnet: Ipv4Net) -> NetworkCreateRequest {
    let gateway = subnet.hosts().next().map(|ip| ip.to_string());
    let config = IpamConfig { subnet: Some(subnet.to_string()), gateway, ..IpamConfig::default() };
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".into()),
        ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".into(), "false".into())])),
        labels: Some(HashMap::from([(labels::INSTANCE.into(), instance.to_string())])),
        ..NetworkCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_told_or_the_first_address() {
        for (subnet, gateway, expected) in [
            (Some("10.64.4.0/22"), Some("10.64.4.9"), Some("10.64.4.9")),
            (Some("10.64.4.0/22"), Some("10.64.4.9/22"), Some("10.64.4.9")),
            (Some("10.64.4.0/22"), None, Some("10.64.4.1")),
            (None, None, None),
        ] {
            let text = |t: Option<&str>| t.map(String::from);
            let config = IpamConfig { subnet: text(subnet), gateway: text(gateway), ..IpamConfig::default() };
            let found = NetworkInspect {
                id: Some("0123456789abcdef".into()),
                ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
                ..NetworkInspect::default()
            };
            let expected = expected.map(|ip| Bridge {
                address: ip.parse().expect("an address"),
                interface: "br-0123456789ab".into(),
            });
            assert_eq!(bridge(&found), expected, "{subnet:?} {gateway:?}");
        }
    }

    #[test]
    fn full_bridges_are_named() {
        for (words, expected) in [
            ("adding interface veth1 to bridge br-1 failed: exchange full", true),
            ("no available IPv4 addresses on this network's address pools: tg-1", true),
            ("executable file not found", false),
        ] {
            assert_eq!(full("tg-1", words).is_some(), expected, "{words}");
        }
    }
}
