//! The seam for scaling laws: averages and the number of ready replicas in, a want with its reason out.
//! [`decide`](crate::decide) asks on the tick and on a wake, and clamps the answer. Absent: bounds, the idle rule.

pub mod grace;
pub mod kpa;

use std::time::Instant;

use tidegate_config::{model::ScalingPolicy, units::Count};

use crate::{reason::Reason, window::Window};

/// A scaling law and what it remembers.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// Knative's.
    Kpa(kpa::Kpa),
}

/// What a law may see.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// When it is asked.
    pub now: Instant,
    /// The service's knobs.
    pub settings: &'a ScalingPolicy,
    /// Replicas that are ready.
    pub ready: Count,
    /// Requests at once that a replica has shown to bear, where the file sets no limit.
    pub learned: Option<u32>,
    /// Demand.
    pub window: &'a Window,
}

/// What a law says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How many replicas, before bounds.
    pub want: Count,
    /// Why.
    pub reason: Reason,
}

impl Policy {
    /// The law of a service that nothing is known of, except that `ready` of its replicas run already.
    #[must_use]
    pub fn start(now: Instant, ready: Count) -> Self {
        Self::Kpa(kpa::Kpa::start(now, ready))
    }

    /// Asks, and hands on what the law wants to remember.
    #[must_use]
    pub fn ask(self, question: Question<'_>) -> (Answer, Self) {
        match self {
            Self::Kpa(kpa) => {
                let (answer, kpa) = kpa.ask(question);
                (answer, Self::Kpa(kpa))
            }
        }
    }
}
