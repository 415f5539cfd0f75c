//! Which replica gets a request, and which gets none for a while.

use std::{num::NonZeroU32, time::Duration};

use crate::units::Percent;

/// Which replica gets a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// How long a fresh replica gets less than its part: long enough for the first code to be compiled and the first
    /// connections to be made, and shorter than the window in which a surge is seen.
    pub slow_start: Duration,
    /// When a replica that fails gets nothing for a while; `None`: never.
    pub ejection: Option<Ejection>,
    /// Which requests go to the same replica; `None`: it does not matter.
    pub affinity: Option<Affinity>,
    /// Within which bounds the limit of a replica is learned; `None`: it is not.
    pub adaptive: Option<Adaptive>,
    /// When requests are refused because too many have failed; `None`: never. Held requests are this product's promise, and
    /// who would rather be told at once says so.
    pub circuit: Option<Circuit>,
    /// When a request that may be sent twice is, because no answer has come; `None`: never.
    pub hedge: Option<Hedge>,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            slow_start: Duration::from_secs(3),
            ejection: Some(Ejection::default()),
            affinity: None,
            adaptive: None,
            circuit: None,
            hedge: None,
        }
    }
}

/// When a replica that fails gets nothing for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    pub failures: NonZeroU32,
    /// Answers that count as failures of the replica, not of the request.
    pub statuses: Vec<u16>,
    /// How long the first time; doubled each time.
    pub base: Duration,
    /// How long at most.
    pub longest: Duration,
    /// The share of the replicas that may be ejected at once; the last one never is.
    pub max_ejected: Percent,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::new(5).expect("not zero"),
            statuses: Vec::new(),
            base: Duration::from_secs(1),
            longest: Duration::from_secs(30),
            max_ejected: Percent::new(50).expect("in range"),
        }
    }
}

/// Which requests go to the same replica.
#[derive(Debug, Clone, PartialEq)]
pub struct Affinity {
    /// What they have in common.
    pub by: Common,
    /// So many times the average of requests at once is the most that a favourite gets.
    pub bound: f64,
}

/// What requests have in common that go to the same replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Common {
    /// A cookie of this name, which the gateway sets.
    Cookie(String),
    /// The value of this header, in lower case.
    Header(String),
}

impl Affinity {
    /// What a favourite gets at most, in averages, where the file does not say.
    pub const BOUND: f64 = 1.25;
}

/// Within which bounds the limit of a replica is learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adaptive {
    /// Where it starts: what scaling assumes where there is no limit.
    pub initial: NonZeroU32,
    /// What it never goes below.
    pub min: NonZeroU32,
    /// What it never goes above.
    pub max: NonZeroU32,
}

impl Default for Adaptive {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).expect("not zero");
        Self { initial: number(100), min: number(20), max: number(1000) }
    }
}

/// When requests are refused because too many have failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circuit {
    /// The share of attempts that fail.
    pub failures: Percent,
    /// Among at least so many.
    pub least: u32,
    /// Within so long.
    pub window: Duration,
    /// How long the first time; doubled each time.
    pub base: Duration,
    /// How long at most.
    pub longest: Duration,
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            failures: Percent::new(50).expect("in range"),
            least: 20,
            window: Duration::from_secs(10),
            base: Duration::from_secs(1),
            longest: Duration::from_secs(30),
        }
    }
}

/// When a request that may be sent twice is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hedge {
    /// Once no answer has come for so long.
    pub after: After,
    /// The share of requests that this may happen to.
    pub max: Percent,
}

/// How long an answer may take before its request is hedged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// So long.
    Fixed(Duration),
    /// Longer than this share of the last answers took.
    Share(Percent),
}

impl Default for Hedge {
    fn default() -> Self {
        let share = |percent| Percent::new(percent).expect("in range");
        Self { after: After::Share(share(95)), max: share(5) }
    }
}
