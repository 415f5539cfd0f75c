//! How much room a load needs: Erlang's formulas and the square-root law that follows from them. Used by the law
//! [`work`](crate::policy::work). Load is offered work in Erlangs: arrivals per second times seconds of work each.

/// Beyond so many slots the recursion is replaced by the limit of Halfin and Whitt.
const EXACT_UP_TO: f64 = 2000.0;

/// Erlang B: the share of requests that find all of `slots` taken where nobody waits.
#[must_use]
pub fn erlang_b(slots: u32, load: f64) -> f64 {
    (1..=slots).fold(1.0, |blocked, slot| load * blocked / (f64::from(slot) + load * blocked))
}

/// Erlang C: the share of requests that have to wait; 1 where the load is more than the slots can bear.
#[must_use]
pub fn erlang_c(slots: u32, load: f64) -> f64 {
    let slots_f = f64::from(slots);
    if load >= slots_f {
        return 1.0;
    }
    if slots_f > EXACT_UP_TO {
        return halfin_whitt((slots_f - load) / load.sqrt());
    }
    let blocked = erlang_b(slots, load);
    blocked / (1.0 - load / slots_f * (1.0 - blocked))
}

/// The share that has to wait with `beta` square roots of room above the load, in the limit of large systems
/// (Halfin and Whitt 1981): `1 / (1 + beta * Phi(beta) / phi(beta))`.
#[must_use]
pub fn halfin_whitt(beta: f64) -> f64 {
    let density = (-beta * beta / 2.0).exp() / std::f64::consts::TAU.sqrt();
    1.0 / (1.0 + beta * normal(beta) / density)
}

/// The normal distribution function (Abramowitz and Stegun 26.2.17, seven digits), for `x >= 0`.
fn normal(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = series.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    1.0 - (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

/// A load and how it fluctuates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Mean, in Erlangs.
    pub mean: f64,
    /// Variance over mean of what would run if nobody waited; 1 for independent requests.
    pub peakedness: f64,
    /// Requests per second.
    pub rate: f64,
    /// Seconds of work per request.
    pub service: f64,
}

impl Load {
    /// What runs in so many seconds if nobody waits: some of what is there now, and what comes until then.
    #[must_use]
    pub fn after(seconds: f64, present: f64, peakedness: f64, rate: f64, service: f64) -> Self {
        let stays = (-seconds / service.max(1e-6)).exp();
        let steady = rate * service;
        let mean = present * stays + steady * (1.0 - stays);
        let variance = present * stays * (1.0 - stays) + steady * (1.0 - stays) * peakedness;
        Self { mean, peakedness: if mean > 0.0 { variance / mean } else { 1.0 }, rate, service }
    }

    /// The share of requests that wait longer than `bound` seconds with so many slots. Where requests come in clumps, or less by
    /// chance than independent ones, both sides shrink by the peakedness (Hayward's approximation).
    #[must_use]
    pub fn late(&self, slots: f64, bound: f64) -> f64 {
        if self.mean <= 0.0 {
            return if slots > 0.0 { 0.0 } else { 1.0 };
        }
        if slots <= self.mean {
            return 1.0;
        }
        let z = self.peakedness.max(0.05);
        let waits = between(slots / z, self.mean / z);
        let drain = (slots - self.mean) / (z.max(1.0) * self.service.max(1e-6));
        waits * (-drain * bound).exp()
    }
}

/// Erlang C between whole numbers of slots, by straight lines.
fn between(slots: f64, load: f64) -> f64 {
    let below = slots.floor();
    let (low, high) = (whole(below), whole(below + 1.0));
    let part = slots - below;
    let at = |slots: u32| erlang_c(slots, load);
    if part == 0.0 { at(low) } else { at(low) * (1.0 - part) + at(high) * part }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, and clamped to the range"
)]
fn whole(value: f64) -> u32 {
    value.clamp(0.0, 1e6) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64, within: f64, what: &str) {
        assert!((got - want).abs() <= within, "{what}: {got}, not {want}");
    }

    /// Offered load; replicas and waiting share of 70 % utilisation; the same of the square-root rule.
    #[test]
    fn who_waits_at_seventy_percent_and_by_the_square_root() {
        for (load, fixed, waits, rule, waits_less) in [
            (1.0, 2, 0.333, 3, 0.091),
            (2.0, 3, 0.444, 5, 0.060),
            (5.0, 8, 0.167, 9, 0.081),
            (10.0, 15, 0.102, 15, 0.102),
            (20.0, 29, 0.040, 27, 0.096),
            (50.0, 72, 0.002, 61, 0.090),
            (100.0, 143, 0.0, 115, 0.095),
            (200.0, 286, 0.0, 222, 0.083),
        ] {
            near(erlang_c(fixed, load), waits, 6e-4, &format!("{fixed} for {load}"));
            near(erlang_c(rule, load), waits_less, 6e-4, &format!("{rule} for {load}"));
        }
    }

    #[test]
    fn room_for_a_waiting_probability_in_large_systems() {
        for (beta, waits) in [(1.06, 0.20), (1.42, 0.10), (1.74, 0.05), (2.38, 0.01)] {
            near(halfin_whitt(beta), waits, 2e-3, &format!("beta {beta}"));
        }
        near(erlang_c(10_150, 10_000.0), halfin_whitt(1.5), 1e-3, "ten thousand");
        near(erlang_c(1999, 1950.0), halfin_whitt(49.0 / 1950_f64.sqrt()), 0.01, "where the two meet");
    }

    #[test]
    fn more_than_can_be_borne_waits() {
        assert_eq!((erlang_c(3, 3.0), erlang_c(0, 0.5)), (1.0, 1.0));
        near(erlang_b(1, 1.0), 0.5, 1e-9, "one slot");
        near(erlang_c(1, 0.5), 0.5, 1e-9, "a single server waits as often as it is busy");
    }

    #[test]
    fn who_is_late_waits_longer_than_the_bound() {
        let load = Load { mean: 2.0, peakedness: 1.0, rate: 2.0, service: 1.0 };
        near(load.late(3.0, 0.0), 0.444, 6e-4, "at all");
        near(load.late(3.0, 1.0), 0.444 * (-1.0_f64).exp(), 6e-4, "a second");
        assert!(Load { peakedness: 2.0, ..load }.late(5.0, 0.5) > load.late(5.0, 0.5), "clumps wait more");
        assert_eq!((load.late(2.0, 9.0), Load { mean: 0.0, ..load }.late(1.0, 0.0)), (1.0, 0.0));
    }

    #[test]
    fn long_requests_are_still_there_after_a_start() {
        let soon = Load::after(3.0, 50.0, 1.0, 0.5, 60.0);
        near(soon.mean, 50.0 * (-0.05_f64).exp() + 30.0 * (1.0 - (-0.05_f64).exp()), 1e-9, "mean");
        assert!(soon.peakedness < 0.1, "and surely so: {soon:?}");
        let quick = Load::after(3.0, 50.0, 1.5, 10.0, 0.1);
        near(quick.mean, 1.0, 1e-6, "short ones are gone");
        near(quick.peakedness, 1.5, 1e-6, "and fluctuate as they come");
    }
}
