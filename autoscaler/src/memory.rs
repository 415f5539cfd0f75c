//! What one decision about a service hands to the next. Starts empty; belongs to whoever calls
//! [`decide`](crate::decide) (control loop, simulator), who never looks inside.

use std::time::Instant;

use tidegate_config::{model::Aim, spec::Revision};

use crate::{
    backoff::Backoff,
    policy::{
        Answer, Policy,
        grace::LastReplica,
        work::{Findings, Habits},
    },
    release::{NoEarlier, Rejected, Release},
    rollout::Trial,
    signals::Signals,
    warmth::Warmth,
    window::Window,
};

/// What one decision hands to the next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    pub(crate) window: Window,
    /// `None` before the first decision.
    pub(crate) policy: Option<Policy>,
    /// What the law had learned before this start of the gateway, until it is asked.
    pub(crate) habits: Option<Habits>,
    /// The policy's last answer.
    pub(crate) answer: Option<Answer>,
    pub(crate) signals: Signals,
    pub(crate) backoff: Backoff,
    pub(crate) last_replica: LastReplica,
    /// A wake is on: the initial replicas are not all ready yet.
    pub(crate) waking: bool,
    pub(crate) sleep: Sleep,
    /// The clock asked for replicas at the last look.
    pub(crate) called: bool,
    pub(crate) release: Release,
    /// The version that is being tried; begins again after a restart.
    pub(crate) trial: Option<Trial>,
    pub(crate) warmth: Warmth,
}

impl Memory {
    /// The memory of a service of which so much is known from before this start of the gateway.
    #[must_use]
    pub fn restored(release: Release, habits: Option<Habits>) -> Self {
        Self { release, habits, ..Self::default() }
    }

    /// What the law has learned that the next start of the gateway should know.
    #[must_use]
    pub fn habits(&self) -> Option<Habits> {
        match &self.policy {
            Some(Policy::Work(work)) => Some(work.habits()),
            Some(Policy::Kpa(_) | Policy::Hpa(_)) | None => self.habits.clone(),
        }
    }

    /// The law begins anew, or is another one now: what it has learned is kept for when it is asked again.
    pub(crate) fn leave_law(&mut self) {
        if let Some(Policy::Work(work)) = self.policy.take() {
            self.habits = Some(work.habits());
        }
    }

    /// What the law has learned, for people; `None`: this one learns nothing.
    #[must_use]
    pub fn findings(&self, aim: Aim) -> Option<Findings> {
        match &self.policy {
            Some(Policy::Work(work)) => Some(work.findings(aim)),
            Some(Policy::Kpa(_) | Policy::Hpa(_)) | None => None,
        }
    }

    /// What being warm has been good for.
    #[must_use]
    pub fn warmth(&self) -> &Warmth {
        &self.warmth
    }

    /// Which versions the service has had, to be kept for the next start of the gateway.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Goes back by hand: from a trial to the good version, else to the last kept one, or to a named one. What is left is
    /// not tried again by itself.
    ///
    /// # Errors
    /// When nothing is kept, or not that one.
    pub fn roll_back(&mut self, to: Option<&Revision>) -> Result<Revision, NoEarlier> {
        let Some(trial) = &self.trial else { return self.release.roll_back(to) };
        let good = self.release.good.as_ref().map(|good| good.revision.clone());
        let back = match (good, to) {
            (Some(good), None) => good,
            (Some(good), Some(to)) if good == *to => good,
            (_, to) => self.release.roll_back(to)?,
        };
        self.release.rejected = Some(Rejected::by_hand(trial.revision().clone()));
        self.trial = None;
        Ok(back)
    }

    /// The same, for [`Release::forgive`].
    pub fn release_mut(&mut self) -> &mut Release {
        &mut self.release
    }
}

/// How far the latest asked sleep has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sleep {
    /// None was asked for, or it has not taken effect yet.
    #[default]
    Awake,
    /// Took effect.
    Asleep(Instant),
    /// Was ended by a request.
    Ended(Instant),
}
