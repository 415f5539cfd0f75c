//! Looks for the highest rate that a service bears: up in steps until the service level breaks, then halves the gap. `[P]`

use std::time::Duration;

use crate::report::Report;

/// What counts as borne.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Response times up to this are good.
    pub slo: Duration,
    /// The share of good ones that is enough, 0 to 1.
    pub share: f64,
}

/// How one rate went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Requests per second.
    pub rate: f64,
    /// The share within the level.
    pub within: f64,
    /// 99th percentile of response times.
    pub p99: Option<Duration>,
    /// Mean response time.
    pub mean: Option<Duration>,
    /// Replicas that served it, if that is known.
    pub replicas: Option<f64>,
    /// Whether it was borne.
    pub good: bool,
}

/// The search: what is known so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    factor: f64,
    most: f64,
    /// How near good and bad have to come, as a share of the good one.
    precision: f64,
    good: Option<Step>,
    bad: Option<Step>,
    next: f64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    /// The highest rate that was borne, if any was.
    pub good: Option<Step>,
    /// The lowest that was not, if any was tried.
    pub bad: Option<Step>,
}

/// What a replica bears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Requests per second.
    pub rate: f64,
    /// Requests at once, by Little's law: what to set as `concurrency`.
    pub concurrency: u32,
}

impl Step {
    /// Judges a run, by the phase with that number (the others were for settling). A run in which the generator could not
    /// keep up is not borne: nobody knows.
    #[must_use]
    pub fn of(report: &Report, phase: usize, rate: f64, level: Level, replicas: Option<f64>) -> Self {
        let all = report.spread(|cell| &cell.response, |key| key.phase == phase);
        let fine = report.spread(|cell| &cell.response, |key| key.phase == phase && !key.class.is_error());
        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let within =
            if all.count() == 0 { 0.0 } else { fine.count_up_to(level.slo) as f64 / all.count() as f64 };
        let good = report.kept_up && within >= level.share;
        Self { rate, within, p99: all.percentile(99.0), mean: all.mean(), replicas, good }
    }
}

impl Search {
    /// Begins at a rate and multiplies it by `factor` up to `most`.
    #[must_use]
    pub fn new(from: f64, factor: f64, most: f64, precision: f64) -> Self {
        Self { factor: factor.max(1.01), most, precision, good: None, bad: None, next: from }
    }

    /// The rate to try next; `None` when the knee is known well enough.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        match (&self.good, &self.bad) {
            (Some(good), Some(bad)) => {
                (bad.rate - good.rate > good.rate * self.precision).then_some(self.next)
            }
            // Below a hundredth of a request per second there is nothing to find.
            (None, Some(bad)) => (bad.rate > 0.01).then_some(self.next),
            (Some(good), None) => (good.rate < self.most).then_some(self.next),
            (None, None) => Some(self.next),
        }
    }

    /// Notes how the last rate went.
    pub fn tried(&mut self, step: Step) {
        if step.good {
            self.good = Some(step);
        } else {
            self.bad = Some(step);
        }
        self.next = match (&self.good, &self.bad) {
            (Some(good), Some(bad)) => f64::midpoint(good.rate, bad.rate),
            (None, Some(bad)) => bad.rate / self.factor.max(2.0),
            (Some(good), None) => (good.rate * self.factor).min(self.most),
            (None, None) => self.next,
        };
    }

    /// What is known.
    #[must_use]
    pub fn knee(&self) -> Knee {
        Knee { good: self.good, bad: self.bad }
    }
}

impl Knee {
    /// What one of the replicas bears; `None` if no rate was borne.
    #[must_use]
    pub fn capacity(&self, replicas: f64) -> Option<Capacity> {
        let good = self.good?;
        let rate = good.rate / good.replicas.unwrap_or(replicas).max(1.0);
        let at_once = rate * good.mean?.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let concurrency = at_once.ceil().max(1.0) as u32;
        Some(Capacity { rate, concurrency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for the knee of a service that bears `limit`, and tells how many rates it took.
    fn found(limit: f64, search: Search) -> (Option<f64>, Option<f64>, usize) {
        let (mut search, mut tried) = (search, 0);
        while let Some(rate) = search.next() {
            tried += 1;
            assert!(tried < 100, "it does not end: {search:?}");
            let mean = Some(Duration::from_millis(20));
            search.tried(Step {
                rate,
                within: 1.0,
                p99: mean,
                mean,
                replicas: Some(2.0),
                good: rate <= limit,
            });
        }
        let knee = search.knee();
        (knee.good.map(|step| step.rate), knee.bad.map(|step| step.rate), tried)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for (limit, from) in [(137.0, 10.0), (137.0, 1000.0), (0.7, 10.0), (10.0, 10.0)] {
            let (good, bad, tried) = found(limit, Search::new(from, 1.5, 1e5, 0.05));
            let (good, bad) = (good.expect("some is borne"), bad.expect("some is not"));
            assert!(good <= limit && bad > limit && bad <= good * 1.051, "{limit}: {good} {bad}");
            assert!(tried < 25, "{limit} took {tried}");
        }
        assert_eq!(found(1e9, Search::new(10.0, 10.0, 500.0, 0.05)), (Some(500.0), None, 3));
        assert_eq!(found(0.0, Search::new(10.0, 2.0, 500.0, 0.05)).0, None);
    }

    #[test]
    fn capacity_by_littles_law() {
        let mean = Some(Duration::from_millis(20));
        let step = Step { rate: 300.0, within: 1.0, p99: mean, mean, replicas: Some(2.0), good: true };
        let knee = Knee { good: Some(step), bad: None };
        assert_eq!(knee.capacity(1.0), Some(Capacity { rate: 150.0, concurrency: 3 }));
        let alone = Knee { good: Some(Step { replicas: None, ..step }), bad: None };
        assert_eq!(alone.capacity(1.0), Some(Capacity { rate: 300.0, concurrency: 6 }));
        assert_eq!(Knee { good: None, bad: None }.capacity(1.0), None);
    }
}
