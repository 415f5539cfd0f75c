//! Integrates one service's demand (in flight plus queued) over whole seconds, exactly, event by event.
//! Owned by the [`Gate`](super::admission::Gate) and changed under its lock, so there is no second count.
//! Absent: averages over windows (the autoscaler's), and clocks.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// One sample covers this long; Knative's bucket.
const SECOND: Duration = Duration::from_secs(1);

/// Samples that are kept when nobody asks for them: the longest stable window, one hour.
const KEPT: usize = 3600;

/// Integrates demand over whole seconds.
#[derive(Debug)]
pub(crate) struct Meter {
    level: u32,
    /// When the current second began.
    second: Instant,
    /// Up to when `area` is counted.
    counted: Instant,
    /// Demand times seconds within the current second.
    area: f64,
    done: VecDeque<f64>,
    idle_since: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { level: 0, second: now, counted: now, area: 0.0, done: VecDeque::new(), idle_since: Some(now) }
    }

    /// From `now` on the demand is `level`.
    pub(crate) fn set(&mut self, now: Instant, level: u32) {
        self.advance(now);
        if level == 0 {
            self.idle_since.get_or_insert(now);
        } else {
            self.idle_since = None;
        }
        self.level = level;
    }

    /// The average demand of each whole second since the last call, oldest first.
    pub(crate) fn sample(&mut self, now: Instant) -> Vec<f64> {
        self.advance(now);
        self.done.drain(..).collect()
    }

    /// Since when the demand has been zero.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    fn advance(&mut self, now: Instant) {
        while let Some(end) = self.second.checked_add(SECOND).filter(|end| *end <= now) {
            self.count_to(end);
            if self.done.len() == KEPT {
                self.done.pop_front();
            }
            self.done.push_back(std::mem::take(&mut self.area));
            self.second = end;
        }
        self.count_to(now);
    }

    fn count_to(&mut self, to: Instant) {
        self.area += f64::from(self.level) * to.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = self.counted.max(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels set at milliseconds, then the samples at the last one.
    fn check(levels: &[(u64, u32)], at: u64, want: &[f64]) {
        let start = crate::clock::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut meter = Meter::new(start);
        for (when, level) in levels {
            meter.set(ms(*when), *level);
        }
        let got = meter.sample(ms(at));
        assert_eq!(got.len(), want.len(), "{levels:?}: {got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{levels:?}: {got} is not {want}");
        }
    }

    #[test]
    fn each_second_is_averaged_by_itself() {
        check(&[], 2500, &[0.0, 0.0]);
        check(&[(0, 3)], 1000, &[3.0]);
        check(&[(500, 2)], 2000, &[1.0, 2.0]);
        check(&[(250, 4), (750, 0)], 1999, &[2.0]);
        check(&[(900, 10), (1100, 0)], 2000, &[1.0, 1.0]);
    }

    #[test]
    fn idle_begins_when_the_last_one_leaves() {
        let start = crate::clock::now();
        let mut meter = Meter::new(start);
        assert_eq!(meter.idle_since(), Some(start));
        meter.set(start, 1);
        assert_eq!(meter.idle_since(), None);
        let later = start + SECOND;
        meter.set(later, 0);
        meter.set(later + SECOND, 0);
        assert_eq!(meter.idle_since(), Some(later));
    }

    #[test]
    fn a_long_silence_keeps_one_hour() {
        let start = crate::clock::now();
        let mut meter = Meter::new(start);
        assert_eq!(meter.sample(start + Duration::from_secs(100_000)).len(), KEPT);
    }
}
