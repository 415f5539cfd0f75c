//! E7, second part: rare functions that share a host's memory. Who makes room: the idlest, or who is worth the least by
//! Greedy-Dual ([`budget`](tidegate_autoscaler::budget), as the gateway asks it). How much memory each takes and how long its start
//! is, chance decides: 64 to 512 MiB, half a second to eight.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tidegate::simulate::chance::Chance;
use tidegate_autoscaler::budget::{BudgetHost, BudgetService, Worths};
use tidegate_config::{name::ServiceName, units::Bytes};

use super::slices::Slice;

/// Shares of what all functions take together.
const BUDGETS: [u64; 3] = [5, 15, 40];

/// Prints what each way costs.
pub(crate) fn print(rare: &Slice) {
    println!("{:<42} {:>12} {:>12} {:>9}", "E7 memory for a part of them", "cold starts", "cold s", "ratio");
    let calls = calls(rare);
    for percent in BUDGETS {
        let [idlest, greedy] =
            [idlest_first, least_worth_first].map(|who| Host::new(rare, percent).replay(&calls, who));
        let line = |way, got: &Cold| {
            let name = format!("{percent} %, {way} goes first");
            println!(
                "{name:<42} {:>12} {:>12.0} {:>9.3}",
                got.starts,
                got.seconds,
                got.seconds / idlest.seconds
            );
        };
        line("the idlest", &idlest);
        line("the least worth", &greedy);
    }
}

/// When which function is called.
fn calls(rare: &Slice) -> Vec<(Duration, usize)> {
    let of = |(at, (plan, _)): (usize, &(tidegate_loadtest::plan::Plan, Duration))| {
        plan.instants().map(move |instant| (instant, at)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = rare.services.iter().enumerate().flat_map(of).collect();
    all.sort_unstable();
    all
}

/// What cold starts there were.
#[derive(Default)]
struct Cold {
    starts: u32,
    seconds: f64,
}

struct Host {
    begun: Instant,
    host: BudgetHost,
    services: Vec<BudgetService>,
    memory: Vec<Bytes>,
    cold: Vec<Duration>,
    takes: Vec<Duration>,
}

/// Who goes where those that are awake take more than the budget.
type Who = fn(&mut Worths, &BudgetHost, &[BudgetService]) -> Vec<ServiceName>;

fn least_worth_first(worths: &mut Worths, host: &BudgetHost, awake: &[BudgetService]) -> Vec<ServiceName> {
    worths.squeeze(std::slice::from_ref(host), awake)
}

fn idlest_first(_: &mut Worths, host: &BudgetHost, awake: &[BudgetService]) -> Vec<ServiceName> {
    let held = |service: &BudgetService| service.holds[&host.name].0;
    let all: u64 = awake.iter().map(held).sum();
    let mut over = all.saturating_sub(host.budget.map_or(u64::MAX, |budget| budget.0));
    let mut idle: Vec<_> = awake.iter().filter(|service| service.idle_since.is_some()).collect();
    idle.sort_by_key(|service| service.idle_since);
    let goes = |service: &&&BudgetService| {
        let goes = over > 0;
        over = over.saturating_sub(held(service));
        goes
    };
    idle.iter().filter(goes).map(|service| service.name.clone()).collect()
}

impl Host {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant cannot be made otherwise; only differences matter"
    )]
    fn new(rare: &Slice, percent: u64) -> Self {
        let mut chance = Chance::new(7);
        let mut between = |low: f64, high: f64| low * (high / low).powf(chance.unit());
        let drawn = rare.services.iter().map(|_| (between(64.0, 512.0), between(0.5, 8.0)));
        let (memory, cold): (Vec<_>, Vec<_>) =
            drawn.map(|(mib, cold)| (Bytes::mib(mib as u64), Duration::from_secs_f64(cold))).unzip();
        let all: u64 = memory.iter().map(|memory| memory.0).sum();
        let name = "host".parse().expect("a valid name");
        let service = |at| BudgetService {
            name: format!("f{at}").parse().expect("a valid name"),
            min: 0,
            idle_since: None,
            calls: 0,
            cold_start: Duration::ZERO,
            holds: BTreeMap::new(),
            leaving: false,
            lacks: BTreeMap::new(),
        };
        Self {
            begun: Instant::now(),
            host: BudgetHost { name, budget: Some(Bytes(all / 100 * percent)) },
            services: (0..memory.len()).map(service).collect(),
            takes: rare.services.iter().map(|(_, takes)| *takes).collect(),
            memory,
            cold,
        }
    }

    fn replay(mut self, calls: &[(Duration, usize)], who: Who) -> Cold {
        let (mut cold, mut worths) = (Cold::default(), Worths::default());
        for (at, called) in calls {
            let warm = !self.services[*called].holds.is_empty();
            if !warm {
                cold.starts += 1;
                cold.seconds += self.cold[*called].as_secs_f64();
                self.start(*called);
            } else {
                self.services[*called].calls += 1;
            }
            self.services[*called].idle_since = Some(self.begun + *at + self.takes[*called]);
            if !warm {
                self.make_room(self.begun + *at, &mut worths, who);
            }
        }
        cold
    }

    fn start(&mut self, at: usize) {
        let service = &mut self.services[at];
        service.calls = 0;
        service.cold_start = self.cold[at];
        service.holds.insert(self.host.name.clone(), self.memory[at]);
    }

    fn make_room(&mut self, now: Instant, worths: &mut Worths, who: Who) {
        let awake = self.services.iter().filter(|service| !service.holds.is_empty());
        let awake: Vec<_> = awake.map(|service| self.seen(service, now)).collect();
        for victim in who(worths, &self.host, &awake) {
            let victim = self.services.iter_mut().find(|service| service.name == victim);
            victim.expect("one of ours").holds.clear();
        }
    }

    /// As it is just now: who still works has no idleness yet.
    fn seen(&self, service: &BudgetService, now: Instant) -> BudgetService {
        let mut seen = service.clone();
        seen.idle_since = seen.idle_since.filter(|since| *since <= now);
        seen
    }
}
