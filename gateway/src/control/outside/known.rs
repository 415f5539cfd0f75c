//! Which addresses come and which go, when the file or a name means others than before, and what they are called. Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use sha2::{Digest as _, Sha256};
use tidegate_config::{
    address::Address,
    name::{ReplicaId, ServiceName},
};

/// What makes the known addresses the wanted ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// New ones, and what names them.
    pub(super) come: Vec<(SocketAddr, Address)>,
    /// Those that nothing names any more.
    pub(super) go: Vec<ReplicaId>,
}

/// Compares what is known with what is wanted. An address that stays keeps its name, its health and its connections.
pub(super) fn compare<'k>(
    known: impl Iterator<Item = (&'k ReplicaId, SocketAddr)> + Clone,
    wanted: &BTreeMap<SocketAddr, Address>,
) -> Change {
    let is_known = |at: &SocketAddr| known.clone().any(|(_, known)| known == *at);
    let come = wanted.iter().filter(|(at, _)| !is_known(at));
    let come = come.map(|(at, from)| (*at, from.clone())).collect();
    let go = known.clone().filter(|(_, at)| !wanted.contains_key(at)).map(|(id, _)| id.clone()).collect();
    Change { come, go }
}

/// What sessions know an address by: always the same, and it tells nobody who has no `secret` where that is.
pub(super) fn name(secret: u64, service: &ServiceName, at: SocketAddr) -> u64 {
    let digest = Sha256::digest(format!("{secret:016x} {service} {at}"));
    digest.iter().take(8).fold(0, |name, byte| name << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name_that_does_not_tell_it() {
        let named = |secret, service: &str, at: &str| {
            name(secret, &service.parse().expect("a name"), at.parse().expect("an address"))
        };
        let one = named(1, "a", "10.0.0.1:1");
        assert_eq!(one, named(1, "a", "10.0.0.1:1"));
        for other in [named(2, "a", "10.0.0.1:1"), named(1, "b", "10.0.0.1:1"), named(1, "a", "10.0.0.1:2")] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn what_stays_is_left_alone() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let from = || "app:1".parse::<Address>().expect("an address");
        let id = |number: u64| ReplicaId::new("a".parse().expect("a name"), 1, number);
        let known = BTreeMap::from([(id(1), at("10.0.0.1:1")), (id(2), at("10.0.0.2:1"))]);
        for (wanted, come, go) in [
            (&["10.0.0.1:1", "10.0.0.2:1"][..], &[][..], &[][..]),
            (&["10.0.0.2:1", "10.0.0.3:1"], &["10.0.0.3:1"], &[1]),
            (&["10.0.0.1:2"], &["10.0.0.1:2"], &[1, 2]),
            (&[], &[], &[1, 2]),
        ] {
            let wanted = wanted.iter().map(|text| (at(text), from())).collect();
            let change = compare(known.iter().map(|(id, at)| (id, *at)), &wanted);
            let come = come.iter().map(|text| (at(text), from())).collect();
            assert_eq!(change, Change { come, go: go.iter().map(|number| id(*number)).collect() });
        }
    }
}
