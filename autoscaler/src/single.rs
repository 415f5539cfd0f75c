//! Services of which there is never more than one replica that may write to its data: the earlier one is gone before the
//! next one starts. Asked by [`plan`](crate::plan), [`decide`](crate::decide) and [`refuse`](crate::refuse).

use tidegate_config::model::Update;

use crate::{
    replica::Phase,
    snapshot::{Replica, Snapshot},
};

/// Whether the service is one of those: its file says so, or it has data of its own that replicas do not share.
#[must_use]
pub fn is_single(seen: &Snapshot) -> bool {
    let own_data = seen.service.launch.has_own_data();
    seen.service.update == Update::Recreate || (seen.pinned.is_some() && own_data)
}

/// A replica that may still write, also one whose host does not answer; `except` is not asked about.
pub(crate) fn in_the_way<'a>(seen: &'a Snapshot, except: Option<&Replica>) -> Option<&'a Replica> {
    let writes = |replica: &&Replica| !matches!(replica.phase, Phase::Stopped | Phase::Gone);
    seen.replicas.iter().filter(writes).find(|replica| except.is_none_or(|other| other.id != replica.id))
}

/// What a start waits for, for people.
pub(crate) fn waits_for(replica: &Replica) -> String {
    let Replica { id, host, phase, .. } = replica;
    format!(
        "waits until {id} on host {host} is gone, which is {}: there is never more than one",
        phase.label()
    )
}
