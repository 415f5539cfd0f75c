//! Whether a service can be had at all, and the word that its clients get if not.
//! Asked by [`decide`](crate::decide). Holds: while a replica is ready, on its way, or can be taken back from
//! draining, nothing is refused. Absent: HTTP; the gateway turns the reason into a response.

use std::time::Instant;

use tidegate_config::units::Count;

use crate::{
    backoff::Backoff,
    placement::{self, Misfit},
    snapshot::{Image, Snapshot},
};

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

/// What becomes of requests that cannot be served now, if `want` replicas are wanted.
#[must_use]
pub fn judge(backoff: &Backoff, seen: &Snapshot, want: Count) -> Verdict {
    if seen.replicas.iter().any(|r| r.phase.is_live()) {
        return Verdict::Wait;
    }
    if seen.service.scaling.max == 0 {
        return Verdict::Refuse(refusal(RefuseReason::NoCapacity, "its maximum is 0 replicas".to_owned()));
    }
    if seen.replicas.iter().any(|r| seen.can_return(r)) {
        return Verdict::Wait;
    }
    if let Some(refuse) = backoff.refuse(seen.now).or_else(|| image(seen)) {
        return Verdict::Refuse(refuse);
    }
    if want == 0 { Verdict::Wait } else { room(seen) }
}

/// The image cannot be had anywhere, and nobody is looking.
fn image(seen: &Snapshot) -> Option<Refuse> {
    let mut first: Option<Refuse> = None;
    for host in seen.hosts.iter().filter(|h| placement::permitted(&seen.service, h)) {
        match &host.image {
            Image::Unknown | Image::Pulling | Image::Present { .. } => return None,
            // Due for another look, which the plan of this same evaluation orders: wait for it.
            Image::Failed { retry_at: Some(at), .. } if *at <= seen.now => return None,
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
fn room(seen: &Snapshot) -> Verdict {
    let Err(no_fit) = placement::place(&seen.service, &seen.replicas, &seen.hosts) else {
        return Verdict::Wait;
    };
    let any = |test: fn(&Misfit) -> bool| no_fit.hosts.iter().any(|(_, misfit)| test(misfit));
    let cause = no_fit.to_string();
    if any(Misfit::is_image) {
        return Verdict::WaitFor(refusal(RefuseReason::Pulling, cause));
    }
    if any(Misfit::is_room) {
        let refuse = refusal(RefuseReason::OutOfResources, cause);
        // A replica of its own that is about to leave makes room.
        let leaving = seen.replicas.iter().any(|r| r.phase.holds_room() && !r.phase.is_live());
        return if leaving { Verdict::WaitFor(refuse) } else { Verdict::Refuse(refuse) };
    }
    // An engine that is restarted answers again soon; waiting requests have a deadline of their own.
    if any(|misfit| *misfit == Misfit::Down) {
        return Verdict::WaitFor(refusal(RefuseReason::NoCapacity, cause));
    }
    // Due for another look, or it would have been refused before.
    if any(|misfit| matches!(misfit, Misfit::ImageFailed(_))) {
        return Verdict::WaitFor(refusal(RefuseReason::StartFailed, cause));
    }
    Verdict::Refuse(refusal(RefuseReason::NoCapacity, cause))
}

fn refusal(why: RefuseReason, cause: String) -> Refuse {
    Refuse { why, until: None, cause }
}
