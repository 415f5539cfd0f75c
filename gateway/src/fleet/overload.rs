//! What a learned limit is worth: the real gate before a replica that slows down the more it runs, under load that it can
//! bear and under more than that. Time passes in steps of two milliseconds; nothing else does.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use tidegate_config::model;

use super::{
    admission::{Entry, Gate, Rules, SlotKey, TicketId},
    balancer::{Answer, Report},
};

/// The replica has so many processors, and a request takes one of them for so long.
const PROCESSORS: f64 = 10.0;
const WORK: f64 = 0.010;

/// Clients give up after so long.
const PATIENCE: f64 = 1.0;

const STEP: f64 = 0.002;

/// What came of a load.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// Requests that came, and those that were answered before their clients gave up.
    came: u32,
    answered: u32,
    /// Those that had to wait for a slot or were refused one.
    held: u32,
}

/// Requests on their way: when they came, and what is left to do of those that run.
struct Request {
    came: f64,
    granted: f64,
    left: f64,
}

/// So many seconds of so many requests per second each; what came of the last ones.
fn live(adaptive: Option<model::Adaptive>, loads: &[(u32, f64)]) -> Seen {
    let start = crate::clock::now();
    let rules = Rules {
        queue: 200,
        late_after: Duration::MAX,
        balance: model::Balance { adaptive, ..model::Balance::default() },
    };
    let mut gate: Gate<&'static str, u32> = Gate::new(start, rules, 1);
    assert!(gate.set_slots(start, SlotKey(1), &"a", u32::MAX).is_empty());
    let (mut running, mut waiting) = (BTreeMap::new(), BTreeMap::<u32, (f64, TicketId)>::new());
    let (mut time, mut next, mut due) = (0.0, 0_u32, 0.0);
    let mut seen = Seen::default();
    for (seconds, rate) in loads {
        seen = Seen::default();
        let end = time + f64::from(*seconds);
        while time < end {
            time += STEP;
            let now = start + Duration::from_secs_f64(time);
            due += rate * STEP;
            while due >= 1.0 {
                due -= 1.0;
                next += 1;
                seen.came += 1;
                match gate.enter(now, None, || next) {
                    Entry::Granted(_) => {
                        running.insert(next, Request { came: time, granted: time, left: WORK });
                    }
                    Entry::Queued(ticket) => {
                        waiting.insert(next, (time, ticket));
                        seen.held += 1;
                    }
                    Entry::Full | Entry::Closed | Entry::Broken(_) => seen.held += 1,
                }
            }
            // Beyond its processors it works at less than its full speed: it switches between requests.
            let many = u32::try_from(running.len()).expect("a few thousand");
            let share = (PROCESSORS / f64::from(many)).min(1.0).powf(1.5);
            running.values_mut().for_each(|request| request.left -= STEP * share);
            let over = |request: &Request| request.left <= 0.0 || time - request.came > PATIENCE;
            let ended: Vec<u32> = running.iter().filter(|(_, r)| over(r)).map(|(id, _)| *id).collect();
            for id in ended {
                let request = running.remove(&id).expect("it runs");
                let done = request.left <= 0.0;
                let after = Some(Duration::from_secs_f64(time - request.granted));
                let report =
                    if done { Report::Answered { after, how: Answer::Good } } else { Report::Unknown };
                seen.answered += u32::from(done && time - request.came <= PATIENCE);
                for (id, _) in gate.leave(now, SlotKey(1), report).grants {
                    let (came, _) = waiting.remove(&id).expect("it waits");
                    running.insert(id, Request { came, granted: time, left: WORK });
                }
            }
            let late: Vec<u32> =
                waiting.iter().filter(|(_, (came, _))| time - came > PATIENCE).map(|(id, _)| *id).collect();
            for id in late {
                let (_, ticket) = waiting.remove(&id).expect("it waits");
                assert!(gate.cancel(now, ticket));
            }
        }
    }
    seen
}

fn adaptive() -> Option<model::Adaptive> {
    let min = NonZeroU32::new(10).expect("at least one");
    Some(model::Adaptive { min, ..model::Adaptive::default() })
}

#[test]
fn a_load_that_it_can_bear_is_not_held_back() {
    // It can do a thousand in a second.
    let seen = live(adaptive(), &[(30, 750.0)]);
    assert_eq!((seen.held, seen.came > 20_000), (0, true), "{seen:?}");
    let steps = live(adaptive(), &[(12, 50.0), (12, 900.0), (12, 250.0), (12, 900.0)]);
    assert_eq!(steps.held, 0, "{steps:?}");
}

#[test]
fn under_more_than_it_can_bear_it_goes_on_answering() {
    let (fair, more) = ((15, 750.0), (20, 1300.0));
    let share = |seen: Seen| f64::from(seen.answered) / (20.0 * PROCESSORS / WORK);
    let with = live(adaptive(), &[fair, more, more]);
    assert!(share(with) > 0.7, "{with:?}: {:.2} of what it can do", share(with));
    let without = live(None, &[fair, (5, more.1), (5, more.1)]);
    assert!(share(without) < 0.1, "{without:?}: {:.2} of what it can do", share(without));
    let after = live(adaptive(), &[fair, more, fair]);
    assert!(f64::from(after.answered) > 0.95 * f64::from(after.came), "it comes back by itself: {after:?}");
}
