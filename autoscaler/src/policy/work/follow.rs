//! How many requests come within a start after the one that ends a gap: with that one they are late if no replica was kept. Who comes
//! in the middle of busy traffic says nothing of it. Used by the law [`work`](super).

use serde::{Deserialize, Serialize};

/// The average is over so many gaps.
const GAPS: f64 = 20.0;
/// So many gaps after which nobody follows are taken for granted.
const PRIOR: f64 = 2.0;
/// A gap of fewer seconds is a pause of traffic that goes on.
const PAUSE: f64 = 10.0;

/// Who follows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Follow {
    /// How many gaps have been looked at, as far as that matters.
    gaps: f64,
    /// The mean of the logarithm of one more than follow: one crowd, or a first start in the middle of traffic, is not what is usual.
    #[serde(default)]
    usual: f64,
    /// Seconds since a gap ended, and who has come in them.
    #[serde(skip)]
    counted: Option<(f64, f64)>,
}

impl Follow {
    /// A gap of so many seconds has ended; `asleep`: no replica was kept until then.
    pub(super) fn after(&mut self, gap: f64, asleep: bool) {
        if asleep || gap >= PAUSE {
            self.counted = Some((0.0, 0.0));
        }
    }

    /// One more second in which so many came; a start takes `start` seconds.
    pub(super) fn count(&mut self, arrived: f64, start: f64) {
        let Some((seconds, came)) = &mut self.counted else { return };
        (*seconds, *came) = (*seconds + 1.0, *came + arrived);
        if *seconds >= start {
            // But for the one that ended it; of a part of a second as much less.
            let followed = (*came - 1.0).max(0.0) * (start / *seconds).min(1.0);
            self.gaps = (self.gaps + 1.0).min(GAPS);
            self.usual += (followed.ln_1p() - self.usual) / (self.gaps + PRIOR);
            self.counted = None;
        }
    }

    /// Requests, usually.
    pub(super) fn usual(self) -> f64 {
        self.usual.exp_m1()
    }

    /// How many more are taken to come in a wake in which so many have come, where it would be `guess` if nothing were known: as many
    /// as usual, and beyond that the less of the guess the more wakes have been seen.
    pub(super) fn more(self, came: f64, guess: f64) -> f64 {
        let usual = 1.0 + self.usual() - came;
        guess.min(usual.max(guess * PRIOR / (PRIOR + self.gaps)))
    }

    /// Whether these are numbers that can have been learned.
    pub(super) fn is_sound(self) -> bool {
        [self.gaps, self.usual()].iter().all(|value| (0.0..=1e6).contains(value))
    }
}
