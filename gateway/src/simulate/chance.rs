//! Seeded chance, and lengths of time that depend on it. The same seed gives the same run.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Seeded chance.
#[derive(Debug)]
pub struct Chance(StdRng);

/// A length of time: fixed, or drawn each time that it is needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Span {
    /// Always this.
    Fixed(Duration),
    /// Anything from the first to the second, each as likely.
    Between(Duration, Duration),
    /// Mostly short, sometimes long, with this mean.
    Exponential(Duration),
}

impl Chance {
    /// Chance from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// A whole number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end.max(1))
    }

    /// A length of time.
    pub fn draw(&mut self, span: Span) -> Duration {
        match span {
            Span::Fixed(fixed) => fixed,
            Span::Between(least, most) => least + most.saturating_sub(least).mul_f64(self.unit()),
            Span::Exponential(mean) => mean.mul_f64(-(1.0 - self.unit()).ln()),
        }
    }

    /// From 0 up to, but not, 1.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    /// Normally distributed around 0 with deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

impl From<Duration> for Span {
    fn from(fixed: Duration) -> Self {
        Self::Fixed(fixed)
    }
}
