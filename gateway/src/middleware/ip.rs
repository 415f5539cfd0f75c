//! Which clients may come, by address. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use tidegate_config::model::Ip;

/// Whether a client may come. What is denied is denied, whatever is allowed.
pub(crate) fn admits(rules: &Ip, client: IpAddr) -> bool {
    let client = client.to_canonical();
    let contains = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
    !contains(&rules.deny) && (rules.allow.is_empty() || contains(&rules.allow))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().expect("a network")).collect()
    }

    #[test]
    fn what_is_denied_is_denied() {
        for (allow, deny, client, want) in [
            (&[][..], &["10.0.0.0/8"][..], "10.1.1.1", false),
            (&[], &["10.0.0.0/8"], "11.1.1.1", true),
            (&["10.0.0.0/8"], &[], "10.1.1.1", true),
            (&["10.0.0.0/8"], &[], "11.1.1.1", false),
            (&["10.0.0.0/8"], &["10.6.6.0/24"], "10.6.6.6", false),
            (&["10.0.0.0/8"], &[], "::ffff:10.1.1.1", true),
            (&[], &["10.0.0.0/8"], "::ffff:10.1.1.1", false),
            (&["2001:db8::/32"], &[], "2001:db8::1", true),
            (&["2001:db8::/32"], &[], "10.1.1.1", false),
        ] {
            let rules = Ip { allow: nets(allow), deny: nets(deny) };
            assert_eq!(admits(&rules, client.parse().expect("an address")), want, "{rules:?} {client}");
        }
    }
}
