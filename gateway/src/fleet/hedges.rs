//! When a slow request is sent a second time, and how often that may be: after a fixed time, or one that all but a share of
//! the last answers kept; for a small share of the requests at most ("The Tail at Scale", Dean and Barroso 2013). Pure.
//! Owned by the [`Service`](super::service::Service), asked only where the file says `hedge`.

use std::time::{Duration, Instant};

use tidegate_config::model;

use super::retries::Budget;

/// Steps of the histogram: each is a fifth wider than the one before, from 100 us to a good two hours.
const STEPS: usize = 100;
const FIRST: f64 = 100e-6;
const WIDER: f64 = 1.2;

/// With fewer answers a share of them says nothing.
const ANSWERS: u32 = 20;

/// With so many the older ones count for half.
const MOST: u32 = 2000;

/// How long answers take, and what hedging costs.
#[derive(Debug)]
pub(crate) struct Hedges {
    budget: Budget,
    steps: [u32; STEPS],
    answers: u32,
}

impl Hedges {
    pub(crate) fn new(now: Instant) -> Self {
        Self { budget: Budget::new(now), steps: [0; STEPS], answers: 0 }
    }

    /// A request is sent that may be hedged: after how long, if nothing has come by then. `None`: nobody knows yet.
    pub(crate) fn request(&mut self, now: Instant, rules: &model::Hedge) -> Option<Duration> {
        self.budget.request(now);
        match rules.after {
            model::After::Fixed(delay) => Some(delay),
            model::After::Share(share) => self.quantile(share.fraction()),
        }
    }

    /// Whether one more request may be sent twice; counts it if so.
    pub(crate) fn hedge(&mut self, now: Instant, rules: &model::Hedge) -> bool {
        self.budget.within(now, rules.max.fraction(), 0.0)
    }

    /// A request that may be hedged was answered after so long.
    pub(crate) fn answered(&mut self, after: Duration) {
        if self.answers >= MOST {
            self.steps.iter_mut().for_each(|step| *step /= 2);
            self.answers = self.steps.iter().sum();
        }
        self.steps[step(after)] += 1;
        self.answers += 1;
    }

    fn quantile(&self, share: f64) -> Option<Duration> {
        if self.answers < ANSWERS {
            return None;
        }
        let wanted = share * f64::from(self.answers);
        let mut seen = 0;
        let at = self.steps.iter().position(|count| {
            seen += count;
            f64::from(seen) >= wanted
        })?;
        let steps = i32::try_from(at).unwrap_or(i32::MAX);
        Some(Duration::from_secs_f64(FIRST * WIDER.powi(steps)))
    }
}

/// The step that an answer falls into: the first whose upper end it does not exceed.
fn step(after: Duration) -> usize {
    let steps = (after.as_secs_f64() / FIRST).max(1.0).ln() / WIDER.ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; it saturates")]
    let step = steps.ceil() as usize;
    step.min(STEPS - 1)
}

#[cfg(test)]
mod tests {
    use tidegate_config::units::Percent;

    use super::*;

    fn rules(after: model::After, max: u8) -> model::Hedge {
        model::Hedge { after, max: Percent::new(max).expect("a share") }
    }

    fn p95() -> model::Hedge {
        rules(model::After::Share(Percent::new(95).expect("a share")), 5)
    }

    #[test]
    fn the_delay_is_what_all_but_a_share_kept() {
        let now = crate::clock::now();
        for (fast, slow, want) in [(96, 4, 10), (90, 10, 500), (19, 0, 0), (20, 0, 10)] {
            let mut hedges = Hedges::new(now);
            (0..fast).for_each(|_| hedges.answered(Duration::from_millis(10)));
            (0..slow).for_each(|_| hedges.answered(Duration::from_millis(500)));
            let delay = hedges.request(now, &p95()).unwrap_or_default().as_secs_f64() * 1e3;
            let want = f64::from(want);
            assert!(
                (want..=want * 1.2).contains(&delay),
                "{fast} fast and {slow} slow: {delay} ms, not {want}"
            );
        }
        let fixed = rules(model::After::Fixed(Duration::from_millis(50)), 5);
        assert_eq!(Hedges::new(now).request(now, &fixed), Some(Duration::from_millis(50)));
    }

    #[test]
    fn what_was_long_ago_counts_less_and_less() {
        let now = crate::clock::now();
        let mut hedges = Hedges::new(now);
        (0..5000).for_each(|_| hedges.answered(Duration::from_secs(1)));
        (0..20_000).for_each(|_| hedges.answered(Duration::from_millis(5)));
        assert!(hedges.request(now, &p95()).is_some_and(|delay| delay < Duration::from_millis(7)));
    }

    #[test]
    fn few_are_sent_twice() {
        let (now, rules) = (crate::clock::now(), p95());
        let mut hedges = Hedges::new(now);
        assert!(!hedges.hedge(now, &rules), "nothing was asked");
        assert!((0..200).all(|_| hedges.request(now, &rules).is_none()), "nothing was answered");
        assert_eq!((0..200).filter(|_| hedges.hedge(now, &rules)).count(), 10);
    }
}
