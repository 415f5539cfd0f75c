//! Which addresses come and which go, when the file or a name means others than before. Pure.

use std::{collections::BTreeMap, net::SocketAddr};

use tidegate_config::{address::Address, name::ReplicaId};

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

#[cfg(test)]
mod tests {
    use super::*;

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
