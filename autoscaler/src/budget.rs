//! Which services are put to sleep because a host is short of memory: the idlest first, until the rest fits.
//! Asked by the control loop now and then; [`decide`](crate::decide) then honours `Asked::squeeze`.
//! Holds: nobody is put to sleep who runs requests, has a minimum, or in vain for somebody who would not fit even then.
//! Absent: what a host really uses; what is counted is what services reserve.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use tidegate_config::{
    name::{HostName, ServiceName},
    units::{Bytes, Count},
};

/// A host, as far as memory goes.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetHost {
    /// Its name.
    pub name: HostName,
    /// What may be reserved there by replicas that are not stopped; `None`: no budget.
    pub budget: Option<Bytes>,
}

/// A service, as far as memory goes.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetService {
    /// Its name.
    pub name: ServiceName,
    /// Replicas that are always there.
    pub min: Count,
    /// Since when it is idle; `None`: it is not.
    pub idle_since: Option<Instant>,
    /// What its replicas that are neither stopped nor gone reserve, on each host.
    pub holds: BTreeMap<HostName, Bytes>,
    /// It was put to sleep already and what it holds is on its way out.
    pub leaving: bool,
    /// Where a replica of it does not fit for want of memory, and how much is missing there:
    /// [`NoFit::lacks_memory`](crate::placement::NoFit::lacks_memory).
    pub lacks: BTreeMap<HostName, Bytes>,
}

/// Who is put to sleep, besides those who are leaving already.
#[must_use]
pub fn squeeze(hosts: &[BudgetHost], services: &[BudgetService]) -> Vec<ServiceName> {
    let mut squeeze = Squeeze { services, victims: BTreeSet::new() };
    for host in hosts {
        squeeze.keep_budget(host);
    }
    for service in services.iter().filter(|service| !service.lacks.is_empty()) {
        squeeze.make_room(service);
    }
    let idlest = by_idleness(services);
    idlest.into_iter().map(|s| &s.name).filter(|name| squeeze.victims.contains(name)).cloned().collect()
}

struct Squeeze<'a> {
    services: &'a [BudgetService],
    victims: BTreeSet<&'a ServiceName>,
}

impl<'a> Squeeze<'a> {
    /// As many as there are go, until the rest is within the budget.
    fn keep_budget(&mut self, host: &BudgetHost) {
        let Some(budget) = host.budget else { return };
        let held: u64 = self.services.iter().map(|service| holds(service, &host.name)).sum();
        let over = held.saturating_sub(budget.0);
        let (victims, _) = self.idlest_for(&host.name, None, over);
        self.victims.extend(victims);
    }

    /// On the first host where that is possible; nobody goes where it is not.
    fn make_room(&mut self, asks: &'a BudgetService) {
        for (host, lack) in &asks.lacks {
            let (victims, enough) = self.idlest_for(host, Some(&asks.name), lack.0);
            if enough {
                self.victims.extend(victims);
                return;
            }
        }
    }

    /// The idlest that free this much together with who leaves anyway, and whether they do.
    fn idlest_for(
        &self,
        host: &HostName,
        asks: Option<&ServiceName>,
        needed: u64,
    ) -> (Vec<&'a ServiceName>, bool) {
        let leaves = |s: &BudgetService| s.leaving || self.victims.contains(&s.name);
        let mut freed: u64 = self.services.iter().filter(|s| leaves(s)).map(|s| holds(s, host)).sum();
        let mut victims = Vec::new();
        for service in by_idleness(self.services) {
            if freed >= needed {
                break;
            }
            let sleeps = service.min == 0 && asks != Some(&service.name) && !leaves(service);
            if sleeps && holds(service, host) > 0 {
                freed += holds(service, host);
                victims.push(&service.name);
            }
        }
        (victims, freed >= needed)
    }
}

/// Idle services, the one that has been idle for longest first.
fn by_idleness(services: &[BudgetService]) -> Vec<&BudgetService> {
    let mut idle: Vec<_> = services.iter().filter(|service| service.idle_since.is_some()).collect();
    idle.sort_by_key(|service| service.idle_since);
    idle
}

fn holds(service: &BudgetService, host: &HostName) -> u64 {
    service.holds.get(host).map_or(0, |bytes| bytes.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{host_name, origin, secs};

    /// Idle for so many seconds (`None`: busy), holding so many MiB on host a.
    fn service(name: &str, idle: Option<u64>, holds: u64) -> BudgetService {
        BudgetService {
            name: name.parse().expect("a valid name"),
            min: 0,
            idle_since: idle.map(|idle| origin_once() - secs(idle)),
            holds: BTreeMap::from([(host_name("a"), Bytes::mib(holds))]),
            leaving: false,
            lacks: BTreeMap::new(),
        }
    }

    /// One moment for all of a test's services.
    fn origin_once() -> Instant {
        static AT: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *AT.get_or_init(origin)
    }

    fn lacks(mut service: BudgetService, host: &str, mib: u64) -> BudgetService {
        service.lacks.insert(host_name(host), Bytes::mib(mib));
        service
    }

    fn check(budget: Option<u64>, services: &[BudgetService], expected: &[&str]) {
        let host =
            |name, budget: Option<u64>| BudgetHost { name: host_name(name), budget: budget.map(Bytes::mib) };
        let found = squeeze(&[host("a", budget), host("b", None)], services);
        let found: Vec<_> = found.iter().map(ServiceName::as_str).collect();
        assert_eq!(found, expected, "budget {budget:?}, {services:?}");
    }

    #[test]
    fn over_budget_the_idlest_go_until_the_rest_fits() {
        let all = || vec![service("x", Some(5), 64), service("y", Some(50), 64), service("z", None, 64)];
        check(None, &all(), &[]);
        check(Some(192), &all(), &[]);
        check(Some(191), &all(), &["y"]);
        check(Some(100), &all(), &["y", "x"]);
        // As far as it goes: who is busy stays, and so does who has a minimum.
        check(Some(1), &all(), &["y", "x"]);
        let mut kept = all();
        kept[1].min = 1;
        check(Some(191), &kept, &["x"]);
        // Who leaves already counts as gone.
        let mut leaving = all();
        leaving[1].leaving = true;
        check(Some(191), &leaving, &[]);
        check(Some(100), &leaving, &["x"]);
        // Nothing there, nothing to free.
        let mut elsewhere = all();
        elsewhere[1].holds = BTreeMap::from([(host_name("b"), Bytes::mib(64))]);
        check(Some(127), &elsewhere, &["x"]);
    }

    #[test]
    fn who_does_not_fit_gets_room_on_one_host_and_not_in_vain() {
        let all = |asks| vec![asks, service("x", Some(5), 64), service("y", Some(50), 64)];
        check(None, &all(lacks(service("z", None, 0), "a", 10)), &["y"]);
        check(None, &all(lacks(service("z", None, 0), "a", 65)), &["y", "x"]);
        check(None, &all(lacks(service("z", None, 0), "a", 129)), &[]);
        // One host is enough.
        check(None, &all(lacks(lacks(service("z", None, 0), "a", 10), "b", 10)), &["y"]);
        // Not on the host that lacks it.
        check(None, &all(lacks(service("z", None, 0), "b", 10)), &[]);
        // Who asks does not make room for itself.
        check(None, &[lacks(service("z", Some(99), 64), "a", 10)], &[]);
        // The budget has made room already.
        check(Some(64), &all(lacks(service("z", None, 0), "a", 10)), &["y"]);
    }
}
