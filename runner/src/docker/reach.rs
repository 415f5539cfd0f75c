//! Where replicas are reached: at their own addresses, or through ports that are published on the host's address.
//! Decided once, when the engine's network is known. Holds: an address is believed only if it is the container's on our
//! network, or the host's with a port that the engine published for us there; never one that could mean ourselves.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::OnceLock,
};

use bollard::models::{EndpointSettings, PortBinding, PortMap, PortSummary, PortSummaryTypeEnum};
use tidegate_config::model::Reach;

use super::{Options, endpoint::Endpoint};
use crate::{Error, Kind, Reached, Result};

/// How one engine's replicas are reached.
pub(super) struct Reaching {
    /// Whether the engine is on this machine.
    pub local: bool,
    /// The host's address for published ports, if it has one.
    publish: Option<IpAddr>,
    decided: OnceLock<Reached>,
}

/// The gateway of a network, and the name of the interface that Docker gives its bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bridge {
    pub address: IpAddr,
    pub interface: String,
}

impl Reaching {
    pub(super) fn new(options: &Options, endpoint: &Endpoint) -> Result<Self> {
        let local = endpoint.is_local();
        let loopback = local.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let publish = options.address.or(loopback);
        let told = match options.reach {
            Reach::Address => Some(Reached::Address),
            Reach::Published => Some(Reached::Published),
            Reach::Auto => (!local).then_some(Reached::Published),
        };
        if told == Some(Reached::Published) && !publish.is_some_and(usable) {
            let host = &options.host;
            return Err(Error::new(
                Kind::Permanent,
                format!(
                    "the host {host} needs an address for its replicas' published ports: \
                     set `address` on it to one that this machine reaches"
                ),
            ));
        }
        let decided = told.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { local, publish, decided })
    }

    /// Whether there is nothing left to find out.
    pub(super) fn is_decided(&self) -> bool {
        self.decided.get().is_some()
    }

    /// What is decided, or else what is most likely.
    pub(super) fn reached(&self) -> Reached {
        self.decided.get().copied().unwrap_or_default()
    }

    /// Decides by what is known of the network.
    pub(super) fn decide(&self, bridge: &Bridge, ours: &[(String, IpAddr)]) -> Reached {
        *self.decided.get_or_init(|| {
            let reached = if self.is_ours(bridge, ours) { Reached::Address } else { Reached::Published };
            match reached {
                Reached::Address => tracing::info!(gateway = %bridge.address, "replicas are reached at their own addresses"),
                Reached::Published => tracing::info!(
                    gateway = %bridge.address,
                    address = ?self.publish,
                    "the containers' network is not on this machine: replicas are reached through published ports"
                ),
            }
            reached
        })
    }

    /// Whether the network's gateway is this machine. Engines of other machines may have networks of the same subnet, and
    /// so may engines in other network namespaces: their bridges have other names.
    pub(super) fn is_ours(&self, bridge: &Bridge, ours: &[(String, IpAddr)]) -> bool {
        let same = |(name, address): &(String, IpAddr)| {
            *address == bridge.address && (!name.starts_with("br-") || *name == bridge.interface)
        };
        self.local && ours.iter().any(same)
    }

    /// Where new containers publish their port; `None`: nowhere.
    pub(super) fn publish_at(&self) -> Option<IpAddr> {
        self.publish.filter(|_| self.reached() == Reached::Published)
    }

    /// Where a container is reached. One that was made when it was reached in another way has only that one.
    pub(super) fn address(
        &self,
        own: Option<SocketAddr>,
        published: impl Fn(IpAddr) -> Option<u16>,
    ) -> Option<SocketAddr> {
        let at = self.publish.filter(|at| usable(*at));
        let published = at.and_then(|at| Some(SocketAddr::new(at, published(at)?)));
        match self.reached() {
            Reached::Address => own.or(published),
            Reached::Published => published.or(own),
        }
    }
}

/// The addresses of this machine, with the names of their interfaces.
pub(super) fn ours() -> Vec<(String, IpAddr)> {
    let all = match nix::ifaddrs::getifaddrs() {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine cannot be read");
            return Vec::new();
        }
    };
    all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))?;
        Some((interface.interface_name, ip))
    })
    .collect()
}

/// A container's own address: on our network and nowhere else, and never one that means ourselves.
pub(super) fn own(
    network: &str,
    networks: Option<&HashMap<String, EndpointSettings>>,
    port: u16,
) -> Option<SocketAddr> {
    let ip: IpAddr = networks?.get(network)?.ip_address.as_deref()?.parse().ok()?;
    (usable(ip) && !ip.is_loopback()).then(|| SocketAddr::new(ip, port))
}

/// The port that a list says is published for `port` at exactly this address.
pub(super) fn listed(ports: Option<&Vec<PortSummary>>, port: u16, at: IpAddr) -> Option<u16> {
    let ours = |p: &&PortSummary| {
        p.private_port == port
            && p.typ.is_none_or(|kind| kind == PortSummaryTypeEnum::TCP)
            && p.ip.as_deref().is_some_and(|ip| ip.parse() == Ok(at))
    };
    ports?.iter().find(ours)?.public_port.filter(|port| *port != 0)
}

/// The port that a look says is published for `port` at exactly this address.
pub(super) fn inspected(ports: Option<&PortMap>, port: u16, at: IpAddr) -> Option<u16> {
    let bindings = ports?.get(&format!("{port}/tcp"))?.as_ref()?;
    let ours = |b: &&PortBinding| b.host_ip.as_deref().is_some_and(|ip| ip.parse() == Ok(at));
    bindings.iter().find(ours)?.host_port.as_deref()?.parse().ok().filter(|port| *port != 0)
}

/// Whether an address could be a replica's at all.
fn usable(ip: IpAddr) -> bool {
    !ip.is_unspecified()
        && !ip.is_multicast()
        && match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstanceId;
    use tidegate_config::model::Host;

    fn reaching(endpoint: &str, reach: Reach, address: Option<&str>) -> Result<Reaching> {
        let address = address.map(|a| a.parse().expect("an address"));
        let host = Host { reach, address, ..Host::local() };
        let options = Options::of(&host, InstanceId::from_bits(7), None);
        Reaching::new(&options, &Endpoint::parse(endpoint).expect("an endpoint"))
    }

    fn bridge() -> Bridge {
        Bridge { address: "10.64.0.1".parse().expect("an address"), interface: "br-123456789abc".into() }
    }

    fn interface(name: &str, ip: &str) -> (String, IpAddr) {
        (name.into(), ip.parse().expect("an address"))
    }

    const UNIX: &str = "unix:///run/docker.sock";
    const SSH: &str = "ssh://root@10.0.0.2";
    const TCP: &str = "tcp://10.0.0.2:2376";

    #[test]
    fn the_way_follows_from_the_host_and_its_network() {
        let here = vec![interface("lo", "127.0.0.1"), interface("br-123456789abc", "10.64.0.1")];
        let namespace = vec![interface("br-another-one", "10.64.0.1")];
        let podman = vec![interface("podman1", "10.64.0.1")];
        let elsewhere = vec![interface("eth0", "10.0.0.1")];
        for (endpoint, reach, address, ours, way, at) in [
            (UNIX, Reach::Auto, None, &here, Reached::Address, None),
            (UNIX, Reach::Auto, None, &podman, Reached::Address, None),
            (UNIX, Reach::Auto, None, &elsewhere, Reached::Published, Some("127.0.0.1")),
            (UNIX, Reach::Auto, None, &namespace, Reached::Published, Some("127.0.0.1")),
            (UNIX, Reach::Published, None, &here, Reached::Published, Some("127.0.0.1")),
            (UNIX, Reach::Published, Some("10.0.0.1"), &here, Reached::Published, Some("10.0.0.1")),
            (UNIX, Reach::Address, None, &elsewhere, Reached::Address, None),
            // Another machine's network may well have the same subnet as ours.
            (TCP, Reach::Auto, Some("10.0.0.2"), &here, Reached::Published, Some("10.0.0.2")),
            (TCP, Reach::Address, Some("10.0.0.2"), &here, Reached::Address, None),
            (SSH, Reach::Auto, Some("10.0.0.2"), &here, Reached::Published, Some("10.0.0.2")),
        ] {
            let reaching = reaching(endpoint, reach, address).expect("it can be");
            assert_eq!(reaching.decide(&bridge(), ours), way, "{endpoint} {reach:?} {ours:?}");
            let at = at.map(|a| a.parse().expect("an address"));
            assert_eq!((reaching.reached(), reaching.publish_at()), (way, at), "{endpoint} {reach:?}");
        }
    }

    #[test]
    fn published_ports_need_an_address() {
        for (endpoint, reach, address, well) in [
            (TCP, Reach::Auto, None, false),
            (SSH, Reach::Published, None, false),
            (TCP, Reach::Address, None, true),
            (TCP, Reach::Auto, Some("169.254.169.254"), false),
            (UNIX, Reach::Published, Some("0.0.0.0"), false),
            (UNIX, Reach::Published, Some("::ffff:127.0.0.1"), false),
            (UNIX, Reach::Published, Some("127.0.0.1"), true),
        ] {
            let made = reaching(endpoint, reach, address);
            assert_eq!(made.is_ok(), well, "{endpoint} {address:?}");
            assert!(made.err().is_none_or(|e| e.kind == Kind::Permanent && e.message.contains("`address`")));
        }
    }

    #[test]
    fn a_container_of_another_mode_is_reached_as_it_was_made() {
        let own = Some("10.64.0.2:80".parse().expect("an address"));
        let none = |_| None;
        let published = |_| Some(32768);
        let at_host = Some("127.0.0.1:32768".parse().expect("an address"));
        for (reach, own, mapped, expected) in [
            (Reach::Address, own, true, own),
            (Reach::Address, None, true, at_host),
            (Reach::Published, own, true, at_host),
            (Reach::Published, own, false, own),
            (Reach::Published, None, false, None),
        ] {
            let reaching = reaching(UNIX, reach, None).expect("it can be");
            let seen = if mapped { reaching.address(own, published) } else { reaching.address(own, none) };
            assert_eq!(seen, expected, "{reach:?} {own:?} {mapped}");
        }
    }

    #[test]
    fn own_addresses_come_from_our_network_only() {
        let at = |ip: &str| EndpointSettings { ip_address: Some(ip.into()), ..EndpointSettings::default() };
        for (network, ip, expected) in [
            ("tg-1", "10.64.0.2", Some("10.64.0.2:80")),
            ("bridge", "10.64.0.2", None),
            ("tg-1", "", None),
            ("tg-1", "127.0.0.1", None),
            ("tg-1", "127.8.8.8", None),
            ("tg-1", "0.0.0.0", None),
            ("tg-1", "169.254.169.254", None),
            ("tg-1", "fe80::1", None),
            ("tg-1", "::ffff:127.0.0.1", None),
        ] {
            let networks = HashMap::from([(network.to_owned(), at(ip))]);
            let expected = expected.map(|a| a.parse().expect("an address"));
            assert_eq!(own("tg-1", Some(&networks), 80), expected, "{network} {ip}");
        }
        assert_eq!(own("tg-1", None, 80), None);
    }

    #[test]
    fn published_ports_are_believed_on_the_hosts_address_only() {
        let host: IpAddr = "10.0.0.2".parse().expect("an address");
        for (ip, private, public, kind, expected) in [
            (Some("10.0.0.2"), 80, Some(32768), "tcp", Some(32768)),
            (Some("10.0.0.3"), 80, Some(32768), "tcp", None),
            (Some("127.0.0.1"), 80, Some(32768), "tcp", None),
            (Some("0.0.0.0"), 80, Some(32768), "tcp", None),
            (Some("169.254.169.254"), 80, Some(80), "tcp", None),
            (None, 80, Some(32768), "tcp", None),
            (Some("10.0.0.2"), 81, Some(32768), "tcp", None),
            (Some("10.0.0.2"), 80, None, "tcp", None),
            (Some("10.0.0.2"), 80, Some(0), "tcp", None),
            (Some("10.0.0.2"), 80, Some(32768), "udp", None),
        ] {
            let typ = if kind == "tcp" { PortSummaryTypeEnum::TCP } else { PortSummaryTypeEnum::UDP };
            let one = PortSummary {
                ip: ip.map(String::from),
                private_port: private,
                public_port: public,
                typ: Some(typ),
            };
            assert_eq!(listed(Some(&vec![one]), 80, host), expected, "{ip:?} {private} {public:?} {kind}");
            let binding =
                PortBinding { host_ip: ip.map(String::from), host_port: public.map(|p| p.to_string()) };
            let map = HashMap::from([(format!("{private}/{kind}"), Some(vec![binding]))]);
            assert_eq!(inspected(Some(&map), 80, host), expected, "{ip:?} {private} {public:?} {kind}");
        }
    }
}
