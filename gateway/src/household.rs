//! Who counts as one client where clients are counted by their address. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address, or the /64 network that one subscriber has of IPv6.
pub(crate) fn household(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_one_subscriber_is_one_client() {
        let household = |text: &str| household(text.parse().expect("an address"));
        assert_eq!(household("2001:db8::1"), household("2001:db8::ffff:1"));
        assert_ne!(household("2001:db8::1"), household("2001:db8:0:1::1"));
        assert_eq!(household("::ffff:192.0.2.1"), household("192.0.2.1"));
        assert_ne!(household("192.0.2.2"), household("192.0.2.1"));
    }
}
