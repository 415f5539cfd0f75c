//! The send instants of a plan, one after the other. `[P]`
//! The process says how many requests' worth of rate lie before the next one, the shape's pieces say when that is.

use std::time::Duration;

use super::{
    piece::Piece,
    process::{Arrivals, Process},
    shape::{Segment, Shape},
};

/// The send instants of a plan.
#[derive(Debug)]
pub struct Instants {
    segments: std::vec::IntoIter<(String, Segment)>,
    arrivals: Arrivals,
    segment: Option<Segment>,
    /// When the segment began.
    begun: Duration,
    /// Pieces of it that were begun.
    pieces: usize,
    /// The piece that the next request is in, if it has not left it, and when it began within the segment, in seconds.
    piece: Option<(f64, Piece)>,
    /// Requests before the piece.
    before: f64,
    /// Requests up to the piece's end.
    up_to: f64,
}

impl Instants {
    pub(crate) fn new(shape: &Shape, process: Process, seed: u64) -> Self {
        Self {
            segments: shape.segments().to_vec().into_iter(),
            arrivals: Arrivals::new(process, seed),
            segment: None,
            begun: Duration::ZERO,
            pieces: 0,
            piece: None,
            before: 0.0,
            up_to: 0.0,
        }
    }

    /// Goes on to the next piece; `None` at the end of the plan.
    fn advance(&mut self) -> Option<()> {
        loop {
            let piece = self.segment.as_ref().and_then(|segment| segment.piece(self.pieces));
            if let Some((_, found)) = piece {
                self.pieces += 1;
                self.before = self.up_to;
                self.up_to += found.mass();
                self.arrivals.enter(self.before, self.up_to);
                self.piece = piece;
                return Some(());
            }
            self.begun += self.segment.as_ref().map_or(Duration::ZERO, Segment::length);
            let (_, next) = self.segments.next()?;
            self.segment = Some(next);
            self.pieces = 0;
        }
    }
}

impl Iterator for Instants {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            if let Some((begin, piece)) = self.piece
                && let Some(target) = self.arrivals.before(self.up_to)
            {
                let offset = piece.when((target - self.before).max(0.0)).min(piece.seconds());
                return Some(self.begun + Duration::from_secs_f64((begin + offset).max(0.0)));
            }
            self.piece = None;
            self.advance()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, trace::Profile};

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn even(shape: Shape) -> Vec<Duration> {
        Plan::new(shape, Process::Uniform, 0).expect("valid").instants().collect()
    }

    #[test]
    fn equal_gaps() {
        for (rate, length, count, last) in [
            (200.0, 30_000, 6000, 29_995),
            (1000.0, 50, 50, 49),
            (0.1, 30_000, 3, 20_000),
            (3.0, 1000, 3, 666),
            (2.5, 1000, 3, 800),
            (1e6, 1, 1000, 0),
        ] {
            let shape = Shape::constant(rate, ms(length));
            let instants = even(shape.clone());
            assert_eq!(instants.len(), count, "{rate} for {length} ms");
            assert_eq!(instants[0], Duration::ZERO);
            assert_eq!(instants[count - 1].as_millis(), last, "{rate}");
            assert_eq!(Plan::new(shape, Process::Uniform, 0).expect("valid").expected(), count as u64);
        }
    }

    #[test]
    fn steps_follow_each_other() {
        let shape = Shape::steps([(2.0, ms(1000)), (0.0, ms(500)), (4.0, ms(500))]);
        assert_eq!(even(shape.clone()), [ms(0), ms(500), ms(1500), ms(1750)]);
        let plan = Plan::new(shape, Process::Uniform, 0).expect("valid");
        assert_eq!((plan.duration(), plan.expected()), (ms(2000), 4));
    }

    #[test]
    fn a_ramp_gets_faster() {
        let mut shape = Shape::default();
        shape.push("ramp", Segment::Ramp { from: 0.0, to: 20.0, length: ms(10_000) });
        let instants = even(shape);
        // n requests have gone out after sqrt(n) seconds.
        assert_eq!(instants.len(), 100);
        for (n, at) in instants.iter().enumerate() {
            assert!((at.as_secs_f64() - (n as f64).sqrt()).abs() < 1e-6, "{n}: {at:?}");
        }
    }

    #[test]
    fn what_was_recorded_is_replayed() {
        let profile = Profile::times(vec![0.5, 0.5, 2.0, 4.0].into()).expect("ascending");
        for (scale, speed, expected) in [
            (1.0, 1.0, vec![500, 500, 2000, 4000]),
            (0.5, 1.0, vec![500, 2000]),
            (2.0, 2.0, vec![250, 250, 250, 250, 1000, 1000, 2000, 2000]),
        ] {
            let mut shape = Shape::default();
            shape.push("trace", Segment::Trace { profile: profile.clone().into(), scale, speed });
            let found: Vec<u64> = even(shape).iter().map(|at| at.as_millis() as u64).collect();
            assert_eq!(found, expected, "scale {scale}, speed {speed}");
        }
    }

    #[test]
    fn counts_are_spread_over_their_bin() {
        let profile = Profile::counts(vec![2.0, 0.0, 4.0].into(), ms(1000)).expect("counts");
        let mut shape = Shape::default();
        shape.push("trace", Segment::Trace { profile: profile.into(), scale: 1.0, speed: 10.0 });
        let found: Vec<u64> = even(shape).iter().map(|at| at.as_millis() as u64).collect();
        assert_eq!(found, [0, 50, 200, 225, 250, 275]);
    }

    #[test]
    fn scattered_requests_stay_in_their_bin() {
        let counts = [3.0, 0.0, 200.0, 1.0];
        let profile = Profile::counts(counts.map(|count| count as f32).into(), ms(1000)).expect("counts");
        for (scale, expected) in [(1.0, [3, 0, 200, 1]), (0.5, [1, 0, 100, 1])] {
            let mut shape = Shape::default();
            shape.push("trace", Segment::Trace { profile: profile.clone().into(), scale, speed: 1.0 });
            let plan = Plan::new(shape, Process::Scatter, 3).expect("valid");
            let found: Vec<Duration> = plan.instants().collect();
            let within = |bin: u64| found.iter().filter(|at| at.as_secs() == bin).count();
            assert_eq!([0, 1, 2, 3].map(within), expected, "scale {scale}");
            assert_eq!(found.len() as u64, plan.expected());
            assert!(found.is_sorted());
            assert!(found.iter().any(|at| !at.subsec_millis().is_multiple_of(5)), "not at equal gaps");
            assert_ne!(found, plan.with_seed(4).instants().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_seed_gives_the_same_instants_again() {
        for process in [Process::Poisson, Process::Gamma { cv: 2.0 }] {
            let shape = Shape::steps([(1000.0, ms(10_000)), (0.0, ms(1000)), (100.0, ms(10_000))]);
            let of = |seed| -> Vec<Duration> {
                Plan::new(shape.clone(), process, seed).expect("valid").instants().collect()
            };
            let instants = of(7);
            assert_eq!(instants, of(7));
            assert_ne!(instants, of(8));
            assert!(instants.is_sorted());
            // Six standard deviations of a Poisson count on either side, twice that with a variation of 2.
            let first = instants.iter().filter(|at| **at < ms(10_000)).count();
            assert!((8800..=11_200).contains(&first), "{first}");
            assert!(!instants.iter().any(|at| (ms(10_000)..ms(11_000)).contains(at)), "the pause is silent");
        }
    }

    #[test]
    fn plans_that_make_no_sense() {
        for (rate, length) in [(0.0, 1000), (10.0, 0), (f64::NAN, 1000), (-1.0, 1000), (1e9, 1000)] {
            let shape = Shape::constant(rate, ms(length));
            assert!(Plan::new(shape, Process::Uniform, 0).is_err(), "{rate} for {length} ms");
        }
        assert!(Plan::new(Shape::default(), Process::Poisson, 1).is_err());
        let year = Shape::constant(1.0, Duration::from_secs(u64::MAX));
        assert!(Plan::new(year, Process::Uniform, 0).is_err());
    }
}
