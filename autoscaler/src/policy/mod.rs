//! The seam for scaling laws: what is seen and averages in, a want with its reason out.
//! [`decide`](crate::decide) asks and clamps the answer: [`work`] at each look, the others on the tick and on a wake.
//! Absent: bounds, the idle rule of those others.

pub mod grace;
pub(crate) mod highest;
pub mod hpa;
pub mod kpa;
pub mod work;

use std::time::Instant;

use tidegate_config::{
    model::{Law, ScalingPolicy},
    units::Count,
};

use crate::{reason::Reason, snapshot::Snapshot, window::Window};

/// A scaling law and what it remembers.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// Knative's.
    Kpa(kpa::Kpa),
    /// Kubernetes'.
    Hpa(hpa::Hpa),
    /// Ours.
    Work(Box<work::Work>),
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
    /// Everything else.
    pub seen: &'a Snapshot,
}

/// What a law says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How many replicas, before bounds.
    pub want: Count,
    /// Why.
    pub reason: Reason,
    /// When it is worth asking again although nothing happens, besides the tick.
    pub again: Option<Instant>,
}

impl Policy {
    /// The law of a service of which so much is known: that `ready` of its replicas run already, and its habits if they were kept.
    #[must_use]
    pub fn start(law: Law, now: Instant, ready: Count, habits: Option<work::Habits>) -> Self {
        match law {
            Law::Kpa => Self::Kpa(kpa::Kpa::start(now, ready)),
            Law::Hpa => Self::Hpa(hpa::Hpa::default()),
            Law::Work => Self::Work(Box::new(habits.map_or_else(work::Work::default, work::Work::restored))),
        }
    }

    /// Which one it is.
    #[must_use]
    pub fn law(&self) -> Law {
        match self {
            Self::Kpa(_) => Law::Kpa,
            Self::Hpa(_) => Law::Hpa,
            Self::Work(_) => Law::Work,
        }
    }

    /// Asks, and hands on what the law wants to remember.
    #[must_use]
    pub fn ask(self, question: Question<'_>) -> (Answer, Self) {
        match self {
            Self::Kpa(kpa) => {
                let (answer, kpa) = kpa.ask(question);
                (answer, Self::Kpa(kpa))
            }
            Self::Hpa(hpa) => {
                let (answer, hpa) = hpa.ask(question);
                (answer, Self::Hpa(hpa))
            }
            Self::Work(work) => {
                let (answer, work) = work.ask(question);
                (answer, Self::Work(Box::new(work)))
            }
        }
    }
}
