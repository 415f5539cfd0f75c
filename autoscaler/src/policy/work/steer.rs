//! A goal is held by what came out, not by a formula alone: sparing a late request is worth more while more are late than the goal
//! allows, and less while fewer are. With one price for all that can be bought, the goal costs the least (it is its Lagrange multiplier,
//! found by dual ascent); which price that is only traffic tells. Adaptive conformal inference (Gibbs and Candès, "Adaptive Conformal
//! Inference Under Distribution Shift", NeurIPS 2021), of the logarithm: whatever the traffic does, the share of late requests comes to
//! the goal in the long run, as far as replicas can bring that about. It begins with what the last replica costs that formulas ask for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::snapshot::Flow;

/// What one late request changes; one in time does so much times the share that may be late.
const STEP: f64 = 0.02;
/// What those change that come first, where few come: so much over how many may have been late, which is the decreasing gain of Robbins
/// and Monro ("A Stochastic Approximation Method", 1951). Who comes together counts as one: they are late for the same reason.
const FIRST: f64 = 0.4;
/// How many requests come is averaged over so many seconds, and what the last replica spares.
const USUAL: f64 = 600.0;
/// As many requests as may be late in twice that time, where it is busiest, change no more than a factor of e: it takes minutes until
/// what is wanted is there and seen.
const SLOWEST: f64 = 0.5 / USUAL;
/// All who are late in one surge raise the price by no more than a factor of e. What answered each surge in full would be too dear after one
/// and too cheap before the next, and two such prices cost more than one with which as many are late.
const SURGE: f64 = 1.0;
/// Who is late within so many seconds is late in one surge.
const LASTS: f64 = 30.0;
/// What a surge would have raised the price by beyond that holds it up for so much longer, up to that of a surge with so much: more is
/// an accident.
const OWED: f64 = 10.0;
/// For so many seconds it is known how busy it was: between surges that come every few hours, or who is in time between them would count
/// for more than who is late in them; and not for days after a load test.
const KNOWN: f64 = 28_800.0;
/// A late request is worth at most so many seconds of a replica before anything is learned: more is learned soon, less slowly.
const BASE: f64 = 20.0;
/// At most so many where the goal is missed. What is missed beyond that is not made up for, or an outage would be paid for all day.
pub const DEAREST: f64 = 3600.0;
/// At most so many times less than the base.
const CHEAPEST: f64 = 64.0;

/// The price of a late request, in seconds of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Steer {
    /// The logarithm of how many times more than the base it is.
    urgent: f64,
    /// Requests per second that the last replica spares being late of those that formulas ask for: now, and on average.
    #[serde(skip)]
    spared: f64,
    spares: f64,
    /// Requests per second, on average.
    rate: f64,
    /// Seconds that were counted, up to [`USUAL`].
    seconds: f64,
    /// The highest such rate of the last hours; it fades, in [`KNOWN`] by a factor of e.
    busiest: f64,
    /// By how much it has risen in the last [`LASTS`] seconds, and by how much more it would have.
    risen: f64,
    owed: f64,
    /// Requests that have come, and the seconds in which any did.
    came: f64,
    clumps: f64,
    /// The goal that it is for: the share, and the seconds after which a request is late.
    goal: (f64, f64),
}

impl Steer {
    /// From now on the last replica that formulas ask for spares so many requests per second being late.
    pub(super) fn expect(&mut self, spared: f64) {
        self.spared = spared;
    }

    /// A second went by in which a share of `goal` might have been late, which who waits longer than `late_after` is.
    pub(super) fn count(&mut self, second: Flow, goal: f64, late_after: Duration) {
        let of = (goal, late_after.as_secs_f64());
        if self.goal != of {
            *self = Self { goal: of, spared: self.spared, ..Self::default() };
        }
        let (came, late) = (f64::from(second.arrived), f64::from(second.late));
        self.seconds = (self.seconds + 1.0).min(USUAL);
        self.rate += (came - self.rate) / self.seconds;
        self.spares += (self.spared - self.spares) / self.seconds;
        self.came += came;
        self.clumps += f64::from(u8::from(came > 0.0));
        let busiest = self.busiest.max(self.rate);
        let change = self.step(goal, busiest) * (late - goal * came);
        let change = self.in_time(change);
        if self.seconds >= USUAL {
            self.busiest = busiest * (1.0 - 1.0 / KNOWN);
        }
        if came + late > 0.0 {
            let most = (DEAREST / self.base()).ln();
            // Where less comes and the base is higher it fades: when as much comes as before, the base is not yet what it was.
            let beyond = (self.urgent - most).max(0.0) * (1.0 - 1.0 / USUAL);
            self.urgent = (self.urgent + change).clamp(-CHEAPEST.ln(), most + beyond);
            if self.urgent >= most {
                self.owed = 0.0;
            }
        }
    }

    /// What of a change is for now: the rest of a rise is owed, and a fall pays what is owed first. So both come to the same in the long
    /// run.
    fn in_time(&mut self, change: f64) -> f64 {
        self.risen *= 1.0 - 1.0 / LASTS;
        if change > 0.0 {
            let now = change.min((SURGE - self.risen).max(0.0));
            self.risen += now;
            self.owed = (self.owed + change - now).min(OWED);
            return now;
        }
        let paid = self.owed.min(-change);
        self.owed -= paid;
        change + paid
    }

    /// What one late request changes. The same for each, however many come with it, and whether it begins a surge or ends one: only then
    /// does it come to the goal.
    fn step(&self, goal: f64, busiest: f64) -> f64 {
        let together = self.came / self.clumps.max(1.0);
        let first = FIRST / (together + goal * self.came).max(1.0);
        STEP.max(first).min(SLOWEST / (goal * busiest).max(1e-9))
    }

    /// Whether these are numbers that can have been learned.
    pub(super) fn is_sound(&self) -> bool {
        let Self { urgent, spared, spares, rate, seconds, busiest, risen, owed, came, clumps, goal } = *self;
        let values = [urgent.exp(), spared, spares, rate, seconds, busiest, risen, owed, goal.0, goal.1];
        let counts = [came, clumps];
        values.iter().all(|value| (0.0..=1e9).contains(value)) && counts.iter().all(|count| *count >= 0.0)
    }

    /// Seconds of a replica that one late request less is worth.
    pub(super) fn price(&self) -> f64 {
        (self.base() * self.urgent.exp()).min(DEAREST)
    }

    /// The same before anything is learned: as much as the last replica of those that formulas ask for, over the requests that it
    /// spares.
    fn base(&self) -> f64 {
        (1.0 / self.spares.max(1e-9)).min(BASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: f64 = 0.1;

    impl Steer {
        /// How many times more than at first a late request is worth, where formulas say nothing.
        fn urgency(&self) -> f64 {
            self.price() / BASE
        }
    }

    fn after(seconds: u32, second: impl Fn(u32) -> (u32, u32)) -> Steer {
        let mut steer = Steer::default();
        for nth in 0..seconds {
            let (arrived, late) = second(nth);
            steer.count(Flow { arrived, late, ..Flow::default() }, GOAL, Duration::ZERO);
        }
        steer
    }

    #[test]
    fn it_stays_where_the_goal_is_just_met() {
        for rate in [1, 10, 1000] {
            let urgency = after(1000, |nth| (rate, if nth % 10 == 0 { rate } else { 0 })).urgency();
            assert!((urgency - 1.0).abs() < 0.2, "{urgency} at {rate} per second");
        }
        assert_eq!(after(1000, |_| (0, 0)).urgency(), 1.0, "nothing is learned from nobody");
    }

    #[test]
    fn too_many_late_make_it_dearer_and_too_few_cheaper() {
        let dear = after(2000, |_| (10, 4));
        assert!(dear.urgency() > 4.0, "{dear:?}");
        assert!((after(20_000, |_| (10, 10)).price() / DEAREST - 1.0).abs() < 1e-9);
        let cheap = after(20_000, |_| (10, 0));
        assert!((cheap.urgency() * CHEAPEST - 1.0).abs() < 1e-9, "{cheap:?}");
    }

    #[test]
    fn what_was_missed_beyond_the_most_that_is_paid_is_not_made_up_for() {
        // Late for hours, with a base of a tenth of a second; then the base is what it is where little comes.
        let mut steer = Steer::default();
        let mut count = |seconds, spared, late| {
            steer.expect(spared);
            for _ in 0..seconds {
                steer.count(Flow { arrived: 10, late, ..Flow::default() }, GOAL, Duration::ZERO);
            }
            steer.price()
        };
        assert!((count(20_000, 10.0, 10) / DEAREST - 1.0).abs() < 1e-9);
        assert!((count(6000, 0.0, 1) / DEAREST - 1.0).abs() < 1e-9);
        assert!(count(1200, 0.0, 0) < 0.7 * DEAREST, "and it falls at once");
    }

    #[test]
    fn a_request_costs_at_first_what_the_last_replica_takes_to_spare_one() {
        let mut steer = Steer::default();
        assert_eq!(steer.price(), BASE, "nothing is known");
        for second in 0..1000 {
            steer.expect(if second % 10 == 0 { 20.0 } else { 0.0 });
            steer.count(Flow::default(), GOAL, Duration::ZERO);
        }
        assert!((0.4..0.6).contains(&steer.price()), "{steer:?}");
        let kept = serde_json::to_string(&steer).expect("values only");
        let after: Steer = serde_json::from_str(&kept).expect("as it was kept");
        assert!((after.price() / steer.price() - 1.0).abs() < 1e-9, "also after a restart");
    }

    #[test]
    fn where_few_come_the_first_ones_tell_much_and_clumps_no_more_than_one() {
        // One in four minutes: a morning tells what would take a week in steps of two in a hundred.
        let few = after(3600 * 4, |nth| if nth % 240 == 0 { (1, 1) } else { (0, 0) });
        assert!(few.urgency() > 50.0, "{few:?}");
        let clump = |nth| if nth % 240 == 0 { (30, 30) } else { (0, 0) };
        assert!(after(241, clump).urgency() < 3.0, "{:?}", after(241, clump));
    }

    #[test]
    fn another_goal_is_begun_anew() {
        let mut steer = after(100, |_| (10, 4));
        let second = Flow { arrived: 10, late: 1, ..Flow::default() };
        steer.count(second, GOAL, Duration::from_secs(1));
        assert!((steer.urgency() - 1.0).abs() < 1e-3, "{steer:?}");
    }

    #[test]
    fn one_surge_changes_little_however_many_are_late_in_it() {
        let surge = |nth: u32| if nth >= 1000 && nth % 1000 < 3 { (100, 100) } else { (1, 0) };
        let change = after(2003, surge).urgency() / after(2000, surge).urgency();
        assert!((2.0..3.0).contains(&change), "{change}");
    }

    #[test]
    fn what_one_surge_does_not_raise_it_by_holds_it_up_afterwards() {
        let mut steer = Steer::default();
        let changes = [2.0, 1.0, -0.5, -0.5, -0.5, -0.5, -0.5];
        let now = changes.map(|change| steer.in_time(change));
        assert!((now[0] + now[1] - SURGE).abs() < 0.05, "{now:?}");
        assert!(now[2..5].iter().all(|change| *change == 0.0), "{now:?}");
        assert!((now.iter().sum::<f64>() - changes.iter().sum::<f64>()).abs() < 1e-9, "{now:?}");
    }

    #[test]
    fn a_night_without_anybody_forgets_no_price() {
        let mut steer = Steer::default();
        let mut count = |seconds, spared, arrived, late| {
            steer.expect(spared);
            (0..seconds)
                .for_each(|_| steer.count(Flow { arrived, late, ..Flow::default() }, GOAL, Duration::ZERO));
            steer.price()
        };
        count(6000, 10.0, 400, 40);
        let busy = count(7000, 10.0, 400, 100);
        count(8 * 3600, 0.0, 0, 0);
        let again = count(6000, 10.0, 400, 40);
        assert!((300.0..3000.0).contains(&busy) && again > 0.7 * busy, "{again} after {busy}");
    }

    #[test]
    fn a_bad_minute_is_made_up_for_in_the_minutes_after_it() {
        let minute = |nth: u32| (100, if (600..660).contains(&nth) { 100 } else { 0 });
        let urgency = |seconds| after(seconds, minute).urgency();
        assert!(urgency(600) < 1.0 && urgency(660) > 1.4 * urgency(600));
        assert!(urgency(1200) < 1.0 && urgency(1200) < urgency(660) / 1.4, "and no longer");
    }

    #[test]
    fn who_begins_a_surge_counts_as_much_as_who_ends_it() {
        // A minute of every hour, and the first of its requests are late: as many as may be.
        let hour = |nth: u32| match nth % 3600 {
            0..6 => (80, 80),
            6..60 => (80, 0),
            _ => (0, 0),
        };
        for seconds in [3600 * 8 + 6, 3600 * 8 + 60] {
            let urgency = after(seconds, hour).urgency();
            assert!((0.2..20.0).contains(&urgency), "{urgency}");
        }
    }

    /// Where a request is late the more rarely the more is paid, few enough are in the long run.
    #[test]
    fn the_goal_is_reached_where_the_first_price_is_wrong() {
        for wrong in [0.1, 3.0, 100.0] {
            let (mut steer, mut late, mut chance) = (Steer::default(), 0.0, 1_u64);
            for nth in 0..20_000 {
                chance =
                    chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let drawn = (chance >> 11) as f64 / (1_u64 << 53) as f64;
                let is_late = drawn < (GOAL * wrong / steer.urgency()).min(1.0);
                if nth >= 5000 {
                    late += f64::from(u8::from(is_late));
                }
                let second = Flow { arrived: 1, late: u32::from(is_late), ..Flow::default() };
                steer.count(second, GOAL, Duration::ZERO);
            }
            let share = late / 15_000.0;
            assert!((share / GOAL - 1.0).abs() < 0.1, "{share} where the first price is wrong by {wrong}");
        }
    }
}
