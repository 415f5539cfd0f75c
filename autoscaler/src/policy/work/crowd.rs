//! How much more than by chance requests vary: from second to second, and within a second. Used by the law [`work`](super).

use serde::{Deserialize, Serialize};

use crate::snapshot::{Flow, PARTS};

/// Weight of the newest second in what is learned of fluctuation.
const CROWD: f64 = 0.002;

/// What would run if nobody waited, as arrivals show it, and how much more it fluctuates than by chance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Crowd {
    running: f64,
    /// The same of what was expected to arrive.
    #[serde(default)]
    expected: f64,
    mean: f64,
    /// By how much the variance from second to second is above that of independent requests,
    excess: f64,
    /// and what clumps within a second add to it.
    #[serde(default)]
    within: f64,
}

impl Crowd {
    /// A second went by; requests take `service` seconds, and `rate` of them are usual.
    pub(super) fn count(&mut self, second: Flow, service: f64, rate: f64) {
        let arrived = f64::from(second.arrived);
        let stays = (-1.0 / service.max(1e-3)).exp();
        self.running = self.running * stays + arrived * service * (1.0 - stays);
        let mean = rate * service;
        self.expected = self.expected * stays + mean * (1.0 - stays);
        // What independent requests would show.
        let chance = mean * service * (1.0 - stays) / (1.0 + stays);
        self.mean += CROWD * (mean - self.mean);
        self.excess += CROWD * ((self.running - self.expected).powi(2) - chance - self.excess);
        self.within += CROWD * (within(second, service) - self.within);
    }

    /// Variance over mean.
    pub(super) fn peakedness(&self) -> f64 {
        self.over_mean(self.excess + self.within)
    }

    /// The same where the rate is told anew each second.
    pub(super) fn peakedness_within(&self) -> f64 {
        self.over_mean(self.within)
    }

    /// Whether these are numbers that can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        let means = [self.running, self.expected, self.mean];
        let variances = [self.excess.abs(), self.within.abs()];
        means.iter().all(|mean| (0.0..=1e6).contains(mean)) && variances.iter().all(|value| *value <= 1e12)
    }

    fn over_mean(&self, excess: f64) -> f64 {
        if self.mean <= 1e-6 { 1.0 } else { (1.0 + excess / self.mean).clamp(0.5, 20.0) }
    }
}

/// What clumps within a second add to the variance of what runs if nobody waits. Where times are exponential, each request finds as many
/// more others than there are on average as the peakedness is above 1 (Eckberg 1983): here, as many pairs more than by chance have
/// come in a part of a second that is a little longer than a request takes.
fn within(second: Flow, service: f64) -> f64 {
    let arrived = f64::from(second.arrived);
    let (part, pairs) = part(second, service);
    let by_chance = arrived * (arrived - 1.0) / 2.0 * part;
    // Who takes longer than all parts meets many of its second, clumps or not.
    let seen = (part / service.max(1e-3)).min(1.0);
    service * seen * (pairs - by_chance)
}

/// How many come at once in a second, as those see it who do: with how many of them each one shares a part of the second.
pub(super) fn at_once(second: Flow, service: f64) -> f64 {
    if second.arrived == 0 { 0.0 } else { 1.0 + 2.0 * part(second, service).1 / f64::from(second.arrived) }
}

/// The part of a second that is a little longer than a request takes, in seconds, and how many pairs came in the same one.
fn part(second: Flow, service: f64) -> (f64, f64) {
    let parts = PARTS.map(|parts| 1.0 / f64::from(parts));
    let at = parts.iter().position(|part| *part >= service).unwrap_or(parts.len() - 1);
    (parts[at], f64::from(second.pairs[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is learned where a second in `every` has so many requests of 100 ms, and so many pairs of them come in the same quarter.
    fn learned(every: u32, arrived: u32, pairs: u32) -> f64 {
        let (mut crowd, service) = (Crowd::default(), 0.1);
        let rate = f64::from(arrived) / f64::from(every);
        for second in 0..3000 {
            let flow = Flow { arrived, pairs: [0, 0, pairs], ..Flow::default() };
            crowd.count(if second % every == 0 { flow } else { Flow::default() }, service, rate);
        }
        crowd.peakedness()
    }

    #[test]
    fn ten_thousand_at_once_can_have_been_learned() {
        let mut crowd = Crowd::default();
        for second in 0..100 {
            let arrived = if second % 50 == 0 { 10_000 } else { 0 };
            crowd.count(Flow { arrived, ..Flow::default() }, 10.0, 200.0);
            assert!(crowd.is_sound(), "{crowd:?}");
        }
        assert!(!Crowd { excess: f64::NAN, ..crowd }.is_sound());
    }

    #[test]
    fn clumps_within_a_second_and_of_seconds_count() {
        let near = |got: f64, want: f64| assert!((got - want).abs() < 0.5, "{got}, not {want}");
        // One more than what a request finds less what there is on average: half a one, and two others of a clump of five.
        near(learned(1, 5, 10), 1.0 + 2.0 - 0.5);
        near(learned(1, 4, 1), 1.0);
        // Of ten seconds' requests in one, each finds four or five, wherever in it they come.
        near(learned(10, 50, 1225 / 4), 1.0 + 4.41 - 0.5);
    }
}
