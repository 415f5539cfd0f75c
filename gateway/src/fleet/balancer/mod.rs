//! Which replica gets the next request. Pure: the slots, an instant and a random number in, an index out.
//! Called by the [`Gate`](super::admission::Gate) under its lock. What a replica has shown so far is its [`Candidate`]'s,
//! which learns from what leases report.

pub(crate) mod affinity;
mod candidate;
pub(crate) mod circuit;
pub(crate) mod ejection;
mod ewma;
mod gradient;

use std::time::{Duration, Instant};

pub use affinity::Wish;
pub use candidate::{Answer, Report};
pub(crate) use candidate::{Candidate, may_eject};
pub use ejection::Out;

/// Up to this hard limit replicas are filled one after another, so that the newest fall idle and can go
/// (Knative does the same up to 3; see also Hermod: consolidate at low load).
const FILL_FIRST_UP_TO: u32 = 3;

/// What one choice is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    pub(crate) now: Instant,
    /// A random number.
    pub(crate) chance: u64,
    /// How long a fresh replica gets less than its part; zero where none is fresh.
    pub(crate) slow_start: Duration,
}

/// The index of the replica for the next request, oldest replica first in `slots`; `None` if none of those that are `of` the
/// kind has a free slot.
///
/// Hard limit up to 3: the oldest with a free slot. Above: least in flight, ties to the oldest. Without a limit: the
/// better of two drawn by chance, which does not herd onto a fresh replica as least in flight alone does (Mitzenmacher 2001).
pub(crate) fn pick<S: AsRef<Candidate>>(
    slots: &[S],
    draw: Draw,
    of: impl Fn(&Candidate) -> bool,
) -> Option<usize> {
    let is_free = |slot: &S| slot.as_ref().is_free(draw.now) && of(slot.as_ref());
    let oldest = slots.iter().position(is_free)?;
    let capacity = slots[oldest].as_ref().capacity();
    if capacity <= FILL_FIRST_UP_TO {
        return Some(oldest);
    }
    if slots[oldest].as_ref().is_unlimited() {
        return two_choices(slots, draw, is_free);
    }
    if draw.slow_start.is_zero() {
        return least(&slots[oldest..], is_free, |slot| slot.in_flight).map(|index| oldest + index);
    }
    // Loads are not negative, and the bits of those are in the order of their values.
    least(&slots[oldest..], is_free, |slot| slot.load(draw).to_bits()).map(|index| oldest + index)
}

/// The first of the free ones with the least of something.
fn least<S: AsRef<Candidate>, K: Ord>(
    slots: &[S],
    is_free: impl Fn(&S) -> bool,
    of: impl Fn(&Candidate) -> K,
) -> Option<usize> {
    let free = slots.iter().enumerate().filter(|(_, slot)| is_free(slot));
    free.min_by_key(|(_, slot)| of(slot.as_ref())).map(|(index, _)| index)
}

/// As [`pick`], first drawing whether the request goes to a replica on trial, which `percent` of a hundred do. Where those
/// that were drawn have no room the others take it: a request never waits for the sake of the share.
pub(crate) fn pick_by_share<S: AsRef<Candidate>>(slots: &[S], draw: Draw, percent: u8) -> Option<usize> {
    // Bits that `two_choices` does not weigh first, so that the two draws hang together little.
    let trial = (draw.chance >> 11) % 100 < u64::from(percent);
    let among = |trial: bool| pick(slots, draw, |slot| slot.trial == trial);
    among(trial).or_else(|| among(!trial))
}

fn two_choices<S: AsRef<Candidate>>(slots: &[S], draw: Draw, is_free: impl Fn(&S) -> bool) -> Option<usize> {
    let (a, b) = two_of(slots.len(), draw.chance);
    if is_free(&slots[a]) && is_free(&slots[b]) {
        return Some(better(slots, a, b, draw));
    }
    let free = || slots.iter().enumerate().filter(|(_, slot)| is_free(slot)).map(|(index, _)| index);
    let (a, b) = two_of(free().count(), draw.chance);
    Some(better(slots, free().nth(a)?, free().nth(b)?, draw))
}

/// Two of so many by chance; the second is drawn among the others, so that the two always differ where
/// they can.
fn two_of(count: usize, chance: u64) -> (usize, usize) {
    let below = |bits: u64, count: usize| {
        let scaled = (bits & 0xffff_ffff) * count as u64;
        usize::try_from(scaled >> 32).unwrap_or_default()
    };
    let a = below(chance >> 32, count);
    let b = (a + 1 + below(chance, count.saturating_sub(1))) % count.max(1);
    (a, b)
}

/// The better of two, the first if they are equal.
fn better<S: AsRef<Candidate>>(slots: &[S], a: usize, b: usize, draw: Draw) -> usize {
    let (one, other) = (slots[a].as_ref(), slots[b].as_ref());
    let (now, unknown) = (draw.now, 1.0);
    // Nobody knows yet how fast a fresh one is: it is taken to be as fast as the other.
    let (x, y) = match (one.latency.read(now), other.latency.read(now)) {
        (Some(x), Some(y)) => (x, y),
        (Some(known), None) | (None, Some(known)) => (known, known),
        (None, None) => (unknown, unknown),
    };
    if y * other.load(draw) < x * one.load(draw) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(capacity: u32, in_flight: u32) -> Candidate {
        let mut candidate = Candidate::new(0, capacity, crate::clock::now());
        candidate.in_flight = in_flight;
        candidate
    }

    /// A draw long after the last replica came.
    fn draw(chance: u64) -> Draw {
        let later = Duration::from_secs(3600);
        Draw { now: crate::clock::now() + later, chance, slow_start: Duration::from_secs(3) }
    }

    fn any(_: &Candidate) -> bool {
        true
    }

    /// So many chances, one after the other.
    pub(super) fn chances(count: usize) -> impl Iterator<Item = u64> {
        let next = |chance: &u64| Some(crate::fleet::admission::next_chance(*chance));
        std::iter::successors(Some(88_172_645_463_325_252_u64), next).take(count)
    }

    fn check(capacity: u32, in_flight: &[u32], want: Option<usize>) {
        let slots: Vec<_> = in_flight.iter().map(|&in_flight| candidate(capacity, in_flight)).collect();
        assert_eq!(pick(&slots, draw(7), any), want, "limit {capacity}, in flight {in_flight:?}");
    }

    #[test]
    fn small_limits_fill_the_oldest_first() {
        check(1, &[1, 0, 0], Some(1));
        check(3, &[2, 0], Some(0));
        check(3, &[3, 3], None);
        check(1, &[], None);
    }

    #[test]
    fn larger_limits_take_the_least_loaded_and_ties_go_to_the_oldest() {
        check(10, &[4, 2, 2], Some(1));
        check(10, &[0, 0], Some(0));
        check(10, &[10, 9], Some(1));
    }

    #[test]
    fn without_a_limit_the_better_of_two() {
        check(u32::MAX, &[5], Some(0));
        check(u32::MAX, &[5, 1], Some(1));
        let slots = [9, 0, 0, 0].map(|in_flight| candidate(u32::MAX, in_flight));
        let mut seen = std::collections::BTreeSet::new();
        for chance in chances(64) {
            let pick = pick(&slots, draw(chance), any);
            assert_ne!(pick, Some(0), "the busiest loses against any other");
            seen.extend(pick);
        }
        assert_eq!(seen.len(), 3, "every other one gets its share");
    }

    #[test]
    fn who_answers_slowly_gets_little() {
        let mut slots = [0, 0, 0].map(|in_flight| candidate(u32::MAX, in_flight));
        let draw = draw(0);
        for (slot, ms) in slots.iter_mut().zip([10, 10, 500]) {
            slot.latency.observe(draw.now, Duration::from_millis(ms));
        }
        let at = |chance| Draw { chance, ..draw };
        assert!(chances(500).all(|chance| pick(&slots, at(chance), any) != Some(2)));
        slots[0].in_flight = 60;
        slots[1].in_flight = 60;
        assert!(
            chances(500).any(|chance| pick(&slots, at(chance), any) == Some(2)),
            "at last it is the better one"
        );
    }

    #[test]
    fn a_fresh_replica_gets_its_part_little_by_little() {
        for capacity in [u32::MAX, 100] {
            let mut slots = [candidate(capacity, 8), candidate(capacity, 0)];
            let draw = draw(0);
            slots[1].since = draw.now;
            let after = |ms| Draw { now: draw.now + Duration::from_millis(ms), ..draw };
            // A tenth of its part at first: 8 and one more against ten times one.
            for (ms, in_flight, want) in [(0, 0, 0), (1000, 0, 1), (1000, 3, 0), (1500, 3, 1), (3000, 7, 1)] {
                slots[1].in_flight = in_flight;
                let got = pick(&slots, after(ms), any);
                assert_eq!(got, Some(want), "limit {capacity}, {in_flight} in flight after {ms} ms");
            }
        }
    }

    #[test]
    fn those_on_trial_get_their_share_and_nobody_waits_for_it() {
        let mut slots = [candidate(u32::MAX, 0), candidate(u32::MAX, 0), candidate(1, 0)];
        slots[2].trial = true;
        let trials =
            chances(10_000).filter(|chance| pick_by_share(&slots, draw(*chance), 10) == Some(2)).count();
        assert!((800..1200).contains(&trials), "{trials} of 10000 for a share of 10 %");
        slots[2].in_flight = 1;
        assert!(pick_by_share(&slots, draw(0), 100).is_some(), "its one slot is taken: others help out");
        assert_eq!(pick_by_share(&slots[2..], draw(0), 0), None);
    }

    #[test]
    fn suspended_replicas_are_passed_over_until_their_time() {
        let draw = draw(0);
        let later = draw.now + Duration::from_millis(1);
        let mut slots = [candidate(1, 0), candidate(1, 0)];
        slots[0].suspend(later);
        assert_eq!(pick(&slots, draw, any), Some(1));
        assert_eq!(pick(&slots, Draw { now: later, ..draw }, any), Some(0));
        assert_eq!(pick(&slots[..1], draw, any), None);
    }
}
