//! Moves a service from one version to the next: a trial in steps, each with a share of the requests, until the new version
//! is the good one or is taken back. Called by [`decide`](crate::decide) before anything else.
//! Holds: without a good version to compare with the file's is good at once; what was taken back is not tried again until
//! the file names another one. Absent: which replicas; what is kept over restarts ([`release`]).

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use tidegate_config::{
    name::ReplicaId,
    spec::{Revision, Version},
};

use crate::{
    backoff::{Backoff, may_be_tried_again},
    mix::Mix,
    release::{self, Rejected, Release},
    replica::Phase,
    single::is_single,
    snapshot::{Snapshot, Tally},
};

/// Fewer answers or errors than these are no sample: one error among the first three answers would be a third of them.
/// Starts that fail are counted apart, so a version that is all wrong does not need these.
const ENOUGH_REQUESTS: u64 = 20;
/// See [`ENOUGH_REQUESTS`]: one or two errors are a client's doing as often as a version's.
const ENOUGH_ERRORS: u64 = 3;

/// A start of a new version for which requests wait may take so long before the good one is started as well.
const SLOW: Duration = Duration::from_secs(10);

/// What a release did.
#[derive(Debug, Clone, PartialEq)]
pub enum Moved {
    /// The first version that was ever seen is the good one.
    First(Revision),
    /// A new version is being tried.
    Tries(Revision),
    /// The trial goes on with a larger share.
    Step {
        /// Which version.
        revision: Revision,
        /// Percentage of requests.
        share: u8,
    },
    /// The new version is the good one.
    Good(Revision),
    /// The new version was taken back.
    TakenBack(Rejected),
    /// The settings name the good version again.
    Dropped(Revision),
}

/// A version that is being tried.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trial {
    version: Version,
    began: Instant,
    step: usize,
    /// Since when this step counts: one of its replicas is ready.
    since: Option<Instant>,
    /// What each version had answered when this step began.
    base: Tallies,
    /// What the good version had answered when the trial began.
    before: Tally,
    failed: BTreeSet<ReplicaId>,
    pub(crate) backoff: Backoff,
}

/// What two versions have answered.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Tallies {
    good: Tally,
    trial: Tally,
}

/// Moves the release on; says what it did.
pub(crate) fn advance(release: &mut Release, trial: &mut Option<Trial>, seen: &Snapshot) -> Option<Moved> {
    let moved = release::wanted(seen).and_then(|version| turn_to(release, trial, version, seen));
    let moved = moved.or_else(|| go_on(release, trial, seen));
    release.kept.truncate(seen.service.rollout.keep as usize);
    moved
}

/// Which versions run now.
pub(crate) fn mix(release: &Release, trial: Option<&Trial>, seen: &Snapshot) -> Mix {
    let tried = |trial: &Trial| (trial.version.clone(), trial.share(seen));
    Mix { main: release.good.clone(), trial: trial.map(tried) }
}

/// What a release is doing, for people; `None`: nothing out of the ordinary.
pub(crate) fn note(release: &Release, trial: Option<&Trial>, seen: &Snapshot) -> Option<String> {
    if let Some(trial) = trial {
        let (step, steps) = (trial.step + 1, shares(seen).len());
        let share = trial.share(seen);
        let none = if trial.since.is_none() { ", none of it is ready yet" } else { "" };
        let revision = &trial.version.revision;
        return Some(format!(
            "trying revision {revision} with {share} % of requests, step {step} of {steps}{none}"
        ));
    }
    let Rejected { revision, why } = release.rejected.as_ref()?;
    Some(format!("revision {revision} was taken back: {why}"))
}

/// What the file's version is: new, good, taken back, or under trial already.
fn turn_to(
    release: &mut Release,
    trial: &mut Option<Trial>,
    version: Version,
    seen: &Snapshot,
) -> Option<Moved> {
    let revision = version.revision.clone();
    if release.rejected.as_ref().is_some_and(|rejected| rejected.revision != revision) {
        release.rejected = None;
    }
    match &mut release.good {
        None => {
            release.good = Some(version);
            return Some(Moved::First(revision));
        }
        Some(good) if good.revision == revision => {
            // What a revision does not cover (what placement reserves, ...) follows the file.
            *good = version;
            return trial.take().map(|left| Moved::Dropped(left.version.revision));
        }
        Some(_) => {}
    }
    if release.rejected.is_some() {
        *trial = None;
        return None;
    }
    match trial {
        Some(trial) if trial.version.revision == revision => {
            trial.version = version;
            None
        }
        _ => {
            *trial = Some(Trial::new(version, release, seen));
            Some(Moved::Tries(revision))
        }
    }
}

/// Takes a trial back, makes it good, or goes to its next step, if it is time.
fn go_on(release: &mut Release, trial: &mut Option<Trial>, seen: &Snapshot) -> Option<Moved> {
    let (current, good) = (trial.as_mut()?, release.good.as_ref()?.revision.clone());
    let revision = current.version.revision.clone();
    if let Some(why) = current.failures(seen).or_else(|| current.errors(&good, seen)) {
        *trial = None;
        let rejected = Rejected { revision, why };
        release.rejected = Some(rejected.clone());
        return Some(Moved::TakenBack(rejected));
    }
    let last = shares(seen).len() - 1;
    current.step = current.step.min(last);
    if current.step < last && !serves(&good, seen) && !serves(&revision, seen) {
        current.enter(last, &good, seen);
        return Some(Moved::Step { revision, share: current.share(seen) });
    }
    if current.since.is_none() && current.is_ready(seen) {
        current.since = Some(seen.now);
    }
    if current.since? + seen.service.rollout.every > seen.now {
        return None;
    }
    if current.step < last {
        current.enter(current.step + 1, &good, seen);
        return Some(Moved::Step { revision, share: current.share(seen) });
    }
    let proven = trial.take()?.version;
    release.promote(proven);
    Some(Moved::Good(revision))
}

/// Whether replicas of a version serve, or could again: a service without any is asleep, and there is nothing to compare
/// a new version with.
fn serves(revision: &Revision, seen: &Snapshot) -> bool {
    let serves = |phase: &Phase| phase.is_live() || *phase == Phase::Draining;
    seen.replicas.iter().any(|replica| replica.revision == *revision && serves(&replica.phase))
}

/// The share of requests in each step, in percent.
fn shares(seen: &Snapshot) -> Vec<u8> {
    // Two versions of such a service are never there at once.
    if is_single(seen) || seen.service.rollout.steps.is_empty() {
        return vec![100];
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage")]
    let percent = |fraction: f64| (fraction * 100.0).round() as u8;
    seen.service.rollout.steps.iter().map(|step| percent(step.fraction())).collect()
}

impl Trial {
    fn new(version: Version, release: &Release, seen: &Snapshot) -> Self {
        let good = release.good.as_ref().map(|good| &good.revision);
        let before = good.map_or_else(Tally::default, |good| tally(good, seen));
        let base = Tallies { good: before, trial: tally(&version.revision, seen) };
        let (failed, backoff) = (BTreeSet::new(), Backoff::default());
        Self { version, began: seen.now, step: 0, since: None, base, before, failed, backoff }
    }

    pub(crate) fn revision(&self) -> &Revision {
        &self.version.revision
    }

    /// Whether waiting requests had better be served by the good version as well: nothing of this one is ready, and it has
    /// failed before, or keeps them waiting for [`SLOW`].
    pub(crate) fn struggles(&self, seen: &Snapshot) -> bool {
        let slow = || seen.queued() > 0 && self.slow_at(seen).is_some_and(|at| at <= seen.now);
        !self.is_ready(seen) && (!self.failed.is_empty() || slow())
    }

    /// When a start of it that is under way is a slow one.
    pub(crate) fn slow_at(&self, seen: &Snapshot) -> Option<Instant> {
        let of_it = seen.replicas.iter().filter(|r| r.revision == self.version.revision);
        of_it.filter(|r| r.phase == Phase::Starting).map(|r| r.since + SLOW).min()
    }

    fn is_ready(&self, seen: &Snapshot) -> bool {
        seen.replicas.iter().any(|r| r.phase == Phase::Ready && r.revision == self.version.revision)
    }

    /// When this step is over, if it has begun.
    pub(crate) fn until(&self, seen: &Snapshot) -> Option<Instant> {
        self.since.map(|since| since + seen.service.rollout.every)
    }

    fn share(&self, seen: &Snapshot) -> u8 {
        shares(seen).get(self.step).copied().unwrap_or(100)
    }

    fn enter(&mut self, step: usize, good: &Revision, seen: &Snapshot) {
        self.step = step;
        self.since = self.is_ready(seen).then_some(seen.now);
        let own = since(tally(&self.version.revision, seen), self.base.trial);
        // Too few to have been judged by: they count with what comes.
        if own.requests >= ENOUGH_REQUESTS {
            self.base = Tallies { good: tally(good, seen), trial: tally(&self.version.revision, seen) };
        }
    }

    /// Counts failed replicas, each once; why the version is to be taken back, if it is.
    fn failures(&mut self, seen: &Snapshot) -> Option<String> {
        let most = seen.service.rollout.failures.max(1) as usize;
        for replica in &seen.replicas {
            let Phase::Failed(cause) = &replica.phase else { continue };
            // What failed before was counted by an earlier trial, which somebody has forgiven.
            let of_it = replica.revision == self.version.revision && replica.since >= self.began;
            if !of_it || cause.is_no_fault() || !self.failed.insert(replica.id.clone()) {
                continue;
            }
            if self.failed.len() >= most || !may_be_tried_again(cause) {
                return Some(match self.failed.len() {
                    1 => format!("a replica of it failed: {cause}"),
                    n => format!("{n} replicas of it failed, last: {cause}"),
                });
            }
        }
        None
    }

    /// Why its share of errors takes it back, if it does.
    fn errors(&self, good: &Revision, seen: &Snapshot) -> Option<String> {
        let own = since(tally(&self.version.revision, seen), self.base.trial);
        if own.requests < ENOUGH_REQUESTS || own.errors < ENOUGH_ERRORS {
            return None;
        }
        let good = match self.share(seen) {
            100 => self.before,
            _ => since(tally(good, seen), self.base.good),
        };
        let (bad, usual) = (error_share(own), error_share(good));
        let margin = seen.service.rollout.margin.fraction();
        (bad > usual + margin).then(|| {
            format!(
                "{:.1} % of {} requests failed, {:.1} % of the earlier version's",
                bad * 100.0,
                own.requests,
                usual * 100.0
            )
        })
    }
}

fn tally(revision: &Revision, seen: &Snapshot) -> Tally {
    seen.tallies.get(revision).copied().unwrap_or_default()
}

fn since(now: Tally, base: Tally) -> Tally {
    Tally {
        requests: now.requests.saturating_sub(base.requests),
        errors: now.errors.saturating_sub(base.errors),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for comparing")]
fn error_share(tally: Tally) -> f64 {
    tally.errors as f64 / tally.requests.max(1) as f64
}

impl Moved {
    /// A word for metrics and history.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::First(_) => "first",
            Self::Tries(_) => "tries",
            Self::Step { .. } => "step",
            Self::Good(_) => "good",
            Self::TakenBack(_) => "taken_back",
            Self::Dropped(_) => "dropped",
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(revision) => write!(f, "revision {revision} is the first good one"),
            Self::Tries(revision) => write!(f, "tries revision {revision}"),
            Self::Step { revision, share } => write!(f, "revision {revision} gets {share} % of requests"),
            Self::Good(revision) => write!(f, "revision {revision} is the good one"),
            Self::TakenBack(Rejected { revision, why }) => {
                write!(f, "revision {revision} was taken back: {why}")
            }
            Self::Dropped(revision) => write!(f, "revision {revision} is not wanted any more"),
        }
    }
}

#[cfg(test)]
mod tests;
