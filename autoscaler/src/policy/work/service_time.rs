//! How long a request takes, by Little's law: seconds of work over requests that ended. Averaged over many requests, as times vary; over
//! a quarter of a minute where that differs from it by more than they vary, as they do when whatever a service depends on slows down.

use serde::{Deserialize, Serialize};

use crate::snapshot::Flow;

/// Where no request has ended yet: what one is taken to take, in seconds.
const GUESS: f64 = 1.0;
/// From so many requests on it is known how long one takes.
const KNOWN: f64 = 10.0;
/// Older requests fade once so many are counted,
const MANY: f64 = 5000.0;
/// and with each second, by the time constant of [`LONG`] seconds, while there are more than these.
const FEW: f64 = 500.0;
const LONG: f64 = 600.0;
/// The time constant of the quick average, in seconds.
const SHORT: f64 = 15.0;
/// By so many deviations it has to differ, where times vary by as much as they are long.
const SIGNIFICANT: f64 = 3.0;

/// What ended of late.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct ServiceTime {
    #[serde(flatten)]
    long: Sums,
    #[serde(skip)]
    quick: Sums,
    /// What ran in the last second.
    #[serde(skip)]
    running: f64,
}

/// Seconds of work, and requests that ended meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Sums {
    seconds: f64,
    ended: f64,
}

impl Sums {
    /// One more second, by which older ones fade.
    fn add(&mut self, second: Flow, stays: f64) {
        self.seconds = self.seconds * stays + second.running;
        self.ended = self.ended * stays + f64::from(second.ended);
    }

    /// Seconds of each.
    fn mean(self) -> f64 {
        self.seconds / self.ended
    }
}

impl ServiceTime {
    /// As if it had been learned.
    #[cfg(test)]
    pub(super) fn of(seconds: f64) -> Self {
        Self { long: Sums { seconds: seconds * KNOWN, ended: KNOWN }, quick: Sums::default(), running: 0.0 }
    }

    /// A second went by.
    pub(super) fn count(&mut self, second: Flow) {
        self.running = second.running;
        self.quick.add(second, (-1.0 / SHORT).exp());
        if self.is_surprised() {
            // What was known before is of another time.
            self.long = self.quick;
            return;
        }
        let stays = match self.long.ended {
            ended if ended > MANY => 0.5,
            ended if ended > FEW => (-1.0 / LONG).exp(),
            _ => 1.0,
        };
        self.long.add(second, stays);
    }

    /// Whether enough have ended to believe it.
    pub(super) fn is_known(&self) -> bool {
        self.long.ended >= KNOWN
    }

    /// In seconds.
    pub(super) fn time(&self) -> f64 {
        if self.is_known() {
            return self.long.mean();
        }
        // Those that run have not ended yet: what they have taken so far is the least that one takes, and it is the most if they
        // take no longer than those that have ended, which are the short ones.
        let least = self.long.seconds / (self.long.ended + self.running).max(1.0);
        let most = if self.long.ended > 0.0 { self.long.mean() } else { f64::INFINITY };
        GUESS.clamp(least, most)
    }

    /// Whether these are numbers that can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        [self.long.seconds, self.long.ended].iter().all(|value| (0.0..=1e9).contains(value))
    }

    /// Whether the quick average says something else, and more than chance would.
    fn is_surprised(&self) -> bool {
        let ended = self.quick.ended;
        if ended < KNOWN || !self.is_known() {
            return false;
        }
        let (quick, long) = (self.quick.mean(), self.long.mean());
        // What takes long still runs, and has not ended: of that it knows nothing.
        let is_short = quick < SHORT / 2.0;
        is_short && (quick - long).abs() > SIGNIFICANT * long / ended.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds of so many requests each, of so many seconds of work, as they run once all run that may.
    fn steady(time: &mut ServiceTime, seconds: u32, rate: u32, each: f64) {
        for _ in 0..seconds {
            time.count(Flow {
                arrived: rate,
                ended: rate,
                running: f64::from(rate) * each,
                ..Flow::default()
            });
        }
    }

    fn near(time: &ServiceTime, want: f64) {
        assert!((time.time() / want - 1.0).abs() < 0.25, "{} instead of {want}", time.time());
    }

    #[test]
    fn a_service_that_slows_down_is_seen_within_seconds_and_remembered() {
        let mut time = ServiceTime::default();
        steady(&mut time, 1800, 5, 0.1);
        near(&time, 0.1);
        // The new ones run and have not ended.
        time.count(Flow { arrived: 5, ended: 0, running: 3.0, ..Flow::default() });
        steady(&mut time, 45, 5, 1.0);
        near(&time, 1.0);
        steady(&mut time, 600, 5, 1.0);
        near(&time, 1.0);
        steady(&mut time, 120, 5, 0.1);
        near(&time, 0.1);
    }

    #[test]
    fn what_varies_by_chance_is_averaged_for_long() {
        let mut time = ServiceTime::default();
        for nth in 0..3000 {
            // Half of the requests take thrice as long as the others.
            steady(&mut time, 1, 2, if nth % 7 < 3 { 0.3 } else { 0.1 });
            if nth > 300 {
                near(&time, (3.0 * 0.3 + 4.0 * 0.1) / 7.0);
            }
        }
    }

    #[test]
    fn long_requests_that_have_just_begun_say_nothing() {
        let mut time = ServiceTime::of(60.0);
        for second in 0..30 {
            let running = f64::from(second) * 10.0;
            time.count(Flow { arrived: 10, ended: 1, running, ..Flow::default() });
        }
        assert!(!time.is_surprised(), "{}", time.time());
    }

    #[test]
    fn before_any_has_ended_those_that_run_tell_the_least() {
        let mut time = ServiceTime::default();
        for _ in 0..5 {
            time.count(Flow { running: 30.0, ..Flow::default() });
        }
        assert!((time.time() - 5.0).abs() < 1e-9, "thirty of at least five seconds: {}", time.time());
        time.count(Flow { running: 30.0, ended: 1, ..Flow::default() });
        assert!((5.0..10.0).contains(&time.time()), "{}", time.time());
    }

    #[test]
    fn who_ends_first_is_quick() {
        let mut time = ServiceTime::default();
        time.count(Flow { running: 4.0, ended: 2, ..Flow::default() });
        assert!((time.time() - GUESS).abs() < 1e-9, "two of six have ended: {}", time.time());
        // Six have, of whom each has taken a fifth of a second.
        let mut time = ServiceTime::default();
        time.count(Flow { running: 1.2, ended: 6, ..Flow::default() });
        assert!((0.1..=0.2).contains(&time.time()), "{}", time.time());
    }
}
