//! Which subnet the network of an instance gets. Pure; both engines ask here, so that they agree.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::InstanceId;

/// Subnets that are tried when others are taken.
const TRIES: u32 = 64;
/// 10.64.0.0/10 has this many blocks of 1024 addresses, as many as a Linux bridge has ports.
const BLOCKS: u32 = 1 << 12;

/// The subnets to try, in order.
pub(crate) fn candidates(instance: &InstanceId, wanted: Option<Ipv4Net>) -> Vec<Ipv4Net> {
    if let Some(wanted) = wanted {
        return vec![wanted.trunc()];
    }
    let first = u32::from_str_radix(instance.short(), 16).expect("an instance id is hexadecimal");
    (0..TRIES).map(|n| block(first.wrapping_add(n) % BLOCKS)).collect()
}

/// The first of these subnets that nothing on the machine overlaps, or what was in the way of the last one.
/// `taken` are the subnets that the machine knows, with the interface that each is reached through.
pub(crate) fn free(
    candidates: &[Ipv4Net],
    taken: &[(Ipv4Net, String)],
) -> Result<Ipv4Net, (Ipv4Net, String)> {
    let mut refused = (Ipv4Net::default(), String::new());
    for candidate in candidates {
        // A default route is everybody's and nobody's.
        let rival = taken.iter().find(|(net, _)| net.prefix_len() > 0 && overlap(net, candidate));
        match rival {
            None => return Ok(*candidate),
            Some(rival) => refused = rival.clone(),
        }
    }
    Err(refused)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn block(n: u32) -> Ipv4Net {
    let base = u32::from(Ipv4Addr::new(10, 64, 0, 0));
    Ipv4Net::new(Ipv4Addr::from(base + (n << 10)), 22).expect("22 is a prefix length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_private_blocks_of_their_own() {
        for (bits, first, second) in [
            (0u128, "10.64.0.0/22", "10.64.4.0/22"),
            (1 << 96, "10.64.4.0/22", "10.64.8.0/22"),
            (0xfff << 96, "10.127.252.0/22", "10.64.0.0/22"),
        ] {
            let all = candidates(&InstanceId::from_bits(bits), None);
            assert_eq!((all[0].to_string().as_str(), all[1].to_string().as_str()), (first, second));
            assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), TRIES as usize);
        }
        let wanted = "192.168.9.0/24".parse().expect("a subnet");
        assert_eq!(candidates(&InstanceId::from_bits(0), Some(wanted)), [wanted]);
    }

    #[test]
    fn what_overlaps_is_not_free() {
        let net = |text: &str| text.parse::<Ipv4Net>().expect("a subnet");
        let tried = [net("10.64.0.0/22"), net("10.64.4.0/22")];
        for (taken, expected) in [
            (vec![], Ok("10.64.0.0/22")),
            (vec![("0.0.0.0/0", "eth0")], Ok("10.64.0.0/22")),
            (vec![("192.168.0.0/16", "eth0")], Ok("10.64.0.0/22")),
            (vec![("10.64.3.255/32", "vpn")], Ok("10.64.4.0/22")),
            (vec![("10.64.0.0/23", "br-1"), ("10.64.7.0/24", "br-2")], Err("br-2")),
            (vec![("10.0.0.0/8", "vpn")], Err("vpn")),
        ] {
            let taken: Vec<_> = taken.iter().map(|(n, i)| (net(n), (*i).to_owned())).collect();
            let got = free(&tried, &taken).map_err(|(_, interface)| interface);
            assert_eq!(got, expected.map(net).map_err(String::from), "{taken:?}");
        }
    }
}
