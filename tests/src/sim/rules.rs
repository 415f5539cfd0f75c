//! What must hold for one decision and its plan, told from what they saw and from nothing that they say themselves.

use std::time::{Duration, Instant};

use tidegate::simulate::record::Evaluation;
use tidegate_autoscaler::{
    Phase, Step,
    mix::Role,
    snapshot::{Host, HostOrder, HostState, Image, Replica},
};
use tidegate_config::model::{Idle, Law, ScalingPolicy};

use super::shadow::{Check, ensure};

/// The longest back-off.
const BACK_OFF: Duration = Duration::from_secs(300);

/// All of them. `failed`: when a replica last failed that had not proved itself.
pub(super) fn hold(looked: &Evaluation, failed: Option<Instant>) -> Check {
    let checks = [maximum, last_replica, steps_are_legal];
    checks.iter().try_for_each(|check| check(looked))?;
    waiters_get_a_start(looked, failed)
}

fn is_live(replica: &&Replica) -> bool {
    matches!(replica.phase, Phase::Starting | Phase::Ready | Phase::Thawing)
}

fn additions(looked: &Evaluation) -> usize {
    let adds =
        |step: &&Step| matches!(step, Step::Start(_) | Step::Undrain(_) | Step::Thaw(_) | Step::Restart(_));
    looked.plan.steps.iter().filter(adds).count()
}

/// Live replicas never exceed the maximum because of what is added; while a version is tried there may be one more.
fn maximum(looked: &Evaluation) -> Check {
    let Evaluation { seen, decision, .. } = looked;
    let ScalingPolicy { max, .. } = seen.service.scaling;
    ensure(decision.want <= max, || format!("wants {} of at most {max}", decision.want))?;
    let added = additions(looked);
    let is_wanted = |r: &&Replica| decision.mix.role(seen, r) != Role::Stale;
    let current = seen.replicas.iter().filter(is_live).filter(is_wanted).count();
    // Both versions get their shares, and all of it again when the good one takes over from one that struggles.
    let most = if decision.mix.trial.is_some() { 2 * max } else { max };
    ensure(added == 0 || current + added <= most as usize, || {
        format!("{current} and {added} more, at most {max}")
    })
}

/// The last ready replica goes only when nothing runs or waits and it has been idle for long enough, or when somebody
/// asked for it, or the file no longer allows one.
fn last_replica(looked: &Evaluation) -> Check {
    let Evaluation { seen, decision, plan } = looked;
    let drained = |r: &&Replica| plan.steps.contains(&Step::Drain(r.id.clone()));
    let ready: Vec<&Replica> = seen.replicas.iter().filter(|r| r.phase == Phase::Ready).collect();
    let left = ready.iter().filter(|r| !drained(r)).count();
    if ready.is_empty() || left > 0 || seen.service.scaling.max == 0 {
        return Ok(());
    }
    let reason = &decision.reason;
    ensure(decision.want == 0, || {
        format!("the last ready replica goes although {} are wanted", decision.want)
    })?;
    let (queued, in_flight) = (seen.queued(), seen.in_flight());
    ensure(queued + in_flight == 0, || {
        format!("the last one goes, {queued} wait, {in_flight} run: {reason}")
    })?;
    let asked = seen.asked.sleep.is_some();
    let idle_since = seen.idle_since().map_or(seen.now, |since| since.max(seen.gateway_started));
    let scaling = &seen.service.scaling;
    let idle = match scaling.idle {
        Idle::Auto if scaling.law == Law::Work => Duration::ZERO,
        Idle::Auto => Idle::USUAL,
        Idle::After(idle) => idle,
        Idle::Kpa => Duration::ZERO,
    };
    ensure(asked || idle_since + idle <= seen.now, || {
        format!("idle for {:?} only, of {idle:?}: {reason}", seen.now - idle_since)
    })
}

/// Every step names a replica that is there, in a phase where the step makes sense, once.
fn steps_are_legal(looked: &Evaluation) -> Check {
    let Evaluation { seen, plan, decision } = looked;
    ensure(decision.again_at.is_none_or(|at| at > seen.now), || "looks again in the past".into())?;
    let mut named = Vec::new();
    for step in &plan.steps {
        let (id, legal): (_, fn(&Phase) -> bool) = match step {
            Step::Prepare { .. } | Step::Find { .. } => continue,
            Step::Thaw(id) => (id, |phase| *phase == Phase::Frozen),
            Step::Restart(id) => (id, |phase| *phase == Phase::Stopped),
            Step::Freeze(id) => (id, |phase| *phase == Phase::Draining),
            Step::Start(spec) => {
                let fresh = spec.id.order() >= (seen.generation, seen.next_number);
                ensure(fresh, || format!("{} is not a new name", spec.id))?;
                (&spec.id, |_| false)
            }
            Step::Undrain(id) => (id, |phase| *phase == Phase::Draining),
            Step::Drain(id) => (id, |phase| *phase == Phase::Ready),
            Step::Stop { id, .. } => (id, |phase| {
                matches!(phase, Phase::Starting | Phase::Draining | Phase::Frozen | Phase::Stopped)
            }),
            Step::Remove(id) => (id, |phase| matches!(phase, Phase::Failed(_))),
        };
        ensure(!named.contains(&id), || format!("{id} twice in {:?}", plan.steps))?;
        named.push(id);
        let phase = seen.replicas.iter().find(|r| r.id == *id).map(|r| &r.phase);
        ensure(phase.is_none_or(legal), || format!("{step:?}, which is {phase:?}"))?;
    }
    Ok(())
}

/// Invariant 7: who waits while nothing is on its way gets a start at once, unless there is a reason that can be seen.
fn waiters_get_a_start(looked: &Evaluation, failed: Option<Instant>) -> Check {
    let seen = &looked.seen;
    if seen.queued() == 0 || seen.service.scaling.max == 0 || seen.replicas.iter().any(|r| is_live(&r)) {
        return Ok(());
    }
    // It is frozen in a moment, and woken then.
    if seen.replicas.iter().any(|r| r.phase == Phase::Freezing) {
        return Ok(());
    }
    let possible = seen.hosts.iter().any(|host| takes_one_more(looked, host));
    let held_back = failed.is_some_and(|at| seen.now < at + BACK_OFF);
    ensure(additions(looked) > 0 || !possible || held_back, || {
        format!(
            "{} wait, nothing is on its way, and nothing is started: {:?}",
            seen.queued(),
            looked.decision
        )
    })
}

fn takes_one_more(looked: &Evaluation, host: &Host) -> bool {
    let Evaluation { decision, .. } = looked;
    let trial = decision.mix.trial.iter().map(|(version, _)| version);
    let mut versions = decision.mix.main.iter().chain(trial).map(|version| &version.revision);
    let has = |wanted| match &host.image {
        Image::Present { revision, .. } => revision == wanted,
        Image::Unknown | Image::Pulling | Image::Failed { .. } => false,
    };
    let version = versions.any(|wanted| has(wanted) || host.has.get(wanted) == Some(&true));
    let most = host.capacity.replicas;
    let open = host.state == HostState::Up && host.order == HostOrder::Open;
    open && version && (most == 0 || host.reserved.replicas < most)
}
