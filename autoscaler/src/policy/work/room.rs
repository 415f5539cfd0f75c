//! How many replicas a load is worth: for what is to be expected, and for those who wait already. Asked by the law
//! [`work`](super).

use tidegate_config::units::Count;

use super::{learn::Learned, outlook::Outlook, slots};
use crate::{
    policy::{Question, kpa},
    replica::Phase,
    snapshot::Snapshot,
    staffing::Load,
};

/// Replicas for those who wait are reckoned to be held for so many seconds after their start, as it comes out cheapest for 49 kinds of
/// traffic at four prices each.
pub(super) const CLEARED: f64 = 5.0;

/// Formulas are asked for so much of what a goal allows: what is missed is not made up for.
const OF_GOAL: f64 = 0.5;

/// Replicas for what is to be expected; `worth`: seconds of a replica for each late request less.
pub(super) fn for_load(question: &Question<'_>, outlook: &Outlook, worth: f64) -> Count {
    let slots = slots(question);
    let mean = outlook.mean();
    if !question.settings.work.parts.staffing {
        return kpa::count((mean / kpa::target(question.settings, question.learned)).ceil());
    }
    if mean <= 0.0 {
        return 0;
    }
    let from = [full(&outlook.usual, slots), full(&outlook.surge, slots)];
    cheapest(from, |replicas| cost(question, outlook, worth, replicas))
}

/// Requests per second that the last replica spares being late of those that formulas ask for where a share of `goal` may be.
pub(super) fn spared(question: &Question<'_>, outlook: &Outlook, goal: f64) -> f64 {
    let (slots, late) = (slots(question), |replicas| late(question, outlook, replicas));
    let [usual, surge] = [&outlook.usual, &outlook.surge].map(|load| full(load, slots));
    let most = usual.max(surge).saturating_mul(4).saturating_add(100);
    let allowed = OF_GOAL * goal * outlook.rate();
    let needed = (usual.min(surge)..most).find(|replicas| late(*replicas) <= allowed).unwrap_or(most);
    needed.checked_sub(1).map_or(0.0, |fewer| (late(fewer) - late(needed)).max(0.0))
}

/// Replicas that a load keeps busy.
fn full(load: &Load, slots: f64) -> Count {
    kpa::count((load.mean / slots).floor())
}

/// What so many replicas cost per second, and those who are late with them. Fewer than the load keeps busy cost no less: what they
/// leave has to be done later.
pub(super) fn cost(question: &Question<'_>, outlook: &Outlook, worth: f64, replicas: Count) -> f64 {
    let slots = slots(question);
    let paid = outlook.mean_of(|load| f64::from(replicas).max(load.mean / slots));
    paid + worth * late(question, outlook, replicas)
}

/// Requests that are late per second with so many replicas.
fn late(question: &Question<'_>, outlook: &Outlook, replicas: Count) -> f64 {
    let slots = f64::from(replicas) * slots(question);
    outlook.late(slots, question.settings.work.late_after.as_secs_f64())
}

/// Replicas for those who wait: none where what is there or on its way is through with them by the time that a new one would
/// be ready, and never more than those who wait; in a wake, which may begin more than a crowd, those count as well who are to be
/// expected until these replicas go again, as far as there should be [room](Learned::more) for them. They are worked off within a
/// start, or sooner: who comes meanwhile is late as well, and as many replicas are worth it as cost no more than they spare of that.
/// `worth`: seconds of a replica for each.
pub(super) fn for_backlog(
    question: &Question<'_>,
    learned: &Learned,
    outlook: &Outlook,
    worth: f64,
) -> Count {
    let (seen, work) = (question.seen, &question.settings.work);
    let (queued, slots) = (f64::from(seen.queued()), slots(question));
    if queued == 0.0 {
        return 0;
    }
    if !work.parts.backlog {
        return kpa::count(((f64::from(seen.in_flight()) + queued) / slots).ceil());
    }
    let start = learned.mean_start();
    let more: f64 = learned.remaining(seen).map(|remaining| slots * (start - remaining).max(0.0)).sum();
    let backlog = Backlog {
        waiting: queued * outlook.service(),
        ready: slots * f64::from(count(seen, |phase| *phase == Phase::Ready)),
        live: slots * f64::from(live(seen)),
        more,
        start,
        service: outlook.service(),
        late_after: work.late_after.as_secs_f64(),
    };
    let left = outlook.mean_of(|load| backlog.left(load.rate));
    if left <= 0.0 {
        return 0;
    }
    let rate = outlook.rate();
    let least = rate * outlook.service() + left / backlog.late_after.max(start);
    let most = backlog.ready + queued + learned.more(seen, slots).min(rate * (start + CLEARED));
    kpa::count((least.max(backlog.cheapest(outlook, worth, slots)).min(most) / slots).ceil()).max(1)
}

/// Those who wait, and what there is for them. All but times are slots, or seconds of them.
#[derive(Debug, Clone, Copy)]
struct Backlog {
    waiting: f64,
    ready: f64,
    live: f64,
    /// What those that start will have done when one more would be ready.
    more: f64,
    start: f64,
    service: f64,
    late_after: f64,
}

impl Backlog {
    /// Work that waits when one more would be ready.
    fn left(&self, rate: f64) -> f64 {
        (self.waiting + (rate * self.service - self.ready) * self.start - self.more).max(0.0)
    }

    /// Slots at which they and who is late for want of more cost the least.
    fn cheapest(&self, outlook: &Outlook, worth: f64, slots: f64) -> f64 {
        let price = (self.start + CLEARED) / slots;
        let cost =
            |at: f64| (at - self.live) * price + worth * outlook.mean_of(|load| self.late(load.rate, at));
        let best = |(likely, load): (f64, Load)| {
            let left = self.left(load.rate);
            let steady = load.rate * self.service;
            [steady + (worth * likely * load.rate * left / price).sqrt(), left / self.late_after.max(1e-3)]
        };
        let futures = [(outlook.likely, outlook.surge), (1.0 - outlook.likely, outlook.usual)];
        let candidates = futures.into_iter().flat_map(best).filter(|at| *at > self.live);
        candidates.chain([self.live]).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(self.live)
    }

    /// Requests that are late with so many slots, from when one more would be ready until the next decision has had time to tell.
    fn late(&self, rate: f64, slots: f64) -> f64 {
        // Who waits for less than that is not late, if a start is over by then.
        let left = (self.left(rate) - (self.late_after - self.start).max(0.0) * slots).max(0.0);
        let room = slots - rate * self.service;
        rate * if left <= 0.0 {
            0.0
        } else if room > 0.0 {
            (left / room).min(self.start)
        } else {
            self.start
        }
    }
}

/// The number of replicas at which they and the late requests together cost the least; `cost`: of so many, per second. It falls
/// behind each of the numbers that loads keep busy, and then rises again.
fn cheapest(from: [Count; 2], cost: impl Fn(Count) -> f64) -> Count {
    let mut best = (0, cost(0));
    for begin in from {
        let (mut last, mut rises) = (f64::INFINITY, 0);
        for replicas in begin.. {
            let cost = cost(replicas);
            if cost < best.1 {
                best = (replicas, cost);
            }
            rises = if cost > last { rises + 1 } else { 0 };
            last = cost;
            // Each one costs 1 for certain: beyond all that could be saved there is nothing to look for.
            if f64::from(replicas) > best.1 || cost - f64::from(replicas) < 1.0 || rises > 2 {
                break;
            }
        }
    }
    best.0
}

/// Replicas for what runs just now: less would cut off whoever takes longer than `drain`.
pub(super) fn busy(question: &Question<'_>) -> Count {
    let ready = question.seen.replicas.iter().filter(|replica| replica.phase == Phase::Ready);
    let running: u32 = ready.map(|replica| replica.in_flight).sum();
    kpa::count((f64::from(running) / slots(question)).ceil())
}

/// Replicas that are ready or on their way.
pub(super) fn live(seen: &Snapshot) -> Count {
    count(seen, Phase::is_live)
}

fn count(seen: &Snapshot, is: impl Fn(&Phase) -> bool) -> Count {
    let count = seen.replicas.iter().filter(|replica| is(&replica.phase)).count();
    Count::try_from(count).unwrap_or(Count::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Independent requests of a second each.
    fn load(mean: f64) -> Load {
        Load { mean, peakedness: 1.0, rate: mean, service: 1.0 }
    }

    #[test]
    fn more_is_bought_as_long_as_it_saves_more_than_it_costs() {
        let buys = |mean: f64, worth: f64| {
            let load = load(mean);
            let cost = |n: Count| f64::from(n) + mean * worth * load.late(f64::from(n), 0.5);
            cheapest([kpa::count(mean.floor()); 2], cost)
        };
        assert_eq!(buys(0.01, 10.0), 0, "a tenth of a second is saved per second");
        assert_eq!(buys(0.01, 1000.0), 1);
        assert!(buys(10.0, 10.0) < buys(10.0, 100.0));
        assert!(buys(10.0, 100.0) < buys(10.0, 1000.0));
        // The square-root law: room grows more slowly than the load.
        let room = |mean: f64| f64::from(buys(mean, 100.0)) / mean;
        assert!(room(5.0) > room(50.0) && room(50.0) > room(200.0));
        for mean in [5.0, 50.0, 200.0] {
            let (n, late) = (buys(mean, 60.0), |n: Count| load(mean).late(f64::from(n), 0.5));
            let cost = |n: Count| f64::from(n) + mean * 60.0 * late(n);
            assert!((1..2 * n).all(|other| cost(n) <= cost(other) + 1e-9), "{n} for {mean}");
        }
    }
}
