//! Which replica gets the next request. Pure: the slots and a random number in, an index out.
//! Called by the [`Gate`](super::admission::Gate) under its lock.

use std::time::Instant;

/// Up to this hard limit replicas are filled one after another, so that the newest fall idle and can go
/// (Knative does the same up to 3; see also Hermod: consolidate at low load).
const FILL_FIRST_UP_TO: u32 = 3;

/// What the balancer sees of a replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Requests that it may run at once; 0: none any more; `u32::MAX`: no limit.
    pub(crate) capacity: u32,
    /// Requests that it runs.
    pub(crate) in_flight: u32,
    /// Gets nothing before then: a connect failed.
    pub(crate) suspended_until: Option<Instant>,
    /// It is of a version that is being tried.
    pub(crate) trial: bool,
}

impl Candidate {
    fn is_free(&self, now: Instant) -> bool {
        self.in_flight < self.capacity && self.suspended_until.is_none_or(|until| until <= now)
    }
}

/// The index of the replica for the next request, oldest replica first in `slots`; `None` if none has a free slot.
///
/// Hard limit up to 3: the oldest with a free slot. Above: least in flight, ties to the oldest. Without a limit: the
/// better of two drawn by chance, which does not herd onto a fresh replica as least in flight alone does.
pub(crate) fn pick<'s>(
    slots: impl Iterator<Item = &'s Candidate> + Clone,
    now: Instant,
    chance: u64,
) -> Option<usize> {
    let free = slots.enumerate().filter(|(_, slot)| slot.is_free(now));
    let (oldest, slot) = free.clone().next()?;
    match slot.capacity {
        0..=FILL_FIRST_UP_TO => Some(oldest),
        u32::MAX => two_choices(free, chance),
        _ => free.min_by_key(|(_, slot)| slot.in_flight).map(|(index, _)| index),
    }
}

/// As [`pick`], first drawing whether the request goes to a replica on trial, which `percent` of a hundred do. Where those
/// that were drawn have no room the others take it: a request never waits for the sake of the share.
pub(crate) fn pick_by_share<'s>(
    slots: impl Iterator<Item = &'s Candidate> + Clone,
    now: Instant,
    chance: u64,
    percent: u8,
) -> Option<usize> {
    // Bits that `two_choices` does not weigh first, so that the two draws hang together little.
    let trial = (chance >> 11) % 100 < u64::from(percent);
    let of = |trial: bool| slots.clone().enumerate().filter(move |(_, slot)| slot.trial == trial);
    let among = |trial: bool| {
        let at = pick(of(trial).map(|(_, slot)| slot), now, chance)?;
        of(trial).nth(at).map(|(index, _)| index)
    };
    among(trial).or_else(|| among(!trial))
}

fn two_choices<'s>(free: impl Iterator<Item = (usize, &'s Candidate)> + Clone, chance: u64) -> Option<usize> {
    let count = free.clone().count();
    let draw = |bits: u64, among: usize| usize::try_from(bits % among.max(1) as u64).unwrap_or(0);
    let a = draw(chance >> 32, count);
    // The second is drawn among the others, so that the two always differ where they can.
    let b = (a + 1 + draw(chance & 0xffff_ffff, count.saturating_sub(1))) % count.max(1);
    let nth = |n| free.clone().nth(n);
    let (a, b) = (nth(a.min(b))?, nth(a.max(b))?);
    Some(if b.1.in_flight < a.1.in_flight { b.0 } else { a.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(capacity: u32, in_flight: u32, suspended_until: Option<Instant>) -> Candidate {
        Candidate { capacity, in_flight, suspended_until, trial: false }
    }

    fn check(capacity: u32, in_flight: &[u32], want: Option<usize>) {
        let slots: Vec<_> = in_flight.iter().map(|&in_flight| candidate(capacity, in_flight, None)).collect();
        assert_eq!(
            pick(slots.iter(), crate::clock::now(), 7),
            want,
            "limit {capacity}, in flight {in_flight:?}"
        );
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
        let slots = [9, 0, 0, 0].map(|in_flight| candidate(u32::MAX, in_flight, None));
        let now = crate::clock::now();
        let mut seen = std::collections::BTreeSet::new();
        for chance in 0..64_u64 {
            let pick = pick(slots.iter(), now, (chance << 32) | (chance * 31));
            assert_ne!(pick, Some(0), "the busiest loses against any other");
            seen.extend(pick);
        }
        assert_eq!(seen.len(), 3, "every other one gets its share");
    }

    #[test]
    fn those_on_trial_get_their_share_and_nobody_waits_for_it() {
        let (now, mut chance) = (crate::clock::now(), 88_172_645_463_325_252_u64);
        let mut slots = [candidate(u32::MAX, 0, None), candidate(u32::MAX, 0, None), candidate(1, 0, None)];
        slots[2].trial = true;
        let mut trials = 0;
        for _ in 0..10_000 {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            trials += u32::from(pick_by_share(slots.iter(), now, chance, 10) == Some(2));
        }
        assert!((800..1200).contains(&trials), "{trials} of 10000 for a share of 10 %");
        slots[2].in_flight = 1;
        assert!(pick_by_share(slots.iter(), now, 0, 100).is_some(), "its one slot is taken: others help out");
        assert_eq!(pick_by_share(slots[2..].iter(), now, 0, 0), None);
    }

    #[test]
    fn suspended_replicas_are_passed_over_until_their_time() {
        let now = crate::clock::now();
        let later = now + std::time::Duration::from_millis(1);
        let slot = |suspended_until| candidate(1, 0, suspended_until);
        let slots = [slot(Some(later)), slot(None)];
        assert_eq!(pick(slots.iter(), now, 0), Some(1));
        assert_eq!(pick(slots.iter(), later, 0), Some(0));
        assert_eq!(pick(slots[..1].iter(), now, 0), None);
    }
}
