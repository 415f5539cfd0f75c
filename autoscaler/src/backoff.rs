//! Crash-loop back-off: a service whose replicas do not start is not started again by every request.
//! Fed and asked by [`decide`](crate::decide). A failed start is a replica that failed before it had been ready for
//! [`PROVEN`]. The first is tried again at once while its waiters wait; from the second in a row on the service is
//! open (refuses) for 1 s, 2 s, 4 s ... 300 s after the failure. Replicas that were under way together fail as one.
//! Forgotten when a replica started after the last failure stays ready for [`PROVEN`], when the version changes, or
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
    /// Looks at what became of the replicas of a version (of all, while nobody knows it): failures of other versions say
    /// nothing about it.
    pub fn look(&mut self, seen: &Snapshot, revision: Option<&Revision>) {
        self.note_revision(revision);
        let of_it = |replica: &&Replica| revision.is_none_or(|revision| *revision == replica.revision);
        for replica in seen.replicas.iter().filter(of_it) {
            match &replica.phase {
                Phase::Ready => {
                    self.ready.insert(replica.id.clone(), replica.since);
                    self.note_ready(replica, seen.now);
                }
                Phase::Failed(cause) => self.note_failure(replica, cause),
                Phase::Starting
                | Phase::Draining
                | Phase::Freezing
                | Phase::Frozen
                | Phase::Thawing
                | Phase::Stopping
                | Phase::Stopped
                | Phase::Lost
                | Phase::Gone => {}
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

    fn note_revision(&mut self, revision: Option<&Revision>) {
        let Some(now) = revision else { return };
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

    fn note_failure(&mut self, replica: &Replica, cause: &Cause) {
        if !self.counted.insert(replica.id.clone()) {
            return;
        }
        if self.is_excused(replica, cause) {
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

    /// Whether it is nothing that the service could help. What never was ready may be taken away by each node that it comes
    /// to, and is not tried without a pause.
    fn is_excused(&self, replica: &Replica, cause: &Cause) -> bool {
        let was_ready = self.ready.contains_key(&replica.id);
        matches!(cause, Cause::EngineAway | Cause::NoPlace(_)) || cause.is_no_fault() && was_ready
    }

    /// Forgets failures, but not which ones it has counted.
    fn reset(&mut self) {
        self.failures = 0;
        self.last = None;
    }
}

/// Whether an immediate second try makes sense.
pub(crate) fn may_be_tried_again(cause: &Cause) -> bool {
    match cause {
        Cause::StartRefused { retryable, .. } => *retryable,
        Cause::Exited(_)
        | Cause::NoPlace(_)
        | Cause::NotReady { .. }
        | Cause::Unhealthy { .. }
        | Cause::Vanished
        | Cause::EngineAway => true,
    }
}

fn delay(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => Duration::from_secs(1_u64.checked_shl(n - 2).unwrap_or(u64::MAX)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, disrupted, exited, replica, secs, snapshot};

    /// A world in which replicas are started and fail.
    struct World {
        seen: Snapshot,
        backoff: Backoff,
        next: u64,
    }

    impl World {
        fn new() -> Self {
            Self {
                seen: snapshot(tidegate_config::model::ScalingPolicy::default()),
                backoff: Backoff::default(),
                next: 0,
            }
        }

        /// Time passes.
        fn after(&mut self, seconds: u64) -> &mut Self {
            self.seen.now += secs(seconds);
            self
        }

        /// A replica is started now.
        fn start(&mut self) -> usize {
            self.next += 1;
            self.seen.replicas.push(replica(self.next, Phase::Starting, self.seen.now));
            self.seen.replicas.len() - 1
        }

        fn becomes(&mut self, index: usize, phase: Phase) -> &mut Self {
            self.seen.replicas[index].phase = phase;
            self.seen.replicas[index].since = self.seen.now;
            self.look()
        }

        fn look(&mut self) -> &mut Self {
            let wanted = crate::release::wanted(&self.seen).map(|version| version.revision);
            self.backoff.look(&self.seen, wanted.as_ref());
            self
        }

        fn fail(&mut self) -> &mut Self {
            let index = self.start();
            self.becomes(index, Phase::Failed(exited()))
        }

        /// Seconds to wait, and the word.
        fn expect(&self, expected: Option<(u64, &str)>) {
            let now = self.seen.now;
            let found = self
                .backoff
                .refuse(now)
                .map(|r| (r.until.map_or(0, |at| (at - now).as_secs()), r.why.label()));
            assert_eq!(found, expected, "after {} failures", self.backoff.failures);
        }
    }

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut world = World::new();
        world.expect(None);
        // The first is tried again at once.
        world.fail().expect(None);
        for (wait, word) in [
            (1, "start_failed"),
            (2, "crash_looping"),
            (4, "crash_looping"),
            (8, "crash_looping"),
            (16, "crash_looping"),
            (32, "crash_looping"),
            (64, "crash_looping"),
            (128, "crash_looping"),
            (256, "crash_looping"),
            (300, "crash_looping"),
            (300, "crash_looping"),
        ] {
            world.fail().expect(Some((wait, word)));
            world.after(wait).expect(None);
        }
        for _ in 0..100 {
            world.fail();
        }
        world.expect(Some((300, "crash_looping")));
    }

    #[test]
    fn a_failed_replica_counts_once_and_those_under_way_together_fail_as_one() {
        let mut world = World::new();
        let (a, b) = (world.start(), world.start());
        world.after(1).becomes(a, Phase::Failed(exited())).look().look();
        world.after(1).becomes(b, Phase::Failed(exited())).expect(None);
        assert_eq!(world.backoff.failures, 1);
        world.fail().expect(Some((1, "start_failed")));
        world.seen.replicas.clear();
        world.look();
        assert!(world.backoff.counted.is_empty(), "what has left the snapshot is forgotten");
    }

    #[test]
    fn what_an_engine_refuses_for_good_is_not_tried_again_at_once() {
        for (retryable, expected) in [(true, None), (false, Some((1, "start_failed")))] {
            let mut world = World::new();
            let index = world.start();
            let cause = Cause::StartRefused { message: "no such command".into(), retryable };
            world.becomes(index, Phase::Failed(cause)).expect(expected);
        }
    }

    #[test]
    fn what_a_cluster_takes_away_is_no_crash_loop() {
        for (cause, was_ready, failures) in [
            (disrupted(), true, 0),
            (disrupted(), false, 3),
            (Cause::Vanished, true, 0),
            (Cause::Vanished, false, 3),
            (Cause::NoPlace("no node has the label".into()), false, 0),
        ] {
            let mut world = World::new();
            for _ in 0..3 {
                let index = world.start();
                if was_ready {
                    world.becomes(index, Phase::Ready);
                }
                world.after(3).becomes(index, Phase::Failed(cause.clone()));
            }
            assert_eq!(world.backoff.failures, failures, "{cause}, ready before: {was_ready}");
        }
    }

    #[test]
    fn ten_seconds_of_ready_forgive() {
        for (ready_for, failures) in [(9, 3), (10, 0)] {
            let mut world = World::new();
            world.fail().fail();
            let index = world.start();
            world.becomes(index, Phase::Ready).after(ready_for).look();
            world.becomes(index, Phase::Failed(exited()));
            assert_eq!(world.backoff.failures, failures, "ready for {ready_for} s");
        }
        // Also when nobody looked while it was ready for that long.
        let mut world = World::new();
        let index = world.start();
        world.becomes(index, Phase::Ready).after(10).becomes(index, Phase::Failed(exited()));
        assert_eq!(world.backoff.failures, 0);
    }

    #[test]
    fn an_old_ready_replica_does_not_forgive_new_failures() {
        let mut world = World::new();
        let old = world.start();
        world.becomes(old, Phase::Ready).after(60).look();
        world.fail().fail().fail().after(1).look().expect(Some((1, "crash_looping")));
    }

    #[test]
    fn a_new_revision_or_somebody_asking_forgives() {
        let rows: [fn(&mut Snapshot); 3] = [
            |seen| seen.hosts[0].image = fixture::present("r2"),
            |seen| seen.asked.wake = Some(seen.now),
            |seen| seen.asked.restart = Some(seen.now),
        ];
        for change in rows {
            let mut world = World::new();
            world.fail().fail().fail().after(1).expect(Some((1, "crash_looping")));
            change(&mut world.seen);
            world.look().expect(None);
            assert_eq!(world.backoff.failures, 0);
        }
    }

    #[test]
    fn failures_of_an_old_revision_do_not_count() {
        let mut world = World::new();
        let index = world.start();
        world.seen.hosts[0].image = fixture::present("r2");
        world.becomes(index, Phase::Failed(exited()));
        assert_eq!(world.backoff.failures, 0);
    }
}
