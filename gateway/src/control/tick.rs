//! What is done every now and then, and who is looked at because of the time alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    time::Instant,
};

use tidegate_config::name::ServiceName;

use super::{Control, TICK, event::Purpose, member::Member, state::State};
use crate::clock;

/// Ticks until every service has had its turn: it is looked at although nothing may have happened, and its image is looked for.
const ROUND: usize = 30;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The last one that had it.
    last: Option<ServiceName>,
    /// What is left of turns that were not whole, in parts of [`ROUND`].
    left: usize,
}

impl Turns {
    /// As many as come next in the order of their names. Whoever comes or goes meanwhile keeps nobody from theirs.
    fn next<T>(&mut self, all: &BTreeMap<ServiceName, T>) -> Vec<ServiceName> {
        let due = self.left + all.len();
        let number = due / ROUND;
        self.left = due % ROUND;
        let after = self.last.as_ref().map_or(Unbounded, Excluded);
        let in_order = all.range((after, Unbounded)).chain(all).take(number);
        let names: Vec<_> = in_order.map(|(name, _)| name.clone()).collect();
        self.last = names.last().cloned().or(self.last.take());
        names
    }
}

impl Control {
    /// When something is to be done although nothing happens.
    pub(super) fn next_wake(&self) -> Instant {
        self.alarms.next().map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// The tick, or a moment that a decision asked for.
    pub(super) fn wake_up(&mut self) {
        let now = clock::now();
        let tick = now >= self.next_tick;
        if tick {
            self.next_tick = now + TICK;
            self.list_stale_engines(now);
            self.give_up_late(now);
            self.squeeze();
            self.reap_connections(now);
            self.keep_learned(now);
            self.measure(now);
        }
        let due = self.alarms.due(now);
        let names = if tick { self.concerned_by_tick(due) } else { due };
        self.evaluate_each(names, tick);
    }

    /// Who is due, whose turn it is, and all that are awake. The many that sleep are not even asked whether they do.
    fn concerned_by_tick(&mut self, due: Vec<ServiceName>) -> Vec<ServiceName> {
        let in_turn = self.turns.next(&self.states);
        for name in &in_turn {
            self.look_again(name, Purpose::Tell);
        }
        let concerned: BTreeSet<_> =
            due.into_iter().chain(in_turn).chain(self.awake.iter().cloned()).collect();
        concerned.into_iter().collect()
    }

    /// The services that have replicas, want some, or are wanted: a few of very many.
    pub(super) fn awake(&self) -> impl Iterator<Item = &State> {
        self.awake.iter().filter_map(|name| self.states.get(name))
    }

    /// The replicas of all services, which are awake as long as they have one.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.awake().flat_map(|state| state.members.values())
    }

    fn reap_connections(&self, now: Instant) {
        for state in self.awake() {
            let idle = state.fleet.settings().upstream.idle_connection;
            for replica in state.members.values().filter_map(|member| member.replica.as_ref()) {
                replica.pool.reap(now, idle);
            }
        }
        self.outside.values().for_each(|outside| outside.reap(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(numbers: impl Iterator<Item = usize>) -> BTreeMap<ServiceName, ()> {
        numbers.map(|number| (format!("s{number}").parse().expect("a valid name"), ())).collect()
    }

    #[test]
    fn each_has_one_turn_in_a_round() {
        for count in [0, 1, 7, ROUND, ROUND * 3, 1000] {
            let (all, mut turns) = (services(0..count), Turns::default());
            for round in 0..3 {
                let each: Vec<_> = (0..ROUND).map(|_| turns.next(&all)).collect();
                assert!(each.iter().all(|names| names.len() <= count.div_ceil(ROUND)), "{count}");
                let mut had = each.concat();
                had.sort();
                assert!(had.iter().eq(all.keys()), "{count}, round {round}");
            }
        }
    }

    #[test]
    fn nobody_is_passed_over_when_others_go() {
        let (all, mut turns) = (services(0..300), Turns::default());
        let first = turns.next(&all);
        let rest: BTreeMap<_, _> = all.into_iter().filter(|(name, ())| !first.contains(name)).collect();
        assert_eq!(turns.next(&rest).first(), rest.keys().next());
    }
}
