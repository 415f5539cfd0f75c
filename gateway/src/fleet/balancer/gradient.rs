//! How many requests at once a replica can bear where nobody has said: while answers take about as long as they have for
//! long, more and more; when they take longer, fewer. Gradient2 of Netflix's concurrency-limits, over windows of a second.
//! Owned by a [`Candidate`](super::Candidate). Pure.
//! Holds: within its bounds; who does not use half of the limit does not move it.

use std::time::{Duration, Instant};

use tidegate_config::model;

/// One step of the law looks at so much time, and at so many answers at least.
const WINDOW: Duration = Duration::from_secs(1);
const ANSWERS: u32 = 10;

/// So much longer than usual is no sign yet.
const TOLERANCE: f64 = 1.5;
/// One step takes away half at most.
const STEEPEST: f64 = 0.5;
/// Requests that may queue inside the replica: what lets the limit grow.
const QUEUE: f64 = 4.0;
/// How much of a step is taken.
const SMOOTHING: f64 = 0.2;
/// What is usual is the plain average of the first windows, and then moves by so much of each: ten minutes' worth.
const FIRST: u32 = 10;
const LONG: f64 = 2.0 / 601.0;
/// However slow a window is, it counts as so many times the usual: a few that are very slow must not pass for usual.
const MOST: f64 = 2.0;
/// While answers come much faster than usual, usual is forgotten so fast.
const RECOVERY: f64 = 0.95;

/// A limit that learns.
#[derive(Debug, Clone)]
pub(crate) struct Gradient {
    bounds: model::Adaptive,
    limit: f64,
    /// How long answers usually take, in seconds, and over how many windows that was averaged.
    usual: Option<(f64, u32)>,
    began: Instant,
    answers: u32,
    seconds: f64,
    most: u32,
}

impl Gradient {
    pub(crate) fn new(now: Instant, bounds: model::Adaptive) -> Self {
        let limit = f64::from(bounds.initial.get());
        Self { bounds, limit, usual: None, began: now, answers: 0, seconds: 0.0, most: 0 }
    }

    /// Takes new bounds.
    pub(crate) fn set_bounds(&mut self, bounds: model::Adaptive) {
        self.bounds = bounds;
        self.limit = self.within(self.limit);
    }

    /// The limit as of now.
    pub(crate) fn limit(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within bounds that are u32"
        )]
        let limit = self.limit as u32;
        limit
    }

    /// An answer came after so long, when so many requests ran.
    pub(crate) fn observe(&mut self, now: Instant, after: Duration, in_flight: u32) {
        self.answers += 1;
        self.seconds += after.as_secs_f64();
        self.most = self.most.max(in_flight);
        if self.answers >= ANSWERS && now.saturating_duration_since(self.began) >= WINDOW {
            let short = (self.seconds / f64::from(self.answers)).max(1e-6);
            self.step(short);
            (self.began, self.answers, self.seconds, self.most) = (now, 0, 0.0, 0);
        }
    }

    fn step(&mut self, short: f64) {
        let (usual, windows) = match self.usual {
            Some((usual, windows)) if windows < FIRST => {
                (usual + (short - usual) / f64::from(windows + 1), windows + 1)
            }
            Some((usual, windows)) => (usual + (short.min(usual * MOST) - usual) * LONG, windows),
            None => (short, 1),
        };
        let recovering = usual / short > 2.0;
        self.usual = Some((if recovering { usual * RECOVERY } else { usual }, windows));
        if f64::from(self.most) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * usual / short).clamp(STEEPEST, 1.0);
        let next = self.limit * gradient + QUEUE;
        self.limit = self.within(self.limit * (1.0 - SMOOTHING) + next * SMOOTHING);
    }

    fn within(&self, limit: f64) -> f64 {
        let (min, max) = (self.bounds.min.get(), self.bounds.max.get());
        limit.clamp(f64::from(min), f64::from(max))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn bounds(initial: u32) -> model::Adaptive {
        model::Adaptive {
            initial: NonZeroU32::new(initial).expect("at least one"),
            ..model::Adaptive::default()
        }
    }

    /// Windows of twenty answers, each after so many milliseconds with so many in flight.
    fn live(gradient: &mut Gradient, now: &mut Instant, windows: usize, of: impl Fn(u32) -> (f64, u32)) {
        for _ in 0..windows * 20 {
            *now += Duration::from_millis(51);
            let (ms, in_flight) = of(gradient.limit());
            gradient.observe(*now, Duration::from_secs_f64(ms / 1000.0), in_flight);
        }
    }

    #[test]
    fn a_steady_service_is_never_limited() {
        let mut now = crate::clock::now();
        let mut gradient = Gradient::new(now, bounds(100));
        live(&mut gradient, &mut now, 100, |_| (10.0, 40));
        assert_eq!(gradient.limit(), 100, "it does not use half of it");
        live(&mut gradient, &mut now, 300, |limit| (10.0, limit));
        assert!(gradient.limit() > 300, "it grows with what is used: {}", gradient.limit());
    }

    #[test]
    fn a_replica_whose_answers_take_longer_the_more_run_gets_fewer() {
        let mut now = crate::clock::now();
        let mut gradient = Gradient::new(now, bounds(200));
        live(&mut gradient, &mut now, 200, |_| (10.0, 20));
        // Twenty at once can be borne; more wait inside of it.
        live(&mut gradient, &mut now, 100, |limit| (10.0 * f64::from(limit.max(20)) / 20.0, limit));
        assert!((20..60).contains(&gradient.limit()), "{}", gradient.limit());
    }

    #[test]
    fn what_was_slow_for_long_is_forgotten_when_it_is_fast_again() {
        let mut now = crate::clock::now();
        let mut gradient = Gradient::new(now, bounds(100));
        live(&mut gradient, &mut now, 50, |limit| (500.0, limit));
        live(&mut gradient, &mut now, 200, |_| (10.0, 1));
        assert!(gradient.usual.is_some_and(|(usual, _)| usual < 0.03), "{gradient:?}");
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(answers in proptest::collection::vec((1_u64..3000, 0_u64..5000, 0_u32..2000), 1..400)) {
            let mut now = crate::clock::now();
            let mut gradient = Gradient::new(now, bounds(100));
            for (gap, after, in_flight) in answers {
                now += Duration::from_millis(gap);
                gradient.observe(now, Duration::from_millis(after), in_flight);
                let bounds = &gradient.bounds;
                prop_assert!((bounds.min.get()..=bounds.max.get()).contains(&gradient.limit()));
            }
        }
    }
}
