//! Which services are put to sleep because a host is short of memory: those that are the least worth their memory, until the
//! rest fits. Asked by the control loop now and then; [`decide`](crate::decide) then honours `Asked::squeeze`.
//!
//! What a service is worth follows Greedy-Dual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with
//! Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998), as FaasCache (Fuerst and Sharma, ASPLOS 2021) uses it for functions:
//! a clock that shows what was worth the least of all that went, plus calls times the cost of a cold start over memory.
//! Holds: nobody is put to sleep who runs requests, has a minimum, or in vain for somebody who would not fit even then.
//! Absent: what a host really uses; what is counted is what services reserve.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tidegate_config::{
    name::{HostName, ServiceName},
    units::{Bytes, Count},
};

/// Starts are compared in steps of so many seconds.
const BLINK: f64 = 0.5;

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
    /// How often it was called while it was warm: [`Warmth::calls`](crate::Warmth::calls).
    pub calls: u32,
    /// What a cold start takes.
    pub cold_start: Duration,
    /// What its replicas that are neither stopped nor gone reserve, on each host.
    pub holds: BTreeMap<HostName, Bytes>,
    /// It was put to sleep already and what it holds is on its way out.
    pub leaving: bool,
    /// Where a replica of it does not fit for want of memory, and how much is missing there:
    /// [`NoFit::lacks_memory`](crate::placement::NoFit::lacks_memory).
    pub lacks: BTreeMap<HostName, Bytes>,
}

/// What keeping each service warm has turned out to be worth.
#[derive(Debug, Default)]
pub struct Worths {
    /// Grows to the worth of each one that goes, so that what nobody calls any more grows old.
    clock: f64,
    seen: BTreeMap<ServiceName, Seen>,
}

/// A service that has replicas.
#[derive(Debug, Clone, Copy)]
struct Seen {
    idle_since: Option<Instant>,
    /// What the clock showed when it was last in use.
    clock: f64,
    worth: f64,
}

impl Worths {
    /// Who is put to sleep, besides those who are leaving already; who is worth the least first.
    pub fn squeeze(&mut self, hosts: &[BudgetHost], services: &[BudgetService]) -> Vec<ServiceName> {
        self.look(services);
        let mut ranked: Vec<_> = services.iter().filter(|service| service.idle_since.is_some()).collect();
        ranked.sort_by(|a, b| self.worth(a).total_cmp(&self.worth(b)).then(a.idle_since.cmp(&b.idle_since)));
        let mut squeeze = Squeeze { services, ranked, victims: BTreeSet::new() };
        for host in hosts {
            squeeze.keep_budget(host);
        }
        for service in services.iter().filter(|service| !service.lacks.is_empty()) {
            squeeze.make_room(service);
        }
        let Squeeze { ranked, victims, .. } = squeeze;
        let victims: Vec<_> = ranked.into_iter().filter(|service| victims.contains(&service.name)).collect();
        self.clock = victims.iter().map(|victim| self.worth(victim)).fold(self.clock, f64::max);
        victims.into_iter().map(|victim| victim.name.clone()).collect()
    }

    fn look(&mut self, services: &[BudgetService]) {
        let before = std::mem::take(&mut self.seen);
        for service in services {
            let memory: u64 = service.holds.values().map(|held| held.0).sum();
            if memory == 0 {
                continue;
            }
            let unused = before
                .get(&service.name)
                .filter(|before| before.idle_since.is_some() && before.idle_since == service.idle_since);
            let clock = unused.map_or(self.clock, |before| before.clock);
            let uses = 1.0 + f64::from(service.calls);
            let worth = clock + uses * alike(service.cold_start) / Bytes(memory).gib();
            self.seen.insert(service.name.clone(), Seen { idle_since: service.idle_since, clock, worth });
        }
    }

    /// Zero for who holds nothing.
    fn worth(&self, service: &BudgetService) -> f64 {
        self.seen.get(&service.name).map_or(0.0, |seen| seen.worth)
    }
}

struct Squeeze<'a> {
    services: &'a [BudgetService],
    /// Those that are idle, who is worth the least first.
    ranked: Vec<&'a BudgetService>,
    victims: BTreeSet<&'a ServiceName>,
}

impl<'a> Squeeze<'a> {
    /// As many as there are go, until the rest is within the budget.
    fn keep_budget(&mut self, host: &BudgetHost) {
        let Some(budget) = host.budget else { return };
        let held: u64 = self.services.iter().map(|service| holds(service, &host.name)).sum();
        let over = held.saturating_sub(budget.0);
        let (victims, _) = self.enough_for(&host.name, None, over);
        self.victims.extend(victims);
    }

    /// On the first host where that is possible; nobody goes where it is not.
    fn make_room(&mut self, asks: &'a BudgetService) {
        for (host, lack) in &asks.lacks {
            let (victims, enough) = self.enough_for(host, Some(&asks.name), lack.0);
            if enough {
                self.victims.extend(victims);
                return;
            }
        }
    }

    /// Who frees this much together with who leaves anyway, and whether they do.
    fn enough_for(
        &self,
        host: &HostName,
        asks: Option<&ServiceName>,
        needed: u64,
    ) -> (Vec<&'a ServiceName>, bool) {
        let leaves = |s: &BudgetService| s.leaving || self.victims.contains(&s.name);
        let mut freed: u64 = self.services.iter().filter(|s| leaves(s)).map(|s| holds(s, host)).sum();
        let mut victims = Vec::new();
        for service in &self.ranked {
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

/// In seconds; starts that differ by a blink are alike, and the idlest goes first.
fn alike(cold_start: Duration) -> f64 {
    (cold_start.as_secs_f64() / BLINK).ceil().max(1.0) * BLINK
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
            calls: 0,
            cold_start: secs(1),
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
        let found = Worths::default().squeeze(&[host("a", budget), host("b", None)], services);
        let found: Vec<_> = found.iter().map(ServiceName::as_str).collect();
        assert_eq!(found, expected, "budget {budget:?}, {services:?}");
    }

    #[test]
    fn over_budget_of_equals_the_idlest_go_until_the_rest_fits() {
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

    #[test]
    fn who_is_called_often_starts_slowly_or_is_small_stays_longer() {
        let hosts = [BudgetHost { name: host_name("a"), budget: Some(Bytes::mib(150)) }];
        let first = |change: fn(&mut BudgetService)| {
            let mut services =
                [service("x", Some(5), 64), service("y", Some(50), 64), service("z", None, 64)];
            change(&mut services[1]);
            Worths::default().squeeze(&hosts, &services)[0].to_string()
        };
        assert_eq!(first(|_| ()), "y");
        assert_eq!(first(|y| y.calls = 1), "x");
        assert_eq!(first(|y| y.cold_start = secs(2)), "x");
        assert_eq!(first(|y| y.holds = BTreeMap::from([(host_name("a"), Bytes::mib(60))])), "x");
    }

    #[test]
    fn what_nobody_calls_any_more_grows_old() {
        let mut worths = Worths::default();
        let budget = |mib| [BudgetHost { name: host_name("a"), budget: Some(Bytes::mib(mib)) }];
        let mut old = service("old", Some(9), 64);
        old.calls = 3;
        assert_eq!(worths.squeeze(&budget(64), std::slice::from_ref(&old)), []);
        // Each time another one comes and goes in its place, until it has seen enough of them.
        let mut gone = 0;
        loop {
            let new = service(&format!("n{gone}"), Some(1), 64);
            let victim = worths.squeeze(&budget(64), &[old.clone(), new]).remove(0);
            if victim == old.name {
                break;
            }
            gone += 1;
        }
        assert_eq!(gone, 3, "as many as it had been called times");
    }
}
