//! The run itself: what happens next, and what follows from it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate_autoscaler::{
    Memory, Phase, Snapshot, Step,
    decide::decide,
    plan::plan,
    replica,
    snapshot::{Asked, Demand, Host, HostOrder, HostState, Image, Room},
};
use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{Capabilities, Digest, Revision, Target},
};

use super::{
    Case, Outcome,
    bound::Least,
    outcome::Point,
    replicas::{Numbered, Replicas},
};
use crate::{
    clock,
    control::{BREATH, ROUNDS, TICK},
    fleet::{
        admission::{Entry, Gate, Grants, Rules, SlotKey, TicketId},
        balancer::Report,
    },
    simulate::{chance::Chance, timeline::Timeline},
};

/// Points of a run's course.
const POINTS: u32 = 480;

/// Runs a case to its end.
#[must_use]
pub fn run(case: &Case) -> Outcome {
    let mut run = Run::new(case);
    let mut chance = Chance::new(case.seed);
    let plan = case.plan.with_seed(chance.below(u64::MAX));
    run.go(plan.instants());
    run.finish()
}

/// A run on its way.
struct Run<'c> {
    case: &'c Case,
    origin: Instant,
    end: Instant,
    now: Instant,
    gate: Gate<Numbered, Asks>,
    memory: Memory,
    /// What decisions see; replicas are put in for each look.
    seen: Snapshot,
    replicas: Replicas,
    timeline: Timeline<Event>,
    /// Requests that wait, and until when they may.
    holds: VecDeque<(Instant, TicketId)>,
    looks: Looks,
    service_times: Chance,
    start_times: Chance,
    least: Least,
    want: u32,
    /// When the first replica of all became ready.
    first_ready: Option<Instant>,
    outcome: Outcome,
    point: Point,
    next_point: Instant,
}

/// A request that waits.
#[derive(Debug, Clone, Copy)]
struct Asks {
    arrived: Instant,
    takes: Duration,
    /// Nobody was ready when it came.
    cold: bool,
}

enum Event {
    Ends(SlotKey),
    Ready(ReplicaId),
}

/// When the service is looked at next.
struct Looks {
    /// Whether the law wants to be asked on the tick.
    ticks: bool,
    next_tick: Instant,
    again_at: Option<Instant>,
    /// The bell has been rung.
    rung: bool,
    last: Option<Instant>,
    /// Nothing changes before something happens: ticks may be left out.
    settled: bool,
}

impl Looks {
    fn next(&self, now: Instant) -> Option<Instant> {
        let tick = (self.ticks && !self.settled).then_some(self.next_tick);
        let bell = self.rung.then(|| self.last.map_or(now, |last| now.max(last + BREATH)));
        [tick, self.again_at, bell].into_iter().flatten().min()
    }

    /// Somebody has come: the ticks matter again, from the next one on.
    fn stir(&mut self, now: Instant) {
        if std::mem::take(&mut self.settled) {
            self.skip(now);
        }
    }

    /// Whether the tick is due; the next one is then planned.
    fn tick(&mut self, now: Instant) -> bool {
        let due = self.ticks && now >= self.next_tick;
        self.skip(now);
        due
    }

    fn skip(&mut self, now: Instant) {
        while self.next_tick <= now {
            self.next_tick += TICK;
        }
    }
}

impl<'c> Run<'c> {
    fn new(case: &'c Case) -> Self {
        // Long after its start a gateway has nothing left to take over.
        let started = clock::now();
        let origin = started + Duration::from_secs(100_000);
        let mut chance = Chance::new(case.seed ^ 0x5eed);
        let scaling = &case.service.scaling;
        let slots = scaling.concurrency.map_or(u32::MAX, |limit| limit.get());
        let step = (case.plan.duration() / POINTS).max(Duration::from_secs(1));
        Self {
            case,
            origin,
            end: origin + case.plan.duration(),
            now: origin,
            gate: Gate::new(origin, Rules::of(&case.service), chance.below(u64::MAX)),
            memory: Memory::default(),
            seen: snapshot(case, started, origin),
            replicas: Replicas::default(),
            timeline: Timeline::new(),
            holds: VecDeque::new(),
            looks: Looks {
                ticks: !scaling.acts_on_events(),
                next_tick: origin + TICK,
                again_at: Some(origin),
                rung: false,
                last: None,
                settled: false,
            },
            service_times: Chance::new(chance.below(u64::MAX)),
            start_times: Chance::new(chance.below(u64::MAX)),
            least: Least::new(slots),
            want: 0,
            first_ready: None,
            outcome: Outcome { step, ..Outcome::default() },
            point: Point::default(),
            next_point: origin + step,
        }
    }

    fn go(&mut self, mut arrivals: impl Iterator<Item = Duration>) {
        let mut arrival = arrivals.next();
        loop {
            let comes = arrival.map(|at| self.origin + at);
            let hold = self.holds.front().map(|(until, _)| *until);
            let happens = self.timeline.next_at();
            let look = self.looks.next(self.now);
            let Some(next) = [comes, hold, happens, look].into_iter().flatten().min() else { return };
            if next >= self.end && arrival.is_none() && self.gate.counts() == (0, 0) {
                return;
            }
            self.note_course(next);
            self.now = next;
            if happens == Some(next) {
                self.happens();
            } else if comes == Some(next) {
                if let Some(at) = std::mem::replace(&mut arrival, arrivals.next()) {
                    self.arrives(at);
                }
            } else if hold == Some(next) {
                self.hold_ends();
            } else {
                self.look();
            }
        }
    }

    /// Whoever still waits or runs when the traffic ends is worked off, and costs what it costs.
    fn finish(mut self) -> Outcome {
        self.note_course(self.end);
        self.replicas.remove_all(self.end.max(self.now));
        self.outcome.replica_seconds = self.replicas.seconds;
        self.outcome.idle_seconds = self.replicas.idle_seconds;
        self.outcome.least_seconds = self.least.seconds();
        self.outcome
    }

    fn happens(&mut self) {
        match self.timeline.pop().map(|(_, event)| event) {
            Some(Event::Ends(slot)) => {
                self.replicas.finishes(slot, self.now);
                let left = self.gate.leave(self.now, slot, Report::Unknown);
                self.looks.rung |= left.drained;
                self.serve(left.grants);
            }
            Some(Event::Ready(id)) => {
                if let Some(at) = self.replicas.find(&id) {
                    self.first_ready.get_or_insert(self.now);
                    self.advance(at, replica::Event::Passed);
                    self.looks.rung = true;
                }
            }
            None => {}
        }
    }

    fn arrives(&mut self, at: Duration) {
        let known = usize::try_from(self.outcome.requests).ok().and_then(|nth| *self.case.took.get(nth)?);
        let takes = known.unwrap_or_else(|| self.case.service_time.draw(&mut self.service_times));
        self.looks.stir(self.now);
        self.least.arrives(at, takes);
        self.outcome.requests += 1;
        self.outcome.halves[self.half(self.now)].requests += 1;
        let asks = Asks { arrived: self.now, takes, cold: !self.gate.has_capacity() };
        match self.gate.enter(self.now, None, || asks) {
            Entry::Granted(grant) => self.serve(vec![(asks, grant)]),
            Entry::Queued(ticket) => {
                self.holds.push_back((self.now + self.case.service.scaling.hold, ticket));
                // As the gateway: a law that looks at events is told of each that waits.
                self.looks.rung |= asks.cold || !self.looks.ticks;
            }
            Entry::Full | Entry::Closed | Entry::Broken(_) => self.refuse(self.now),
        }
    }

    /// Which half of the traffic a request belongs to that came then.
    fn half(&self, arrived: Instant) -> usize {
        usize::from(arrived - self.origin >= self.case.plan.duration() / 2)
    }

    fn refuse(&mut self, arrived: Instant) {
        self.outcome.refused += 1;
        self.outcome.late += 1;
        self.outcome.halves[self.half(arrived)].beyond += 1;
        self.point.late += 1;
    }

    fn hold_ends(&mut self) {
        if let Some((until, ticket)) = self.holds.pop_front()
            && self.gate.cancel(self.now, ticket)
        {
            self.refuse(until - self.case.service.scaling.hold);
        }
    }

    fn serve(&mut self, grants: Grants<Numbered, Asks>) {
        for (asks, grant) in grants {
            let wait = self.now.saturating_duration_since(asks.arrived);
            let late = wait > self.case.late_after;
            self.outcome.cold += u64::from(asks.cold);
            let first = self.first_ready.is_some_and(|ready| asks.arrived + self.case.late_after < ready);
            self.outcome.first += u64::from(first);
            let beyond = wait > self.case.service.scaling.work.late_after;
            self.outcome.halves[self.half(asks.arrived)].beyond += u64::from(beyond);
            self.outcome.served(wait, asks.takes, late);
            self.point.late += u32::from(late);
            self.replicas.takes(grant.slot, self.now);
            self.timeline.plan(self.now + asks.takes, Event::Ends(grant.slot));
        }
        if self.gate.counts().0 == 0 {
            self.holds.clear();
        }
    }

    fn look(&mut self) {
        let mut tick = self.looks.tick(self.now);
        self.looks.last = Some(self.now);
        self.looks.rung = false;
        let idle = self
            .gate
            .idle_since()
            .is_some_and(|since| since + self.case.service.scaling.stable_window < self.now);
        let before = idle.then(|| self.memory.clone());
        let mut still = true;
        for _ in 0..ROUNDS {
            let steps = self.think(std::mem::take(&mut tick));
            still &= steps.is_empty();
            let again = steps.iter().any(|step| matches!(step, Step::Drain(_)));
            for step in steps {
                self.apply(step);
            }
            if !again {
                break;
            }
        }
        self.looks.settled = still && before.is_some_and(|before| before == self.memory);
    }

    fn think(&mut self, tick: bool) -> Vec<Step> {
        let sample = self.gate.sample(self.now);
        self.replicas.note_running();
        let seen = &mut self.seen;
        (seen.now, seen.tick) = (self.now, tick);
        seen.wall = self.case.begins + (self.now - self.origin);
        seen.demand[0] = sample.demand;
        std::mem::swap(&mut seen.replicas, &mut self.replicas.seen);
        let (decision, memory) = decide(std::mem::take(&mut self.memory), seen);
        self.memory = memory;
        let steps = plan(&decision, seen).steps;
        std::mem::swap(&mut seen.replicas, &mut self.replicas.seen);
        self.looks.again_at = decision.again_at;
        self.outcome.looks += 1;
        self.outcome.changes += u64::from(decision.want != self.want);
        self.want = decision.want;
        steps
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Start(spec) => {
                let Target::Host(host) = spec.target.clone() else { return };
                let ready = self.now + self.case.start_time.draw(&mut self.start_times);
                self.timeline.plan(ready, Event::Ready(spec.id.clone()));
                self.seen.next_number = self.seen.next_number.max(spec.id.order().1 + 1);
                self.replicas.start(spec, host, self.now);
                self.outcome.starts += 1;
                let there = u32::try_from(self.replicas.seen.len()).unwrap_or(u32::MAX);
                self.outcome.most = self.outcome.most.max(there);
            }
            Step::Drain(id) => {
                if let Some(at) = self.replicas.find(&id) {
                    self.advance(at, replica::Event::Drain);
                    self.outcome.drains += 1;
                }
            }
            Step::Undrain(id) => {
                if let Some(at) = self.replicas.find(&id) {
                    self.advance(at, replica::Event::Undrain);
                }
            }
            Step::Stop { id, .. } | Step::Remove(id) => {
                if let Some(at) = self.replicas.find(&id) {
                    self.outcome.cut += u64::from(self.replicas.running(at));
                    let slot = self.replicas.remove(at, self.now);
                    let grants = self.gate.remove(self.now, slot);
                    self.serve(grants);
                }
            }
            // The image is there, and nothing sleeps: the simulated engine keeps nothing.
            Step::Prepare { .. } | Step::Find { .. } | Step::Thaw(_) | Step::Restart(_) | Step::Freeze(_) => {
            }
        }
    }

    fn advance(&mut self, at: usize, event: replica::Event) {
        let name = Numbered(self.replicas.seen[at].id.order().1);
        let Some((slot, phase)) = self.replicas.advance(at, event, self.now) else { return };
        let limit = self.case.service.scaling.concurrency.map_or(u32::MAX, |limit| limit.get());
        let capacity = if phase == Phase::Ready { limit } else { 0 };
        let grants = self.gate.set_slots(self.now, slot, &name, capacity);
        self.serve(grants);
    }

    fn note_course(&mut self, to: Instant) {
        while self.next_point <= to && self.next_point <= self.end {
            let (waiting, running) = self.gate.counts();
            self.point.ready = self.replicas.count(&Phase::Ready);
            (self.point.waiting, self.point.running) = (waiting, running);
            self.outcome.course.push(std::mem::take(&mut self.point));
            self.next_point += self.outcome.step;
        }
    }
}

/// What a decision sees of a service with an image on a host with room for everything.
fn snapshot(case: &Case, started: Instant, now: Instant) -> Snapshot {
    Snapshot {
        now,
        wall: case.begins,
        tick: false,
        gateway_started: started,
        service: Arc::clone(&case.service),
        learned: None,
        demand: vec![Demand::none(now)],
        replicas: Vec::new(),
        hosts: vec![host()],
        asked: Asked::default(),
        tallies: BTreeMap::new(),
        pinned: None,
        generation: 1,
        next_number: 1,
    }
}

fn host() -> Host {
    let name: HostName = "local".parse().expect("a valid name");
    let image = Image::Present {
        digest: Digest("sha256:0".to_owned()),
        revision: Revision("simulated".to_owned()),
        port: 8080,
    };
    Host {
        name,
        state: HostState::Up,
        order: HostOrder::Open,
        can: Capabilities {
            freeze: false,
            keep_stopped: false,
            exec: false,
            logs: false,
            stats: false,
            places: false,
        },
        labels: BTreeMap::new(),
        capacity: Room::default(),
        reserved: Room::default(),
        image,
        has: BTreeMap::new(),
        full: None,
        said: None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use tidegate_autoscaler::staffing;
    use tidegate_config::{
        model::{Aim, Idle, KeepWarm, Law, ScalingPolicy, Service},
        units::Concurrency,
    };

    use tidegate_loadtest::plan::{Plan, Process, Shape};

    use super::*;
    use crate::simulate::replay::Takes;

    const SECOND: Duration = Duration::from_secs(1);

    /// A service whose replicas take one request at a time.
    fn case(plan: Plan, service: Takes, change: impl FnOnce(&mut ScalingPolicy)) -> Case {
        let mut of = Service::of("a".parse().expect("a valid name"), "a:1");
        (of.scaling.law, of.scaling.concurrency, of.scaling.max) = (Law::Kpa, Concurrency::new(1), 100);
        (of.scaling.hold, of.scaling.drain) = (SECOND * 3600, SECOND * 3600);
        change(&mut of.scaling);
        Case {
            service: Arc::new(of),
            plan,
            begins: Timestamp::UNIX_EPOCH,
            took: Arc::default(),
            service_time: service,
            start_time: Takes::Always(SECOND * 2),
            late_after: Duration::from_millis(500),
            seed: 1,
        }
    }

    /// One request at each of these seconds.
    fn at(seconds: &[u32], length: u32) -> Plan {
        let (mut steps, mut begun) = (Vec::new(), 0);
        for second in seconds {
            steps.extend([(0.0, SECOND * (second - begun)), (1.0, SECOND)]);
            begun = second + 1;
        }
        steps.push((0.0, SECOND * (length - begun)));
        Plan::new(Shape::steps(steps), Process::Uniform, 0).expect("a plan")
    }

    /// One rate after the other, each for ten seconds.
    fn rates(rates: &[f64]) -> Plan {
        let steps = rates.iter().map(|rate| (*rate, SECOND * 10));
        Plan::new(Shape::steps(steps), Process::Scatter, 0).expect("a plan")
    }

    #[test]
    fn one_request_wakes_one_replica_which_goes_when_idle() {
        let outcome = run(&case(at(&[10], 300), Takes::Always(SECOND), |_| ()));
        assert_eq!((outcome.requests, outcome.late, outcome.cold, outcome.starts), (1, 1, 1, 1));
        assert_eq!(outcome.first, 1, "which nobody could have helped");
        // Two seconds to start, one of work, sixty idle.
        assert!((outcome.replica_seconds - 63.0).abs() < 0.1, "{}", outcome.replica_seconds);
        assert!((outcome.idle_seconds - 60.0).abs() < 0.1, "{}", outcome.idle_seconds);
        assert!((outcome.least_seconds - 1.0).abs() < 1e-9);
        assert!(outcome.waits.equivalent(outcome.waits.max(), 2000), "{}", outcome.waits.max());
    }

    #[test]
    fn a_fixed_time_is_kept_to_the_instant_under_every_law() {
        for law in [Law::Kpa, Law::Work, Law::Hpa] {
            let fixed =
                |scaling: &mut ScalingPolicy| (scaling.law, scaling.idle) = (law, Idle::After(SECOND * 10));
            let outcome = run(&case(at(&[10], 300), Takes::Always(Duration::from_millis(1300)), fixed));
            assert!((outcome.replica_seconds - 13.3).abs() < 1e-3, "{law}: {}", outcome.replica_seconds);
        }
    }

    #[test]
    fn what_is_known_of_a_request_is_how_long_it_takes() {
        let took = [Some(SECOND * 7), None].into();
        let case = Case { took, ..case(at(&[1, 20, 40], 60), Takes::Always(SECOND), |_| ()) };
        assert!((run(&case).least_seconds - 9.0).abs() < 1e-9);
    }

    #[test]
    fn what_the_clock_asks_for_is_there_when_the_request_comes() {
        let noon = KeepWarm {
            cron: "0 12 * * *".parse().expect("a cron expression"),
            zone: TimeZone::UTC,
            lasts: SECOND * 300,
            replicas: 2,
        };
        let warm = |scaling: &mut ScalingPolicy| scaling.keep_warm = vec![noon];
        let begins: Timestamp = "2026-03-01T11:50:00Z".parse().expect("a time");
        let case = Case { begins, ..case(at(&[660], 1500), Takes::Always(SECOND), warm) };
        let outcome = run(&case);
        assert_eq!((outcome.late, outcome.cold, outcome.starts), (0, 0, 2));
        // From noon on, until five minutes later and then as long as an idle one is kept.
        assert!((600.0..800.0).contains(&outcome.replica_seconds), "{}", outcome.replica_seconds);
    }

    #[test]
    fn ticks_are_left_out_while_nothing_changes() {
        let patient = |scaling: &mut ScalingPolicy| scaling.idle = Idle::After(SECOND * 600);
        let outcome = run(&case(at(&[10, 400], 2000), Takes::Always(SECOND), patient));
        assert_eq!((outcome.starts, outcome.late), (1, 1));
        assert!(outcome.looks < 300, "most of a thousand ticks are left out: {}", outcome.looks);
        assert!((outcome.replica_seconds - 991.0).abs() < 0.1, "{}", outcome.replica_seconds);
    }

    #[test]
    fn whoever_comes_after_a_long_pause_is_scaled_for() {
        for law in [Law::Kpa, Law::Hpa] {
            let steps = [(1.0, SECOND * 30), (0.0, SECOND * 400), (10.0, SECOND * 600)];
            let plan = Plan::new(Shape::steps(steps), Process::Scatter, 0).expect("a plan");
            let kept = |scaling: &mut ScalingPolicy| (scaling.law, scaling.min) = (law, 1);
            let outcome = run(&case(plan, Takes::Always(Duration::from_millis(300)), kept));
            assert!(outcome.late_share() < 0.1, "{law}: {}", outcome.late_share());
            assert!(outcome.most > 3, "{law}: {}", outcome.most);
        }
    }

    #[test]
    fn who_still_waits_when_the_traffic_ends_is_served_and_paid_for() {
        let alone = |scaling: &mut ScalingPolicy| scaling.max = 1;
        let outcome = run(&case(at(&[1, 2, 3, 4], 10), Takes::Always(SECOND * 30), alone));
        assert_eq!((outcome.waits.len(), outcome.starts), (4, 1));
        // Two seconds to start, and four times thirty of work.
        assert!((outcome.replica_seconds - 122.0).abs() < 0.1, "{}", outcome.replica_seconds);
        assert!((outcome.least_seconds - 120.0).abs() < 1e-9, "{}", outcome.least_seconds);
    }

    #[test]
    fn who_waits_longer_than_the_hold_deadline_is_refused() {
        let hold = |scaling: &mut ScalingPolicy| scaling.hold = SECOND;
        let outcome = run(&case(at(&[10], 60), Takes::Always(SECOND), hold));
        assert_eq!((outcome.refused, outcome.late, outcome.waits.len()), (1, 1, 0));
    }

    #[test]
    fn who_runs_for_longer_than_a_replica_has_to_end_is_cut_off() {
        let cut = |drain| {
            let several = |scaling: &mut ScalingPolicy| {
                (scaling.concurrency, scaling.stable_window) = (Concurrency::new(10), SECOND * 6);
                scaling.drain = drain;
            };
            let times: Vec<_> = (1..120).collect();
            run(&case(at(&times, 240), Takes::Always(SECOND * 60), several)).cut
        };
        assert!(cut(SECOND) > 0);
        assert_eq!(cut(SECOND * 60), 0);
    }

    /// E2: with a fixed number of replicas the simulation is an M/M/c queue, of which Erlang's formula tells the waits.
    #[test]
    fn e2_waits_are_erlangs() {
        // A coefficient of variation of 1; lognormal is not exponential, and the share that waits hardly differs.
        let plan = Plan::new(Shape::constant(4.0, SECOND * 50_000), Process::Poisson, 0).expect("a plan");
        let fixed = |scaling: &mut ScalingPolicy| (scaling.min, scaling.max, scaling.initial) = (6, 6, 6);
        let outcome = run(&case(plan, Takes::with_mean(SECOND, 1.0), fixed));
        let waited = 1.0 - outcome.waits.quantile_below(1);
        let exact = staffing::erlang_c(6, 4.0);
        assert!((waited - exact).abs() < 0.03, "{waited} waited, {exact} by the formula");
    }

    #[test]
    fn a_service_that_slows_down_tenfold_is_kept_up_with() {
        let plan = Plan::new(Shape::constant(5.0, SECOND * 3600), Process::Poisson, 0).expect("a plan");
        let quick = [Some(Duration::from_millis(100)); 5 * 1800];
        let work = |scaling: &mut ScalingPolicy| scaling.law = Law::Work;
        let outcome = run(&Case { took: quick.into(), ..case(plan, Takes::Always(SECOND), work) });
        assert!(outcome.late_share() < 0.01, "{} are late", outcome.late_share());
    }

    /// Late requests of a minute's traffic that begins at once, twenty times over, where nothing is known yet.
    fn late_at_first(law: Law, slots: u32) -> u64 {
        let once = |seed| {
            let plan = Plan::new(Shape::constant(33.0, SECOND * 60), Process::Scatter, seed).expect("a plan");
            let change = |scaling: &mut ScalingPolicy| {
                (scaling.law, scaling.concurrency) = (law, Concurrency::new(slots));
                (scaling.max, scaling.queue) = (1000, 1_000_000);
            };
            let start_time = Takes::with_median(SECOND * 2, 0.5);
            run(&Case { start_time, seed, ..case(plan, Takes::with_mean(SECOND, 1.0), change) }).late
        };
        (0..20).map(once).sum()
    }

    #[test]
    fn of_those_whom_knatives_first_fleet_leaves_late_ours_leaves_a_third() {
        for slots in [1, 10] {
            let [ours, knatives] = [Law::Work, Law::Kpa].map(|law| late_at_first(law, slots));
            assert!(
                20 * ours < 7 * knatives,
                "with {slots} slots {ours} are late, {knatives} under Knative's law"
            );
        }
    }

    /// How many are late once most is learned. What is late before that is not made up for.
    fn in_the_end(outcome: &Outcome) -> f64 {
        outcome.halves[1].share()
    }

    /// Erlang's formula alone leaves one in four late where requests come by fives.
    #[test]
    fn a_goal_is_held_however_requests_come() {
        for process in [Process::Poisson, Process::Burst { size: 5 }, Process::Gamma { cv: 3.0 }] {
            let plan = Plan::new(Shape::constant(2.0, SECOND * 4 * 3600), process, 0).expect("a plan");
            let bound = Duration::from_millis(50);
            let goal = |scaling: &mut ScalingPolicy| {
                scaling.law = Law::Work;
                (scaling.work.aim, scaling.work.late_after) = (Aim::Share(0.05), bound);
            };
            let outcome = run(&Case { late_after: bound, ..case(plan, Takes::Always(bound), goal) });
            assert!(in_the_end(&outcome) <= 0.055, "{process:?}: {}", in_the_end(&outcome));
        }
    }

    /// So many minutes of sixteen at once, with pauses of so many seconds between them; at most such a share may be late.
    fn surges(minutes: usize, pause: u32, share: f64) -> Outcome {
        let surges = [(80.0, SECOND * 60), (0.0, SECOND * pause)].repeat(minutes);
        let plan = Plan::new(Shape::steps(surges), Process::Scatter, 1).expect("a plan");
        let goal = |scaling: &mut ScalingPolicy| {
            (scaling.law, scaling.work.aim) = (Law::Work, Aim::Share(share));
        };
        run(&case(plan, Takes::with_mean(Duration::from_millis(200), 1.0), goal))
    }

    #[test]
    fn a_goal_is_held_where_surges_come_back() {
        let often = surges(60, 240, 0.01);
        assert!(in_the_end(&often) <= 0.011, "{}", in_the_end(&often));
        let always = 16.0 * 5.0 * 3600.0;
        assert!(often.replica_seconds < 0.6 * always, "{}", often.replica_seconds);
    }

    #[test]
    fn where_surges_come_every_hour_their_goal_costs_little_more_than_they_do() {
        let rarely = surges(24, 3540, 0.05);
        assert!(in_the_end(&rarely) <= 0.05, "{}", in_the_end(&rarely));
        let busy = 16.0 * 24.0 * 60.0;
        assert!(rarely.replica_seconds < 3.0 * busy, "{}", rarely.replica_seconds);
    }

    /// Four hundred times these rates for so many milliseconds each; one in twenty requests of 200 ms may wait longer than `bound`.
    fn bursts(rates: &[(f64, u64)], bound: Duration) -> Outcome {
        let rates = rates.iter().map(|(rate, ms)| (*rate, Duration::from_millis(*ms)));
        let shape = Shape::steps(rates.collect::<Vec<_>>().repeat(400));
        let plan = Plan::new(shape, Process::Uniform, 0).expect("a plan");
        let goal = |scaling: &mut ScalingPolicy| {
            scaling.law = Law::Work;
            (scaling.work.aim, scaling.work.late_after) = (Aim::Share(0.05), bound);
        };
        let takes = Takes::with_mean(Duration::from_millis(200), 1.0);
        run(&Case { late_after: bound, ..case(plan, takes, goal) })
    }

    #[test]
    fn a_goal_is_held_where_bursts_begin_in_the_midst_of_a_second() {
        let drifting = bursts(&[(10.0, 1000), (0.0, 298_700)], SECOND);
        assert!(in_the_end(&drifting) <= 0.055, "{}", in_the_end(&drifting));
        // Something comes shortly before, so that none begins with them.
        let led = bursts(&[(1.0, 1000), (0.0, 1500), (10.0, 1000), (0.0, 296_000)], SECOND / 2);
        assert!(in_the_end(&led) <= 0.055, "{}", in_the_end(&led));
        for outcome in [drifting, led] {
            assert!(outcome.replica_seconds < 50_000.0, "{}", outcome.replica_seconds);
        }
    }

    #[test]
    fn a_goal_is_held_where_bursts_keep_a_fleet_just_busy() {
        let outcome = bursts(&[(5.0, 3000), (0.0, 297_000)], SECOND / 2);
        assert!(in_the_end(&outcome) <= 0.055, "{}", in_the_end(&outcome));
        assert!(outcome.replica_seconds < 50_000.0, "{}", outcome.replica_seconds);
    }

    /// What five hours cost of so many requests of so long at the beginning of each minute, on replicas of so many slots that start
    /// within half a minute: replica-seconds, and a minute for who is late.
    fn each_minute(law: Law, at_once: f64, seconds: u32, slots: u32) -> f64 {
        let shape = Shape::steps([(at_once, SECOND), (0.0, SECOND * 59)].repeat(300));
        let plan = Plan::new(shape, Process::Scatter, 0).expect("a plan");
        let change = |scaling: &mut ScalingPolicy| {
            (scaling.law, scaling.concurrency) = (law, Concurrency::new(slots));
        };
        let start_time = Takes::with_median(SECOND * 30, 0.5);
        let outcome =
            run(&Case { start_time, ..case(plan, Takes::with_mean(SECOND * seconds, 1.0), change) });
        outcome.replica_seconds + 60.0 * f64::from(u32::try_from(outcome.late).expect("few"))
    }

    #[test]
    fn jobs_of_each_minute_are_no_surge_that_lasts() {
        for (at_once, seconds, slots) in [(10.0, 20, 20), (20.0, 20, 10)] {
            let [ours, knatives] = [Law::Work, Law::Kpa].map(|law| each_minute(law, at_once, seconds, slots));
            assert!(ours < 1.3 * knatives, "{at_once} at once cost {ours}, {knatives} under Knative's law");
        }
    }

    #[test]
    fn nobody_pays_all_day_for_what_no_replica_brings_about() {
        let goal = |outage: &[(f64, Duration)]| {
            let quiet = [(5.0, SECOND * 3 * 3600), (5.0, SECOND * 4 * 3600)];
            let steps = [&quiet[..1], outage, &quiet[1..]].concat();
            let plan = Plan::new(Shape::steps(steps), Process::Scatter, 1).expect("a plan");
            let goal = |scaling: &mut ScalingPolicy| {
                (scaling.law, scaling.work.aim) = (Law::Work, Aim::Share(0.05));
                (scaling.max, scaling.queue) = (20, 1_000_000);
            };
            run(&case(plan, Takes::with_mean(Duration::from_millis(200), 1.0), goal))
        };
        let (calm, outage) = (goal(&[]), goal(&[(400.0, SECOND * 600)]));
        let work = outage.least_seconds - calm.least_seconds;
        let paid = outage.replica_seconds - calm.replica_seconds;
        assert!(paid < 1.05 * work, "{paid} for {work}");
    }

    #[test]
    fn a_goal_is_held_where_all_replicas_are_needed_for_the_load() {
        let busy = [(16.0, SECOND * 900), (0.0, SECOND * 2700)].repeat(32);
        let plan = Plan::new(Shape::steps(busy), Process::Scatter, 1).expect("a plan");
        let four = |scaling: &mut ScalingPolicy| {
            (scaling.law, scaling.work.aim, scaling.max) = (Law::Work, Aim::Share(0.05), 4);
        };
        let takes = Takes::with_mean(Duration::from_millis(200), 0.1);
        let outcome = run(&Case { start_time: Takes::Always(SECOND * 10), ..case(plan, takes, four) });
        assert!(in_the_end(&outcome) <= 0.055, "{}", in_the_end(&outcome));
    }

    /// Ten at once every 200 s.
    fn clumps(aim: Aim, late_after: Duration) -> Outcome {
        let plan = Plan::new(Shape::constant(0.05, SECOND * 60 * 3600), Process::Burst { size: 10 }, 0);
        let work = |scaling: &mut ScalingPolicy| {
            (scaling.law, scaling.work.aim, scaling.work.late_after) = (Law::Work, aim, late_after);
        };
        let takes = Takes::Always(Duration::from_millis(200));
        run(&Case { late_after, ..case(plan.expect("a plan"), takes, work) })
    }

    #[test]
    fn clumps_with_minutes_between_them_are_met_as_well() {
        let bound = Duration::from_millis(50);
        let goal = clumps(Aim::Share(0.05), bound);
        assert!(in_the_end(&goal) <= 0.055, "{}", in_the_end(&goal));
        let half = Duration::from_millis(500);
        let [minute, hour] = [60, 3600].map(|worth| clumps(Aim::Worth(SECOND * worth), half));
        assert!(minute.late_share() < 0.3, "{}", minute.late_share());
        assert!(hour.late_share() < 0.02, "{}", hour.late_share());
        assert!(hour.late <= minute.late && hour.replica_seconds > minute.replica_seconds);
    }

    #[test]
    fn a_goal_costs_no_more_than_what_it_takes_where_clumps_come() {
        let twenty = |aim| {
            let plan =
                Plan::new(Shape::constant(1.0 / 6.0, SECOND * 48 * 3600), Process::Burst { size: 20 }, 0);
            let work = |scaling: &mut ScalingPolicy| (scaling.law, scaling.work.aim) = (Law::Work, aim);
            run(&case(plan.expect("a plan"), Takes::with_mean(Duration::from_millis(200), 1.0), work))
        };
        let (goal, worth) = (twenty(Aim::Share(0.05)), twenty(Aim::Worth(SECOND * 10)));
        assert!(in_the_end(&goal) <= 0.055, "{}", in_the_end(&goal));
        assert!(worth.late_share() < goal.late_share(), "{}", worth.late_share());
        let (goal, worth) = (goal.replica_seconds, worth.replica_seconds);
        assert!(goal < 1.1 * worth, "{goal}, where {worth} would do");
    }

    #[test]
    fn the_same_case_has_the_same_outcome_under_every_law() {
        for law in [Law::Kpa, Law::Work, Law::Hpa] {
            let plan = || rates(&[0.3, 0.0, 5.0, 0.2, 0.0, 0.0, 0.9, 8.0]);
            let run = || run(&case(plan(), Takes::with_mean(SECOND, 1.0), |scaling| scaling.law = law));
            let (one, other) = (run(), run());
            assert_eq!(one.requests, 144);
            assert_eq!((one.late, one.starts, one.looks), (other.late, other.starts, other.looks), "{law:?}");
            assert!(one.replica_seconds >= one.least_seconds, "{law:?}");
        }
    }
}
