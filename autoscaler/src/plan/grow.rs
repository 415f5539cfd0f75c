//! Brings replicas of one version: back from draining, out of their sleep, or new; whatever is quickest first.
//! Holds: of a service that may have one replica only, nothing starts before the other one is gone.

use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{Reserve, StartSpec, Target, Version},
};

use super::{Draft, FREEZING, Step, THAWING};
use crate::{mix::Role, placement, replica::Phase, single, snapshot::Replica};

impl Draft<'_> {
    pub(super) fn grow(&mut self, role: Role) {
        let mut missing = self.missing(role);
        missing -= self.undrain(role, missing);
        missing -= self.thaw(role, missing);
        if self.is_held_back(role) {
            return;
        }
        missing -= self.restart(role, missing);
        self.start(role, missing);
    }

    /// How many are to be brought. One that is being frozen will be there again soon; one whose thaw takes long may never
    /// be, so another one comes besides if the maximum permits.
    fn missing(&self, role: Role) -> usize {
        let (group, now) = (self.fleet.group(role), self.seen.now);
        let soon = group.freezing.iter().filter(|r| r.since + FREEZING > now && self.is_up(r)).count();
        let late = group.thawing.iter().filter(|r| r.since + THAWING <= now).count();
        let wants = self.decision.wants;
        let most = self.fleet.live().max((wants.main + wants.trial) as usize);
        let spare = (self.seen.service.scaling.max as usize).saturating_sub(most);
        let besides = if self.seen.queued() > 0 { spare.min(late) } else { 0 };
        let coming = group.live() - besides + soon;
        (self.decision.wants.of(role) as usize).saturating_sub(coming)
    }

    fn is_held_back(&self, role: Role) -> bool {
        let after = match role {
            Role::Main => self.decision.start_after,
            Role::Trial => self.decision.trial_after,
            Role::Stale => return true,
        };
        self.decision.refuse.is_some() || after.is_some_and(|at| at > self.seen.now)
    }

    /// Whether another replica has to be gone first.
    fn is_blocked(&self, except: Option<&Replica>) -> bool {
        let started = self.own.len() > self.seen.replicas.len();
        let busy = || started || !self.taken.is_empty() || single::in_the_way(self.seen, except).is_some();
        single::is_single(self.seen) && busy()
    }

    fn undrain(&mut self, role: Role, missing: usize) -> usize {
        let returned: Vec<_> = self.fleet.group(role).draining.iter().copied().take(missing).collect();
        for replica in &returned {
            self.taken.insert(&replica.id);
            self.plan.steps.push(Step::Undrain(replica.id.clone()));
        }
        returned.len()
    }

    fn thaw(&mut self, role: Role, missing: usize) -> usize {
        let able = |r: &&Replica| self.is_up(r) && !self.is_blocked(Some(r));
        let frozen = self.fleet.group(role).frozen.iter().copied();
        let woken: Vec<_> = frozen.filter(able).take(missing).collect();
        for replica in &woken {
            self.taken.insert(&replica.id);
            self.plan.steps.push(Step::Thaw(replica.id.clone()));
        }
        woken.len()
    }

    fn restart(&mut self, role: Role, missing: usize) -> usize {
        let mut restarted = 0;
        for replica in self.fleet.group(role).stopped.clone() {
            if restarted == missing {
                break;
            }
            let reserve = self.seen.service.launch.resources.reserve;
            let host = self.hosts.iter().find(|host| host.name == replica.host);
            if self.is_blocked(Some(replica))
                || !host.is_some_and(|host| placement::takes_back(host, reserve))
            {
                continue;
            }
            self.reserve(&replica.host, reserve);
            self.taken.insert(&replica.id);
            self.plan.steps.push(Step::Restart(replica.id.clone()));
            restarted += 1;
        }
        restarted
    }

    fn start(&mut self, role: Role, missing: usize) {
        let mix = &self.decision.mix;
        let version = if role == Role::Trial {
            mix.trial.as_ref().map(|(version, _)| version)
        } else {
            mix.main.as_ref()
        };
        for _ in 0..missing {
            if self.is_blocked(None) {
                return;
            }
            match (placement::place(self.seen, version, &self.own, &self.hosts), version) {
                (Ok(host), Some(version)) => self.start_one(version, host),
                (Err(no_fit), _) => {
                    self.plan.no_fit = Some(no_fit);
                    return;
                }
                (Ok(_), None) => return,
            }
        }
    }

    fn start_one(&mut self, version: &Version, host: HostName) {
        let id = ReplicaId::new(self.seen.service.name.clone(), self.seen.generation, self.next_number);
        self.next_number += 1;
        let target = self.target(&host);
        self.own.push(Replica {
            id: id.clone(),
            revision: version.revision.clone(),
            phase: Phase::Starting,
            since: self.seen.now,
            started: self.seen.now,
            host: host.clone(),
            in_flight: 0,
            usage: None,
        });
        self.reserve(&host, version.launch.resources.reserve);
        self.plan.steps.push(Step::Start(StartSpec {
            id,
            revision: version.revision.clone(),
            launch: version.launch.clone(),
            digest: version.digest.clone(),
            port: version.port,
            target,
        }));
    }

    /// A cluster places by itself, within what is left of the constraints.
    fn target(&self, name: &HostName) -> Target {
        match self.hosts.iter().find(|host| host.name == *name && host.can.places) {
            Some(host) => Target::EngineChooses {
                host: name.clone(),
                constraints: placement::left_to_engine(&self.seen.service, host),
            },
            None => Target::Host(name.clone()),
        }
    }

    /// The next start of this plan knows of this one.
    fn reserve(&mut self, name: &HostName, reserve: Reserve) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.name == *name) {
            host.reserved.memory.0 += reserve.memory.0;
            host.reserved.cpu += reserve.cpu;
            host.reserved.replicas += 1;
        }
    }
}
