//! What holds for every decision and plan, whatever happened before: a small world lives through random events, each
//! followed by decide, plan and the execution of the plan.

use proptest::{collection::vec, prelude::*};
use tidegate_config::{model::ScalingPolicy, name::ReplicaId, units::Count};

use crate::{
    Decision, Memory, Plan, Reason, Step,
    decide::decide,
    fixture::{exited, load, present, replica, secs, snapshot},
    plan::plan,
    replica::{Event, Phase, next},
    snapshot::{Image, Replica, Snapshot},
};

/// Something that happens; indices pick among what there is.
#[derive(Debug, Clone)]
enum Happens {
    Seconds(u64),
    Load(u32, u32),
    Passes(usize),
    Breaks(usize),
    Removed(usize),
    Busy(usize, u32),
    Image(u8),
    HostUp(bool),
    Sleep,
    Wake,
    Restart,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0_u64..90).prop_map(Happens::Seconds),
        4 => (0_u32..4, 0_u32..400).prop_map(|(queued, running)| Happens::Load(queued, running)),
        4 => (0_usize..16).prop_map(Happens::Passes),
        2 => (0_usize..16).prop_map(Happens::Breaks),
        2 => (0_usize..16).prop_map(Happens::Removed),
        2 => (0_usize..16, 0_u32..3).prop_map(|(index, n)| Happens::Busy(index, n)),
        1 => (0_u8..6).prop_map(Happens::Image),
        1 => any::<bool>().prop_map(Happens::HostUp),
        1 => Just(Happens::Sleep),
        1 => Just(Happens::Wake),
        1 => Just(Happens::Restart),
    ]
}

struct World {
    seen: Snapshot,
    memory: Memory,
}

impl World {
    fn new(scaling: ScalingPolicy) -> Self {
        let mut seen = snapshot(scaling);
        seen.gateway_started = seen.now;
        // Two that an earlier gateway left.
        for number in [1, 2] {
            let id = ReplicaId::new(seen.service.name.clone(), 1, number);
            seen.replicas.push(Replica { id, ..replica(number, Phase::Ready, seen.now) });
        }
        Self { seen, memory: Memory::default() }
    }

    fn happen(&mut self, event: Happens) {
        let now = self.seen.now;
        let host = &mut self.seen.hosts[0];
        match event {
            Happens::Seconds(n) => self.seen.now += secs(n),
            Happens::Load(queued, in_flight) => load(&mut self.seen, queued, in_flight),
            Happens::Passes(index) => self.send_nth(index, Event::Passed),
            Happens::Breaks(index) => self.send_nth(index, Event::Broke(exited())),
            Happens::Removed(index) => self.send_nth(index, Event::Removed),
            Happens::Busy(index, n) => {
                if let Some(replica) = self.seen.replicas.get_mut(index) {
                    replica.in_flight = n;
                }
            }
            Happens::Image(0) => host.image = Image::Unknown,
            Happens::Image(1) => {
                host.image = Image::Failed { message: "not found".into(), retry_at: Some(now + secs(5)) };
            }
            Happens::Image(2) => host.image = present("r2"),
            Happens::Image(_) => host.image = present("r1"),
            Happens::HostUp(up) => host.up = up,
            Happens::Sleep => self.seen.asked.sleep = Some(now),
            Happens::Wake => self.seen.asked.wake = Some(now),
            Happens::Restart => self.seen.asked.restart = Some(now),
        }
    }

    fn send_nth(&mut self, index: usize, event: Event) {
        let now = self.seen.now;
        if let Some(replica) = self.seen.replicas.get_mut(index)
            && let Some(phase) = next(&replica.phase, event)
        {
            (replica.phase, replica.since) = (phase, now);
        }
        self.seen.replicas.retain(|r| r.phase != Phase::Gone);
    }

    fn send(&mut self, id: &ReplicaId, event: Event) {
        let index = self
            .seen
            .replicas
            .iter()
            .position(|r| r.id == *id)
            .expect("a step names a replica that is there");
        self.send_nth(index, event);
    }

    fn evaluate(&mut self, tick: bool) -> (Decision, Plan) {
        self.seen.tick = tick;
        self.seen.demand[0].samples = vec![f64::from(self.seen.queued() + self.seen.in_flight()); 2];
        let (decision, memory) = decide(self.memory.clone(), &self.seen);
        assert_eq!(
            decide(self.memory.clone(), &self.seen),
            (decision.clone(), memory.clone()),
            "same in, same out"
        );
        self.memory = memory;
        let plan = plan(&decision, &self.seen);
        (decision, plan)
    }

    fn execute(&mut self, plan: Plan) {
        for step in plan.steps {
            match step {
                Step::Prepare { .. } => self.seen.hosts[0].image = Image::Pulling,
                Step::Start(spec) => {
                    let number = spec.id.order().1;
                    let revision = spec.revision;
                    self.seen
                        .replicas
                        .push(Replica { revision, ..replica(number, Phase::Starting, self.seen.now) });
                    self.seen.next_number = number + 1;
                }
                Step::Undrain(id) => self.send(&id, Event::Undrain),
                Step::Drain(id) => self.send(&id, Event::Drain),
                Step::Stop { id, .. } => self.send(&id, Event::Stop),
                Step::Remove(id) => self.send(&id, Event::Removed),
            }
        }
    }
}

/// What must hold for one decision and its plan.
fn hold(seen: &Snapshot, decision: &Decision, plan: &Plan) {
    let ScalingPolicy { min, max, .. } = seen.service.scaling;
    let slept = decision.reason == Reason::AskedSleep;
    assert!(decision.want <= max && (decision.want >= min || slept), "{decision:?} within {min}..={max}");
    assert!(decision.again_at.is_none_or(|at| at > seen.now), "{decision:?} again in the past");
    assert!(Reason::LABELS.contains(&decision.reason.label()));

    let live = |r: &&Replica| r.phase.is_live();
    let current = seen.replicas.iter().filter(live).filter(|r| seen.is_current(r)).count();
    let adds = |step: &&Step| matches!(step, Step::Start(_) | Step::Undrain(_));
    let added = plan.steps.iter().filter(adds).count();
    assert!(
        added == 0 || Count::try_from(current + added).is_ok_and(|n| n <= decision.want.min(max)),
        "{plan:?}"
    );

    let queued = seen.queued() > 0;
    let excused = decision.refuse.is_some() || decision.late.is_some();
    let nobody = seen.replicas.iter().filter(live).count() == 0;
    assert!(!queued || !nobody || added > 0 || excused, "waiters without a start: {decision:?} {plan:?}");
    assert!(!(decision.refuse.is_some() && seen.replicas.iter().any(|r| r.phase == Phase::Ready)));

    let mut named = Vec::new();
    for step in &plan.steps {
        let (id, legal): (_, fn(&Phase) -> bool) = match step {
            Step::Prepare { .. } => continue,
            Step::Start(spec) => {
                assert!(decision.refuse.is_none() && spec.id.order() >= (seen.generation, seen.next_number));
                (&spec.id, |_| false)
            }
            Step::Undrain(id) => (id, |p| *p == Phase::Draining),
            Step::Drain(id) => (id, |p| *p == Phase::Ready),
            Step::Stop { id, .. } => (id, |p| matches!(p, Phase::Starting | Phase::Draining)),
            Step::Remove(id) => (id, |p| matches!(p, Phase::Failed(_))),
        };
        assert!(!named.contains(&id), "{id} twice in {plan:?}");
        named.push(id);
        let replica = seen.replicas.iter().find(|r| r.id == *id);
        assert!(replica.is_none_or(|r| legal(&r.phase)), "{step:?} on {replica:?}");
        let cancels = matches!(step, Step::Stop { .. })
            && replica.is_some_and(|r| r.phase == Phase::Starting && seen.is_current(r));
        assert!(!(cancels && queued), "{step:?} although somebody waits");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(
        (min, max, initial) in (0_u32..3, 0_u32..6, 0_u32..4),
        kpa in any::<bool>(),
        delay in prop_oneof![Just(0_u64), Just(10)],
        events in vec((happens(), any::<bool>()), 1..60),
    ) {
        let mut scaling = ScalingPolicy { min: min.min(max), max, initial, ..ScalingPolicy::default() };
        scaling.scale_down_delay = secs(delay);
        if kpa {
            scaling.idle = tidegate_config::model::Idle::Kpa;
        }
        let mut world = World::new(scaling);
        for (event, tick) in events {
            world.happen(event);
            let (decision, plan) = world.evaluate(tick);
            hold(&world.seen, &decision, &plan);
            world.execute(plan);
        }
    }

    /// Left alone, with all that is started becoming ready, a service ends at zero or at its minimum, and still.
    #[test]
    fn calm_comes_back((min, max) in (0_u32..3, 3_u32..6), events in vec(happens(), 1..40)) {
        let mut world = World::new(ScalingPolicy { min, max, ..ScalingPolicy::default() });
        for event in events {
            world.happen(event);
            let (_, plan) = world.evaluate(true);
            world.execute(plan);
        }
        world.seen.asked.sleep = None;
        load(&mut world.seen, 0, 0);
        world.seen.hosts[0].up = true;
        for _ in 0..200 {
            world.seen.now += secs(2);
            world.seen.hosts[0].image = present("r1");
            for index in 0..world.seen.replicas.len() {
                world.seen.replicas[index].in_flight = 0;
                let event = match world.seen.replicas[index].phase {
                    Phase::Starting => Event::Passed,
                    _ => continue,
                };
                world.send_nth(index, event);
            }
            world.seen.replicas.retain(|r| r.phase != Phase::Stopping);
            let (_, plan) = world.evaluate(true);
            world.execute(plan);
        }
        let (decision, plan) = world.evaluate(true);
        prop_assert_eq!((decision.want, plan.steps.len()), (min, 0), "{:?}", decision);
        prop_assert_eq!(world.seen.replicas.len(), min as usize);
    }
}
