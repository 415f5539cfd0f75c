//! The decision core: how many replicas a service should have, and which steps lead there.
//! The control loop builds a [`Snapshot`], asks [`decide`](decide::decide), hands the answer to [`plan`](plan::plan) and
//! executes the steps. Holds: the whole crate is pure; same inputs, same answer.
//! Absent: clock, IO, randomness, logging, metrics.

mod again;
pub mod backoff;
pub mod budget;
mod by_clock;
pub mod decide;
pub mod forecast;
pub mod keepalive;
pub mod memory;
pub mod mix;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod reason;
pub mod refuse;
pub mod release;
pub mod replica;
pub mod rollout;
mod signals;
pub mod single;
pub mod snapshot;
pub mod staffing;
mod starts;
mod warmth;
pub mod window;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod properties;

pub use decide::Decision;
pub use memory::Memory;
pub use mix::Mix;
pub use plan::{Plan, Step};
pub use policy::work::{Findings, Habits};
pub use reason::Reason;
pub use refuse::{Refuse, RefuseReason};
pub use release::Release;
pub use replica::{Cause, Phase};
pub use rollout::Moved;
pub use snapshot::Snapshot;
pub use warmth::Warmth;
