//! What one decision about a service hands to the next. Starts empty; belongs to whoever calls
//! [`decide`](crate::decide) (control loop, simulator), who never looks inside.

use std::time::Instant;

use crate::{
    backoff::Backoff,
    policy::{Answer, Policy, grace::LastReplica},
    release::Release,
    window::Window,
};

/// What one decision hands to the next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    pub(crate) window: Window,
    /// `None` before the first decision.
    pub(crate) policy: Option<Policy>,
    /// The policy's last answer.
    pub(crate) answer: Option<Answer>,
    pub(crate) backoff: Backoff,
    pub(crate) last_replica: LastReplica,
    /// A wake is on: the initial replicas are not all ready yet.
    pub(crate) waking: bool,
    pub(crate) sleep: Sleep,
    pub(crate) release: Release,
}

impl Memory {
    /// The memory of a service of which `release` is known from before this start of the gateway.
    #[must_use]
    pub fn restored(release: Release) -> Self {
        Self { release, ..Self::default() }
    }

    /// Which versions the service has had, to be kept for the next start of the gateway.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The same, for what people ask for by hand: [`Release::roll_back`], [`Release::forgive`].
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
