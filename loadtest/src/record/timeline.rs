//! What happened when: a bounded number of equal stretches of time, which get longer as the run does. `[P]`
//! A request belongs to the stretch that it was due in, for that is when somebody wanted it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Told;

/// Stretches at most; then two become one.
const MOST: usize = 600;
/// How long the first ones are.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest duration that is told from longer ones, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Stretches of a run, from its start, without gaps.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Timeline {
    width: Duration,
    stretches: Vec<Stretch>,
    /// Read from a file: there are figures, and no histograms that could be added to.
    read: Vec<Moment>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stretch {
    latency: Histogram<u32>,
    errors: u64,
    cold: u64,
    told: u64,
    queue: Duration,
    start: Duration,
    upstream: Duration,
}

/// One stretch. Durations are seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When it begins, since the start of the run.
    pub at: f64,
    /// Requests that were due in it.
    pub count: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Of these, waited for a replica to start.
    pub cold: u64,
    /// Response times.
    pub p50: Option<f64>,
    /// Response times.
    pub p90: Option<f64>,
    /// Response times.
    pub p99: Option<f64>,
    /// Response times.
    pub max: Option<f64>,
    /// Mean wait for a turn, as the server says.
    pub queue: Option<f64>,
    /// Mean wait for a replica to start, as the server says.
    pub start: Option<f64>,
    /// Mean time of the replica, as the server says.
    pub upstream: Option<f64>,
}

/// The same figures are the same timeline, counted or read.
impl PartialEq for Timeline {
    fn eq(&self, other: &Self) -> bool {
        self.width == other.width && self.moments() == other.moments()
    }
}

/// How it looks in a file.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    /// Seconds.
    width: f64,
    moments: Vec<Moment>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width: SHORTEST, stretches: Vec::new(), read: Vec::new() }
    }
}

impl Stretch {
    fn new() -> Self {
        Self {
            latency: Histogram::new(2).expect("two digits are possible"),
            errors: 0,
            cold: 0,
            told: 0,
            queue: Duration::ZERO,
            start: Duration::ZERO,
            upstream: Duration::ZERO,
        }
    }

    fn merge(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("it grows up to the longest");
        self.errors += other.errors;
        self.cold += other.cold;
        self.told += other.told;
        self.queue += other.queue;
        self.start += other.start;
        self.upstream += other.upstream;
    }

    fn moment(&self, at: f64) -> Moment {
        let quantile = |q| {
            #[expect(clippy::cast_precision_loss, reason = "microseconds of an hour")]
            let seconds = self.latency.value_at_quantile(q).min(self.latency.max()) as f64 / 1e6;
            (!self.latency.is_empty()).then_some(seconds)
        };
        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let mean =
            |sum: Duration| (self.told > 0).then(|| whole_micros(sum.as_secs_f64() / self.told as f64));
        Moment {
            at: whole_micros(at),
            count: self.latency.len(),
            errors: self.errors,
            cold: self.cold,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: quantile(1.0),
            queue: mean(self.queue),
            start: mean(self.start),
            upstream: mean(self.upstream),
        }
    }
}

impl Timeline {
    /// Counts one request.
    pub fn add(&mut self, due: Duration, response: Duration, error: bool, told: &Told) {
        let mut index = self.place(due);
        while index >= MOST {
            self.halve();
            index = self.place(due);
        }
        if self.stretches.len() <= index {
            self.stretches.resize_with(index + 1, Stretch::new);
        }
        let stretch = &mut self.stretches[index];
        let micros = u64::try_from(response.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        stretch.latency.record(micros).expect("it grows up to the longest");
        stretch.errors += u64::from(error);
        stretch.cold += u64::from(told.cold);
        stretch.told += u64::from(told.queue.is_some() || told.upstream.is_some());
        stretch.queue += told.queue.unwrap_or_default();
        stretch.start += told.start.unwrap_or_default();
        stretch.upstream += told.upstream.unwrap_or_default();
    }

    /// How long each stretch is.
    #[must_use]
    pub fn width(&self) -> Duration {
        self.width
    }

    /// All stretches.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        if !self.read.is_empty() {
            return self.read.clone();
        }
        let begin = |index: usize| {
            #[expect(clippy::cast_precision_loss, reason = "at most MOST")]
            let begin = index as f64 * self.width.as_secs_f64();
            begin
        };
        self.stretches.iter().enumerate().map(|(index, stretch)| stretch.moment(begin(index))).collect()
    }

    /// The same in so many stretches at most: few requests in each make a restless picture.
    #[must_use]
    pub fn at_most(&self, most: usize) -> Self {
        let mut coarser = self.clone();
        while coarser.stretches.len() > most {
            coarser.halve();
        }
        if coarser.read.len() > most {
            let mut read = Rebinned::of(&coarser);
            while read.moments.len() > most {
                read.widen(read.width * 2.0);
            }
            return Written { width: read.width, moments: read.moments }.into();
        }
        coarser
    }

    /// Adds the counts of another; its latencies cannot be added once they were written to a file, the worse one is kept.
    pub fn merge(&mut self, other: &Self) {
        let (mut ours, theirs) = (Rebinned::of(self), Rebinned::of(other));
        let width = ours.width.max(theirs.width);
        ours.widen(width);
        let mut theirs = theirs;
        theirs.widen(width);
        for (index, moment) in theirs.moments.into_iter().enumerate() {
            match ours.moments.get_mut(index) {
                Some(known) => *known = both(known, &moment),
                None => ours.moments.push(moment),
            }
        }
        *self = Written { width: ours.width, moments: ours.moments }.into();
    }

    fn place(&self, due: Duration) -> usize {
        usize::try_from(due.as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }

    fn halve(&mut self) {
        let mut half: Vec<Stretch> = Vec::with_capacity(MOST);
        for (index, stretch) in self.stretches.drain(..).enumerate() {
            match half.last_mut().filter(|_| index % 2 == 1) {
                Some(last) => last.merge(&stretch),
                None => half.push(stretch),
            }
        }
        self.stretches = half;
        self.width *= 2;
    }
}

/// Figures that can be brought to longer stretches.
struct Rebinned {
    width: f64,
    moments: Vec<Moment>,
}

impl Rebinned {
    fn of(timeline: &Timeline) -> Self {
        Self { width: timeline.width.as_secs_f64(), moments: timeline.moments() }
    }

    /// Widths are all [`SHORTEST`] times a power of two.
    fn widen(&mut self, width: f64) {
        while self.width < width * 0.999 {
            self.moments = self
                .moments
                .chunks(2)
                .map(|pair| pair.get(1).map_or(pair[0], |second| both(&pair[0], second)))
                .collect();
            self.width *= 2.0;
        }
    }
}

/// Microseconds are all that is measured, and are written and read without a loss.
fn whole_micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// Two stretches as one.
fn both(a: &Moment, b: &Moment) -> Moment {
    let worse = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
    Moment {
        at: a.at.min(b.at),
        count: a.count + b.count,
        errors: a.errors + b.errors,
        cold: a.cold + b.cold,
        p50: worse(a.p50, b.p50),
        p90: worse(a.p90, b.p90),
        p99: worse(a.p99, b.p99),
        max: worse(a.max, b.max),
        queue: worse(a.queue, b.queue),
        start: worse(a.start, b.start),
        upstream: worse(a.upstream, b.upstream),
    }
}

impl From<Timeline> for Written {
    fn from(timeline: Timeline) -> Self {
        Self { width: timeline.width.as_secs_f64(), moments: timeline.moments() }
    }
}

impl From<Written> for Timeline {
    fn from(written: Written) -> Self {
        let width = Duration::try_from_secs_f64(written.width).unwrap_or(SHORTEST).max(SHORTEST);
        Self { width, stretches: Vec::new(), read: written.moments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn filled(seconds: u32) -> Timeline {
        let mut timeline = Timeline::default();
        for tenth in 0..seconds * 10 {
            timeline.add(100 * tenth * MS, (1 + tenth) * MS, tenth % 10 == 0, &Told::default());
        }
        timeline
    }

    #[test]
    fn stretches_get_longer_with_the_run() {
        for (seconds, width, stretches) in [(10, 100, 100), (60, 100, 600), (61, 200, 305), (600, 1600, 375)]
        {
            let timeline = filled(seconds);
            let moments = timeline.moments();
            assert_eq!((timeline.width(), moments.len()), (width * MS, stretches), "{seconds} s");
            let (count, errors) = moments.iter().fold((0, 0), |(c, e), m| (c + m.count, e + m.errors));
            assert_eq!((count, errors), (u64::from(seconds) * 10, u64::from(seconds)), "{seconds} s");
        }
    }

    #[test]
    fn latencies_stand_where_requests_were_due() {
        let moments = filled(10).moments();
        assert_eq!((moments[50].at, moments[50].count), (5.0, 1));
        assert!((moments[50].p50.expect("one") - 0.051).abs() < 0.001, "{:?}", moments[50]);
    }

    #[test]
    fn a_request_due_late_does_not_leave_a_gap() {
        let mut timeline = Timeline::default();
        timeline.add(3_600_000 * MS, MS, false, &Told::default());
        let moments = timeline.moments();
        assert!(moments.len() <= MOST && moments.len() > MOST / 4, "{}", moments.len());
        assert_eq!(moments[0], Moment::default());
    }

    #[test]
    fn a_coarser_picture_has_the_same_counts() {
        let fine = filled(60);
        let read: Timeline =
            serde_json::from_str(&serde_json::to_string(&fine).expect("plain")).expect("readable");
        for timeline in [fine, read] {
            let coarse = timeline.at_most(150);
            assert_eq!((coarse.width(), coarse.moments().len()), (400 * MS, 150));
            assert_eq!(coarse.moments().iter().map(|moment| moment.count).sum::<u64>(), 600);
            let last = coarse.moments()[149];
            assert!((last.at - 59.6).abs() < 1e-9 && last.max > Some(0.59), "{last:?}");
        }
    }

    #[test]
    fn merging_adds_counts_and_keeps_the_worse() {
        let mut one = filled(61);
        one.merge(&filled(10));
        let moments = one.moments();
        assert_eq!((one.width(), moments.len()), (200 * MS, 305));
        assert_eq!(moments.iter().map(|moment| moment.count).sum::<u64>(), 710);
        let json = serde_json::to_string(&one).expect("plain values");
        assert_eq!(serde_json::from_str::<Timeline>(&json).expect(&json).moments(), moments);
    }
}
