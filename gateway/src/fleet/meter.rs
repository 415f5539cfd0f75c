//! Counts what goes through one service's gate, second by second and exactly: demand (in flight plus queued) integrated
//! event by event, and what arrived, ran and ended.
//! Seconds begin with the first request after a pause: what a burst of a second is depends on no clock.
//! Owned by the [`Gate`](super::admission::Gate) and changed under its lock, so there is no second count.
//! Absent: averages over windows (the autoscaler's), and clocks.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tidegate_autoscaler::snapshot::{Flow, PARTS};

/// One sample covers this long; Knative's bucket.
const SECOND: Duration = Duration::from_secs(1);

/// Samples that are kept when nobody asks for them: the longest stable window, one hour.
const KEPT: usize = 3600;

/// After so long without a request the next one begins a second. Where requests come more often, each second that began with one would
/// make them look clumped.
const PAUSE: Duration = Duration::from_secs(10);

/// Counts, second by second.
#[derive(Debug)]
pub(crate) struct Meter {
    level: Level,
    /// When the current second began.
    second: Instant,
    /// Up to when `area` and what ran are counted.
    counted: Instant,
    /// Demand times seconds within the current second.
    area: f64,
    flow: Flow,
    /// In which part of the second the last request came, and how many came in it, for each size of parts.
    together: [(u32, u32); PARTS.len()],
    done: VecDeque<(f64, Flow)>,
    idle_since: Option<Instant>,
    /// When somebody was there last.
    seen: Option<Instant>,
    /// Of seconds that were not over when a pause was: less than one, which is still to be counted.
    left_out: Duration,
}

/// What waits and runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) waiting: u32,
    pub(crate) running: u32,
}

impl Level {
    fn demand(self) -> u32 {
        self.waiting + self.running
    }
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            level: Level::default(),
            second: now,
            counted: now,
            area: 0.0,
            flow: Flow::default(),
            together: [(0, 0); PARTS.len()],
            done: VecDeque::new(),
            idle_since: Some(now),
            seen: None,
            left_out: Duration::ZERO,
        }
    }

    /// From `now` on this waits and runs.
    pub(crate) fn set(&mut self, now: Instant, level: Level) {
        self.advance(now);
        // Whoever leaves now was there until now.
        if level.demand().max(self.level.demand()) > 0 {
            self.somebody(now);
        }
        self.idle_since = if level.demand() == 0 { self.idle_since.or(Some(now)) } else { None };
        self.level = level;
    }

    /// A request has come.
    pub(crate) fn arrived(&mut self, now: Instant) {
        self.advance(now);
        self.somebody(now);
        self.flow.arrived += 1;
        self.flow.later += u32::from(now.saturating_duration_since(self.second) >= SECOND / 2);
        self.count_pairs(now);
    }

    /// With those who came before it in the same part of the second.
    fn count_pairs(&mut self, now: Instant) {
        let into = now.saturating_duration_since(self.second).subsec_nanos();
        for (at, parts) in PARTS.into_iter().enumerate() {
            let part = into / (1_000_000_000 / parts);
            let (last, before) = &mut self.together[at];
            if *last != part {
                (*last, *before) = (part, 0);
            }
            self.flow.pairs[at] = self.flow.pairs[at].saturating_add(*before);
            *before += 1;
        }
    }

    /// A request has waited for too long; `cold`: it came while no replica served.
    pub(crate) fn late(&mut self, now: Instant, cold: bool) {
        self.advance(now);
        self.flow.late += 1;
        self.flow.cold += u32::from(cold);
    }

    /// A request that ran has ended.
    pub(crate) fn ended(&mut self, now: Instant) {
        self.advance(now);
        self.flow.ended += 1;
    }

    /// The average demand of each whole second since the last call, oldest first, and what went through meanwhile.
    pub(crate) fn sample(&mut self, now: Instant) -> (Vec<f64>, Vec<Flow>) {
        self.advance(now);
        self.done.drain(..).unzip()
    }

    /// Requests that have come in the second that is not over yet.
    pub(crate) fn arriving(&self) -> u32 {
        self.flow.arrived
    }

    /// Since when the demand has been zero.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    fn advance(&mut self, now: Instant) {
        while let Some(end) = self.second.checked_add(SECOND).filter(|end| *end <= now) {
            self.count_to(end);
            self.finish_second();
            self.second = end;
        }
        self.count_to(now);
    }

    /// Somebody is there: a second begins if that ends a pause. The one that was not over is counted as soon as there are enough of
    /// them to be a whole one.
    fn somebody(&mut self, now: Instant) {
        let seen = self.seen.replace(now);
        let paused = seen.is_none_or(|seen| now.saturating_duration_since(seen) >= PAUSE);
        if !paused || self.level.demand() > 0 || self.flow != Flow::default() {
            return;
        }
        self.left_out += now.saturating_duration_since(self.second);
        if let Some(rest) = self.left_out.checked_sub(SECOND) {
            self.finish_second();
            self.left_out = rest;
        }
        self.second = now;
    }

    fn finish_second(&mut self) {
        if self.done.len() == KEPT {
            self.done.pop_front();
        }
        self.done.push_back((std::mem::take(&mut self.area), std::mem::take(&mut self.flow)));
        self.together = [(0, 0); PARTS.len()];
    }

    fn count_to(&mut self, to: Instant) {
        let seconds = to.saturating_duration_since(self.counted).as_secs_f64();
        self.area += f64::from(self.level.demand()) * seconds;
        self.flow.running += f64::from(self.level.running) * seconds;
        self.counted = self.counted.max(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(waiting: u32) -> Level {
        Level { waiting, running: 0 }
    }

    /// Levels set at milliseconds, then the samples at the last one.
    fn check(levels: &[(u64, u32)], at: u64, want: &[f64]) {
        let start = crate::clock::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut meter = Meter::new(start);
        // With which the first second begins.
        meter.arrived(start);
        for (when, level) in levels {
            meter.set(ms(*when), waits(*level));
        }
        let (got, _) = meter.sample(ms(at));
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
    fn what_came_ran_and_ended_is_counted_in_its_second() {
        let start = crate::clock::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut meter = Meter::new(start);
        for at in [0, 300] {
            meter.arrived(ms(at));
        }
        meter.set(ms(300), Level { waiting: 1, running: 1 });
        meter.arrived(ms(500));
        meter.set(ms(800), Level { waiting: 0, running: 2 });
        for (at, cold) in [(1500, true), (1600, false)] {
            meter.late(ms(at), cold);
        }
        for at in [1700, 2000] {
            meter.ended(ms(at));
        }
        meter.set(ms(2000), Level::default());
        let (_, flow) = meter.sample(ms(3000));
        let ran: Vec<f64> = flow.iter().map(|second| (second.running * 1e6).round() / 1e6).collect();
        assert_eq!(ran, [0.9, 2.0, 0.0]);
        let counted = |of: fn(&Flow) -> u32| flow.iter().map(of).collect::<Vec<_>>();
        assert_eq!(counted(|second| second.arrived), [3, 0, 0]);
        assert_eq!(counted(|second| second.later), [1, 0, 0]);
        assert_eq!(counted(|second| second.ended), [0, 1, 1]);
        assert_eq!(counted(|second| second.late), [0, 2, 0]);
        assert_eq!(counted(|second| second.cold), [0, 1, 0]);
    }

    #[test]
    fn a_second_begins_with_the_first_request_after_a_pause_and_no_time_is_lost() {
        let start = crate::clock::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut meter = Meter::new(start);
        // Bursts of a second, each of which begins in the midst of one; and a short pause, after which none begins.
        for burst in [10_700, 22_000, 33_300, 34_700] {
            for at in [0, 900] {
                // Whoever finds a replica runs before it is counted.
                meter.set(ms(burst + at), waits(1));
                meter.arrived(ms(burst + at));
                meter.set(ms(burst + at), waits(0));
            }
        }
        let (_, flow) = meter.sample(ms(40_000));
        let came: Vec<_> =
            flow.iter().map(|second| second.arrived).enumerate().filter(|(_, came)| *came > 0).collect();
        assert_eq!(came, [(10, 2), (22, 2), (33, 2), (34, 1), (35, 1)]);
        assert_eq!(flow.len(), 39, "what is left out is less than a second");
    }

    #[test]
    fn who_is_turned_away_ends_a_pause_and_is_none() {
        let start = crate::clock::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut meter = Meter::new(start);
        for nth in 0..10 {
            meter.arrived(ms(20_500 + nth * 1300));
        }
        let (_, flow) = meter.sample(ms(33_500));
        let came: Vec<_> = flow.iter().map(|second| second.arrived).collect();
        assert_eq!(came[20..], [1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0]);
    }

    #[test]
    fn who_comes_at_once_is_counted_in_pairs() {
        let start = crate::clock::now();
        let mut meter = Meter::new(start);
        for at in [0, 0, 1, 70, 900, 1900] {
            meter.arrived(start + Duration::from_millis(at));
        }
        let (_, flow) = meter.sample(start + SECOND * 2);
        // Three within a 64th of a second, and a fourth within the same quarter.
        assert_eq!(flow.iter().map(|second| second.pairs).collect::<Vec<_>>(), [[3, 3, 6], [0, 0, 0]]);
    }

    #[test]
    fn idle_begins_when_the_last_one_leaves() {
        let start = crate::clock::now();
        let mut meter = Meter::new(start);
        assert_eq!(meter.idle_since(), Some(start));
        meter.set(start, waits(1));
        assert_eq!(meter.idle_since(), None);
        let later = start + SECOND;
        meter.set(later, waits(0));
        meter.set(later + SECOND, waits(0));
        assert_eq!(meter.idle_since(), Some(later));
    }

    #[test]
    fn a_long_silence_keeps_one_hour() {
        let start = crate::clock::now();
        let mut meter = Meter::new(start);
        assert_eq!(meter.sample(start + Duration::from_secs(100_000)).0.len(), KEPT);
    }
}
