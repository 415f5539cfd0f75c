//! What must hold for one decision and its plan.

use tidegate_config::{model::ScalingPolicy, units::Count};

use crate::{
    Decision, Plan, Reason, Step,
    mix::Role,
    replica::Phase,
    single::is_single,
    snapshot::{HostOrder, HostState, Replica, Snapshot},
};

pub(super) fn hold(seen: &Snapshot, decision: &Decision, plan: &Plan) {
    bounds(seen, decision);
    additions(seen, decision, plan);
    waiters_get_somebody(seen, decision, plan);
    never_two(seen, plan);
    the_last_ready_stays(seen, decision, plan);
    sleepers(seen, plan);
    steps_are_legal(seen, decision, plan);
}

fn bounds(seen: &Snapshot, decision: &Decision) {
    let ScalingPolicy { min, max, .. } = seen.service.scaling;
    let min = if is_single(seen) { min.min(1) } else { min };
    let slept = matches!(decision.reason, Reason::AskedSleep | Reason::Squeezed);
    assert!(decision.want <= max && (decision.want >= min || slept), "{decision:?} within {min}..={max}");
    assert!(decision.wants.main + decision.wants.trial >= decision.want, "{decision:?}");
    assert!(decision.again_at.is_none_or(|at| at > seen.now), "{decision:?} again in the past");
    assert!(Reason::LABELS.contains(&decision.reason.label()));
    let live = seen.replicas.iter().any(|r| r.phase.is_live());
    assert!(!(decision.refuse.is_some() && live), "refused although one is live: {decision:?}");
}

/// The replicas that a step brings, with what they are.
fn brought<'a>(
    seen: &'a Snapshot,
    decision: &'a Decision,
    plan: &'a Plan,
) -> impl Iterator<Item = Role> + 'a {
    plan.steps.iter().filter_map(move |step| match step {
        Step::Start(spec) => {
            let trial = decision.mix.trial.as_ref().is_some_and(|(v, _)| v.revision == spec.revision);
            let main = decision.mix.main.as_ref().is_some_and(|v| v.revision == spec.revision);
            assert!(trial || main, "{step:?} is of neither version: {decision:?}");
            Some(if trial { Role::Trial } else { Role::Main })
        }
        Step::Thaw(id) | Step::Restart(id) | Step::Undrain(id) => {
            let replica = seen.replicas.iter().find(|r| r.id == *id).expect("it is there");
            Some(decision.mix.role(seen, replica))
        }
        _ => None,
    })
}

fn additions(seen: &Snapshot, decision: &Decision, plan: &Plan) {
    let live = |role| {
        let of = |r: &&Replica| r.phase.is_live() && decision.mix.role(seen, r) == role;
        seen.replicas.iter().filter(of).count()
    };
    let added = |role| brought(seen, decision, plan).filter(|r| *r == role).count();
    assert_eq!(added(Role::Stale), 0, "{plan:?}");
    let within = |n: usize, most: Count| n <= most as usize;
    let all = live(Role::Main) + live(Role::Trial) + added(Role::Main) + added(Role::Trial);
    let slow_thaw = seen.replicas.iter().any(|r| r.phase == Phase::Thawing) && seen.queued() > 0;
    for role in [Role::Main, Role::Trial] {
        let total = live(role) + added(role);
        let replaced = slow_thaw && within(all, seen.service.scaling.max);
        let fine = added(role) == 0 || within(total, decision.wants.of(role)) || replaced;
        assert!(fine, "{role:?}: {total} for {:?}: {plan:?}", decision.wants);
    }
}

fn waiters_get_somebody(seen: &Snapshot, decision: &Decision, plan: &Plan) {
    let nobody = !seen.replicas.iter().any(|r| r.phase.is_live());
    let coming = brought(seen, decision, plan).count() > 0;
    let freezing = seen.replicas.iter().any(|r| r.phase == Phase::Freezing);
    // A new version that fails is tried again after a pause, and taken back after a few.
    let pause = decision.mix.trial.is_some() && decision.start_after.max(decision.trial_after).is_some();
    let excused = decision.refuse.is_some() || decision.late.is_some() || freezing || pause;
    let fine = seen.queued() == 0 || !nobody || coming || excused;
    assert!(fine, "waiters without anybody: {decision:?} {plan:?} {:?}", seen.replicas);
}

/// Of a service that may be there once only, nothing comes to life while another one may write.
fn never_two(seen: &Snapshot, plan: &Plan) {
    if !is_single(seen) {
        return;
    }
    let writes = |r: &&Replica| !matches!(r.phase, Phase::Stopped | Phase::Gone);
    for step in &plan.steps {
        let others = match step {
            Step::Start(_) => seen.replicas.iter().filter(writes).count(),
            Step::Thaw(id) | Step::Restart(id) => {
                seen.replicas.iter().filter(writes).filter(|r| r.id != *id).count()
            }
            _ => continue,
        };
        assert_eq!(others, 0, "{step:?} beside {:?}", seen.replicas);
    }
    let new = |step: &&Step| matches!(step, Step::Start(_) | Step::Thaw(_) | Step::Restart(_));
    assert!(plan.steps.iter().filter(new).count() <= 1, "{plan:?}");
}

/// While any is wanted, the only one that serves is not taken out of traffic, whatever version it is of.
fn the_last_ready_stays(seen: &Snapshot, decision: &Decision, plan: &Plan) {
    let ready = seen.replicas.iter().filter(|r| r.phase == Phase::Ready).count();
    let drained = plan.steps.iter().filter(|step| matches!(step, Step::Drain(_))).count();
    let fine = decision.want == 0 || ready == 0 || is_single(seen) || drained < ready;
    assert!(fine, "{drained} of {ready} drained: {decision:?} {plan:?}");
}

fn sleepers(seen: &Snapshot, plan: &Plan) {
    let lain = |step: &&Step| matches!(step, Step::Freeze(_) | Step::Stop { keep: true, .. });
    let ends = |r: &&Replica| {
        plan.steps.iter().any(|step| match step {
            Step::Stop { id, .. } | Step::Thaw(id) | Step::Restart(id) => *id == r.id,
            _ => false,
        })
    };
    let asleep = |r: &&Replica| r.phase.is_asleep() || r.phase == Phase::Freezing;
    let (new, before) = (
        plan.steps.iter().filter(lain).count(),
        seen.replicas.iter().filter(asleep).filter(|r| !ends(r)).count(),
    );
    let most = seen.service.scaling.max as usize;
    assert!(new == 0 || new + before <= most, "{before} asleep and {new} more of {most}: {plan:?}");
}

fn steps_are_legal(seen: &Snapshot, decision: &Decision, plan: &Plan) {
    let queued = seen.queued() > 0;
    let mut named = Vec::new();
    for step in &plan.steps {
        let (id, legal): (_, fn(&Phase) -> bool) = match step {
            Step::Prepare { host } | Step::Find { host, .. } => {
                may_take(seen, host, step);
                continue;
            }
            Step::Start(spec) => {
                assert!(decision.refuse.is_none() && spec.id.order() >= (seen.generation, seen.next_number));
                may_take(seen, spec.target.host(), step);
                (&spec.id, |_| false)
            }
            Step::Thaw(id) => (id, |p| *p == Phase::Frozen),
            Step::Restart(id) => (id, |p| *p == Phase::Stopped),
            Step::Freeze(id) => (id, |p| *p == Phase::Draining),
            Step::Undrain(id) => (id, |p| *p == Phase::Draining),
            Step::Drain(id) => (id, |p| *p == Phase::Ready),
            Step::Stop { id, keep: true, .. } => (id, |p| matches!(p, Phase::Draining | Phase::Frozen)),
            Step::Stop { id, .. } => {
                (id, |p| matches!(p, Phase::Starting | Phase::Draining | Phase::Frozen | Phase::Stopped))
            }
            Step::Remove(id) => (id, |p| matches!(p, Phase::Failed(_))),
        };
        assert!(!named.contains(&id), "{id} twice in {plan:?}");
        named.push(id);
        let Some(replica) = seen.replicas.iter().find(|r| r.id == *id) else { continue };
        assert!(legal(&replica.phase), "{step:?} on {replica:?}");
        let ours = matches!(step, Step::Drain(_) | Step::Undrain(_));
        assert!(ours || is_up(seen, replica), "{step:?} on a host that does not answer");
        let cancels = matches!(step, Step::Stop { .. })
            && replica.phase == Phase::Starting
            && decision.mix.role(seen, replica) != Role::Stale;
        assert!(!(cancels && queued), "{step:?} although somebody waits");
        let ends = matches!(step, Step::Freeze(_) | Step::Stop { .. });
        let late = replica.since + seen.service.scaling.drain <= seen.now;
        let cuts = ends && replica.phase == Phase::Draining && replica.in_flight > 0 && !late;
        assert!(!cuts, "{step:?} cuts {replica:?}");
    }
}

fn is_up(seen: &Snapshot, replica: &Replica) -> bool {
    seen.hosts.iter().any(|h| h.name == replica.host && h.state == HostState::Up)
}

fn may_take(seen: &Snapshot, name: &tidegate_config::name::HostName, step: &Step) {
    let pinned = seen.pinned.as_ref().is_none_or(|pinned| pinned == name);
    let open = |h: &crate::snapshot::Host| h.state == HostState::Up && h.order == HostOrder::Open;
    let fine = pinned && seen.hosts.iter().any(|h| h.name == *name && open(h));
    assert!(fine, "{step:?} on {:?}", seen.hosts);
}
