//! As Kubernetes' horizontal pod autoscaler with its defaults: every 15 s the replicas are multiplied by the ratio of
//! average demand to target, unless that is within a tenth of 1; at most doubled (or 4 more) at a time; what it wanted in
//! the last five minutes holds it up. Its minimum is one replica, so the last one is the rule's for `idle`.

use std::time::{Duration, Instant};

use tidegate_config::units::Count;

use super::{Answer, Question, highest::Highest, kpa};
use crate::reason::{Figures, Reason};

/// Its sync period, and how old the metrics are that it looks at.
const PERIOD: Duration = Duration::from_secs(15);
/// Within this of the target it does nothing.
const TOLERANCE: f64 = 0.1;
/// How long a higher want holds it up.
const STABILISATION: Duration = Duration::from_secs(300);

/// What the law remembers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hpa {
    asked: Option<Instant>,
    highest: Highest<Instant>,
    answer: Count,
}

impl Hpa {
    /// One tick.
    #[must_use]
    pub fn ask(mut self, question: Question<'_>) -> (Answer, Self) {
        let Question { now, settings, ready, learned, window, .. } = question;
        let target = kpa::target(settings, learned);
        let demand = window.average(PERIOD);
        let needs = kpa::count((demand / target).ceil());
        let figures = Figures { demand, over: PERIOD, target, needs };
        if self.asked.is_none_or(|asked| asked + PERIOD <= now) {
            self.asked = Some(now);
            self.answer = self.next(now, ready.max(1), demand / target);
        }
        (Answer { want: self.answer, reason: Reason::Demand(figures), again: None }, self)
    }

    fn next(&mut self, now: Instant, ready: Count, needs: f64) -> Count {
        let ratio = needs / f64::from(ready);
        let wanted = if (ratio - 1.0).abs() <= TOLERANCE { ready } else { kpa::count(needs.ceil()) };
        let held = self.highest.note(now, wanted, |at| at + STABILISATION <= now);
        let most = ready.saturating_mul(2).max(ready.saturating_add(4));
        held.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, window::Window};
    use tidegate_config::model::ScalingPolicy;

    /// Every 15 s: demand since the last time, ready replicas, and what must come out. One replica is meant to carry 7.
    fn check(rows: &[(f64, Count, Count)]) {
        let mut seen = fixture::snapshot(ScalingPolicy {
            concurrency: std::num::NonZeroU32::new(10),
            ..ScalingPolicy::default()
        });
        let (mut hpa, mut window) = (Hpa::default(), Window::default());
        for (demand, ready, want) in rows {
            (0..15).for_each(|_| window.record(*demand, fixture::secs(60)));
            seen.now += PERIOD;
            let settings = &seen.service.scaling;
            let question = Question {
                now: seen.now,
                settings,
                ready: *ready,
                learned: None,
                window: &window,
                seen: &seen,
            };
            let (answer, next) = hpa.ask(question);
            assert_eq!(answer.want, *want, "{demand} on {ready} of {rows:?}");
            hpa = next;
        }
    }

    #[test]
    fn the_ratio_decides_within_its_brakes() {
        check(&[(7.0, 1, 1), (7.6, 1, 1), (14.0, 1, 2), (700.0, 2, 6), (700.0, 6, 12)]);
    }

    #[test]
    fn five_minutes_hold_it_up() {
        let mut rows = vec![(28.0, 4, 4)];
        rows.extend(vec![(7.0, 4, 4); 19]);
        rows.push((7.0, 4, 1));
        check(&rows);
    }
}
