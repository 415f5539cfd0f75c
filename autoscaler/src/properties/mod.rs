//! What holds for every decision and plan, whatever happened before: a small world of two hosts lives through random
//! events, each followed by decide, plan and the execution of the plan.

mod rules;
mod world;

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use tidegate_config::{
    model::{Idle, Law, Rollout, ScalingPolicy, Sleep, Update},
    units::Percent,
};

use crate::fixture::{load, secs};
use world::{World, happens};

/// Versions, sleep and updates of the service.
#[derive(Debug, Clone)]
struct Habits {
    sleep: Sleep,
    steps: Vec<Percent>,
    update: Update,
}

fn habits() -> impl Strategy<Value = Habits> {
    let age = || prop_oneof![Just(None), (1_u64..100).prop_map(|age| Some(secs(age)))];
    let steps = prop_oneof![Just(vec![100]), Just(vec![10, 50, 100])];
    let update = prop_oneof![3 => Just(Update::Rolling), 1 => Just(Update::Recreate)];
    (age(), age(), steps, update).prop_map(|(frozen, stopped, steps, update)| Habits {
        sleep: Sleep { frozen, stopped },
        steps: steps.into_iter().filter_map(Percent::new).collect(),
        update,
    })
}

/// A law, and how long the last replica is kept under it.
fn law() -> impl Strategy<Value = (Law, Idle)> {
    let law = prop_oneof![3 => Just(Law::Work), 2 => Just(Law::Kpa), 1 => Just(Law::Hpa)];
    (law, prop_oneof![Just(Idle::Auto), Just(Idle::After(secs(30))), Just(Idle::Kpa)])
}

fn world(scaling: ScalingPolicy, habits: Habits) -> World {
    let mut world = World::new(scaling);
    let service = Arc::make_mut(&mut world.seen.service);
    (service.sleep, service.update) = (habits.sleep, habits.update);
    service.rollout = Rollout { steps: habits.steps, ..Rollout::default() };
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(
        (min, max, initial) in (0_u32..3, 0_u32..6, 0_u32..4),
        (law, idle) in law(),
        delay in prop_oneof![Just(0_u64), Just(10)],
        habits in habits(),
        events in vec((happens(), any::<bool>()), 1..80),
    ) {
        let (min, scale_down_delay) = (min.min(max), secs(delay));
        let scaling = ScalingPolicy { law, idle, min, max, initial, scale_down_delay, ..ScalingPolicy::default() };
        let mut world = world(scaling, habits);
        for (event, tick) in events {
            world.happen(event);
            let (decision, plan) = world.evaluate(tick);
            rules::hold(&world.seen, &decision, &plan);
            world.execute(plan);
        }
    }

    /// Left alone, with all that is started becoming ready, a service ends at zero or at its minimum, and still; at one where
    /// it has been learned that this is worth it.
    #[test]
    fn calm_comes_back(
        (min, max) in (0_u32..3, 3_u32..6),
        (law, idle) in law(),
        habits in habits(),
        events in vec(happens(), 1..40),
    ) {
        let least = if habits.update == Update::Recreate { min.min(1) } else { min };
        let most = if (law, idle) == (Law::Work, Idle::Auto) { least.max(1) } else { least };
        let mut world = world(ScalingPolicy { law, idle, min, max, ..ScalingPolicy::default() }, habits);
        for event in events {
            world.happen(event);
            let (_, plan) = world.evaluate(true);
            world.execute(plan);
        }
        (world.seen.asked.sleep, world.seen.asked.squeeze) = (None, None);
        load(&mut world.seen, 0, 0);
        world.all_is_well();
        let mut still = 0;
        let mut pass = || {
            world.quiet(2);
            world.calm();
            let (decision, plan) = world.evaluate(true);
            still = if plan.steps.is_empty() { still + 1 } else { 0 };
            world.execute(plan);
            (decision, still)
        };
        (0..300).for_each(|_| drop(pass()));
        // One that is kept for longer may go just then: until nothing happens for two minutes.
        let rest = (0..300).map(|_| pass()).find(|(_, still)| *still >= 60);
        let (decision, _) = rest.expect("it comes to rest");
        prop_assert!((least..=most).contains(&decision.want), "{:?} {:?}", decision, world.seen.replicas);
        let there = world.seen.replicas.len();
        prop_assert_eq!(there, decision.want as usize, "{:?} {:?}", decision, world.seen.replicas);
    }
}
