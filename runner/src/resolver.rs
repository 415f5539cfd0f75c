//! Whom new containers ask for names: the gateway's resolver first, then whom this machine asks.
//! Absent: what the resolver answers.

use std::net::IpAddr;

use parking_lot::Mutex;

/// Where systemd-resolved writes whom it asks, while resolv.conf names itself.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Whom containers that are made from now on ask for names; nobody in particular until that is set.
#[derive(Debug, Default)]
pub(crate) struct Resolvers(Mutex<Vec<IpAddr>>);

impl Resolvers {
    /// Sets it. `here`: as in [`servers`].
    pub(crate) fn set(&self, resolver: Option<IpAddr>, here: bool) {
        *self.0.lock() = resolver.map(|ip| servers(ip, here)).unwrap_or_default();
    }

    /// As it is now.
    pub(crate) fn now(&self) -> Vec<IpAddr> {
        self.0.lock().clone()
    }
}

/// Whom to ask, in order. `here`: the engine is on this machine, so that this machine's own servers serve as a fallback.
pub(crate) fn servers(resolver: IpAddr, here: bool) -> Vec<IpAddr> {
    let others = if here { ours() } else { Vec::new() };
    std::iter::once(resolver).chain(others.into_iter().filter(|other| *other != resolver)).collect()
}

/// Whom this machine asks, as far as a container can ask them too.
pub(crate) fn ours() -> Vec<IpAddr> {
    let texts = FILES.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.map(|text| nameservers(&text)).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The servers in a resolv.conf that a container can ask, too.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    text.lines().filter_map(server).filter(|ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_those_that_a_container_can_ask() {
        for (text, expected) in [
            (
                "search a.example\nnameserver 10.0.0.53\nnameserver  fd00::53 # one\n",
                vec!["10.0.0.53", "fd00::53"],
            ),
            ("nameserver 127.0.0.53\noptions edns0\n", vec![]),
            ("#nameserver 10.0.0.1\nnameserver\nnameserver x\n", vec![]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().expect("an address")).collect();
            assert_eq!(nameservers(text), expected, "{text}");
        }
    }

    #[test]
    fn the_gateway_comes_first_and_alone_where_the_engine_is_elsewhere() {
        let resolver: IpAddr = "10.64.0.1".parse().expect("an address");
        assert_eq!(servers(resolver, false), [resolver]);
        assert_eq!(servers(resolver, true).first(), Some(&resolver));
    }
}
