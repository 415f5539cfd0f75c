//! Requests that belong together go to the same replica: to the one that their cookie names, or to the first in an order
//! that their key alone decides (rendezvous hashing, Thaler and Ravishankar 1998). A load bound keeps a popular one from
//! drowning (consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2016): above it the next in that
//! order takes over. Called by the [`Gate`](crate::fleet::admission::Gate). Pure.
//! Holds: a replica that comes or goes moves no sessions but those that it gets or had; nobody waits for a favourite.

use super::{Candidate, Draw};

/// Up to so many requests at once a favourite is never too busy: a browser alone opens six connections.
const ALWAYS: u32 = 8;

/// Which replica a request would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The replica of this name.
    Named(u64),
    /// The first in this key's order.
    Hashed(u64),
    /// Any, one as likely as the other: a session begins.
    New,
    /// Any but the one of this name.
    Not(u64),
}

/// A replica's or key's place in the order: the same in every run of the gateway.
pub(crate) fn hash(text: &[u8]) -> u64 {
    // FNV-1a, then stirred: it alone leaves neighbours close together.
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    stir(text.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014).
fn stir(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The index of the replica for a request with a wish; `None`: any will do. `trials` is the share of requests, in percent,
/// that replicas on trial get: one key's requests all go to the same version, as long as that has room.
pub(crate) fn pick<S: AsRef<Candidate>>(
    slots: &[S],
    draw: Draw,
    wish: Wish,
    bound: f64,
    trials: u8,
) -> Option<usize> {
    if let Wish::Not(name) = wish {
        let other = |slot: &Candidate| slot.name != name;
        let trial = (draw.chance >> 11) % 100 < u64::from(trials);
        let of_version = |slot: &Candidate| trials == 100 || slot.trial == trial;
        return super::pick(slots, draw, |slot| other(slot) && of_version(slot))
            .or_else(|| super::pick(slots, draw, other));
    }
    let most = most(slots, draw, bound);
    let fits = |slot: &Candidate| slot.is_free(draw.now) && slot.in_flight < most;
    let key = match wish {
        Wish::Named(name) => {
            match slots.iter().position(|slot| slot.as_ref().name == name && slot.as_ref().serves()) {
                Some(named) if fits(slots[named].as_ref()) => return Some(named),
                Some(_) => name,
                // It is gone, and its sessions begin anew.
                None => draw.chance,
            }
        }
        Wish::New => draw.chance,
        Wish::Hashed(key) | Wish::Not(key) => key,
    };
    let trial = trials < 100 && stir(key) % 100 < u64::from(trials);
    let first = |test: &dyn Fn(&Candidate) -> bool| {
        let all = slots.iter().map(S::as_ref).enumerate().filter(|(_, slot)| test(slot));
        all.max_by_key(|(_, slot)| stir(key ^ slot.name)).map(|(index, _)| index)
    };
    let of_version = |slot: &Candidate| trials == 100 || slot.trial == trial;
    first(&|slot| fits(slot) && of_version(slot)).or_else(|| first(&fits))
}

/// Below so many requests a replica may get one more: so much times the average, this one included.
fn most<S: AsRef<Candidate>>(slots: &[S], draw: Draw, bound: f64) -> u32 {
    let usable = slots.iter().map(S::as_ref).filter(|slot| slot.serves() && slot.is_in(draw.now));
    let (count, running) = usable
        .fold((0_u32, 0_u64), |(count, running), slot| (count + 1, running + u64::from(slot.in_flight)));
    #[expect(clippy::cast_precision_loss, reason = "requests at once")]
    let share = bound * (running + 1) as f64 / f64::from(count.max(1));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and is not negative"
    )]
    let most = share.ceil() as u32;
    most.max(ALWAYS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const BOUND: f64 = 1.25;

    fn draw() -> Draw {
        Draw { now: crate::clock::now(), chance: 7, slow_start: Duration::ZERO }
    }

    fn replica(name: usize, capacity: u32, in_flight: u32) -> Candidate {
        let name = hash(format!("api-1-{name}").as_bytes());
        let mut replica = Candidate::new(name, capacity, crate::clock::now());
        replica.in_flight = in_flight;
        replica
    }

    fn replicas(count: usize) -> Vec<Candidate> {
        (0..count).map(|name| replica(name, u32::MAX, 0)).collect()
    }

    fn key(number: usize) -> Wish {
        Wish::Hashed(hash(format!("user-{number}").as_bytes()))
    }

    #[test]
    fn who_comes_moves_only_what_it_gets_and_who_goes_what_it_had() {
        let four = replicas(4);
        let (mut moved, mut shares) = (0, [0; 4]);
        for wish in (0..4000).map(key) {
            let with = pick(&four, draw(), wish, BOUND, 100).expect("one of them");
            let without = pick(&four[..3], draw(), wish, BOUND, 100).expect("one of them");
            shares[with] += 1;
            moved += usize::from(with != without);
            assert!(with == without || with == 3, "it was with {without} and is with {with}");
        }
        assert_eq!(moved, shares[3]);
        assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_named_replica_gets_what_names_it() {
        let mut slots = replicas(3);
        let wish = Wish::Named(slots[1].name);
        let on = |slots: &[Candidate]| pick(slots, draw(), wish, BOUND, 100);
        assert_eq!(on(&slots), Some(1));
        slots[1].in_flight = ALWAYS - 1;
        assert_eq!(on(&slots), Some(1), "a few at once are no load");
        slots[1].in_flight = 30;
        let next = on(&slots);
        assert!(next.is_some_and(|next| next != 1), "it has more than its part");
        assert_eq!(on(&slots), next, "and it is always the same that helps");
        (slots[0].in_flight, slots[2].in_flight) = (30, 30);
        assert_eq!(on(&slots), Some(1), "where all have much it is not too much");
        slots[1].set_capacity(0);
        let wish_of = |chance| pick(&slots, Draw { chance, ..draw() }, wish, BOUND, 100);
        let others: std::collections::BTreeSet<_> = (0..64).map(wish_of).collect();
        assert_eq!(others, [Some(0), Some(2)].into(), "it drains: its sessions spread over the others");
    }

    #[test]
    fn new_sessions_are_spread_evenly() {
        let (slots, mut shares) = (replicas(4), [0; 4]);
        for chance in super::super::tests::chances(4000) {
            shares[pick(&slots, Draw { chance, ..draw() }, Wish::New, BOUND, 100).expect("one of them")] += 1;
        }
        assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_favourite_without_room_is_not_waited_for() {
        let mut slots: Vec<_> = (0..3).map(|name| replica(name, 1, 0)).collect();
        let first = pick(&slots, draw(), key(1), BOUND, 100).expect("a favourite");
        slots[first].in_flight = 1;
        let second = pick(&slots, draw(), key(1), BOUND, 100).expect("another");
        slots[second].suspend(draw().now + Duration::from_secs(1));
        let third = pick(&slots, draw(), key(1), BOUND, 100).expect("the last");
        slots[third].in_flight = 1;
        assert_eq!(pick(&slots, draw(), key(1), BOUND, 100), None);
    }

    #[test]
    fn a_key_sticks_to_its_version_while_one_is_tried() {
        let mut slots = replicas(4);
        (slots[2].trial, slots[3].trial) = (true, true);
        let on_trial = |slots: &[Candidate], number, share| {
            slots[pick(slots, draw(), key(number), BOUND, share).expect("one of them")].trial
        };
        let tried = |share| (0..4000).filter(|number| on_trial(&slots, *number, share)).count();
        assert!((320..480).contains(&tried(10)), "{} of 4000 for 10 %", tried(10));
        assert!(
            (0..4000).all(|n| !on_trial(&slots, n, 10) || on_trial(&slots, n, 50)),
            "no way back as it grows"
        );
        assert!((0..100).any(|n| on_trial(&slots[2..], n, 0)), "there is nobody else");
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_bound(keys in proptest::collection::vec(0_usize..5, 1..300), count in 1_usize..8) {
            let mut slots = replicas(count);
            for (running, number) in keys.into_iter().enumerate() {
                let index = pick(&slots, draw(), key(number), BOUND, 100).expect("all are free");
                slots[index].in_flight += 1;
                let most = (BOUND * (running + 1) as f64 / count as f64).ceil() as u32;
                prop_assert!(slots[index].in_flight <= most.max(ALWAYS));
            }
        }
    }
}
