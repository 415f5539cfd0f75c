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
/// Looks come several times a second; a longer silence, in seconds, is time that nobody has seen.
const SILENCE: f64 = 1.0;
/// Of more than this share of a run, and more than so many seconds, nothing may be unseen if figures are to mean the whole.
const UNSEEN: (f64, f64) = (0.05, 2.0);

/// What the server's side did. Times are seconds since the start of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlay {
    /// The service that was looked at.
    pub service: String,
    /// The targets of the load that lead to it; none if that is not known, or all do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// How it was, in order.
    pub looks: Vec<Look>,
    /// What was decided, in order.
    pub decisions: Vec<Decision>,
    /// Decisions that said the same as the one before, and are not kept.
    #[serde(default)]
    pub repeated: u64,
    /// Decisions beyond those that are kept.
    #[serde(default)]
    pub left_out: u64,
    /// Until when it was looked at.
    #[serde(default)]
    pub until: f64,
    /// Seconds until then of which nothing is known: nobody answered.
    #[serde(default)]
    pub unseen: f64,
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
    /// When one was ready.
    pub first_ready: FirstReady,
    /// Replicas that were ready at most beyond those that were wanted in the second half of the busiest minute's load.
    pub overshoot: u32,
    /// Rises soon after a fall.
    pub flaps: u32,
}

/// When a replica was ready, from the first request on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub enum FirstReady {
    /// None ever was, as far as anybody has seen.
    #[default]
    Never,
    /// One was there already.
    AtOnce,
    /// One was seen so many seconds later; it may have been ready since the look before.
    Within(f64),
}

impl FirstReady {
    /// Seconds; `None` if none ever was.
    #[must_use]
    pub fn seconds(self) -> Option<f64> {
        match self {
            Self::Never => None,
            Self::AtOnce => Some(0.0),
            Self::Within(seconds) => Some(seconds),
        }
    }
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
        self.end(look.at);
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

    /// Notes that nobody looks any more, or that somebody does: what was silent for long until then was not seen.
    pub fn end(&mut self, at: f64) {
        let silent = at - self.until;
        if silent > SILENCE {
            self.unseen += silent;
        }
        self.until = self.until.max(at);
    }

    /// Whether too much was not seen for figures to be those of the whole.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        let (share, seconds) = UNSEEN;
        self.unseen > seconds && self.unseen > share * self.until
    }

    /// Notes a decision, unless it is the one before once more; the first ones are kept.
    pub fn decide(&mut self, decision: Decision) {
        let again = |last: &Decision| last.want == decision.want && last.because == decision.because;
        if self.decisions.last().is_some_and(again) {
            self.repeated += 1;
        } else if self.decisions.len() < DECISIONS {
            self.decisions.push(decision);
        } else {
            self.left_out += 1;
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
        let later = || self.looks.iter().find(|look| look.at > first && look.ready > 0);
        let first_ready = match then {
            Some(then) if then.ready > 0 => FirstReady::AtOnce,
            Some(_) | None => later().map_or(FirstReady::Never, |look| FirstReady::Within(look.at - first)),
        };
        Summary { replica_seconds, peak, first_ready, overshoot: self.overshoot(), flaps: self.flaps() }
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
        assert_eq!((seen.repeated, seen.left_out), (1, 0));
        for want in 10..2010 {
            let (because, reason) = ("demand".to_owned(), String::new());
            seen.decide(Decision { at: 5.0, want, because, reason });
        }
        assert_eq!((seen.decisions.len() as u64, seen.left_out), (DECISIONS as u64, 2003 - DECISIONS as u64));
    }

    #[test]
    fn figures_of_the_whole() {
        let seen = overlay(&[(0.0, 0, 0), (1.0, 0, 1), (3.0, 2, 4), (5.0, 5, 4), (10.0, 4, 4), (20.0, 1, 1)]);
        assert_eq!(
            seen.summary(0.5),
            Summary {
                replica_seconds: 4.0 + 25.0 + 40.0,
                peak: 5,
                first_ready: FirstReady::Within(2.5),
                overshoot: 1,
                flaps: 0
            }
        );
        assert_eq!(Overlay::new("api").summary(0.0), Summary::default());
        let first = |looks| overlay(looks).summary(0.0).first_ready;
        assert_eq!(first(&[(0.0, 2, 2), (9.0, 2, 2)]), FirstReady::AtOnce, "it was warm");
        assert_eq!(first(&[(0.0, 0, 0), (9.0, 0, 2)]), FirstReady::Never);
    }

    #[test]
    fn silence_is_time_that_nobody_has_seen() {
        let seen = |ends: f64, silent: std::ops::Range<u32>| {
            let mut seen = Overlay::new("api");
            let tenths =
                (0..=400).filter(|tenth| !silent.contains(tenth)).map(|tenth| f64::from(tenth) / 10.0);
            tenths.take_while(|at| *at <= ends).for_each(|at| seen.look(look(at, 1, 1)));
            seen.end(ends);
            ((seen.unseen * 10.0).round() / 10.0, seen.is_partial())
        };
        assert_eq!(seen(40.0, 0..0), (0.0, false));
        assert_eq!(seen(40.0, 100..109), (0.0, false), "an answer may be slow");
        assert_eq!(seen(40.0, 100..115), (1.6, false));
        assert_eq!(seen(20.0, 100..115), (1.6, false), "two seconds are never too much");
        assert_eq!(seen(40.0, 100..200), (10.1, true));
        assert_eq!(seen(40.0, 100..500), (30.1, true), "the gateway went away for good");
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
