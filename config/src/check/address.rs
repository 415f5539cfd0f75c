//! Addresses of machines: the gateway's own, for containers elsewhere, and those of hosts, for their replicas. What is
//! spoken there is plain HTTP, so that a public address is never taken silently.

use std::net::IpAddr;

use crate::{
    decode::{At, leaf::Text},
    problem::Draft,
};

/// Where containers of remote hosts reach the gateway.
pub(super) fn internal(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<IpAddr> {
    let address = machine(text, problems)?;
    if is_public(address) {
        let draft =
            text.problem("a public address: names and requests would cross the internet as plain text");
        problems.push(
            draft.allowed("a private address of this machine that the hosts reach, as in \"10.0.0.1\""),
        );
    }
    Some(address)
}

/// Where a host's replicas are reached.
pub(super) fn host(text: &At<Text>, plaintext: bool, problems: &mut Vec<Draft>) -> Option<IpAddr> {
    let address = machine(text, problems)?;
    if is_public(address) && !plaintext {
        let draft = text.problem(
            "a public address: requests to replicas would cross the internet as plain text, and anybody could send some",
        );
        let draft = draft.allowed("a private address of the host, as in \"10.0.0.2\" or that of a VPN");
        problems.push(draft.help("allow_plaintext = true if that is wanted, behind a firewall".to_owned()));
    }
    Some(address)
}

fn machine(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<IpAddr> {
    const ALLOWED: &str = "an IP address, as in \"10.0.0.2\"";
    let Ok(address) = text.value.parse::<IpAddr>() else {
        let without_port = text.value.parse::<std::net::SocketAddr>().map(|address| address.ip()).ok();
        let help = without_port.map(|ip| format!("did you mean \"{ip}\"?"));
        problems.push(text.problem("not an IP address").allowed(ALLOWED).help(help));
        return None;
    };
    let address = address.to_canonical();
    let all = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || all {
        problems.push(text.problem("not the address of one machine").allowed(ALLOWED));
        return None;
    }
    Some(address)
}

/// Whether packets to it may leave the premises.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // Carrier-grade NAT, which overlay networks use too.
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]);
            !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_documentation() || shared)
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn what_leaves_the_premises() {
        let rows = [
            ("10.0.0.2", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("127.0.0.1", false),
            ("8.8.8.8", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
            ("2a00::1", true),
        ];
        for (address, public) in rows {
            assert_eq!(is_public(address.parse().expect("an address")), public, "{address}");
        }
    }
}
