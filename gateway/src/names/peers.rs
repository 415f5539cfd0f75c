//! Whose requests come from a containers' network: the network of the interface that has an address.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    sys::socket::SockaddrStorage,
};

/// The network that an address of this machine is in; the address alone if that is not known.
pub(super) fn network_of(address: IpAddr) -> IpNet {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| network(&interface, address)).next().unwrap_or(IpNet::from(address))
}

/// The addresses of this machine's interfaces.
pub(crate) fn own_ips() -> BTreeSet<IpAddr> {
    getifaddrs().into_iter().flatten().filter_map(|interface| ip(interface.address.as_ref()?)).collect()
}

fn network(interface: &InterfaceAddress, address: IpAddr) -> Option<IpNet> {
    let own = ip(interface.address.as_ref()?)?;
    let mask = ip(interface.netmask.as_ref()?)?;
    let network = IpNet::with_netmask(own, mask).ok()?;
    (own == address).then(|| network.trunc())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_has_a_network_and_another_none() {
        for (address, network) in
            [("127.0.0.1", "127.0.0.0/8"), ("::1", "::1/128"), ("192.0.2.7", "192.0.2.7/32")]
        {
            let found = network_of(address.parse().expect("an address"));
            assert_eq!(found, network.parse().expect("a network"), "{address}");
        }
    }
}
