//! What one decision about a service hands to the next. Starts empty; belongs to whoever calls
//! [`decide`](crate::decide) (control loop, simulator), who never looks inside.

use std::time::Instant;

use crate::{
    backoff::Backoff,
    policy::{Answer, Policy, grace::LastReplica},
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
