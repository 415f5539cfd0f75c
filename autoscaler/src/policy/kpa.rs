//! A faithful port of the law of Knative's pod autoscaler; every constant is a knob whose default is Knative's.
//! Called through [`Policy`](super::Policy). Holds: within one decision replicas grow by at most `max_up_rate` and
//! shrink by at most `max_down_rate` (of the ready ones); during a surge nothing is taken away.
//! Absent: its activation scale (at its default of 1 it does nothing; `initial` acts in [`decide`](crate::decide)),
//! its rule for the last replica ([`grace`](super::grace)), bounds.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tidegate_config::{model::ScalingPolicy, units::Count};

use super::{Answer, Question};
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
        let Question { now, settings, ready, window } = question;
        let target = target(settings);
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
            return Answer { want: larger.want, reason: as_surge(larger.reason) };
        }
        let left = (since + settings.stable_window).saturating_duration_since(now);
        Answer { want: self.surge_max, reason: Reason::SurgeHeld { held: self.surge_max, left } }
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
        Answer { want: held, reason: Reason::ScaleDownDelay { held, needs: answer.want, delay } }
    }
}

/// What one replica is meant to carry.
#[must_use]
pub fn target(settings: &ScalingPolicy) -> f64 {
    let total = settings.concurrency.map_or(SOFT_CONCURRENCY, |c| f64::from(c.get()));
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
        Answer { want, reason }
    }
}

/// The highest want within the scale-down delay: a monotonic queue of slots, newest (and lowest) last.
#[derive(Debug, Clone, PartialEq, Default)]
struct Delay {
    origin: Option<Instant>,
    maxima: VecDeque<(u64, Count)>,
}

impl Delay {
    fn record(&mut self, now: Instant, want: Count, delay: Duration) -> Count {
        let origin = *self.origin.get_or_insert(now);
        let slot = now.saturating_duration_since(origin).as_secs() / DELAY_SLOT.as_secs();
        let slots = delay.as_millis().div_ceil(DELAY_SLOT.as_millis()).max(1);
        while self.maxima.back().is_some_and(|(_, older)| *older <= want) {
            self.maxima.pop_back();
        }
        while self.maxima.front().is_some_and(|(at, _)| u128::from(slot - at) >= slots) {
            self.maxima.pop_front();
        }
        // A lower want in a slot that has one already says nothing: the slot keeps its maximum.
        if self.maxima.back().is_none_or(|(at, _)| *at != slot) {
            self.maxima.push_back((slot, want));
        }
        self.maxima.front().map_or(want, |(_, highest)| *highest)
    }
}

/// A number of replicas from arithmetic; saturates.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole, and clamped to the range"
)]
fn count(value: f64) -> Count {
    value.clamp(0.0, f64::from(Count::MAX)) as Count
}
