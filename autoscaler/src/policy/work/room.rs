//! How many replicas a load is worth: for what is to be expected, and for those who wait already. Asked by the law
//! [`work`](super).

use std::time::Duration;

use tidegate_config::{model::Aim, units::Count};

use super::{learn::Learned, slots};
use crate::{
    policy::{Question, kpa},
    replica::Phase,
    snapshot::Snapshot,
    staffing::Load,
};

/// Replicas for those who wait are there for so many seconds after their start.
const CLEARED: f64 = 3.0;

/// Replicas for what is to be expected; `aim`: what is aimed at just now.
pub(super) fn for_load(question: &Question<'_>, load: Load, aim: Aim) -> Count {
    let work = &question.settings.work;
    let slots = slots(question);
    if !work.parts.staffing {
        return kpa::count((load.mean / kpa::target(question.settings, question.learned)).ceil());
    }
    if load.mean <= 0.0 {
        return 0;
    }
    let least = kpa::count((load.mean / slots).floor());
    match aim {
        Aim::Share(share) => {
            let most = least.saturating_mul(4).saturating_add(100);
            (least..most).find(|replicas| late(question, load, *replicas) <= share).unwrap_or(most)
        }
        Aim::Worth(worth) => cheapest(least, |replicas| cost(question, load, worth, replicas)),
    }
}

/// What so many replicas cost per second, and those who are late with them.
pub(super) fn cost(question: &Question<'_>, load: Load, worth: Duration, replicas: Count) -> f64 {
    f64::from(replicas) + load.rate * worth.as_secs_f64() * late(question, load, replicas)
}

fn late(question: &Question<'_>, load: Load, replicas: Count) -> f64 {
    load.late(f64::from(replicas) * slots(question), question.settings.work.late_after.as_secs_f64())
}

/// Replicas for those who wait: none where what is there or on its way is through with them by the time that a new one would
/// be ready, and never more than those who wait. They are worked off within a start, or sooner: who comes meanwhile is late as well,
/// and as many replicas are worth it as cost no more than they spare of that.
pub(super) fn for_backlog(question: &Question<'_>, learned: &Learned, load: Load) -> Count {
    let (seen, work) = (question.seen, &question.settings.work);
    let (queued, slots) = (f64::from(seen.queued()), slots(question));
    if queued == 0.0 {
        return 0;
    }
    if !work.parts.backlog {
        return kpa::count(((f64::from(seen.in_flight()) + queued) / slots).ceil());
    }
    let (steady, start) = (load.rate * load.service, learned.mean_start());
    let (ready, live) =
        (slots * count(seen, |phase| *phase == Phase::Ready), slots * count(seen, Phase::is_live));
    let first = if live > ready { remaining(seen, start) } else { start };
    // Seconds of work that wait when more replicas are there, and then what is left of them when a new one would be ready.
    let lasts = learned.goes_on(question.now, first);
    let grows = (steady - ready) * first;
    let waiting = queued * load.service + if grows > 0.0 { grows * lasts } else { grows };
    let left = waiting - (live - steady) * (start - first);
    if left <= 0.0 {
        return 0;
    }
    let worth = match work.aim {
        Aim::Worth(worth) => worth.as_secs_f64() * load.rate * lasts * left * slots / (start + CLEARED),
        Aim::Share(_) => 0.0,
    };
    let room = worth.sqrt().max(left / work.late_after.as_secs_f64().max(start));
    let most = ready + queued;
    kpa::count(((steady + room).min(most) / slots).ceil()).max(1)
}

/// The number of replicas at which they and the late requests together cost the least; `cost`: of so many, per second.
fn cheapest(least: Count, cost: impl Fn(Count) -> f64) -> Count {
    let mut best = (0, cost(0));
    for replicas in least.. {
        let cost = cost(replicas);
        if cost < best.1 {
            best = (replicas, cost);
        }
        // Each one costs 1 for certain: beyond all that could be saved there is nothing to look for.
        if f64::from(replicas) > best.1 || cost - f64::from(replicas) < 1.0 {
            break;
        }
    }
    best.0
}

fn count(seen: &Snapshot, is: impl Fn(&Phase) -> bool) -> f64 {
    let count = seen.replicas.iter().filter(|replica| is(&replica.phase)).count();
    f64::from(Count::try_from(count).unwrap_or(Count::MAX))
}

/// Seconds until the oldest of those that start is ready, as far as one knows.
fn remaining(seen: &Snapshot, start: f64) -> f64 {
    let starting = seen.replicas.iter().filter(|replica| replica.phase == Phase::Starting);
    let oldest = starting.map(|replica| seen.now.saturating_duration_since(replica.started)).max();
    oldest.map_or(0.0, |age| (start - age.as_secs_f64()).max(0.0))
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
            cheapest(kpa::count(mean.floor()), cost)
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
