//! When each request goes out, as offsets from the start of the run. Settled by shape, process and seed alone: how the
//! server behaves changes nothing. A [`Shape`] says how the rate runs over time, a [`Process`] how requests are spread
//! within it; [`language`] reads both. Instants are computed lazily, so that a long run costs no memory.
//! Absent: a clock, randomness beyond the seed, and IO but for [`read`], which opens files of traces.

mod instants;
pub mod language;
mod piece;
mod process;
pub mod read;
pub mod recording;
mod shape;
pub mod trace;

use std::time::Duration;

pub use instants::Instants;
pub use process::Process;
pub use shape::{Phase, Segment, Shape};

/// Requests per second at most, in any plan.
pub const MOST: f64 = 1e6;
/// The longest plan.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// The share of a request that is rounding, not a request: 0.1 * 30 is a little above 3.
pub(crate) const ROUNDING: f64 = 1e-6;

/// The plan makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Not a rate.
    #[error("rate: {0}; expected requests per second, from 0 to 1000000")]
    Rate(f64),
    /// A wave that would send less than nothing.
    #[error("amp: {amp}; expected at most the mean ({mean}), for no rate is below 0")]
    Amplitude {
        /// What the rate moves by.
        amp: f64,
        /// What it moves around.
        mean: f64,
    },
    /// Not a period, a scale or a speed.
    #[error("{what}: {found}; expected more than 0")]
    NotPositive {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: f64,
    },
    /// Nothing would be sent.
    #[error("the plan sends nothing: give a rate above 0 and a duration that holds at least one request")]
    Empty,
    /// It would never end.
    #[error("the plan lasts longer than a year")]
    TooLong,
}

/// A checked plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    shape: Shape,
    process: Process,
    seed: u64,
}

impl Plan {
    /// Checks the shape. The same three arguments give the same instants.
    pub fn new(shape: Shape, process: Process, seed: u64) -> Result<Self, Invalid> {
        shape.check()?;
        Ok(Self { shape, process, seed })
    }

    /// The same plan with other random instants.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }

    /// One rate at equal gaps.
    pub fn even(rate: f64, length: Duration) -> Result<Self, Invalid> {
        Self::new(Shape::constant(rate, length), Process::Uniform, 0)
    }

    /// The length of the run.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.shape.duration()
    }

    /// Requests to expect: exact for equal gaps, bursts and scattered ones, the mean for random gaps.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.process.count(self.shape.requests())
    }

    /// The send instants, ascending.
    #[must_use]
    pub fn instants(&self) -> Instants {
        Instants::new(&self.shape, self.process, self.seed)
    }

    /// The parts of the run that are counted apart, in order, without gaps.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        self.shape.phases()
    }

    /// How the rate runs over time.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How requests are spread within the rate.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }
}
