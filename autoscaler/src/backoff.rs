//! Crash-loop back-off: a service whose replicas do not start is not started again by every request.
//! Fed and asked by [`decide`](crate::decide). A failed start is a replica that failed before it had been ready for
//! [`PROVEN`]. The first is tried again at once while its waiters wait; from the second in a row on the service is
//! open (refuses) for 1 s, 2 s, 4 s ... 300 s after the failure. Replicas that were under way together fail as one.
//! Forgotten when a replica started after the last failure stays ready for [`PROVEN`], when the revision changes, or
//! when somebody asks for a wake or a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tidegate_config::{name::ReplicaId, spec::Revision};

use crate::{
    refuse::{Refuse, RefuseReason},
    replica::{Cause, Phase},
    snapshot::{Replica, Snapshot},
};

/// A replica that has been ready for so long has started.
pub const PROVEN: Duration = Duration::from_secs(10);
/// The longest wait between two starts.
const LONGEST: Duration = Duration::from_secs(300);
/// From so many failures in a row on it is a loop.
const LOOP: u32 = 3;

/// What is remembered of failed starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Backoff {
    /// Failed starts in a row.
    failures: u32,
    last: Option<Failure>,
    /// Failed replicas that have been looked at and are still in the snapshot.
    counted: BTreeSet<ReplicaId>,
    /// Since when replicas are ready, because a failed one no longer says so.
    ready: BTreeMap<ReplicaId, Instant>,
    revision: Option<Revision>,
}

/// The last failed start.
#[derive(Debug, Clone, PartialEq)]
struct Failure {
    at: Instant,
    cause: Cause,
}

impl Backoff {
    /// Looks at what became of the replicas.
    pub fn look(&mut self, seen: &Snapshot) {
        self.note_revision(seen);
        for replica in &seen.replicas {
            match &replica.phase {
                Phase::Ready => {
                    self.ready.insert(replica.id.clone(), replica.since);
                    self.note_ready(replica, seen.now);
                }
                Phase::Failed(cause) => self.note_failure(replica, cause, seen),
                Phase::Starting | Phase::Draining | Phase::Stopping | Phase::Gone => {}
            }
        }
        let there: BTreeSet<&ReplicaId> = seen.replicas.iter().map(|r| &r.id).collect();
        self.counted.retain(|id| there.contains(id));
        self.ready.retain(|id, _| there.contains(id));
        let asked = seen.asked.wake.max(seen.asked.restart);
        if self.last.as_ref().is_some_and(|last| asked > Some(last.at)) {
            self.reset();
        }
    }

    /// When a replica may be started again, if not now.
    #[must_use]
    pub fn start_after(&self, now: Instant) -> Option<Instant> {
        let last = self.last.as_ref()?;
        Some(last.at + delay(self.failures)).filter(|until| *until > now)
    }

    /// The refusal while the back-off lasts.
    #[must_use]
    pub fn refuse(&self, now: Instant) -> Option<Refuse> {
        let (until, last) = (self.start_after(now)?, self.last.as_ref()?);
        let why = if self.failures < LOOP { RefuseReason::StartFailed } else { RefuseReason::CrashLooping };
        let times =
            if self.failures == 1 { "once".to_owned() } else { format!("{} times in a row", self.failures) };
        Some(Refuse { why, until: Some(until), cause: format!("failed {times}, last: {}", last.cause) })
    }

    fn note_revision(&mut self, seen: &Snapshot) {
        let Some(now) = seen.revision() else { return };
        if self.revision.as_ref().is_some_and(|before| before != now) {
            self.reset();
        }
        self.revision = Some(now.clone());
    }

    fn note_ready(&mut self, replica: &Replica, now: Instant) {
        let newer = self.last.as_ref().is_none_or(|last| replica.started >= last.at);
        if newer && now.saturating_duration_since(replica.since) >= PROVEN {
            self.reset();
        }
    }

    fn note_failure(&mut self, replica: &Replica, cause: &Cause, seen: &Snapshot) {
        if !self.counted.insert(replica.id.clone()) || seen.revision().is_some_and(|r| *r != replica.revision)
        {
            return;
        }
        let at = replica.since;
        if let Some(since) = self.ready.get(&replica.id)
            && at.saturating_duration_since(*since) >= PROVEN
        {
            return;
        }
        if self.last.as_ref().is_some_and(|last| replica.started < last.at) {
            return;
        }
        self.failures += 1;
        if self.failures == 1 && !may_be_tried_again(cause) {
            self.failures = 2;
        }
        self.last = Some(Failure { at, cause: cause.clone() });
    }

    /// Forgets failures, but not which ones it has counted.
    fn reset(&mut self) {
        self.failures = 0;
        self.last = None;
    }
}

/// Whether an immediate second try makes sense.
fn may_be_tried_again(cause: &Cause) -> bool {
    match cause {
        Cause::StartRefused { retryable, .. } => *retryable,
        Cause::Exited(_) | Cause::NotReady { .. } | Cause::Unhealthy { .. } | Cause::Vanished => true,
    }
}

fn delay(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1_u64.checked_shl(n - 2).unwrap_or(u64::MAX)).min(LONGEST),
    }
}
