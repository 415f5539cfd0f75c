//! A service's circuit breaker: where too large a share of the attempts of the last window failed it opens and requests are
//! refused at once; after a pause it is half open: one request tries, and what comes of it closes or opens it again, each
//! time for twice as long (Nygard, "Release It!"). Owned by the [`Gate`](crate::fleet::admission::Gate). Pure.
//! Absent: which failures count (the gate's).

use std::time::{Duration, Instant};

use tidegate_config::model;

/// Parts of the window that are forgotten one by one.
const PARTS: u32 = 10;

/// Doublings that are counted; more would be longer than any setting.
const DOUBLINGS: u32 = 16;

/// A breaker with its counts.
#[derive(Debug, Clone)]
pub(crate) struct Circuit {
    rules: model::Circuit,
    state: State,
    /// Attempts and failures in each part of the window; the current part's number.
    parts: [(u32, u32); PARTS as usize],
    part: u64,
    start: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
        times: u32,
    },
    /// One request tries; if nothing is heard of it by `next`, another one does.
    HalfOpen {
        next: Instant,
        times: u32,
    },
}

impl Circuit {
    pub(crate) fn new(now: Instant, rules: model::Circuit) -> Self {
        Self { rules, state: State::Closed, parts: [(0, 0); PARTS as usize], part: 0, start: now }
    }

    /// Takes new rules; one that is open stays so for its time.
    pub(crate) fn set_rules(&mut self, rules: model::Circuit) {
        self.rules = rules;
    }

    /// Whether a request may pass, or when it is worth another try.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        match self.state {
            State::Closed => Ok(()),
            State::Open { until: later, .. } | State::HalfOpen { next: later, .. } if later > now => {
                Err(later)
            }
            State::Open { times, .. } | State::HalfOpen { times, .. } => {
                self.state = State::HalfOpen { next: now + self.rules.base, times };
                Ok(())
            }
        }
    }

    /// An attempt ended; true if the breaker opens.
    pub(crate) fn count(&mut self, now: Instant, failed: bool) -> bool {
        match self.state {
            State::Closed => {
                let (attempts, failures) = self.counted(now, failed);
                #[expect(clippy::cast_precision_loss, reason = "attempts of one window")]
                let share = failures as f64 / attempts.max(1) as f64;
                let opens = failed
                    && attempts >= u64::from(self.rules.least)
                    && share >= self.rules.failures.fraction();
                if opens {
                    self.open(now, 0);
                }
                opens
            }
            // An answer to a request of before.
            State::Open { .. } => false,
            State::HalfOpen { times, .. } if failed => {
                self.open(now, times);
                true
            }
            State::HalfOpen { .. } => {
                self.answered();
                false
            }
        }
    }

    /// A request is being answered: what tries it need not have ended for that.
    pub(crate) fn answered(&mut self) {
        match self.state {
            State::Closed | State::Open { .. } => {}
            State::HalfOpen { .. } => (self.state, self.parts) = (State::Closed, [(0, 0); PARTS as usize]),
        }
    }

    /// Whether it is half open.
    pub(crate) fn is_tried(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Until when it refuses; `None`: it does not.
    pub(crate) fn open_until(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open { until, .. } | State::HalfOpen { next: until, .. } => (until > now).then_some(until),
        }
    }

    fn open(&mut self, now: Instant, times: u32) {
        let pause = self.rules.base.saturating_mul(1 << times.min(DOUBLINGS)).min(self.rules.longest);
        self.state = State::Open { until: now + pause, times: times.saturating_add(1) };
    }

    /// Attempts and failures of the window, this one included.
    fn counted(&mut self, now: Instant, failed: bool) -> (u64, u64) {
        let length = (self.rules.window / PARTS).max(Duration::from_millis(1));
        let elapsed = now.saturating_duration_since(self.start).as_nanos() / length.as_nanos();
        let part = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let index = |part: u64| usize::try_from(part % u64::from(PARTS)).expect("less than ten");
        for passed in (self.part + 1..=part).take(PARTS as usize) {
            self.parts[index(passed)] = (0, 0);
        }
        self.part = self.part.max(part);
        let current = &mut self.parts[index(self.part)];
        *current = (current.0.saturating_add(1), current.1.saturating_add(u32::from(failed)));
        self.parts.iter().fold((0, 0), |(attempts, failures), part| {
            (attempts + u64::from(part.0), failures + u64::from(part.1))
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::units::Percent;

    use super::*;

    fn circuit(now: Instant) -> Circuit {
        let failures = Percent::new(50).expect("a share");
        Circuit::new(now, model::Circuit { failures, least: 10, ..model::Circuit::default() })
    }

    /// Whether a row of attempts, one each so many milliseconds, opens it: `.` is an answer, `x` a failure.
    fn opens(row: &str, every: u64) -> bool {
        let mut now = crate::clock::now();
        let mut circuit = circuit(now);
        row.chars().any(|fate| {
            now += Duration::from_millis(every);
            circuit.count(now, fate == 'x')
        })
    }

    #[test]
    fn it_opens_when_a_share_of_enough_attempts_fail_within_the_window() {
        for (row, every, want) in [
            ("xxxxxxxxx", 1, false),
            ("xxxxxxxxxx", 1, true),
            (".x.x.x.x.x", 1, true),
            ("..x.x.x.x.x..x..", 1, false),
            ("xxxxxxxxxxxxxxx", 2000, false),
            ("....................xxxxxxxxxxxxxxx", 1, false),
            ("....................xxxxxxxxxxxxxxx", 600, true),
        ] {
            assert_eq!(opens(row, every), want, "{row} every {every} ms");
        }
    }

    #[test]
    fn one_request_tries_and_decides() {
        let mut now = crate::clock::now();
        let mut circuit = circuit(now);
        assert!((0..10).any(|_| circuit.count(now, true)));
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            let until = circuit.admit(now).expect_err("open");
            assert_eq!((until - now, circuit.open_until(now)), (Duration::from_secs(pause), Some(until)));
            assert!(!circuit.count(now, false), "an answer to a request of before says nothing");
            now = until;
            assert_eq!(circuit.admit(now), Ok(()));
            assert!(circuit.admit(now).is_err(), "one tries");
            assert!(circuit.count(now, true), "and fails");
        }
        now = circuit.admit(now).expect_err("open");
        assert_eq!(circuit.admit(now), Ok(()));
        circuit.count(now, false);
        assert!(
            (0..9).all(|_| circuit.admit(now).is_ok() && !circuit.count(now, true)),
            "it counts from the beginning"
        );
    }

    #[test]
    fn where_nothing_is_heard_of_the_one_that_tries_another_does() {
        let mut now = crate::clock::now();
        let mut circuit = circuit(now);
        assert!((0..10).any(|_| circuit.count(now, true)));
        for _ in 0..3 {
            now = circuit.admit(now).expect_err("open");
            assert_eq!(circuit.admit(now), Ok(()));
        }
    }
}
