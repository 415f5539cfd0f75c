//! When the last replica of a service may go, and when one should be ready again: learned from the gaps between the end
//! of activity and the next request. Used by the law [`work`](crate::policy::work).
//!
//! Time is cut into bins of equal ratio, and for each it is counted how many gaps lasted until it, and how many of these ended in
//! it. A warm replica costs the seconds that it idles, and saves what a late request is worth if the next one comes in the bin; the
//! best way through all bins is found backwards. Each bin forgets by itself, as gaps come to it: thousands of short gaps by day
//! leave what is known of the long ones of the night.
//! Compare the hybrid histogram of Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020), which keeps a fixed share of gaps
//! warm: here the share follows from what it costs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// From one bin to the next the bounds grow by this ratio.
const RATIO: f64 = 1.189_207_115_002_721;
/// The first bin ends here, in seconds.
const FIRST: f64 = 1.0;
/// Bins: up to four hours.
const BINS: usize = 57;
/// What is taken for granted before anything is known: of so many gaps that come as far as a bin,
const PRIOR: f64 = 2.0;
/// this share ends in it. The same for all bins: how long a gap lasts still, compared with how long it has lasted, says nothing about
/// how long that is (Pareto, with an exponent of one half),
const ENDS: f64 = 0.083;
/// but for the first one, which has no beginning: the same law, from a quarter of a second on.
const ENDS_AT_ONCE: f64 = 0.5;
/// What a start costs at the least, in seconds of a replica, however quick it is: a container is made for it, and removed. With less,
/// gaps that end at random have a replica started in several of their bins.
const LEAST_START: f64 = 4.0;
/// Fewer gaps than these are no habit.
const HABIT: f64 = 3.0;
/// Each new gap lets the older ones that came as far count so much less: habits change.
const FADE: f64 = 0.999;

/// The gaps of one service: for each bin those that lasted until it began, and those that ended in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(f64, f64)>", into = "Vec<(f64, f64)>")]
pub struct Gaps(Vec<Bin>);

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Bin {
    reached: f64,
    ended: f64,
}

/// What is best in a bin.
#[derive(Debug, Clone, Copy, Default)]
struct Choice {
    /// A warm replica stays.
    stays: bool,
    /// Where there is none one is to be ready: how long before the bin its start begins, in seconds.
    begins: Option<f64>,
}

/// How long a start takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StartTime {
    /// On average,
    pub mean: f64,
    /// and by how much they differ from that on average.
    pub deviation: f64,
}

/// When a replica is kept or made ready, from the beginning of a gap on. Holds: bounds are of a clock's precision, so that who
/// looks again when something [changes](Schedule::next_change) finds it changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schedule(Vec<(Duration, Duration)>);

impl Default for Gaps {
    fn default() -> Self {
        Self(vec![Bin::default(); BINS])
    }
}

/// Those at the end that no gap has reached are left out.
impl From<Gaps> for Vec<(f64, f64)> {
    fn from(gaps: Gaps) -> Self {
        let round = |count: f64| (count * 1e3).round() / 1e3;
        let reached = gaps.0.into_iter().take_while(|bin| bin.reached > 0.0);
        reached.map(|bin| (round(bin.reached), round(bin.ended))).collect()
    }
}

impl TryFrom<Vec<(f64, f64)>> for Gaps {
    type Error = NoGaps;

    fn try_from(counts: Vec<(f64, f64)>) -> Result<Self, NoGaps> {
        let sound = |(reached, ended): &(f64, f64)| reached.is_finite() && *ended >= 0.0 && ended <= reached;
        if counts.len() > BINS || !counts.iter().all(sound) {
            return Err(NoGaps);
        }
        let mut bins: Vec<_> = counts.into_iter().map(|(reached, ended)| Bin { reached, ended }).collect();
        bins.resize(BINS, Bin::default());
        Ok(Self(bins))
    }
}

/// What was kept are no counts of gaps.
#[derive(Debug, thiserror::Error)]
#[error("expected at most {BINS} pairs of counts")]
pub struct NoGaps;

impl Gaps {
    /// A gap has ended after so many seconds.
    pub fn record(&mut self, seconds: f64) {
        let last = bin(seconds);
        for (at, bin) in self.0.iter_mut().enumerate().take(last + 1) {
            bin.reached = bin.reached * FADE + 1.0;
            bin.ended = bin.ended * FADE + if at == last { 1.0 } else { 0.0 };
        }
    }

    /// When to be warm where a late request is worth `worth` seconds of a replica.
    #[must_use]
    pub fn schedule(&self, worth: f64, start: StartTime) -> Schedule {
        // Whoever finds none starts one.
        let wake = start.price();
        self.best(|at| if at == 0 { ENDS_AT_ONCE } else { ENDS }, worth, wake, start)
    }

    /// The same where nothing is taken for granted, and nothing is started for whoever finds too few, as they may be through before that
    /// is over: warm only when gaps have been seen to end.
    #[must_use]
    pub fn habit(&self, worth: f64, start: StartTime) -> Schedule {
        if self.is_habit() { self.best(|_| 0.0, worth, 0.0, start) } else { Schedule::default() }
    }

    /// Whether there were so many that they tell when the next one ends.
    #[must_use]
    pub fn is_habit(&self) -> bool {
        self.0[0].reached >= HABIT
    }

    /// `wake`: what it costs besides that the next request finds none.
    fn best(&self, granted: impl Fn(usize) -> f64, worth: f64, wake: f64, start: StartTime) -> Schedule {
        // What is still to be had from here on, being warm and being cold, for a gap that lasts so long.
        let (mut warm, mut cold, mut overdue) = (-wake, -wake, 0.0);
        let mut choices = [Choice::default(); BINS];
        for at in (0..BINS).rev() {
            let ends = self.0[at].ends(granted(at));
            let length = upper(at) - lower(at);
            let idle = worth * ends - length * (1.0 - ends / 2.0) + (1.0 - ends) * warm;
            let gone = (1.0 - ends) * cold - wake * ends;
            // What is lost if a start of average length would be over when the bin begins.
            overdue =
                worth * ends * start.exceeds_within(length) + (1.0 - ends) * start.exceeds(length) * overdue;
            let (lead, lost) = start.lead(overdue);
            let ready = idle - lead.max(LEAST_START) - lost;
            choices[at] = Choice { stays: idle >= gone, begins: (ready > gone).then_some(lead) };
            warm = idle.max(gone);
            cold = gone.max(ready);
        }
        follow(&choices)
    }
}

impl Bin {
    /// The probability that a gap that has come as far as this bin ends in it.
    fn ends(self, granted: f64) -> f64 {
        (self.ended + PRIOR * granted) / (self.reached + PRIOR)
    }
}

/// Starts exceed their mean by times that are taken to be distributed exponentially, `deviation` on average.
impl StartTime {
    /// What one costs, in seconds of a replica.
    fn price(self) -> f64 {
        self.mean.max(LEAST_START)
    }

    /// The probability that one exceeds its mean by more than `seconds`.
    fn exceeds(self, seconds: f64) -> f64 {
        if self.deviation > 0.0 { (-seconds / self.deviation).exp() } else { 0.0 }
    }

    /// The same where it is that much or less, each as likely.
    fn exceeds_within(self, seconds: f64) -> f64 {
        self.deviation / seconds * (1.0 - self.exceeds(seconds))
    }

    /// How long before it is needed a start begins, and what is lost nevertheless, where `overdue` is lost by those that begin
    /// [`mean`](Self::mean) before: one more second before then costs as much as it spares (the
    /// newsvendor's choice; Arrow, Harris and Marschak, "Optimal Inventory Policy", Econometrica 1951).
    fn lead(self, overdue: f64) -> (f64, f64) {
        if overdue > self.deviation {
            (self.mean + self.deviation * (overdue / self.deviation).ln(), self.deviation)
        } else {
            (self.mean, overdue)
        }
    }
}

/// The best way: warm at first.
fn follow(choices: &[Choice]) -> Schedule {
    let mut intervals: Vec<(f64, f64)> = Vec::new();
    let mut is_warm = true;
    for (at, choice) in choices.iter().enumerate() {
        let from = match choice {
            Choice { stays: true, .. } if is_warm => lower(at),
            Choice { begins: Some(lead), .. } if !is_warm => (lower(at) - lead).max(0.0),
            _ => {
                is_warm = false;
                continue;
            }
        };
        is_warm = true;
        match intervals.last_mut() {
            Some((_, to)) if *to >= from => *to = upper(at),
            _ => intervals.push((from, upper(at))),
        }
    }
    let exactly = |(from, to)| (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
    Schedule(intervals.into_iter().map(exactly).collect())
}

impl Schedule {
    /// Whether one is to be there so far into the gap.
    #[must_use]
    pub fn is_warm(&self, into: Duration) -> bool {
        self.warm_from(into).is_some()
    }

    /// Since when one is to be there so far into the gap: since its beginning, or again.
    #[must_use]
    pub fn warm_from(&self, into: Duration) -> Option<Duration> {
        self.0.iter().find(|(from, to)| (*from..*to).contains(&into)).map(|(from, _)| *from)
    }

    /// When that changes next, from the beginning of the gap.
    #[must_use]
    pub fn next_change(&self, into: Duration) -> Option<Duration> {
        self.0.iter().flat_map(|(from, to)| [*from, *to]).filter(|bound| *bound > into).min()
    }
}

/// The bin of a gap; one beyond the last for longer ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, and clamped to the range"
)]
fn bin(seconds: f64) -> usize {
    if seconds < FIRST {
        return 0;
    }
    let above = ((seconds / FIRST).ln() / RATIO.ln()).floor() + 1.0;
    above.clamp(0.0, float(BINS)) as usize
}

fn lower(bin: usize) -> f64 {
    if bin == 0 { 0.0 } else { upper(bin - 1) }
}

fn upper(bin: usize) -> f64 {
    FIRST * RATIO.powf(float(bin))
}

#[expect(clippy::cast_precision_loss, reason = "some tens")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn takes(start: f64) -> StartTime {
        StartTime { mean: start, deviation: 0.0 }
    }

    fn after(gaps: &[f64], worth: f64) -> Schedule {
        learned(gaps).schedule(worth, takes(2.0))
    }

    fn learned(gaps: &[f64]) -> Gaps {
        let mut learned = Gaps::default();
        gaps.iter().cycle().take(200).for_each(|gap| learned.record(*gap));
        learned
    }

    #[test]
    fn what_comes_every_five_minutes_is_expected_then() {
        let schedule = after(&[280.0, 300.0, 320.0], 120.0);
        assert!(!schedule.is_warm(secs(60)), "not for the whole gap: {schedule:?}");
        for seconds in [275, 300, 320] {
            assert!(schedule.is_warm(secs(seconds)), "{seconds} of {schedule:?}");
        }
        assert!(!schedule.is_warm(secs(600)));
        let ready = schedule.next_change(secs(60)).expect("it comes back");
        assert!((secs(230)..secs(280)).contains(&ready), "a start before the first may come: {ready:?}");
    }

    #[test]
    fn where_starts_vary_one_begins_sooner() {
        let gaps = learned(&[280.0, 300.0, 320.0]);
        let begins = |worth, deviation| {
            gaps.schedule(worth, StartTime { mean: 10.0, deviation })
                .next_change(secs(100))
                .expect("it comes back")
        };
        let sooner = |worth| begins(worth, 0.0).saturating_sub(begins(worth, 2.0));
        assert!((secs(1)..secs(5)).contains(&sooner(400.0)), "{:?}", sooner(400.0));
        assert!((sooner(400.0) + secs(1)..secs(15)).contains(&sooner(4000.0)), "{:?}", sooner(4000.0));
    }

    #[test]
    fn who_would_often_be_ready_too_late_stays() {
        let gaps = learned(&[40.0]);
        let stays = |deviation| {
            let schedule = gaps.schedule(1200.0, StartTime { mean: 5.0, deviation });
            schedule.next_change(Duration::ZERO) > Some(secs(40))
        };
        assert!(!stays(0.5) && stays(6.0));
    }

    #[test]
    fn what_is_worth_more_is_kept_longer() {
        let gaps = [2.0, 5.0, 20.0, 90.0, 400.0];
        let kept = |worth| after(&gaps, worth).next_change(Duration::ZERO);
        assert!(kept(3.0) < kept(60.0), "{:?} and {:?}", kept(3.0), kept(60.0));
        assert!(kept(60.0) < kept(3000.0));
    }

    #[test]
    fn of_a_service_that_is_not_known_one_is_kept_for_a_while() {
        for (worth, start, kept) in
            [(5.0, 0.05, 1.0..10.0), (60.0, 2.0, 10.0..60.0), (600.0, 30.0, 60.0..900.0)]
        {
            let schedule = Gaps::default().schedule(worth, takes(start));
            let until = schedule.next_change(Duration::ZERO).expect("not for ever");
            assert!(kept.contains(&until.as_secs_f64()), "{until:?} where one is worth {worth} s");
            assert_eq!(schedule.next_change(until), None, "and then it is gone");
        }
    }

    /// Gaps of 50 s on average that say nothing of when they end: `quantile` of an exponential distribution.
    fn at_random(gaps: u32) -> Gaps {
        let mut learned = Gaps::default();
        for nth in 1..gaps {
            // Evenly spread, and in no order (the golden ratio).
            let quantile = (f64::from(nth) * 0.618_033_988_749_895).fract();
            learned.record(-50.0 * (1.0 - quantile).ln());
        }
        learned
    }

    #[test]
    fn however_quick_a_start_is_chance_is_no_reason_for_many() {
        for gaps in [20, 50, 100, 300, 1000] {
            for worth in [20.0, 40.0, 60.0, 80.0] {
                let Schedule(warm) = at_random(gaps).schedule(worth, takes(0.05));
                assert!(warm.len() <= 2, "{warm:?} of {gaps} gaps, at {worth}");
            }
        }
    }

    #[test]
    fn who_looks_again_when_it_changes_finds_it_changed() {
        let gaps = learned(&[2.0, 5.0, 20.0, 90.0, 400.0]);
        let cases = (0..40).flat_map(|step| [0.05, 2.0, 30.0, 60.0].map(|start| (1.3_f64.powi(step), start)));
        for (worth, start) in cases {
            let schedule = gaps.schedule(worth, takes(start));
            let mut into = Duration::ZERO;
            while let Some(change) = schedule.next_change(into) {
                assert_ne!(schedule.is_warm(into), schedule.is_warm(change), "{change:?} of {schedule:?}");
                into = change;
            }
        }
    }

    #[test]
    fn bins_are_as_wide_as_they_are_late() {
        for seconds in [0.0, 0.9, 1.0, 7.0, 300.0, 14_000.0] {
            let at = bin(seconds);
            assert!((lower(at)..upper(at)).contains(&seconds), "{seconds} in {}..{}", lower(at), upper(at));
        }
        assert_eq!(bin(1e9), BINS);
    }
}
