//! What is done every now and then, and who is looked at because of the time alone.

use std::time::Instant;

use tidegate_config::name::ServiceName;

use super::{Control, TICK, state::State};
use crate::clock;

/// One in so many of the services that sleep is looked at with each tick.
const SLEEPERS_TURN: usize = 10;

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
        let names = if tick { self.concerned_by_tick(now) } else { self.alarms.due(now) };
        self.evaluate_each(names, tick);
    }

    /// All that are awake, who is due, and by turns one in so many of those that sleep: nothing happens there that is not told.
    fn concerned_by_tick(&mut self, now: Instant) -> Vec<ServiceName> {
        self.turn = (self.turn + 1) % SLEEPERS_TURN;
        let (turn, alarms) = (self.turn, &self.alarms);
        let is_concerned = |(at, (name, state)): &(usize, (&ServiceName, &State))| {
            !state.sleeps() || at % SLEEPERS_TURN == turn || alarms.is_due(name, now)
        };
        let concerned = self.states.iter().enumerate().filter(is_concerned);
        concerned.map(|(_, (name, _))| name.clone()).collect()
    }

    fn reap_connections(&self, now: Instant) {
        for state in self.states.values() {
            let idle = state.fleet.settings().upstream.idle_connection;
            for replica in state.members.values().filter_map(|member| member.replica.as_ref()) {
                replica.pool.reap(now, idle);
            }
        }
        self.outside.values().for_each(|outside| outside.reap(now));
    }
}
