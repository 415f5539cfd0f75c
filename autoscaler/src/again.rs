//! When the next decision is useful although nothing happens: the earliest moment to come that changes something by
//! itself. Asked by [`decide`](crate::decide).

use std::time::Instant;

use crate::{
    decide::adopted,
    mix::{Mix, Role},
    plan::{FREEZING, THAWING},
    replica::Phase,
    rollout::Trial,
    snapshot::{HostState, Image, Replica, Snapshot},
};

/// The earliest moment after now of those that are known and those that a snapshot shows.
pub(crate) fn at(
    known: impl Iterator<Item = Instant>,
    trial: Option<&Trial>,
    mix: &Mix,
    seen: &Snapshot,
) -> Option<Instant> {
    let adopted = seen.replicas.iter().any(|r| adopted(seen, r) && r.phase.is_live());
    let adoption = adopted.then_some(seen.gateway_started + seen.service.scaling.stable_window);
    let images = seen.hosts.iter().filter(|h| h.state == HostState::Up).filter_map(|h| match &h.image {
        Image::Failed { retry_at, .. } => *retry_at,
        Image::Unknown | Image::Pulling | Image::Present { .. } => None,
    });
    let replicas = seen.replicas.iter().filter_map(|r| changes_at(r, mix, seen));
    let rollout = trial.into_iter().flat_map(|trial| [trial.until(seen), waiting(seen, trial.slow_at(seen))]);
    known
        .chain(adoption)
        .chain(images)
        .chain(replicas)
        .chain(rollout.flatten())
        .filter(|at| *at > seen.now)
        .min()
}

/// What counts only while requests wait.
fn waiting(seen: &Snapshot, at: Option<Instant>) -> Option<Instant> {
    at.filter(|_| seen.queued() > 0)
}

/// When the plan treats a replica otherwise than now.
fn changes_at(replica: &Replica, mix: &Mix, seen: &Snapshot) -> Option<Instant> {
    let tier = |age: Option<_>| age.filter(|_| mix.role(seen, replica) != Role::Stale);
    let after = match replica.phase {
        Phase::Draining => Some(seen.service.scaling.drain),
        Phase::Frozen => tier(seen.service.sleep.frozen),
        Phase::Stopped => tier(seen.service.sleep.stopped),
        Phase::Freezing => return waiting(seen, Some(replica.since + FREEZING)),
        Phase::Thawing => return waiting(seen, Some(replica.since + THAWING)),
        Phase::Starting | Phase::Ready | Phase::Stopping | Phase::Lost | Phase::Failed(_) | Phase::Gone => {
            None
        }
    };
    after.and_then(|after| replica.since.checked_add(after))
}
