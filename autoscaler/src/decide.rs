//! Decides how many replicas a service should have, and of which versions.
//! Called by the control loop and the simulator; [`plan`](crate::plan) turns the answer into steps. Moves the
//! [`rollout`] on first. Asks the policy on its tick and when requests wait with nothing live, plans on its last answer
//! otherwise, then lets the rules speak in this order, each able to overrule those before it: the last replica, signals,
//! wakes, the clock, adoption, minimum, maximum; an asked sleep (or want of memory) overrules all. Holds: same inputs, same answer.
//! Absent: which replicas, which host, clock, IO.

use std::time::{Duration, Instant};

use tidegate_config::{
    model::{Idle, Law, ScalingPolicy},
    units::Count,
};

use crate::{
    again, by_clock,
    memory::{Memory, Sleep},
    mix::{Mix, Role, Wants},
    policy::{Answer, Policy, Question, grace},
    reason::Reason,
    refuse::{self, Refuse, Verdict},
    replica::Phase,
    rollout::{self, Moved},
    single::is_single,
    snapshot::{Replica, Snapshot},
    window,
};

/// What a service should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Replicas, of all versions that are wanted.
    pub want: Count,
    /// How many of each; together a little more than `want` while a new version is tried.
    pub wants: Wants,
    /// Why.
    pub reason: Reason,
    /// Whether requests that cannot be served now are to be refused, waiting ones included.
    pub refuse: Option<Refuse>,
    /// What a request is told whose hold deadline passes, where there is a better word than that (`pulling`, ...).
    pub late: Option<Refuse>,
    /// No replica of the good version may be started before then: others failed.
    pub start_after: Option<Instant>,
    /// The same for the version that is being tried.
    pub trial_after: Option<Instant>,
    /// Which versions run, and how requests are shared between them.
    pub mix: Mix,
    /// What a rollout is doing, for people.
    pub note: Option<String>,
    /// What the rollout did in this decision: worth a line in the log and the history.
    pub moved: Option<Moved>,
    /// When a new decision is useful although nothing happened.
    pub again_at: Option<Instant>,
}

/// Decides, and hands on what the next decision has to know.
#[must_use]
pub fn decide(mut memory: Memory, seen: &Snapshot) -> (Decision, Memory) {
    let moved = rollout::advance(&mut memory.release, &mut memory.trial, seen);
    let mix = rollout::mix(&memory.release, memory.trial.as_ref(), seen);
    let counts = Counts::of(seen, &mix);
    measure(&mut memory, seen, &counts);
    look_at_failures(&mut memory, seen);
    let (draft, moments) = draft(&mut memory, seen, &counts);
    let fall_back = !is_single(seen) && memory.trial.as_ref().is_some_and(|trial| trial.struggles(seen));
    let wants = mix.wants(draft.want, fall_back);
    let (refuse, late) = match refuse::judge(&memory.backoff, seen, &mix, wants) {
        Verdict::Wait => (None, None),
        Verdict::WaitFor(late) => (None, Some(late)),
        Verdict::Refuse(refuse) => (Some(refuse), None),
    };
    let Draft { want, reason } = draft.explained(refuse.as_ref(), late.as_ref());
    let start_after = memory.backoff.start_after(seen.now);
    let trial_after = memory.trial.as_ref().and_then(|trial| trial.backoff.start_after(seen.now));
    let note = rollout::note(&memory.release, memory.trial.as_ref(), seen);
    let asked_until = asked_wake_left(seen).map(|left| seen.now + left);
    let moments = moments.into_iter().chain([start_after, trial_after, asked_until]);
    let again_at = again::at(moments.flatten(), memory.trial.as_ref(), &mix, seen);
    let decision =
        Decision { want, wants, reason, refuse, late, start_after, trial_after, mix, note, moved, again_at };
    (decision, memory)
}

/// How many, before versions, and when that may change by itself: the last replica's time is over, the law wants to be asked
/// again, the clock asks for more or less.
fn draft(memory: &mut Memory, seen: &Snapshot, counts: &Counts) -> (Draft, [Option<Instant>; 3]) {
    let answer = ask(memory, seen, counts);
    let ask_at = answer.again;
    let mut draft = Draft { want: answer.want, reason: answer.reason };
    let last = last_replica(memory, seen, counts, draft.want);
    let kept_until = draft.apply_last(last);
    draft.apply_signals(memory, seen);
    draft.apply_wakes(memory, seen, counts);
    let clock = by_clock::asks(seen);
    draft.at_least(clock.replicas, Reason::ByClock { replicas: clock.replicas });
    draft.apply_adoption(seen, counts);
    draft.apply_bounds(seen);
    if let Some(reason) = asleep(memory, seen, counts, clock.replicas > 0) {
        draft = Draft { want: 0, reason };
    }
    if draft.want == 0 && seen.queued() == 0 {
        forget(memory, seen, counts);
    }
    (draft, [kept_until, ask_at, clock.again])
}

/// Each version's failures are its own: those of a new one neither close the gate nor hold back the good one.
fn look_at_failures(memory: &mut Memory, seen: &Snapshot) {
    let good = memory.release.good.as_ref().map(|good| &good.revision);
    memory.backoff.look(seen, good);
    if let Some(trial) = &mut memory.trial {
        let revision = trial.revision().clone();
        trial.backoff.look(seen, Some(&revision));
    }
}

/// How many replicas are in which state.
struct Counts {
    ready: Count,
    ready_current: Count,
    live: Count,
    adopted: Count,
    busy: bool,
}

impl Counts {
    fn of(seen: &Snapshot, mix: &Mix) -> Self {
        let count = |test: &dyn Fn(&Replica) -> bool| {
            Count::try_from(seen.replicas.iter().filter(|r| test(r)).count()).unwrap_or(Count::MAX)
        };
        Self {
            ready: count(&|r| r.phase == Phase::Ready),
            ready_current: count(&|r| r.phase == Phase::Ready && mix.role(seen, r) != Role::Stale),
            live: count(&|r| r.phase.is_live()),
            adopted: count(&|r| r.phase.is_live() && adopted(seen, r)),
            busy: seen.in_flight() > 0 || seen.queued() > 0,
        }
    }
}

/// Whether an earlier run of the gateway started this replica.
pub(crate) fn adopted(seen: &Snapshot, replica: &Replica) -> bool {
    replica.id.order().0 < seen.generation || replica.started <= seen.gateway_started
}

/// What is wanted so far, and the last rule that had a say.
struct Draft {
    want: Count,
    reason: Reason,
}

/// What the rule for the last replica says.
enum Last {
    /// It has no say.
    Free,
    /// One has to stay, until then as things are.
    Keep(Reason, Option<Instant>),
    /// None.
    Zero(Reason),
}

impl Draft {
    fn at_least(&mut self, floor: Count, reason: Reason) {
        if self.want < floor {
            *self = Self { want: floor, reason };
        }
    }

    /// The same, where the last replica would be kept as well: of two reasons to stay the one counts that lasts for longer.
    fn at_least_for(&mut self, left: Duration, floor: Count, reason: Reason) {
        if self.want == floor && self.kept_for().is_some_and(|kept| kept < left) {
            self.reason = reason;
        } else {
            self.at_least(floor, reason);
        }
    }

    /// For how long the last replica is kept, where that is the only reason for it.
    fn kept_for(&self) -> Option<Duration> {
        match self.reason {
            Reason::KeptWarm { left, .. } | Reason::Expected { left, .. } => Some(left),
            _ => None,
        }
    }

    fn apply_last(&mut self, last: Last) -> Option<Instant> {
        match last {
            Last::Free => None,
            Last::Keep(reason, until) => {
                self.at_least(1, reason);
                until
            }
            Last::Zero(reason) => {
                *self = Self { want: 0, reason };
                None
            }
        }
    }

    /// Whoever sleeps is not woken by them, and whoever may go is not kept.
    fn apply_signals(&mut self, memory: &mut Memory, seen: &Snapshot) {
        if self.want > 0
            && let Some((needs, reason)) = memory.signals.ask(seen)
        {
            self.at_least(needs, reason);
        }
    }

    /// A wake brings at least the initial replicas, and they stay until all of them have been ready once, or until
    /// nobody has come for a stable window: there may be no room for all of them.
    fn apply_wakes(&mut self, memory: &mut Memory, seen: &Snapshot, counts: &Counts) {
        let scaling = &seen.service.scaling;
        let initial = scaling.initial.max(1);
        let queued = seen.queued();
        let woken = queued > 0 && counts.live == 0;
        let forgotten = seen.idle_since().is_some_and(|since| since + scaling.stable_window <= seen.now);
        let over = counts.ready_current >= initial.min(scaling.max) || self.want == 0 || forgotten;
        memory.waking = woken || (memory.waking && !over);
        if woken {
            // The wake is the news, also where the policy wants as many.
            *self = Self { want: self.want.max(initial), reason: Reason::Wake { queued } };
        } else if memory.waking {
            self.at_least(initial, Reason::Waking { initial });
        }
        if let Some(left) = asked_wake_left(seen) {
            self.at_least(initial, Reason::AskedWake { left });
        }
    }

    /// Where nothing can be started, that is the news.
    fn explained(mut self, refuse: Option<&Refuse>, late: Option<&Refuse>) -> Self {
        if self.want == 0 {
            return self;
        }
        if let Some(Refuse { why, cause, .. }) = refuse {
            self.reason = Reason::Refused { why: *why, cause: cause.clone() };
        } else if let Some(Refuse { why, cause, .. }) = late {
            self.reason = Reason::Waiting { why: *why, cause: cause.clone() };
        }
        self
    }

    /// For one stable window a new gateway knows too little to take anything away.
    fn apply_adoption(&mut self, seen: &Snapshot, counts: &Counts) {
        let until = seen.gateway_started + seen.service.scaling.stable_window;
        let left = until.saturating_duration_since(seen.now);
        if !left.is_zero() {
            self.at_least_for(left, counts.adopted, Reason::Adopted { replicas: counts.adopted, left });
        }
    }

    fn apply_bounds(&mut self, seen: &Snapshot) {
        let ScalingPolicy { min, max, .. } = seen.service.scaling;
        let (min, max) = if is_single(seen) { (min.min(1), max.min(1)) } else { (min, max) };
        let needs = if self.kept_for().is_some() { 0 } else { self.want };
        self.at_least_for(Duration::MAX, min, Reason::HeldAtMin { min, needs });
        if self.want > max {
            *self = Self { want: max, reason: Reason::HeldAtMax { max, needs: self.want } };
        }
    }
}

/// Takes the new samples in. Seconds in which nothing ran and nothing waited are not samples of demand.
fn measure(memory: &mut Memory, seen: &Snapshot, counts: &Counts) {
    let keep = seen.service.scaling.stable_window;
    for sample in window::merge(&seen.demand) {
        if sample == 0.0 && counts.live == 0 && !counts.busy {
            memory.window.pause(keep);
        } else {
            memory.window.record(sample, keep);
        }
    }
    memory.signals.look(seen);
    memory.warmth.look(seen);
}

/// The policy's answer: a new one on its tick, on a wake and at the very first, else the last one.
fn ask(memory: &mut Memory, seen: &Snapshot, counts: &Counts) -> Answer {
    let settings = &seen.service.scaling;
    let woken = seen.queued() > 0 && counts.live == 0;
    let due = seen.tick || woken || settings.law == Law::Work;
    if let Some(answer) = memory.answer.clone().filter(|_| !due) {
        return answer;
    }
    let found = counts.ready.max(counts.adopted);
    if memory.policy.as_ref().is_some_and(|policy| policy.law() != settings.law) {
        memory.leave_law();
    }
    let policy = memory.policy.take().unwrap_or_else(|| {
        let habits = if settings.law == Law::Work { memory.habits.take() } else { None };
        Policy::start(settings.law, seen.now, found, habits)
    });
    let question = Question {
        now: seen.now,
        settings,
        ready: counts.ready,
        learned: seen.learned,
        window: &memory.window,
        seen,
    };
    let (answer, policy) = policy.ask(question);
    memory.policy = Some(policy);
    memory.answer = Some(answer.clone());
    answer
}

/// Whether the last replica goes, stays, or is left to the policy.
fn last_replica(memory: &mut Memory, seen: &Snapshot, counts: &Counts, needs: Count) -> Last {
    let scaling = &seen.service.scaling;
    if scaling.law == Law::Work {
        // It knows when that is.
        return match () {
            () if counts.busy => {
                Last::Keep(Reason::Busy { in_flight: seen.in_flight(), queued: seen.queued() }, None)
            }
            () => Last::Free,
        };
    }
    match scaling.idle {
        _ if counts.live == 0 && seen.queued() == 0 && needs == 0 => Last::Zero(Reason::Asleep),
        Idle::Auto | Idle::After(_) if counts.live == 0 && seen.queued() == 0 => Last::Zero(Reason::Asleep),
        Idle::Auto | Idle::After(_) => match seen.idle_since() {
            None => Last::Keep(Reason::Busy { in_flight: seen.in_flight(), queued: seen.queued() }, None),
            Some(since) => after_idle(seen, since, grace::idle(scaling)),
        },
        Idle::Kpa => {
            let left = memory.last_replica.left(seen.now, needs > 0, scaling.stable_window);
            match () {
                () if needs > 0 => Last::Free,
                () if counts.busy => {
                    Last::Keep(Reason::Busy { in_flight: seen.in_flight(), queued: seen.queued() }, None)
                }
                () if left.is_zero() => Last::Zero(Reason::Idle { idle_for: idle_for(seen) }),
                () => Last::Keep(Reason::Grace { left }, Some(seen.now + left)),
            }
        }
    }
}

/// Our own rule: the last replica goes once nothing ran or waited for `idle`, whatever the averages say.
fn after_idle(seen: &Snapshot, since: Instant, idle: Duration) -> Last {
    let until = since.max(seen.gateway_started) + idle;
    let left = until.saturating_duration_since(seen.now);
    if left.is_zero() {
        Last::Zero(Reason::Idle { idle_for: seen.now.saturating_duration_since(since) })
    } else {
        Last::Keep(Reason::KeptWarm { idle, left }, Some(until))
    }
}

fn idle_for(seen: &Snapshot) -> Duration {
    seen.idle_since().map_or(Duration::ZERO, |since| seen.now.saturating_duration_since(since))
}

/// What is left of an asked wake, which counts as a request that came and went then.
fn asked_wake_left(seen: &Snapshot) -> Option<Duration> {
    let at = seen.asked.wake.filter(|wake| seen.asked.sleep.is_none_or(|sleep| *wake >= sleep))?;
    let left = (at + grace::idle(&seen.service.scaling)).saturating_duration_since(seen.now);
    (!left.is_zero()).then_some(left)
}

/// Whether an asked sleep is on, or one for want of memory; the latest counts. It takes effect once nothing runs or
/// waits; the next request to wait ends it, and so does the clock when it begins to ask for replicas.
fn asleep(memory: &mut Memory, seen: &Snapshot, counts: &Counts, by_clock: bool) -> Option<Reason> {
    let before = std::mem::replace(&mut memory.called, by_clock);
    let called = by_clock && !before;
    let squeezed = seen.asked.squeeze > seen.asked.sleep;
    let asked = seen.asked.sleep.max(seen.asked.squeeze);
    let Some(asked) = asked.filter(|sleep| seen.asked.wake.is_none_or(|wake| *sleep > wake)) else {
        memory.sleep = Sleep::Awake;
        return None;
    };
    memory.sleep = match memory.sleep {
        // The clock ends it as a request does: a sleep that is asked for later holds.
        _ if called => Sleep::Ended(asked),
        Sleep::Ended(of) if of == asked => Sleep::Ended(of),
        Sleep::Asleep(of) if of == asked && seen.queued() > 0 => Sleep::Ended(of),
        Sleep::Asleep(of) if of == asked => Sleep::Asleep(of),
        Sleep::Awake | Sleep::Asleep(_) | Sleep::Ended(_) if counts.busy => Sleep::Awake,
        Sleep::Awake | Sleep::Asleep(_) | Sleep::Ended(_) => Sleep::Asleep(asked),
    };
    let reason = if squeezed { Reason::Squeezed } else { Reason::AskedSleep };
    (memory.sleep == Sleep::Asleep(asked)).then_some(reason)
}

/// At zero by our own rule the past is over: the next wake does not start what an old burst needed.
fn forget(memory: &mut Memory, seen: &Snapshot, counts: &Counts) {
    let scaling = &seen.service.scaling;
    match scaling.idle {
        // What it has learned is not over.
        _ if scaling.law == Law::Work => memory.window.clear(),
        Idle::Auto | Idle::After(_) => {
            memory.window.clear();
            memory.leave_law();
            memory.policy = Some(Policy::start(scaling.law, seen.now, 0, None));
            memory.answer = None;
        }
        Idle::Kpa if counts.live == 0 => memory.last_replica.reset(),
        Idle::Kpa => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::{Timestamp, tz::TimeZone};
    use tidegate_config::model::KeepWarm;

    use super::*;
    use crate::{
        fixture::{self, exited, load, replica, secs, snapshot},
        replica::Cause,
        snapshot::{HostOrder, HostState, Image},
    };

    /// One service over time: the snapshot as it is now, and what the last decision remembered.
    struct Story {
        seen: Snapshot,
        memory: Memory,
    }

    impl Story {
        /// Under Knative's law, which only looks at demand.
        fn new(change: impl FnOnce(&mut ScalingPolicy)) -> Self {
            let mut scaling = ScalingPolicy { law: Law::Kpa, ..ScalingPolicy::default() };
            change(&mut scaling);
            Self { seen: snapshot(scaling), memory: Memory::default() }
        }

        /// Adds replicas 1..=n, started now.
        fn with(mut self, n: u64, phase: &Phase) -> Self {
            let at = self.seen.now;
            self.seen.replicas = (1..=n).map(|number| replica(number, phase.clone(), at)).collect();
            self
        }

        fn after(&mut self, seconds: u64) -> &mut Self {
            self.seen.now += secs(seconds);
            self
        }

        fn load(&mut self, queued: u32, in_flight: u32) -> &mut Self {
            load(&mut self.seen, queued, in_flight);
            self
        }

        fn become_(&mut self, phase: &Phase) -> &mut Self {
            let now = self.seen.now;
            for replica in &mut self.seen.replicas {
                (replica.phase, replica.since) = (phase.clone(), now);
            }
            self
        }

        fn decide(&mut self) -> Decision {
            let (decision, memory) = decide(self.memory.clone(), &self.seen);
            self.memory = memory;
            self.seen.demand[0].samples.clear();
            decision
        }

        /// Decides without a tick.
        fn expect(&mut self, want: Count, why: &str) -> &mut Self {
            let found = self.decide();
            assert_eq!((found.want, found.reason.label()), (want, why), "{}", found.reason);
            self
        }

        /// Lets two seconds of this demand pass, then decides on the tick.
        fn tick(&mut self, demand: f64, want: Count, why: &str) -> &mut Self {
            self.after(2);
            self.seen.demand[0].samples = vec![demand, demand];
            self.seen.tick = true;
            self.expect(want, why);
            self.seen.tick = false;
            self
        }
    }

    #[test]
    fn at_zero_only_requests_min_and_people_start_replicas() {
        Story::new(|_| ()).expect(0, "asleep");
        Story::new(|s| s.min = 2).expect(2, "held_at_min");
        Story::new(|_| ()).load(1, 0).expect(1, "wake");
        Story::new(|s| s.initial = 3).load(7, 0).expect(3, "wake");
        Story::new(|s| (s.initial, s.max) = (3, 2)).load(7, 0).expect(2, "held_at_max");
        Story::new(|s| s.initial = 0).load(1, 0).expect(1, "wake");
        let mut asked = Story::new(|s| s.initial = 2);
        asked.seen.asked.wake = Some(asked.seen.now);
        asked.after(59).expect(2, "asked_wake").after(1).expect(0, "asleep");
    }

    #[test]
    fn a_wake_keeps_its_initial_replicas_until_all_have_been_ready() {
        let mut story = Story::new(|s| s.initial = 3);
        story.load(1, 0).expect(3, "wake");
        let mut story =
            Story { memory: story.memory, ..Story::new(|s| s.initial = 3).with(3, &Phase::Starting) };
        story.load(1, 0).tick(1.0, 3, "waking");
        story.seen.replicas[0].phase = Phase::Ready;
        story.load(0, 1).tick(1.0, 3, "waking");
        // All are: from now on demand decides. Halving three leaves one.
        story.become_(&Phase::Ready).tick(1.0, 1, "demand");
    }

    #[test]
    fn the_last_replica_goes_when_idle_has_passed_whatever_averages_say() {
        let mut story = Story::new(|s| s.idle = Idle::After(secs(10))).with(1, &Phase::Ready);
        story.load(0, 500).tick(500.0, 8, "demand");
        story.load(0, 0);
        // The average is still 500/2, and the surge holds what it reached.
        story.tick(0.0, 8, "surge_held").after(7).expect(8, "surge_held").after(1).expect(0, "idle");
        // Nothing of that is left for the next wake.
        story.seen.replicas.clear();
        story.expect(0, "asleep").load(1, 0).expect(1, "wake");
    }

    #[test]
    fn until_then_it_is_kept_warm() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Ready);
        story.load(0, 1).load(0, 0).expect(1, "kept_warm");
        story.seen.demand[0].idle_since = Some(story.seen.now - secs(18));
        let found = story.decide();
        assert_eq!(found.reason.to_string(), "kept warm until idle 60 s passes (42 s left)");
        assert_eq!(found.again_at, Some(story.seen.now + secs(42)));
        story.after(41).expect(1, "kept_warm").after(1).expect(0, "idle");
    }

    #[test]
    fn a_fixed_time_holds_under_every_law() {
        for law in [Law::Kpa, Law::Work, Law::Hpa] {
            let mut story =
                Story::new(|s| (s.law, s.idle, s.stable_window) = (law, Idle::After(secs(40)), secs(6)))
                    .with(1, &Phase::Ready);
            story.load(0, 1).load(0, 0);
            let found = story.decide();
            let until = story.seen.now + secs(40);
            assert!(found.again_at.is_some_and(|at| at <= until), "{law}: it is looked at again in time");
            story.after(39).expect(1, "kept_warm").after(1).expect(0, "idle");
            // A new gateway counts from its own beginning.
            story.seen.gateway_started = story.seen.now;
            story.memory = Memory::default();
            story.after(39).expect(1, "kept_warm").after(1).expect(0, "idle");
        }
    }

    #[test]
    fn who_tries_another_law_loses_nothing_that_was_learned() {
        let mut story = Story::new(|s| s.law = Law::Work).with(1, &Phase::Ready);
        for _ in 0..5 {
            story.load(0, 1).decide();
            story.load(0, 0).decide();
            story.after(90).decide();
        }
        let learned = story.memory.habits().expect("habits");
        let law = |story: &mut Story, law| {
            Arc::make_mut(&mut story.seen.service).scaling.law = law;
            story.decide();
        };
        law(&mut story, Law::Kpa);
        assert_eq!(story.memory.habits().as_ref(), Some(&learned), "they are kept meanwhile");
        law(&mut story, Law::Hpa);
        law(&mut story, Law::Work);
        assert_eq!(story.memory.habits(), Some(learned));
    }

    #[test]
    fn a_running_request_holds_the_last_replica_for_ever() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Ready);
        story.load(0, 1).expect(1, "busy").after(100_000).expect(1, "busy");
    }

    #[test]
    fn other_events_plan_on_the_last_answer() {
        let mut story = Story::new(|s| s.stable_window = secs(6)).with(2, &Phase::Ready);
        story.load(0, 140).tick(140.0, 2, "demand");
        story.seen.demand[0].samples = vec![700.0];
        story.expect(2, "demand").tick(700.0, 10, "surge");
    }

    #[test]
    fn a_wake_whose_initial_replicas_find_no_room_ends_with_its_visitors() {
        let mut story = Story::new(|s| (s.initial, s.idle) = (3, Idle::Kpa));
        story.load(1, 0).expect(3, "wake");
        story = story.with(2, &Phase::Ready);
        story.load(0, 1).tick(1.0, 3, "waking");
        story.load(0, 0).seen.demand[0].idle_since = Some(story.seen.now);
        story.after(56).tick(0.0, 3, "waking");
        let after_a_window = story.after(2).decide();
        assert_ne!(after_a_window.reason.label(), "waking", "{}", after_a_window.reason);
    }

    #[test]
    fn a_wake_does_not_wait_for_the_tick() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Ready);
        story.load(0, 1).tick(1.0, 1, "demand").become_(&Phase::Failed(exited())).load(300, 0);
        // 349 over 6 s need five at 70.
        story.seen.demand[0].samples = vec![349.0; 6];
        story.expect(5, "wake");
    }

    #[test]
    fn min_and_max_hold_whatever_demand_says() {
        let mut story = Story::new(|s| s.max = 3).with(3, &Phase::Ready);
        story.load(0, 9).tick(700.0, 3, "held_at_max");
        let mut story = Story::new(|s| s.min = 2).with(3, &Phase::Ready);
        story.after(100).expect(2, "held_at_min");
    }

    #[test]
    fn knatives_rule_for_the_last_replica() {
        // Stable window 6 s. Needed at 2 s (7), 4 s (3.5) and 6 s (2.3); 0 from 8 s on, when it has been active for
        // 6 s; then 30 s of grace.
        let mut story = Story::new(|s| {
            (s.idle, s.stable_window) = (Idle::Kpa, secs(6));
            s.concurrency = std::num::NonZeroU32::new(10);
        })
        .with(1, &Phase::Ready);
        story.load(0, 7).tick(7.0, 1, "demand");
        story.load(0, 0).tick(0.0, 1, "demand").tick(0.0, 1, "demand");
        for _ in 0..15 {
            story.tick(0.0, 1, "grace");
        }
        story.tick(0.0, 0, "idle").expect(0, "idle");
        story.seen.replicas.clear();
        story.expect(0, "asleep");
    }

    #[test]
    fn asked_sleep_goes_below_min_until_a_request_waits() {
        let mut story = Story::new(|s| s.min = 1).with(1, &Phase::Ready);
        story.load(0, 1).after(100);
        story.seen.asked.sleep = Some(story.seen.now);
        // What runs is not interrupted.
        story.after(1).expect(1, "busy").load(1, 1).expect(1, "busy");
        story.load(0, 0).expect(0, "asked_sleep");
        story.become_(&Phase::Draining).after(1000).expect(0, "asked_sleep");
        story.seen.replicas.clear();
        story.expect(0, "asked_sleep").load(1, 0).expect(1, "wake");
        // The wake ended the sleep: min holds again.
        story.load(0, 0).after(1000).expect(1, "held_at_min");
        // A later sleep is a new one, and a later wake ends it.
        story.seen.asked.sleep = Some(story.seen.now);
        story.expect(0, "asked_sleep").after(5);
        story.seen.asked.wake = Some(story.seen.now);
        story.expect(1, "asked_wake");
    }

    #[test]
    fn the_clock_keeps_replicas_and_wakes_who_was_asked_to_sleep() {
        let mornings = KeepWarm {
            cron: "0 8 * * *".parse().expect("a cron expression"),
            zone: TimeZone::UTC,
            lasts: secs(3600),
            replicas: 2,
        };
        let mut story = Story::new(|s| s.keep_warm = vec![mornings]);
        let at = |story: &mut Story, hours: i64, minutes: i64| {
            let wall = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(hours * 60 + minutes);
            story.seen.now += secs(wall.duration_since(story.seen.wall).unsigned_abs().as_secs());
            story.seen.wall = wall;
        };
        at(&mut story, 7, 59);
        story.expect(0, "asleep");
        assert_eq!(
            story.decide().again_at,
            Some(story.seen.now + secs(60)),
            "it is looked at when the clock says"
        );
        at(&mut story, 8, 0);
        story.expect(2, "by_clock").load(1, 0).expect(2, "by_clock").load(0, 0);
        // Whoever asks for sleep gets it, and the clock calls again the next day.
        story.seen.asked.sleep = Some(story.seen.now + secs(1));
        at(&mut story, 8, 1);
        story.expect(0, "asked_sleep");
        at(&mut story, 31, 59);
        story.expect(0, "asked_sleep");
        at(&mut story, 32, 0);
        story.expect(2, "by_clock");
        at(&mut story, 33, 0);
        story.expect(0, "asleep");
    }

    #[test]
    fn a_new_gateway_leaves_what_it_found_for_one_stable_window() {
        let mut story = Story::new(|s| s.idle = Idle::After(secs(10))).with(3, &Phase::Ready);
        story.seen.gateway_started = story.seen.now;
        story.expect(3, "surge_held").after(30).expect(3, "adopted").after(29).expect(3, "adopted");
        story.after(1).expect(0, "idle");
        // Somebody who asks for sleep gets it.
        let mut story = Story::new(|_| ()).with(3, &Phase::Ready);
        story.seen.gateway_started = story.seen.now;
        story.seen.asked.sleep = Some(story.seen.now);
        story.expect(0, "asked_sleep");
        // One replica: kept for `idle` since the start, however long it was idle before.
        let mut story = Story::new(|s| s.stable_window = secs(6)).with(1, &Phase::Ready);
        story.seen.gateway_started = story.seen.now;
        story.after(59).expect(1, "kept_warm").after(1).expect(0, "idle");
        // One replica that would go sooner: it is not said that it does.
        let mut story = Story::new(|s| s.idle = Idle::After(secs(10))).with(1, &Phase::Ready);
        story.seen.gateway_started = story.seen.now;
        story.expect(1, "adopted").after(59).expect(1, "adopted").after(1).expect(0, "idle");
    }

    #[test]
    fn beside_a_minimum_nothing_is_kept_for_a_while() {
        for law in [Law::Work, Law::Kpa] {
            let mut story = Story::new(|s| (s.law, s.min) = (law, 1)).with(1, &Phase::Ready);
            story.load(0, 1).load(0, 0).expect(1, "held_at_min");
        }
        for reason in [
            Reason::KeptWarm { idle: secs(60), left: secs(9) },
            Reason::Expected { idle: secs(60), left: secs(9) },
        ] {
            let mut draft = Draft { want: 1, reason };
            draft.apply_bounds(&snapshot(ScalingPolicy { min: 1, ..ScalingPolicy::default() }));
            assert_eq!(draft.reason, Reason::HeldAtMin { min: 1, needs: 0 });
        }
    }

    #[test]
    fn failing_starts_open_the_breaker_only_while_nothing_is_live() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Failed(exited()));
        // The first failure: waiters wait, a start is due at once.
        story.load(1, 0);
        let found = story.decide();
        assert_eq!((found.refuse, found.start_after), (None, None));
        // The second.
        story.seen.replicas = vec![replica(2, Phase::Failed(exited()), story.seen.now)];
        let found = story.decide();
        let refuse = found.refuse.expect("open");
        assert_eq!((refuse.why.label(), refuse.until), ("start_failed", Some(story.seen.now + secs(1))));
        assert_eq!(refuse.cause, "failed 2 times in a row, last: its process ended: exit code 1");
        assert_eq!(found.again_at, refuse.until);
        assert_eq!(found.reason.label(), "refused");
        // With a ready one nothing is refused, but starts are still held back.
        story.seen.replicas.push(replica(3, Phase::Ready, story.seen.now));
        let found = story.decide();
        assert_eq!((found.refuse, found.start_after), (None, refuse.until));
        // Half open.
        story.seen.replicas.clear();
        let found = story.after(1).decide();
        assert_eq!((found.refuse, found.start_after, found.want), (None, None, 1));
    }

    #[test]
    fn out_of_memory_is_named() {
        let exit =
            tidegate_config::spec::Exit { code: 137, out_of_memory: true, disrupted: false, message: None };
        let failed = Phase::Failed(Cause::Exited(exit));
        let mut story = Story::new(|_| ()).with(1, &failed);
        story.decide();
        story.seen.replicas = vec![replica(2, failed, story.seen.now)];
        let cause = story.decide().refuse.expect("open").cause;
        assert_eq!(cause, "failed 2 times in a row, last: its process ended: out of memory (exit code 137)");
    }

    #[test]
    fn what_cannot_be_placed_is_refused_or_waited_for() {
        let failed = |retry_at| Image::Failed { message: "not found".into(), retry_at };
        // What is wrong; the word at once, or else the word of a wait in vain.
        type Row = (fn(&mut Snapshot), Option<&'static str>, Option<&'static str>);
        let rows: [Row; 8] = [
            (|_| (), None, None),
            (|s| s.hosts[0].image = Image::Unknown, None, Some("pulling")),
            (|s| s.hosts[0].image = Image::Pulling, None, Some("pulling")),
            (|s| s.hosts[0].state = HostState::Silent, None, Some("no_capacity")),
            (|s| std::sync::Arc::make_mut(&mut s.service).scaling.max = 0, Some("no_capacity"), None),
            (
                |s| drop(std::sync::Arc::make_mut(&mut s.service).constraints.insert("a".into(), "b".into())),
                Some("no_capacity"),
                None,
            ),
            (
                |s| (s.hosts[0].capacity.replicas, s.hosts[0].reserved.replicas) = (4, 4),
                Some("out_of_resources"),
                None,
            ),
            (
                |s| {
                    (s.hosts[0].capacity.replicas, s.hosts[0].reserved.replicas) = (1, 1);
                    s.replicas = vec![replica(1, Phase::Stopping, s.now)];
                },
                None,
                Some("out_of_resources"),
            ),
        ];
        for (n, (change, refuse, late)) in rows.into_iter().enumerate() {
            let mut story = Story::new(|_| ());
            story.load(1, 0);
            change(&mut story.seen);
            let found = story.decide();
            assert_eq!(found.refuse.map(|r| r.why.label()), refuse, "row {n}");
            assert_eq!(found.late.map(|r| r.why.label()), late, "row {n}");
        }
        let mut story = Story::new(|_| ());
        let at = story.seen.now + secs(5);
        story.seen.hosts[0].image = failed(Some(at));
        let found = story.load(1, 0).decide();
        let refuse = found.refuse.expect("refused");
        assert_eq!((refuse.why.label(), refuse.until, found.again_at), ("start_failed", Some(at), Some(at)));
        assert_eq!(refuse.cause, "image api:1: not found");
        // Due for another look.
        let found = story.after(5).decide();
        assert_eq!((found.refuse, found.late.map(|r| r.why.label())), (None, Some("start_failed")));
        story.seen.hosts[0].image = failed(None);
        assert_eq!(story.decide().refuse.expect("refused").until, None);
    }

    #[test]
    fn again_at_is_the_earliest_moment_to_come() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Draining);
        let now = story.seen.now;
        assert_eq!(story.decide().again_at, Some(now + secs(30)), "the drain deadline");
        story.seen.replicas.push(replica(2, Phase::Ready, now));
        story.seen.asked.wake = Some(now - secs(40));
        assert_eq!(story.decide().again_at, Some(now + secs(20)), "the end of the asked wake");
        story.seen.hosts.push(fixture::host("b"));
        story.seen.hosts[1].image = Image::Failed { message: String::new(), retry_at: Some(now + secs(7)) };
        assert_eq!(story.decide().again_at, Some(now + secs(7)), "the image");
        story.after(8);
        assert_eq!(story.decide().again_at, Some(now + secs(20)), "what is past does not count");
    }

    #[test]
    fn for_want_of_memory_it_sleeps_until_a_request_waits() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Ready);
        story.load(0, 1).load(0, 0).expect(1, "kept_warm").after(1);
        story.seen.asked.squeeze = Some(story.seen.now);
        story.expect(0, "squeezed").become_(&Phase::Draining).expect(0, "squeezed");
        story.seen.replicas.clear();
        story.load(1, 0).expect(1, "wake").load(0, 0).expect(0, "asleep");
        // The latest order counts.
        story = story.with(1, &Phase::Ready);
        story.after(1);
        story.seen.asked.sleep = Some(story.seen.now);
        story.expect(0, "asked_sleep");
    }

    #[test]
    fn others_that_make_room_are_waited_for() {
        let mut story = Story::new(|_| ());
        (story.seen.hosts[0].capacity.replicas, story.seen.hosts[0].reserved.replicas) = (4, 4);
        story.load(1, 0).seen.asked.relief = Some(story.seen.now);
        let word = |found: Decision| (found.refuse.is_some(), found.late.map(|late| late.why.label()));
        assert_eq!(word(story.decide()), (false, Some("out_of_resources")));
        assert_eq!(word(story.after(15).decide()), (true, None));
    }

    #[test]
    fn data_on_a_host_that_is_away_is_waited_for() {
        type Row = (fn(&mut Snapshot), &'static str);
        let rows: [Row; 4] = [
            (|s| s.hosts[0].state = HostState::Lost, "is lost"),
            (|s| s.hosts[0].state = HostState::Silent, "does not answer"),
            (|s| s.hosts[0].order = HostOrder::Cordoned, "is cordoned"),
            (|s| s.pinned = Some(fixture::host_name("b")), "is not in the file"),
        ];
        for (change, how) in rows {
            let mut story = Story::new(|_| ());
            story.seen.pinned = Some(fixture::host_name("local"));
            story.load(1, 0);
            change(&mut story.seen);
            let found = story.decide();
            let pinned = story.seen.pinned.as_ref().expect("pinned");
            let cause = format!("waits for host {pinned}, which {how}: its data is there");
            assert_eq!(found.late.map(|late| late.cause), Some(cause.clone()));
            assert_eq!(found.reason.to_string(), format!("waits (no_capacity): {cause}"));
        }
    }

    #[test]
    fn a_service_that_is_there_once_waits_for_the_one_before() {
        let mut story = Story::new(|s| (s.min, s.max) = (2, 5)).with(1, &Phase::Lost);
        std::sync::Arc::make_mut(&mut story.seen.service).update = tidegate_config::model::Update::Recreate;
        let found = story.load(1, 0).decide();
        let cause = "waits until api-2-1 on host local is gone, which is lost: there is never more than one";
        assert_eq!((found.want, found.late.map(|late| late.cause)), (1, Some(cause.to_owned())));
    }

    #[test]
    fn a_bad_version_leaves_the_good_one_alone() {
        let mut story = Story::new(|_| ()).with(1, &Phase::Ready);
        story.load(0, 1).expect(1, "busy");
        story.seen.hosts[0].image = fixture::present("r2");
        story.seen.hosts[0].has.insert(fixture::version("r1").revision, true);
        let found = story.decide();
        assert_eq!(
            (found.wants, found.moved.map(|moved| moved.label())),
            (Wants { main: 0, trial: 1 }, Some("tries"))
        );
        for number in [2, 3] {
            story.after(1);
            let failed = fixture::of("r2", replica(number, Phase::Failed(exited()), story.seen.now));
            story.seen.replicas.push(failed);
            let found = story.decide();
            assert_eq!((found.refuse, found.late, found.start_after), (None, None, None));
        }
        let found = story.decide();
        assert_eq!((found.wants, found.mix.trial), (Wants { main: 1, trial: 0 }, None));
        let note =
            "revision r2 was taken back: 2 replicas of it failed, last: its process ended: exit code 1";
        assert_eq!(found.note.as_deref(), Some(note));
    }

    #[test]
    fn asleep_a_bad_version_falls_back_for_those_who_wait() {
        let mut story = Story::new(|_| ());
        story.expect(0, "asleep");
        story.seen.hosts[0].image = fixture::present("r2");
        story.seen.hosts[0].has.insert(fixture::version("r1").revision, true);
        story.expect(0, "asleep");
        assert_eq!(story.load(1, 0).decide().wants, Wants { main: 0, trial: 1 });
        story.seen.replicas = vec![fixture::of("r2", replica(1, Phase::Failed(exited()), story.seen.now))];
        // The good one is started beside its second try.
        let found = story.decide();
        assert_eq!((found.wants, found.refuse), (Wants { main: 1, trial: 1 }, None));
    }
}
