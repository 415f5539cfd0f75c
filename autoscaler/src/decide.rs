//! Decides how many replicas of the current revision a service should have.
//! Called by the control loop and the simulator; [`plan`](crate::plan) turns the answer into steps. Asks the policy on
//! its tick and when requests wait with nothing live, plans on its last answer otherwise, then lets the rules speak in
//! this order, each able to overrule those before it: the last replica, wakes, adoption, minimum, maximum; an asked
//! sleep overrules all. Holds: same inputs, same answer. Absent: which replicas, which host, clock, IO.

use std::time::{Duration, Instant};

use tidegate_config::{
    model::{Idle, ScalingPolicy},
    units::Count,
};

use crate::{
    memory::{Memory, Sleep},
    policy::{Answer, Policy, Question, grace::GRACE, kpa::Kpa},
    reason::Reason,
    refuse::{self, Refuse, Verdict},
    replica::Phase,
    snapshot::{Image, Replica, Snapshot},
    window,
};

/// What a service should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Replicas of the current revision.
    pub want: Count,
    /// Why.
    pub reason: Reason,
    /// Whether requests that cannot be served now are to be refused, waiting ones included.
    pub refuse: Option<Refuse>,
    /// What a request is told whose hold deadline passes, where there is a better word than that (`pulling`, ...).
    pub late: Option<Refuse>,
    /// No replica may be started before then: others failed.
    pub start_after: Option<Instant>,
    /// When a new decision is useful although nothing happened.
    pub again_at: Option<Instant>,
}

/// Decides, and hands on what the next decision has to know.
#[must_use]
pub fn decide(mut memory: Memory, seen: &Snapshot) -> (Decision, Memory) {
    let counts = Counts::of(seen);
    measure(&mut memory, seen, &counts);
    memory.backoff.look(seen);
    let answer = ask(&mut memory, seen, &counts);
    let mut draft = Draft { want: answer.want, reason: answer.reason };
    let last = last_replica(&mut memory, seen, &counts, draft.want);
    let kept_until = draft.apply_last(last);
    draft.apply_wakes(&mut memory, seen, &counts);
    draft.apply_adoption(seen, &counts);
    draft.apply_bounds(seen);
    if asleep(&mut memory, seen, &counts) {
        draft = Draft { want: 0, reason: Reason::AskedSleep };
    }
    if draft.want == 0 && seen.queued() == 0 {
        forget(&mut memory, seen, &counts);
    }
    let (refuse, late) = match refuse::judge(&memory.backoff, seen, draft.want) {
        Verdict::Wait => (None, None),
        Verdict::WaitFor(late) => (None, Some(late)),
        Verdict::Refuse(refuse) => (Some(refuse), None),
    };
    draft.explain(refuse.as_ref(), late.as_ref());
    let start_after = memory.backoff.start_after(seen.now);
    let again_at = again_at(seen, kept_until, start_after);
    let Draft { want, reason } = draft;
    (Decision { want, reason, refuse, late, start_after, again_at }, memory)
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
    fn of(seen: &Snapshot) -> Self {
        let count = |test: &dyn Fn(&Replica) -> bool| {
            Count::try_from(seen.replicas.iter().filter(|r| test(r)).count()).unwrap_or(Count::MAX)
        };
        Self {
            ready: count(&|r| r.phase == Phase::Ready),
            ready_current: count(&|r| r.phase == Phase::Ready && seen.is_current(r)),
            live: count(&|r| r.phase.is_live()),
            adopted: count(&|r| r.phase.is_live() && adopted(seen, r)),
            busy: seen.in_flight() > 0 || seen.queued() > 0,
        }
    }
}

/// Whether an earlier run of the gateway started this replica.
fn adopted(seen: &Snapshot, replica: &Replica) -> bool {
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

    /// A wake brings at least the initial replicas, and they stay until all of them have been ready once.
    fn apply_wakes(&mut self, memory: &mut Memory, seen: &Snapshot, counts: &Counts) {
        let scaling = &seen.service.scaling;
        let initial = scaling.initial.max(1);
        let queued = seen.queued();
        let woken = queued > 0 && counts.live == 0;
        let over = counts.ready_current >= initial.min(scaling.max) || self.want == 0;
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
    fn explain(&mut self, refuse: Option<&Refuse>, late: Option<&Refuse>) {
        if self.want == 0 {
            return;
        }
        if let Some(Refuse { why, cause, .. }) = refuse {
            self.reason = Reason::Refused { why: *why, cause: cause.clone() };
        } else if let Some(Refuse { why, cause, .. }) = late {
            self.reason = Reason::Waiting { why: *why, cause: cause.clone() };
        }
    }

    /// For one stable window a new gateway knows too little to take anything away.
    fn apply_adoption(&mut self, seen: &Snapshot, counts: &Counts) {
        let until = seen.gateway_started + seen.service.scaling.stable_window;
        let left = until.saturating_duration_since(seen.now);
        if !left.is_zero() {
            self.at_least(counts.adopted, Reason::Adopted { replicas: counts.adopted, left });
        }
    }

    fn apply_bounds(&mut self, seen: &Snapshot) {
        let ScalingPolicy { min, max, .. } = seen.service.scaling;
        self.at_least(min, Reason::HeldAtMin { min, needs: self.want });
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
}

/// The policy's answer: a new one on its tick, on a wake and at the very first, else the last one.
fn ask(memory: &mut Memory, seen: &Snapshot, counts: &Counts) -> Answer {
    let woken = seen.queued() > 0 && counts.live == 0;
    if let Some(answer) = memory.answer.clone().filter(|_| !seen.tick && !woken) {
        return answer;
    }
    let found = counts.ready.max(counts.adopted);
    let policy = memory.policy.take().unwrap_or_else(|| Policy::start(seen.now, found));
    let settings = &seen.service.scaling;
    let question = Question { now: seen.now, settings, ready: counts.ready, window: &memory.window };
    let (answer, policy) = policy.ask(question);
    memory.policy = Some(policy);
    memory.answer = Some(answer.clone());
    answer
}

/// Whether the last replica goes, stays, or is left to the policy.
fn last_replica(memory: &mut Memory, seen: &Snapshot, counts: &Counts, needs: Count) -> Last {
    let scaling = &seen.service.scaling;
    match scaling.idle {
        _ if counts.live == 0 && seen.queued() == 0 && needs == 0 => Last::Zero(Reason::Asleep),
        Idle::After(_) if counts.live == 0 && seen.queued() == 0 => Last::Zero(Reason::Asleep),
        Idle::After(idle) => match seen.idle_since() {
            None => Last::Keep(Reason::Busy { in_flight: seen.in_flight(), queued: seen.queued() }, None),
            Some(since) => after_idle(seen, since, idle),
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
    let scaling = &seen.service.scaling;
    let idle = match scaling.idle {
        Idle::After(idle) => idle,
        Idle::Kpa => scaling.stable_window + GRACE,
    };
    let left = (at + idle).saturating_duration_since(seen.now);
    (!left.is_zero()).then_some(left)
}

/// Whether an asked sleep is on. It takes effect once nothing runs or waits, and the next request to wait ends it.
fn asleep(memory: &mut Memory, seen: &Snapshot, counts: &Counts) -> bool {
    let asked = seen.asked.sleep.filter(|sleep| seen.asked.wake.is_none_or(|wake| *sleep > wake));
    let Some(asked) = asked else {
        memory.sleep = Sleep::Awake;
        return false;
    };
    memory.sleep = match memory.sleep {
        Sleep::Ended(of) if of == asked => Sleep::Ended(of),
        Sleep::Asleep(of) if of == asked && seen.queued() > 0 => Sleep::Ended(of),
        Sleep::Asleep(of) if of == asked => Sleep::Asleep(of),
        Sleep::Awake | Sleep::Asleep(_) | Sleep::Ended(_) if counts.busy => Sleep::Awake,
        Sleep::Awake | Sleep::Asleep(_) | Sleep::Ended(_) => Sleep::Asleep(asked),
    };
    memory.sleep == Sleep::Asleep(asked)
}

/// At zero by our own rule the past is over: the next wake does not start what an old burst needed.
fn forget(memory: &mut Memory, seen: &Snapshot, counts: &Counts) {
    match seen.service.scaling.idle {
        Idle::After(_) => {
            memory.window.clear();
            memory.policy = Some(Policy::Kpa(Kpa::default()));
            memory.answer = None;
        }
        Idle::Kpa if counts.live == 0 => memory.last_replica.reset(),
        Idle::Kpa => {}
    }
}

/// The earliest moment to come that changes something by itself.
fn again_at(seen: &Snapshot, kept_until: Option<Instant>, start_after: Option<Instant>) -> Option<Instant> {
    let scaling = &seen.service.scaling;
    let adopted = seen.replicas.iter().any(|r| adopted(seen, r) && r.phase.is_live());
    let drains = seen.replicas.iter().filter(|r| r.phase == Phase::Draining).map(|r| r.since + scaling.drain);
    let images = seen.hosts.iter().filter(|h| h.up).filter_map(|h| match &h.image {
        Image::Failed { retry_at, .. } => *retry_at,
        Image::Unknown | Image::Pulling | Image::Present { .. } => None,
    });
    let wake = asked_wake_left(seen).map(|left| seen.now + left);
    let adoption = adopted.then_some(seen.gateway_started + scaling.stable_window);
    [kept_until, start_after, wake, adoption]
        .into_iter()
        .flatten()
        .chain(drains)
        .chain(images)
        .filter(|at| *at > seen.now)
        .min()
}
