//! What a run showed, in numbers. Outcomes of several services add up.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Requests that came.
    pub requests: u64,
    /// Those that waited for longer than was allowed, or were refused.
    pub late: u64,
    /// Late ones that came while the first replica of all started: hardly anybody helps them who does not know of them.
    pub first: u64,
    /// Those of the first and of the second half of the traffic, held against the bound that the law itself aims at.
    pub halves: [Half; 2],
    /// Those that were refused: the queue was full, or the hold deadline passed.
    pub refused: u64,
    /// Those that their replica was taken from: they ran for longer than `drain`. They count as served.
    pub cut: u64,
    /// Those that waited for a replica to start.
    pub cold: u64,
    /// Replicas that were started.
    pub starts: u64,
    /// Replicas that were taken out of traffic.
    pub drains: u64,
    /// Decisions that changed how many there should be.
    pub changes: u64,
    /// Looks at the service.
    pub looks: u64,
    /// Seconds of replicas, from the call to start them to their end, in sum.
    pub replica_seconds: f64,
    /// Those of them in which a ready replica ran nothing.
    pub idle_seconds: f64,
    /// The least replica-seconds that nobody had to wait with, all times known beforehand and requests moved at will.
    pub least_seconds: f64,
    /// The most replicas at once.
    pub most: u32,
    /// Waits in milliseconds.
    pub waits: Histogram<u64>,
    /// From arrival to answer, in milliseconds.
    pub latencies: Histogram<u64>,
    /// The course of it, at even distances.
    pub course: Vec<Point>,
    /// How far those are apart.
    pub step: Duration,
}

/// Requests that came in one half of the traffic. A law that learns does so in the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Half {
    /// All of them.
    pub requests: u64,
    /// Those that waited for longer than the law's own bound, or were refused.
    pub beyond: u64,
}

impl Half {
    /// The share of them that waited for longer than the law's own bound; 0 without any.
    #[must_use]
    pub fn share(self) -> f64 {
        share(self.beyond, self.requests)
    }

    fn and(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, beyond: self.beyond + other.beyond }
    }
}

/// One moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Replicas that are ready.
    pub ready: u32,
    /// Requests that run.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Late ones among those that got their turn since the last point.
    pub late: u32,
}

/// A day; longer times count as that.
const MOST: u64 = 86_400_000;

impl Default for Outcome {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, MOST, 2).expect("bounds in order, two digits");
        Self {
            requests: 0,
            late: 0,
            first: 0,
            halves: [Half::default(); 2],
            refused: 0,
            cut: 0,
            cold: 0,
            starts: 0,
            drains: 0,
            changes: 0,
            looks: 0,
            replica_seconds: 0.0,
            idle_seconds: 0.0,
            least_seconds: 0.0,
            most: 0,
            waits: histogram(),
            latencies: histogram(),
            course: Vec::new(),
            step: Duration::ZERO,
        }
    }
}

impl Outcome {
    /// The share of requests that were late; 0 without any.
    #[must_use]
    pub fn late_share(&self) -> f64 {
        share(self.late, self.requests)
    }

    /// The share of requests that waited for longer than the law's own bound; 0 without any.
    #[must_use]
    pub fn beyond_share(&self) -> f64 {
        self.halves[0].and(self.halves[1]).share()
    }

    /// The share of requests that were late and came while the first replica of all started.
    #[must_use]
    pub fn first_share(&self) -> f64 {
        share(self.first, self.requests)
    }

    /// The share of requests that waited for a start.
    #[must_use]
    pub fn cold_share(&self) -> f64 {
        share(self.cold, self.requests)
    }

    /// Replica-seconds over the least that would have done; none where nothing had to run, or where not all were served, as that
    /// could have been done with none.
    #[must_use]
    pub fn over_least(&self) -> Option<f64> {
        (self.least_seconds > 0.0 && self.refused == 0).then(|| self.replica_seconds / self.least_seconds)
    }

    /// A request got its turn.
    pub(super) fn served(&mut self, wait: Duration, takes: Duration, late: bool) {
        self.waits.saturating_record(millis(wait));
        self.latencies.saturating_record(millis(wait + takes));
        self.late += u64::from(late);
    }

    /// Takes another service's outcome in; the course stays what it is.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.late += other.late;
        self.first += other.first;
        for (half, more) in self.halves.iter_mut().zip(other.halves) {
            *half = half.and(more);
        }
        self.refused += other.refused;
        self.cut += other.cut;
        self.cold += other.cold;
        self.starts += other.starts;
        self.drains += other.drains;
        self.changes += other.changes;
        self.looks += other.looks;
        self.replica_seconds += other.replica_seconds;
        self.idle_seconds += other.idle_seconds;
        self.least_seconds += other.least_seconds;
        self.most = self.most.max(other.most);
        self.waits.add(&other.waits).expect("same bounds");
        self.latencies.add(&other.latencies).expect("same bounds");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(MOST).min(MOST)
}
