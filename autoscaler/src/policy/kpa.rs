//! A faithful port of the law of Knative's pod autoscaler; every constant is a knob whose default is Knative's.
//! Called through [`Policy`](super::Policy). Holds: within one decision replicas grow by at most `max_up_rate` and
//! shrink by at most `max_down_rate` (of the ready ones); during a surge nothing is taken away.
//! Absent: its activation scale (at its default of 1 it does nothing; `initial` acts in [`decide`](crate::decide)),
//! its rule for the last replica ([`grace`](super::grace)), bounds.

use std::time::{Duration, Instant};

use tidegate_config::{model::ScalingPolicy, units::Count};

use super::{Answer, Question, highest::Highest};
use crate::reason::{Figures, Reason};

/// What Knative aims at where a service has no hard limit of its own.
const SOFT_CONCURRENCY: f64 = 100.0;
/// Below this a target means nothing.
const TARGET_MIN: f64 = 0.01;
/// How finely the scale-down delay looks at time: Knative's tick.
const DELAY_SLOT: Duration = Duration::from_secs(2);

/// What the law remembers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kpa {
    /// When demand was last seen to surge; `None`: no surge.
    surge: Option<Instant>,
    /// The most that was wanted during this surge.
    surge_max: Count,
    delay: Delay,
}

impl Kpa {
    /// Starts; in a surge if several replicas run already, so that a restart never takes them away at once.
    #[must_use]
    pub fn start(now: Instant, ready: Count) -> Self {
        Self { surge: (ready > 1).then_some(now), surge_max: ready, delay: Delay::default() }
    }

    /// One tick.
    #[must_use]
    pub fn ask(mut self, question: Question<'_>) -> (Answer, Self) {
        let Question { now, settings, ready, learned, window, .. } = question;
        let target = target(settings, learned);
        let figures = |over: Duration| {
            let demand = window.average(over);
            Figures { demand, over, target, needs: count((demand / target).ceil()) }
        };
        let (stable, short) = (figures(settings.stable_window), figures(surge_window(settings)));
        let steps = Steps::from(settings, ready);
        let surging = self.track(now, settings, f64::from(short.needs) / steps.ready);
        let mut answer = steps.limit(stable);
        if let Some(since) = surging {
            answer = self.during_surge(answer, steps.limit(short), short, since, question);
        }
        (self.delayed(answer, question), self)
    }

    /// Enters, extends or leaves a surge; says since when it lasts.
    fn track(&mut self, now: Instant, settings: &ScalingPolicy, over: f64) -> Option<Instant> {
        if over >= settings.surge_threshold {
            self.surge = Some(now);
        } else if self.surge.is_some_and(|since| since + settings.stable_window < now) {
            self.surge = None;
            self.surge_max = 0;
        }
        self.surge
    }

    /// The larger of the two wants, and never less than the surge has reached.
    fn during_surge(
        &mut self,
        stable: Answer,
        short: Answer,
        figures: Figures,
        since: Instant,
        Question { now, settings, .. }: Question<'_>,
    ) -> Answer {
        let larger = if short.want > stable.want { short } else { stable };
        let as_surge = |reason| match reason {
            Reason::Demand(of) if of == figures => Reason::Surge(of),
            other => other,
        };
        if larger.want >= self.surge_max {
            self.surge_max = larger.want;
            return Answer { want: larger.want, reason: as_surge(larger.reason), again: None };
        }
        let left = (since + settings.stable_window).saturating_duration_since(now);
        Answer { want: self.surge_max, reason: Reason::SurgeHeld { held: self.surge_max, left }, again: None }
    }

    fn delayed(&mut self, answer: Answer, Question { now, settings, .. }: Question<'_>) -> Answer {
        let delay = settings.scale_down_delay;
        if delay.is_zero() {
            self.delay = Delay::default();
            return answer;
        }
        let held = self.delay.record(now, answer.want, delay);
        if held == answer.want {
            return answer;
        }
        Answer { want: held, reason: Reason::ScaleDownDelay { held, needs: answer.want, delay }, again: None }
    }
}

/// What one replica is meant to carry. One that has shown to bear less than is usually assumed carries less.
#[must_use]
pub fn target(settings: &ScalingPolicy, learned: Option<u32>) -> f64 {
    let soft = learned.map_or(SOFT_CONCURRENCY, |learned| SOFT_CONCURRENCY.min(f64::from(learned)));
    let total = settings.concurrency.map_or(soft, |c| f64::from(c.get()));
    (total * settings.target.fraction()).max(TARGET_MIN)
}

/// The window that shows a surge: a share of the stable one, in whole seconds, at least one.
#[must_use]
pub fn surge_window(settings: &ScalingPolicy) -> Duration {
    let seconds = settings.stable_window.as_secs_f64() * settings.surge_window.fraction();
    Duration::from_secs_f64(seconds.round().max(1.0))
}

/// How far one decision may go from the ready replicas.
struct Steps {
    /// At least one, as a float.
    ready: f64,
    up: Count,
    down: Count,
}

impl Steps {
    fn from(settings: &ScalingPolicy, ready: Count) -> Self {
        let ready = f64::from(ready.max(1));
        Self {
            ready,
            up: count((settings.max_up_rate * ready).ceil()),
            down: count((ready / settings.max_down_rate).floor()),
        }
    }

    fn limit(&self, figures: Figures) -> Answer {
        let Self { up, down, .. } = *self;
        // `up` has the last word, as in the original.
        let want = figures.needs.max(down).min(up);
        let reason = match want {
            _ if want == figures.needs => Reason::Demand(figures),
            _ if want < figures.needs => Reason::UpRate { figures, allowed: want },
            _ => Reason::DownRate { figures, kept: want },
        };
        Answer { want, reason, again: None }
    }
}

/// The highest want within the scale-down delay, in slots.
#[derive(Debug, Clone, PartialEq, Default)]
struct Delay {
    origin: Option<Instant>,
    highest: Highest<u64>,
}

impl Delay {
    fn record(&mut self, now: Instant, want: Count, delay: Duration) -> Count {
        let origin = *self.origin.get_or_insert(now);
        let slot = now.saturating_duration_since(origin).as_secs() / DELAY_SLOT.as_secs();
        let slots = delay.as_millis().div_ceil(DELAY_SLOT.as_millis()).max(1);
        self.highest.note(slot, want, |at| u128::from(slot - at) >= slots)
    }
}

/// A number of replicas from arithmetic; saturates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, and clamped to the range"
)]
pub(crate) fn count(value: f64) -> Count {
    value.clamp(0.0, f64::from(Count::MAX)) as Count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, window::Window};

    /// One tick: demand in each of its two seconds, ready replicas, and what must come out.
    struct Tick(f64, Count, Count, &'static str);

    /// Concurrency 10 at 70 %: one replica is meant to carry 7.
    fn settings() -> ScalingPolicy {
        ScalingPolicy { concurrency: std::num::NonZeroU32::new(10), ..ScalingPolicy::default() }
    }

    /// Ticks every two seconds, the first one two seconds after the start.
    fn check(settings: &ScalingPolicy, found: Count, ticks: impl IntoIterator<Item = Tick>) {
        let start = fixture::origin();
        let seen = fixture::snapshot(settings.clone());
        let (mut kpa, mut window, mut now) = (Kpa::start(start, found), Window::default(), start);
        for Tick(demand, ready, want, why) in ticks {
            now += Duration::from_secs(2);
            window.record(demand, settings.stable_window);
            window.record(demand, settings.stable_window);
            let (answer, next) =
                kpa.ask(Question { now, settings, ready, learned: None, window: &window, seen: &seen });
            let at = (now - start).as_secs();
            assert_eq!((answer.want, answer.reason.label()), (want, why), "at {at} s: {}", answer.reason);
            kpa = next;
        }
    }

    /// A surge from entry to the cliff at its end. `s` = stable average, `p` = surge average (6 s).
    #[test]
    fn golden_surge() {
        let rise = [
            Tick(7.0, 1, 1, "demand"),  //  2 s: s = p = 7, needs 1; 1/1 < 2
            Tick(7.0, 1, 1, "demand"),  //  4 s
            Tick(7.0, 1, 1, "demand"),  //  6 s
            Tick(28.0, 1, 2, "demand"), //  8 s: s = (6*7 + 2*28)/8 = 12.25 -> 2; p = (4*7 + 2*28)/6 = 14 -> 2; 2/1: surge
            Tick(28.0, 1, 3, "demand"), // 10 s: s = (42 + 4*28)/10 = 15.4 -> 3; p = (2*7 + 4*28)/6 = 21 -> 3; extended
            Tick(28.0, 2, 4, "surge"), // 12 s: s = (42 + 6*28)/12 = 17.5 -> 3; p = 28 -> 4; 4/2: extended, the last time
            Tick(28.0, 4, 4, "surge"), // 14 s: s = (42 + 8*28)/14 = 19 -> 3; p = 28 -> 4; 4/4 < 2
        ];
        // From 16 s on nothing: s and p fall, and the surge holds 4 while 12 s + 60 s < now does not hold, so to 72 s.
        let held = (0..29).map(|_| Tick(0.0, 4, 4, "surge_held"));
        let cliff = [
            Tick(0.0, 4, 2, "down_rate"), // 74 s: s = 0; floor(4/2) stay
            Tick(0.0, 2, 1, "down_rate"), // 76 s: floor(2/2)
            Tick(0.0, 1, 0, "demand"),    // 78 s: floor(1/2) = 0
        ];
        check(&settings(), 0, rise.into_iter().chain(held).chain(cliff));
    }

    #[test]
    fn golden_surge_fires_just_above_one_target() {
        // 7.01 needs 2, and 2/1 is twice: a flaw of the original that the port keeps. No scale-down follows.
        check(
            &settings(),
            0,
            [
                Tick(7.01, 1, 2, "demand"),
                Tick(0.0, 2, 2, "surge_held"), // s = p = 3.505 -> 1
            ],
        );
    }

    #[test]
    fn golden_without_surge_two_replicas_may_triple_slowly() {
        // 6 s of 14 need 2 of 2; then 27: p = (4*14 + 2*27)/6 = 18.3 -> 3, 3/2 < 2; s = (6*14 + 54)/8 = 17.25 -> 3.
        check(
            &settings(),
            2,
            [
                Tick(14.0, 2, 2, "demand"),
                Tick(14.0, 2, 2, "demand"),
                Tick(14.0, 2, 2, "demand"),
                Tick(27.0, 2, 3, "demand"),
            ],
        );
    }

    #[test]
    fn golden_up_rate() {
        // 700 need 100; twice the ready ones at most.
        let settings = ScalingPolicy { max_up_rate: 2.0, ..settings() };
        check(
            &settings,
            0,
            [
                Tick(700.0, 0, 2, "up_rate"), // none ready counts as one
                Tick(700.0, 2, 4, "up_rate"),
                Tick(700.0, 4, 8, "up_rate"),
                Tick(700.0, 60, 100, "demand"),
            ],
        );
    }

    #[test]
    fn golden_down_rate() {
        // No surge (threshold out of reach), a window of 6 s: 64 replicas for 448, then nothing.
        let settings =
            ScalingPolicy { surge_threshold: 1e9, stable_window: Duration::from_secs(6), ..settings() };
        check(
            &settings,
            0,
            [
                Tick(448.0, 64, 64, "demand"),
                Tick(0.0, 64, 32, "demand"),    // s = 2*448/4 = 224 -> 32
                Tick(0.0, 32, 22, "demand"),    // s = 2*448/6 = 149.3 -> 22
                Tick(0.0, 22, 11, "down_rate"), // s = 0
                Tick(0.0, 11, 5, "down_rate"),
                Tick(0.0, 5, 2, "down_rate"),
                Tick(0.0, 2, 1, "down_rate"),
                Tick(0.0, 1, 0, "demand"),
            ],
        );
    }

    #[test]
    fn golden_scale_down_delay() {
        // Three slots of 2 s; the first, with 4, leaves at 8 s.
        let settings = ScalingPolicy {
            surge_threshold: 1e9,
            stable_window: Duration::from_secs(6),
            scale_down_delay: Duration::from_secs(6),
            ..settings()
        };
        check(
            &settings,
            0,
            [
                Tick(28.0, 4, 4, "demand"),
                Tick(0.0, 4, 4, "scale_down_delay"), // s = 14 -> 2
                Tick(0.0, 4, 4, "scale_down_delay"), // s = 9.3 -> 2
                Tick(0.0, 4, 2, "down_rate"),        // s = 0, floor(4/2)
                Tick(28.0, 2, 2, "demand"),          // s = 2*28/6 = 9.3 -> 2
                Tick(28.0, 2, 3, "demand"),          // s = 4*28/6 = 18.7 -> 3: up is never delayed
            ],
        );
    }

    #[test]
    fn golden_restart_starts_in_a_surge() {
        // 0 s + 60 s < now is first true at 62 s.
        let held = (0..30).map(|_| Tick(0.0, 3, 3, "surge_held"));
        check(&settings(), 3, held.chain([Tick(0.0, 3, 1, "down_rate")]));
        // One replica is no reason for a surge.
        check(&settings(), 1, [Tick(0.0, 1, 0, "demand")]);
    }

    #[test]
    fn targets_and_windows() {
        let learned = |concurrency, learned, percent| {
            let policy = ScalingPolicy {
                concurrency: std::num::NonZeroU32::new(concurrency),
                target: tidegate_config::units::Percent::new(percent).expect("in range"),
                ..ScalingPolicy::default()
            };
            target(&policy, learned)
        };
        let of = |concurrency, percent| learned(concurrency, None, percent);
        for (found, right) in [(of(0, 70), 70.0), (of(1, 70), 0.7), (of(10, 100), 10.0), (of(1, 1), 0.01)] {
            assert!((found - right).abs() < 1e-9, "{found} is not {right}");
        }
        for (concurrency, limit, right) in [(0, 30, 21.0), (0, 500, 70.0), (10, 3, 7.0)] {
            let found = learned(concurrency, Some(limit), 70);
            assert!((found - right).abs() < 1e-9, "{found} is not {right} with {limit} learned");
        }
        for (stable, surge) in [(60, 6), (6, 1), (1, 1), (25, 3), (3600, 360)] {
            let settings =
                ScalingPolicy { stable_window: Duration::from_secs(stable), ..ScalingPolicy::default() };
            assert_eq!(surge_window(&settings), Duration::from_secs(surge));
        }
    }
}
