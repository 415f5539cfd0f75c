//! What things are called, and which address is whose. Pure.
//! A place is known by its number `k`: its address is the k-th of the subnet. The first is the gateway's.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

/// A Linux bridge has 1024 port numbers and uses none for port 0.
pub(super) const PORTS: usize = 1023;

/// Subnet and names of one instance's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The first 8 digits of the instance's id.
    pub short: String,
    /// The replicas' subnet.
    pub subnet: Ipv4Net,
}

impl Names {
    /// The name of the bridge.
    pub(super) fn bridge(&self) -> String {
        bridge(&self.short)
    }

    /// The bridge's address.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// All the places that the subnet has addresses for.
    pub(super) fn places(&self) -> RangeInclusive<u32> {
        let addresses = 1u32 << (32 - u32::from(self.subnet.prefix_len()));
        2..=addresses - 2
    }

    /// How many places there can be at a time.
    pub(super) fn room(&self) -> usize {
        self.places().count().min(PORTS)
    }

    /// The address of a place.
    pub(super) fn address(&self, k: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + k)
    }

    /// This machine's end of the pair of cards that leads to a place.
    pub(super) fn veth(&self, k: u32) -> String {
        format!("{}{k:x}", veth_prefix(&self.short))
    }

    /// What the card's alias says, because its name has room for six digits of the instance only.
    pub(super) fn alias(&self) -> String {
        format!("{ALIAS}{}", self.short)
    }

    /// The device group that the cards of places are in while they are removed, all at once.
    pub(super) fn group(&self) -> u32 {
        group(&self.short)
    }
}

const ALIAS: &str = "tidegate ";

/// What a bridge of this instance is called.
pub(super) fn bridge(short: &str) -> String {
    format!("tg-{short}")
}

/// What the cards of this instance's places begin with.
pub(super) fn veth_prefix(short: &str) -> String {
    format!("tg{}-", &short[..6])
}

/// Group 0 is that of all cards which are in no other.
pub(super) fn group(short: &str) -> u32 {
    u32::from_str_radix(short, 16).unwrap_or_default() | (1 << 31)
}

/// The card of the one who has this address: locally administered, not multicast.
pub(super) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x74, a, b, c, d]
}

/// Whose the bridge of this name is, if it is named as ours are.
pub(super) fn bridge_owner(name: &str) -> Option<&str> {
    name.strip_prefix("tg-").filter(|short| is_hex(short, 8))
}

/// Whose the card of this name is, by its bridge or its alias, else by the six digits in its name.
pub(super) fn veth_owner(name: &str, alias: Option<&str>, bridge: Option<&str>) -> Option<String> {
    let (six, k) = name.strip_prefix("tg")?.split_once('-')?;
    if !is_hex(six, 6) || u32::from_str_radix(k, 16).is_err() {
        return None;
    }
    let known = bridge.and_then(bridge_owner).or_else(|| alias?.strip_prefix(ALIAS));
    Some(known.filter(|short| is_hex(short, 8) && short.starts_with(six)).unwrap_or(six).to_owned())
}

/// Whether this is `digits` lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_addresses_and_names_that_fit() {
        for (subnet, room, last, address) in [
            ("10.64.4.0/22", 1021, "tgabcdef-3fe", "10.64.7.254"),
            ("10.64.0.0/30", 1, "tgabcdef-2", "10.64.0.2"),
            ("10.0.0.0/8", PORTS, "tgabcdef-fffffe", "10.255.255.254"),
        ] {
            let names = Names { short: "abcdef01".into(), subnet: subnet.parse().expect("a subnet") };
            let k = *names.places().end();
            assert_eq!((names.room(), names.veth(k).as_str()), (room, last), "{subnet}");
            assert_eq!(names.address(k).to_string(), address);
            assert!(names.veth(k).len() <= 15 && names.bridge().len() <= 15);
        }
        assert_eq!(mac(Ipv4Addr::new(10, 64, 0, 2)), [2, 0x74, 10, 64, 0, 2]);
    }

    #[test]
    fn owners_are_read_from_names() {
        for (name, expected) in [
            ("tg-abcdef01", Some("abcdef01")),
            ("tg-abcdef0", None),
            ("tg-ABCDEF01", None),
            ("br-abcdef01", None),
        ] {
            assert_eq!(bridge_owner(name), expected, "{name}");
        }
        for (name, alias, bridge, expected) in [
            ("tgabcdef-2", Some("tidegate abcdef01"), None, Some("abcdef01")),
            ("tgabcdef-2", None, Some("tg-abcdef01"), Some("abcdef01")),
            ("tgabcdef-2", None, Some("docker0"), Some("abcdef")),
            ("tgabcdef-2", Some("tidegate 00000000"), None, Some("abcdef")),
            ("tgabcdef-xyz", None, Some("tg-abcdef01"), None),
            ("tg-abcdef01", None, None, None),
            ("eth0", None, None, None),
        ] {
            assert_eq!(veth_owner(name, alias, bridge).as_deref(), expected, "{name}");
        }
    }
}
