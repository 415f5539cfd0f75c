//! When each request goes out, as offsets from the start of the run. Settled by shape, arrivals and seed alone: how the
//! server behaves changes nothing. Instants are computed lazily, so that a long run costs no memory.
//! Absent: a clock, and randomness beyond the seed.

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// How the rate runs over time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// One rate.
    Constant {
        /// Requests per second.
        rate: f64,
        /// For how long.
        duration: Duration,
    },
    /// One rate after the other: requests per second, and for how long. A rate of 0 is a pause.
    Step(Vec<(f64, Duration)>),
}

/// How requests are spread within their rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Equal gaps.
    Even,
    /// Exponential gaps, as of many independent users.
    Poisson {
        /// The same seed gives the same instants.
        seed: u64,
    },
}

/// The plan makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Not a rate.
    #[error("rate: {0}; expected requests per second, from 0 to 1000000")]
    Rate(f64),
    /// Nothing would be sent.
    #[error("the plan sends nothing: give a rate above 0 and a duration that holds at least one request")]
    Empty,
}

/// A checked plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    segments: Vec<(f64, Duration)>,
    arrivals: Arrivals,
}

impl Plan {
    /// Checks the rates.
    pub fn new(shape: Shape, arrivals: Arrivals) -> Result<Self, Invalid> {
        let segments = match shape {
            Shape::Constant { rate, duration } => vec![(rate, duration)],
            Shape::Step(segments) => segments,
        };
        if let Some((rate, _)) = segments.iter().find(|(rate, _)| !(0.0..=1e6).contains(rate)) {
            return Err(Invalid::Rate(*rate));
        }
        let plan = Self { segments, arrivals };
        if plan.instants().next().is_none() { Err(Invalid::Empty) } else { Ok(plan) }
    }

    /// The length of the run.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.segments.iter().map(|(_, duration)| *duration).sum()
    }

    /// Requests to expect: exact for even gaps, the mean for random ones.
    #[must_use]
    pub fn expected(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are checked")]
        self.segments.iter().map(|(rate, duration)| count(*rate, *duration) as u64).sum()
    }

    /// The send instants, ascending.
    #[must_use]
    pub fn instants(&self) -> Instants {
        let seed = match self.arrivals {
            Arrivals::Even => None,
            Arrivals::Poisson { seed } => Some(StdRng::seed_from_u64(seed)),
        };
        Instants {
            segments: self.segments.clone().into_iter(),
            segment: (0.0, 0.0),
            begun: Duration::ZERO,
            length: Duration::ZERO,
            sent: 0,
            at: 0.0,
            random: seed,
        }
    }
}

/// Requests at even gaps in a segment; the first goes out at its start.
fn count(rate: f64, duration: Duration) -> f64 {
    // 0.1 * 30 is a little above 3; without the margin that would be a fourth request.
    (rate * duration.as_secs_f64() - 1e-6).ceil().max(0.0)
}

/// The send instants of a plan.
#[derive(Debug)]
pub struct Instants {
    segments: std::vec::IntoIter<(f64, Duration)>,
    /// Rate, and requests at even gaps.
    segment: (f64, f64),
    begun: Duration,
    length: Duration,
    sent: u64,
    /// Seconds since `begun`; random gaps only.
    at: f64,
    random: Option<StdRng>,
}

impl Iterator for Instants {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            if let Some(offset) = self.next_in_segment() {
                return Some(self.begun + offset);
            }
            let (rate, duration) = self.segments.next()?;
            self.begun += self.length;
            self.length = duration;
            self.segment = (rate, count(rate, duration));
            self.sent = 0;
            self.at = 0.0;
        }
    }
}

impl Instants {
    fn next_in_segment(&mut self) -> Option<Duration> {
        let (rate, count) = self.segment;
        match &mut self.random {
            None => {
                #[expect(clippy::cast_precision_loss, reason = "below 2^53 by the bounds on rate and time")]
                let sent = self.sent as f64;
                self.sent += 1;
                // From the number, not from the last instant: errors do not add up.
                (sent < count).then(|| Duration::from_secs_f64(sent / rate))
            }
            Some(_) if rate == 0.0 => None,
            Some(random) => {
                self.at += gap(random) / rate;
                let offset = Duration::from_secs_f64(self.at);
                // Dropping the gap that leaves the segment is right: exponential gaps have no memory.
                (offset < self.length).then_some(offset)
            }
        }
    }
}

/// An exponential gap with mean 1.
fn gap(random: &mut impl Rng) -> f64 {
    let uniform: f64 = random.random();
    -(1.0 - uniform).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn even(shape: Shape) -> Vec<Duration> {
        Plan::new(shape, Arrivals::Even).expect("valid").instants().collect()
    }

    #[test]
    fn even_gaps() {
        for (rate, length, count, last) in [
            (200.0, 30_000, 6000, 29_995),
            (1000.0, 50, 50, 49),
            (0.1, 30_000, 3, 20_000),
            (3.0, 1000, 3, 666),
            (2.5, 1000, 3, 800),
            (1e6, 1, 1000, 0),
        ] {
            let shape = Shape::Constant { rate, duration: ms(length) };
            let instants = even(shape.clone());
            assert_eq!(instants.len(), count, "{rate} for {length} ms");
            assert_eq!(instants[0], Duration::ZERO);
            assert_eq!(instants[count - 1].as_millis(), last, "{rate}");
            assert_eq!(Plan::new(shape, Arrivals::Even).expect("valid").expected(), count as u64);
        }
    }

    #[test]
    fn steps_follow_each_other() {
        let steps = vec![(2.0, ms(1000)), (0.0, ms(500)), (4.0, ms(500))];
        assert_eq!(even(Shape::Step(steps.clone())), [ms(0), ms(500), ms(1500), ms(1750)]);
        let plan = Plan::new(Shape::Step(steps), Arrivals::Even).expect("valid");
        assert_eq!((plan.duration(), plan.expected()), (ms(2000), 4));
    }

    #[test]
    fn random_gaps_keep_the_rate_and_repeat_by_seed() {
        let steps = Shape::Step(vec![(1000.0, ms(10_000)), (0.0, ms(1000)), (100.0, ms(10_000))]);
        let of = |seed| -> Vec<Duration> {
            Plan::new(steps.clone(), Arrivals::Poisson { seed }).expect("valid").instants().collect()
        };
        let instants = of(7);
        assert_eq!(instants, of(7));
        assert_ne!(instants, of(8));
        assert!(instants.is_sorted());
        // Six standard deviations of a Poisson count on either side.
        let first = instants.iter().filter(|at| **at < ms(10_000)).count();
        assert!((9400..=10_600).contains(&first), "{first}");
        assert!((810..=1190).contains(&(instants.len() - first)), "{}", instants.len());
        assert!(!instants.iter().any(|at| (ms(10_000)..ms(11_000)).contains(at)), "the pause is silent");
    }

    #[test]
    fn plans_that_make_no_sense() {
        for (rate, length) in [(0.0, 1000), (10.0, 0), (f64::NAN, 1000), (-1.0, 1000), (1e9, 1000)] {
            let shape = Shape::Constant { rate, duration: ms(length) };
            assert!(Plan::new(shape, Arrivals::Even).is_err(), "{rate} for {length} ms");
        }
        assert!(Plan::new(Shape::Step(vec![]), Arrivals::Poisson { seed: 1 }).is_err());
    }
}
