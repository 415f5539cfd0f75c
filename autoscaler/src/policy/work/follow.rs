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

    /// For how many more there should be room in a wake in which so many have come, where it would be for `most` if nothing were known:
    /// for as many as usual, and beyond that for the fewer of `most` the more wakes have been seen.
    pub(super) fn more(self, came: f64, most: f64) -> f64 {
        let usual = 1.0 + self.usual() - came;
        let unknown = PRIOR / (PRIOR + self.gaps);
        most.min(usual.max(most * unknown * unknown))
    }

    /// Whether these are numbers that can have been learned.
    pub(super) fn is_sound(self) -> bool {
        [self.gaps, self.usual()].iter().all(|value| (0.0..=1e6).contains(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_the_less_room_for_the_unknown_the_more_is_known() {
        let mut follow = Follow::default();
        assert!((follow.more(3.0, 12.0) - 12.0).abs() < 1e-9, "nothing is known");
        let wake = |follow: &mut Follow, came: f64| {
            follow.after(60.0, true);
            follow.count(came, 1.0);
        };
        (0..20).for_each(|_| wake(&mut follow, 1.0));
        assert!(follow.more(3.0, 12.0) < 0.2, "nobody ever followed");
        (0..100).for_each(|_| wake(&mut follow, 11.0));
        let room = follow.more(3.0, 12.0);
        assert!((7.5..8.5).contains(&room), "eleven come, and three of them have: {room}");
        assert!(follow.more(11.0, 12.0) < 0.5);
    }
}
