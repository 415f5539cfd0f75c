//! Takes replicas out of traffic: what is too much of a wanted version, and what is not wanted any more as the wanted
//! becomes ready. Holds: as many serve as before until others are ready, unless there is no room for both.

use std::cmp::Reverse;

use super::{Draft, Step};
use crate::{
    mix::Role,
    placement::{self, NoFit},
    single,
    snapshot::Replica,
};

impl Draft<'_> {
    /// Takes away what is too much of the wanted versions: first what is not ready yet, unless somebody waits for it.
    pub(super) fn shrink(&mut self) {
        self.shrink_to(Role::Trial, self.decision.wants.trial as usize);
        let keep = self.main_to_keep();
        self.shrink_to(Role::Main, keep);
    }

    /// The good version serves what the one that is being tried does not serve yet.
    fn main_to_keep(&self) -> usize {
        let (wanted, ready) = (self.decision.wants.main as usize, self.fleet.main.ready.len());
        if self.decision.mix.trial.is_none() {
            return wanted;
        }
        if wanted == 0 && self.gives_way() {
            return 0;
        }
        let serves = (self.decision.want as usize).saturating_sub(self.fleet.trial.ready.len());
        let keep = wanted.max(serves);
        if ready > wanted && self.makes_room() { keep.min(ready - 1) } else { keep }
    }

    fn shrink_to(&mut self, role: Role, keep: usize) {
        let waiting = self.seen.queued() > 0;
        let group = self.fleet.group(role);
        let surplus = group.live().saturating_sub(keep);
        let unstarted = if waiting { 0 } else { surplus.min(group.starting.len()) };
        let ready = group.ready.clone();
        let victims: Vec<_> = group.starting.iter().rev().copied().take(unstarted).collect();
        for replica in victims {
            self.stop(replica, false);
        }
        self.drain(ready, keep);
    }

    /// Takes what is not wanted any more out of traffic as what is wanted becomes ready.
    pub(super) fn retire(&mut self) {
        let (want, ready) = (self.decision.want as usize, self.fleet.ready() - self.drained());
        let stale = self.fleet.stale.ready.clone();
        let mut still_needed = want.saturating_sub(ready);
        if self.gives_way() {
            still_needed = 0;
        } else if self.makes_room() {
            still_needed = still_needed.min(stale.len().saturating_sub(1));
        }
        self.drain(stale, still_needed);
        if self.seen.queued() == 0 || want <= ready {
            for replica in self.fleet.stale.starting.clone() {
                self.stop(replica, false);
            }
        }
    }

    /// Old and new do not fit side by side: the old ones make room one by one while another serves.
    fn makes_room(&self) -> bool {
        let serving = self.fleet.ready() + self.fleet.stale.ready.len();
        let leaving = self.fleet.is_draining() || self.drained() > 0;
        self.plan.no_fit.as_ref().is_some_and(NoFit::is_room) && !leaving && serving > 1
    }

    /// How many this plan has taken out of traffic so far.
    fn drained(&self) -> usize {
        self.plan.steps.iter().filter(|step| matches!(step, Step::Drain(_))).count()
    }

    /// Old and new must not be there at once: the old one goes first, if the new one can follow.
    fn gives_way(&self) -> bool {
        let follows = || {
            let versions = self.decision.mix.started(self.decision.wants);
            versions.iter().any(|version| {
                let found = placement::place(self.seen, *version, &[], &self.seen.hosts);
                found.err().is_none_or(|no_fit| no_fit.is_room())
            })
        };
        single::is_single(self.seen) && self.decision.want > 0 && !self.is_served() && follows()
    }

    /// Whether one that is wanted is there already.
    fn is_served(&self) -> bool {
        let main = if self.decision.wants.main > 0 { self.fleet.main.live() } else { 0 };
        main + self.fleet.trial.live() > 0
    }

    /// Leaves so many: goes first who has the least to do, of those who came (or came back) last, of those the youngest;
    /// the oldest are kept busy.
    fn drain(&mut self, mut from: Vec<&Replica>, keep: usize) {
        let number = from.len().saturating_sub(keep);
        from.sort_by_key(|r| (r.in_flight, Reverse(r.since), Reverse(r.id.order())));
        self.plan.steps.extend(from.iter().take(number).map(|r| Step::Drain(r.id.clone())));
    }
}
