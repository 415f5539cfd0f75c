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

/// Whether requests are to be refused, if `want` replicas are wanted.
#[must_use]
pub fn refuse(backoff: &Backoff, seen: &Snapshot, want: Count) -> Option<Refuse> {
    if seen.replicas.iter().any(|r| r.phase.is_live() || seen.can_return(r)) {
        return None;
    }
    if seen.service.scaling.max == 0 {
        return Some(Refuse {
            why: RefuseReason::NoCapacity,
            until: None,
            cause: "its maximum is 0 replicas".to_owned(),
        });
    }
    backoff.refuse(seen.now).or_else(|| image(seen)).or_else(|| room(seen, want))
}

/// What a request whose patience ends is told: that the image is still on its way, if that is it.
#[must_use]
pub fn late(seen: &Snapshot) -> Option<RefuseReason> {
    let live = seen.replicas.iter().any(|r| r.phase.is_live());
    let arriving = seen.hosts.iter().any(|h| matches!(h.image, Image::Unknown | Image::Pulling));
    (!live && seen.revision().is_none() && arriving).then_some(RefuseReason::Pulling)
}

/// The image cannot be had anywhere, and nobody is looking.
fn image(seen: &Snapshot) -> Option<Refuse> {
    let mut first: Option<Refuse> = None;
    for host in seen.hosts.iter().filter(|h| h.up && placement::permitted(&seen.service, h)) {
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

/// Something is wanted and no host takes it; what is leaving soon is waited for.
fn room(seen: &Snapshot, want: Count) -> Option<Refuse> {
    let leaving = seen.replicas.iter().any(|r| r.phase.holds_room() && !r.phase.is_live());
    if want == 0 || leaving {
        return None;
    }
    let no_fit = placement::place(&seen.service, &seen.replicas, &seen.hosts).err()?;
    let any = |test: fn(&Misfit) -> bool| no_fit.hosts.iter().any(|(_, misfit)| test(misfit));
    if any(Misfit::is_image) {
        return None;
    }
    let why = if any(Misfit::is_room) { RefuseReason::OutOfResources } else { RefuseReason::NoCapacity };
    Some(Refuse { why, until: None, cause: no_fit.to_string() })
}
