//! Whether a service can be had at all, and the word that its clients get if not.
//! Asked by [`decide`](crate::decide). Holds: while a replica is ready, on its way, or can be woken or taken back from
//! draining, nothing is refused; a version that is being tried closes nothing. Absent: HTTP; the gateway turns the reason
//! into a response.

use std::time::{Duration, Instant};

use tidegate_config::{name::HostName, spec::Version};

use crate::{
    backoff::Backoff,
    mix::{Mix, Wants},
    placement::{self, Misfit, NoFit},
    replica::Phase,
    single,
    snapshot::{HostState, Image, Replica, Snapshot},
};

/// For so long others that were put to sleep to make room are waited for: draining nothing and stopping takes seconds.
const RELIEF: Duration = Duration::from_secs(15);

/// Requests of a service are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    /// The word that clients get.
    pub why: RefuseReason,
    /// When it is worth another try; `None`: unknown.
    pub until: Option<Instant>,
    /// The cause in words, for `explain` and the log.
    pub cause: String,
}

/// The words, as in the contract of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// A replica did not start, or its image cannot be had.
    StartFailed,
    /// Replicas fail again and again.
    CrashLooping,
    /// No host has room.
    OutOfResources,
    /// No host may or can run it, or its maximum is zero.
    NoCapacity,
    /// Its image is still being downloaded.
    Pulling,
}

impl RefuseReason {
    /// The word, for clients and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::StartFailed => "start_failed",
            Self::CrashLooping => "crash_looping",
            Self::OutOfResources => "out_of_resources",
            Self::NoCapacity => "no_capacity",
            Self::Pulling => "pulling",
        }
    }
}

/// What becomes of requests that cannot be served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They wait for a replica.
    Wait,
    /// They wait; if their patience ends, this is why.
    WaitFor(Refuse),
    /// They are refused at once.
    Refuse(Refuse),
}

/// What becomes of requests that cannot be served now, if so many replicas of each version are wanted.
#[must_use]
pub fn judge(backoff: &Backoff, seen: &Snapshot, mix: &Mix, wants: Wants) -> Verdict {
    if seen.replicas.iter().any(|r| r.phase.is_live()) {
        return Verdict::Wait;
    }
    if seen.service.scaling.max == 0 {
        return Verdict::Refuse(refusal(RefuseReason::NoCapacity, "its maximum is 0 replicas".to_owned()));
    }
    if seen.replicas.iter().any(|r| mix.can_return(seen, wants, r) || wakes(seen, mix, wants, r)) {
        return Verdict::Wait;
    }
    let versions = mix.started(wants);
    // While a version is tried, its own failures take it back, and those of the good one may be what it mends.
    let failed = if mix.trial.is_none() { backoff.refuse(seen.now) } else { None };
    if let Some(refuse) = failed.or_else(|| image(seen, &versions)) {
        return Verdict::Refuse(refuse);
    }
    if wants == Wants::default() { Verdict::Wait } else { room(seen, mix, wants, &versions) }
}

/// Whether a frozen replica can be had back at once.
fn wakes(seen: &Snapshot, mix: &Mix, wants: Wants, replica: &Replica) -> bool {
    let host = seen.hosts.iter().find(|host| host.name == replica.host);
    let blocked = single::is_single(seen) && single::in_the_way(seen, Some(replica)).is_some();
    matches!(replica.phase, Phase::Frozen | Phase::Freezing)
        && !blocked
        && wants.of(mix.role(seen, replica)) > 0
        && host.is_some_and(|host| host.state == HostState::Up)
}

/// None of the versions can be had anywhere, and nobody is looking.
fn image(seen: &Snapshot, versions: &[Option<&Version>]) -> Option<Refuse> {
    let mut first: Option<Refuse> = None;
    for host in seen.hosts.iter().filter(|h| placement::permitted(seen, h)) {
        let may_have = |version: &Option<&Version>| {
            version.is_some_and(|version| host.has.get(&version.revision) != Some(&false))
        };
        match &host.image {
            Image::Unknown | Image::Pulling | Image::Present { .. } => return None,
            // Due for another look, which the plan of this same evaluation orders: wait for it.
            Image::Failed { retry_at: Some(at), .. } if *at <= seen.now => return None,
            Image::Failed { .. } if versions.iter().any(may_have) => return None,
            Image::Failed { message, retry_at } => {
                first.get_or_insert_with(|| Refuse {
                    why: RefuseReason::StartFailed,
                    until: *retry_at,
                    cause: format!("image {}: {message}", seen.service.launch.image),
                });
            }
        }
    }
    first
}

/// Something is wanted: whether a host takes it, and if not, whether that may pass by itself.
fn room(seen: &Snapshot, mix: &Mix, wants: Wants, versions: &[Option<&Version>]) -> Verdict {
    if single::is_single(seen)
        && let Some(before) = single::in_the_way(seen, None)
    {
        return Verdict::WaitFor(refusal(RefuseReason::NoCapacity, single::waits_for(before)));
    }
    if seen.replicas.iter().any(|r| restarts(seen, mix, wants, r)) {
        return Verdict::Wait;
    }
    let mut first = None;
    for version in versions {
        match placement::place(seen, *version, &seen.replicas, &seen.hosts) {
            Ok(_) => return Verdict::Wait,
            Err(no_fit) => first = first.or(Some(no_fit)),
        }
    }
    first.map_or(Verdict::Wait, |no_fit| weigh(seen, &no_fit))
}

/// Whether a stopped replica can be started again.
fn restarts(seen: &Snapshot, mix: &Mix, wants: Wants, replica: &Replica) -> bool {
    let reserve = seen.service.launch.resources.reserve;
    let host = seen.hosts.iter().find(|host| host.name == replica.host);
    replica.phase == Phase::Stopped
        && wants.of(mix.role(seen, replica)) > 0
        && host.is_some_and(|host| placement::takes_back(host, reserve))
}

/// No host takes it: whether to wait.
fn weigh(seen: &Snapshot, no_fit: &NoFit) -> Verdict {
    if let Some(cause) = data_is_away(seen) {
        return Verdict::WaitFor(refusal(RefuseReason::NoCapacity, cause));
    }
    let any = |test: fn(&Misfit) -> bool| no_fit.hosts.iter().any(|(_, misfit)| test(misfit));
    let cause = no_fit.to_string();
    if any(Misfit::is_image) {
        return Verdict::WaitFor(refusal(RefuseReason::Pulling, cause));
    }
    if any(Misfit::is_room) {
        let refuse = refusal(RefuseReason::OutOfResources, cause);
        // A replica of its own that is about to leave makes room, and so do others.
        let leaving = seen.replicas.iter().any(|r| r.phase.holds_room() && !r.phase.is_live());
        let relief = seen.asked.relief.is_some_and(|at| at + RELIEF > seen.now);
        return if leaving || relief { Verdict::WaitFor(refuse) } else { Verdict::Refuse(refuse) };
    }
    // An engine that is restarted answers again soon, and a host may be looking for the version; waiting requests have a
    // deadline of their own.
    if any(|misfit| matches!(misfit, Misfit::Down(_) | Misfit::Lost(_) | Misfit::OtherRevision)) {
        return Verdict::WaitFor(refusal(RefuseReason::NoCapacity, cause));
    }
    // Due for another look, or it would have been refused before.
    if any(|misfit| matches!(misfit, Misfit::ImageFailed(_))) {
        return Verdict::WaitFor(refusal(RefuseReason::StartFailed, cause));
    }
    Verdict::Refuse(refusal(RefuseReason::NoCapacity, cause))
}

/// The only host that has the service's data takes nothing now; in words.
fn data_is_away(seen: &Snapshot) -> Option<String> {
    let pinned: &HostName = seen.pinned.as_ref()?;
    let host = seen.hosts.iter().find(|host| host.name == *pinned);
    let how = match host.map(placement::state_misfit) {
        Some(None) => return None,
        None => "is not in the file",
        Some(Some(Misfit::Lost(_))) => "is lost",
        Some(Some(Misfit::Cordoned)) => "is cordoned",
        Some(Some(Misfit::Draining)) => "is being drained",
        Some(Some(_)) => "does not answer",
    };
    Some(format!("waits for host {pinned}, which {how}: its data is there"))
}

fn refusal(why: RefuseReason, cause: String) -> Refuse {
    Refuse { why, until: None, cause }
}
