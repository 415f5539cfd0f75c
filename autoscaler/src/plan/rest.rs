//! What becomes of replicas that are not needed: drained ones are frozen, stopped or removed, and sleeping ones move on as
//! they age. Holds: only replicas of versions that are wanted sleep, never more than the service's maximum.

use tidegate_config::spec::Capabilities;

use super::{Draft, Step, fleet::Group};
use crate::{mix::Role, reason::Reason, replica::Phase, snapshot::Replica};

/// Where a replica goes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    Frozen,
    Stopped,
    Removed,
}

impl<'a> Draft<'a> {
    /// Sends drained replicas to rest and moves sleeping ones on.
    pub(super) fn settle_down(&mut self) {
        let asleep = self.move_on();
        self.lay_down(asleep);
    }

    /// Drained ones; `asleep`: how many sleep already.
    fn lay_down(&mut self, mut asleep: usize) {
        let now = self.seen.now;
        let late = |r: &Replica| r.since + self.seen.service.scaling.drain <= now;
        let groups = self.fleet.groups();
        let drained: Vec<_> = groups
            .iter()
            .flat_map(|(role, group)| group.draining.iter().map(|r| (*role, *r)))
            .filter(|(_, r)| !self.taken.contains(&r.id) && (r.in_flight == 0 || late(r)))
            .collect();
        for (role, replica) in drained {
            let room = asleep < self.seen.service.scaling.max as usize;
            let tier = if room { self.tier(role, replica) } else { Tier::Removed };
            asleep += usize::from(tier != Tier::Removed);
            match tier {
                Tier::Frozen if !self.is_up(replica) => {}
                Tier::Frozen => self.plan.steps.push(Step::Freeze(replica.id.clone())),
                Tier::Stopped => self.stop(replica, true),
                Tier::Removed => self.stop(replica, false),
            }
        }
    }

    /// Sleeping ones that have slept for long enough, or may not sleep like this any more; how many sleep on.
    fn move_on(&mut self) -> usize {
        let (sleep, now) = (self.seen.service.sleep, self.seen.now);
        let max = self.seen.service.scaling.max as usize;
        let mut asleep = self.fleet.groups().iter().map(|(_, group)| group.freezing.len()).sum();
        for (role, replica) in self.sleepers() {
            let frozen = replica.phase == Phase::Frozen;
            let age = if frozen { sleep.frozen } else { sleep.stopped };
            let over = age.is_none_or(|age| replica.since + age <= now) || (frozen && self.is_squeezed());
            let may_sleep = role != Role::Stale && asleep < max;
            let stops = frozen && self.can_stop(replica);
            let goes = !may_sleep || (over && !stops);
            // Where the engine does not answer it sleeps on, and keeps its place.
            asleep += usize::from(!goes || !self.is_up(replica));
            if goes {
                self.stop(replica, false);
            } else if over {
                self.stop(replica, true);
            }
        }
        asleep
    }

    /// Sleeping replicas that are not woken now, those that wake quickest first.
    fn sleepers(&self) -> Vec<(Role, &'a Replica)> {
        let groups = self.fleet.groups();
        let of = |(role, group): &(Role, &Group<'a>), frozen: bool| {
            let list = if frozen { &group.frozen } else { &group.stopped };
            list.iter().map(|r| (*role, *r)).collect::<Vec<_>>()
        };
        let all = [true, false].into_iter().flat_map(|frozen| groups.iter().flat_map(move |g| of(g, frozen)));
        all.filter(|(_, r)| !self.taken.contains(&r.id)).collect()
    }

    /// Where a drained replica goes.
    fn tier(&self, role: Role, replica: &Replica) -> Tier {
        let gives_way = role == Role::Main && self.decision.wants.main == 0 && self.decision.want > 0;
        if role == Role::Stale || gives_way {
            return Tier::Removed;
        }
        let freezes = self.seen.service.sleep.frozen.is_some() && self.can(replica, |can| can.freeze);
        match () {
            () if freezes && replica.in_flight == 0 && !self.is_squeezed() => Tier::Frozen,
            () if self.can_stop(replica) => Tier::Stopped,
            () => Tier::Removed,
        }
    }

    fn can_stop(&self, replica: &Replica) -> bool {
        self.seen.service.sleep.stopped.is_some() && self.can(replica, |can| can.keep_stopped)
    }

    fn can(&self, replica: &Replica, what: fn(&Capabilities) -> bool) -> bool {
        self.seen.hosts.iter().any(|host| host.name == replica.host && what(&host.can))
    }

    /// Whether the service's memory is what its sleep is for.
    fn is_squeezed(&self) -> bool {
        self.decision.reason == Reason::Squeezed
    }
}
