//! What the server's side did meanwhile, on the same time axis: replicas by phase, queue, wanted replicas, decisions with
//! their reasons. Somebody else looks, as often as they like; this keeps what is needed to draw and to judge it, in bounded
//! memory. `[P]`

use serde::{Deserialize, Serialize};

use crate::record::Moment;

/// Looks that are kept; then every other one is left out.
const LOOKS: usize = 2000;
/// Decisions that are kept.
const DECISIONS: usize = 1000;
/// A rise so soon after a fall, in seconds, undoes it.
const FLAP: f64 = 60.0;

/// What the server's side did. Times are seconds since the start of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlay {
    /// The service that was looked at.
    pub service: String,
    /// How it was, in order.
    pub looks: Vec<Look>,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
}

/// How a service was at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// When.
    pub at: f64,
    /// Replicas that take requests.
    pub ready: u32,
    /// Replicas on their way there.
    pub starting: u32,
    /// Replicas that finish what they run.
    pub leaving: u32,
    /// Replicas that are wanted.
    pub want: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Requests that run.
    pub in_flight: u32,
}

/// A decision about a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was first seen.
    pub at: f64,
    /// Replicas that are wanted from then on.
    pub want: u32,
    /// Why, in a word.
    pub because: String,
    /// Why, in words.
    pub reason: String,
}

/// What can be said of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Replicas that were there, times seconds.
    pub replica_seconds: f64,
    /// Replicas that were ready at once, at most.
    pub peak: u32,
    /// Seconds from the first request until one was ready, if there was none then.
    pub first_ready: Option<f64>,
    /// Replicas that were ready at most beyond those that were wanted in the second half of the busiest minute's load.
    pub overshoot: u32,
    /// Rises soon after a fall.
    pub flaps: u32,
}

impl Look {
    /// Everything but the instant.
    fn state(&self) -> Self {
        Self { at: 0.0, ..*self }
    }

    /// Replicas that cost something.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.ready + self.starting + self.leaving
    }
}

impl Overlay {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), ..Self::default() }
    }

    /// Notes a look; of looks that say the same, the first and the last are kept.
    pub fn look(&mut self, look: Look) {
        if let [.., before, last] = self.looks.as_mut_slice()
            && before.state() == last.state()
            && last.state() == look.state()
        {
            last.at = look.at;
            return;
        }
        if self.looks.len() >= LOOKS {
            let mut index = 0;
            self.looks.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.looks.push(look);
    }

    /// Notes a decision, unless it is the one before once more; the first ones are kept.
    pub fn decide(&mut self, decision: Decision) {
        let again = |last: &Decision| last.want == decision.want && last.because == decision.because;
        if self.decisions.len() < DECISIONS && !self.decisions.last().is_some_and(again) {
            self.decisions.push(decision);
        }
    }

    /// Looks at the whole; the first request was due at `first`.
    #[must_use]
    pub fn summary(&self, first: f64) -> Summary {
        let pairs = self.looks.windows(2);
        let replica_seconds =
            pairs.map(|pair| f64::from(pair[0].replicas()) * (pair[1].at - pair[0].at)).sum();
        let peak = self.looks.iter().map(|look| look.ready).max().unwrap_or_default();
        let then = self.looks.iter().take_while(|look| look.at <= first).last().or(self.looks.first());
        let cold = then.is_some_and(|look| look.ready == 0);
        let ready =
            self.looks.iter().find(|look| look.at > first && look.ready > 0).map(|look| look.at - first);
        Summary {
            replica_seconds,
            peak,
            first_ready: ready.filter(|_| cold),
            overshoot: self.overshoot(),
            flaps: self.flaps(),
        }
    }

    /// The most that were ready, beyond what was wanted for the longest time while there was that much to do: the wanted
    /// count that lasted longest among those of at least half the highest.
    fn overshoot(&self) -> u32 {
        let highest = self.looks.iter().map(|look| look.want).max().unwrap_or_default();
        let mut lasted: std::collections::BTreeMap<u32, f64> = std::collections::BTreeMap::new();
        for pair in self.looks.windows(2).filter(|pair| pair[0].want * 2 >= highest) {
            *lasted.entry(pair[0].want).or_default() += pair[1].at - pair[0].at;
        }
        let settled = lasted.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(want, _)| want);
        let peak = self.looks.iter().map(|look| look.ready).max().unwrap_or_default();
        peak.saturating_sub(settled)
    }

    fn flaps(&self) -> u32 {
        let (mut flaps, mut fell) = (0, None);
        for pair in self.looks.windows(2) {
            let [before, now] = pair else { continue };
            if now.want < before.want {
                fell = Some(now.at);
            } else if now.want > before.want && fell.take().is_some_and(|at: f64| now.at - at < FLAP) {
                flaps += 1;
            }
        }
        flaps
    }
}

/// The longest time, in seconds, for which the 99th percentile of response times stayed above `slo`; `None` if it never did.
#[must_use]
pub fn recovery(moments: &[Moment], width: f64, slo: f64) -> Option<f64> {
    let (mut longest, mut begun) = (0.0_f64, None);
    for moment in moments.iter().filter(|moment| moment.count > 0) {
        if moment.p99.is_some_and(|p99| p99 > slo) {
            let begin = *begun.get_or_insert(moment.at);
            longest = longest.max(moment.at + width - begin);
        } else {
            begun = None;
        }
    }
    (longest > 0.0).then_some(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: f64, ready: u32, want: u32) -> Look {
        Look { at, ready, want, ..Look::default() }
    }

    fn overlay(looks: &[(f64, u32, u32)]) -> Overlay {
        let mut overlay = Overlay::new("api");
        looks.iter().for_each(|(at, ready, want)| overlay.look(look(*at, *ready, *want)));
        overlay
    }

    #[test]
    fn what_stays_the_same_is_kept_once() {
        let same = overlay(&[(0.0, 1, 1), (1.0, 1, 1), (2.0, 1, 1), (3.0, 1, 1), (4.0, 2, 2)]);
        let times: Vec<f64> = same.looks.iter().map(|look| look.at).collect();
        assert_eq!(times, [0.0, 3.0, 4.0]);
        let mut many = Overlay::new("api");
        (0..10 * LOOKS).for_each(|n| many.look(look(n as f64, n as u32, 1)));
        assert!(many.looks.len() <= LOOKS && many.looks.is_sorted_by_key(|look| look.ready));
    }

    #[test]
    fn the_same_decision_again_is_none() {
        let mut seen = Overlay::new("api");
        for (at, want) in [(1.0, 1), (2.0, 1), (3.0, 2), (4.0, 1)] {
            seen.decide(Decision { at, want, because: "demand".to_owned(), reason: format!("at {at}") });
        }
        let times: Vec<f64> = seen.decisions.iter().map(|decision| decision.at).collect();
        assert_eq!(times, [1.0, 3.0, 4.0]);
    }

    #[test]
    fn figures_of_the_whole() {
        let seen = overlay(&[(0.0, 0, 0), (1.0, 0, 1), (3.0, 2, 4), (5.0, 5, 4), (10.0, 4, 4), (20.0, 1, 1)]);
        assert_eq!(
            seen.summary(0.5),
            Summary {
                replica_seconds: 4.0 + 25.0 + 40.0,
                peak: 5,
                first_ready: Some(2.5),
                overshoot: 1,
                flaps: 0
            }
        );
        assert_eq!(Overlay::new("api").summary(0.0), Summary::default());
        assert_eq!(overlay(&[(0.0, 2, 2), (9.0, 2, 2)]).summary(0.0).first_ready, None, "it was warm");
    }

    #[test]
    fn a_flap_is_a_rise_soon_after_a_fall() {
        let wants = |wants: &[(f64, u32)]| {
            overlay(&wants.iter().map(|(at, want)| (*at, 1, *want)).collect::<Vec<_>>()).summary(0.0).flaps
        };
        assert_eq!(wants(&[(0.0, 3), (10.0, 2), (20.0, 3), (30.0, 1), (40.0, 2)]), 2);
        assert_eq!(wants(&[(0.0, 3), (10.0, 2), (80.0, 3)]), 0);
        assert_eq!(wants(&[(0.0, 1), (10.0, 2), (20.0, 3)]), 0);
    }

    #[test]
    fn recovery_is_the_longest_time_above() {
        let moments: Vec<Moment> = [0.1, 0.5, 0.6, 0.1, 0.5, 0.1]
            .iter()
            .enumerate()
            .map(|(at, p99)| Moment { at: at as f64, count: 1, p99: Some(*p99), ..Moment::default() })
            .collect();
        assert_eq!(recovery(&moments, 1.0, 0.2), Some(2.0));
        assert_eq!(recovery(&moments, 1.0, 0.7), None);
    }
}
