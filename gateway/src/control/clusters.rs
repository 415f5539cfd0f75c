//! Replicas on engines that place by themselves: what has no place there goes elsewhere, or waits for as long as a start
//! may take. Holds: a cluster without a place is not asked again at once for the same service, for which it may lack what others do not
//! need; its replica is held against nobody.

use std::time::{Duration, Instant};

use tidegate_autoscaler::{Cause, Phase, placement::may_go_elsewhere, replica};
use tidegate_config::name::{HostName, ReplicaId};

use super::{Control, engine::Full, history::What, member::Member, observe};
use crate::clock;

/// How long a cluster that had no place for a service counts as full for it.
const FULL: Duration = Duration::from_secs(10);

impl Control {
    /// A cluster has no place for a replica, for now.
    pub(super) fn no_place(&mut self, id: &ReplicaId, why: String) {
        let starting = |member: &&mut Member| member.phase == Phase::Starting && !member.ending;
        let Some(member) = self.member(id).filter(starting) else { return };
        let (host, news) = (member.host.clone(), member.waits_for.as_ref() != Some(&why));
        member.waits_for = Some(why.clone());
        if news {
            tracing::info!(replica = %id, %host, why, "no place");
            self.note_waiting(id, &why);
        }
        if let Some(engine) = self.engine_mut(&host) {
            let now = clock::now();
            engine.full.retain(|_, full| full.until > now);
            engine.full.insert(id.service().clone(), Full { why, until: now + FULL });
        }
        if self.may_go_elsewhere(id) {
            self.send_elsewhere(id, &host);
        }
    }

    fn note_waiting(&mut self, id: &ReplicaId, why: &str) {
        if let Some(state) = self.states.get_mut(id.service()) {
            let what = What::Phase { replica: id.to_string(), to: "starting".into() };
            state.history.note(what, format!("no place: {why}"));
        }
    }

    /// A cluster doubts a replica that runs. Whether it serves is for probes and requests to find out: that its node is not
    /// heard by the cluster does not mean that nobody reaches it.
    pub(super) fn in_trouble(&mut self, id: &ReplicaId, why: String) {
        let Some(member) = self.member(id).filter(|member| !member.ending) else { return };
        let now = clock::now();
        let news = member.trouble(now).as_ref() != Some(&why);
        let (host, to) = (member.host.clone(), member.phase.label().to_owned());
        member.trouble = Some((why.clone(), now));
        if news {
            tracing::warn!(replica = %id, %host, why, "a replica is in trouble");
            if let Some(state) = self.states.get_mut(id.service()) {
                state.history.note(What::Phase { replica: id.to_string(), to }, why);
            }
        }
    }

    fn may_go_elsewhere(&self, id: &ReplicaId) -> bool {
        let Some(state) = self.states.get(id.service()) else { return false };
        let (reserved, now) = (self.reserved.rooms(), clock::now());
        let hosts: Vec<_> =
            self.engines.iter().map(|engine| observe::host(engine, state, reserved, now)).collect();
        may_go_elsewhere(&state.fleet.settings(), state.pinned.as_ref(), &hosts)
    }

    /// It is forgotten here, removed there, and the next look starts another one where there is a place.
    fn send_elsewhere(&mut self, id: &ReplicaId, host: &HostName) {
        self.advance(id, replica::Event::Lost);
        self.advance(id, replica::Event::Removed);
        self.remove_stray(host, id);
        self.evaluate(id.service(), false);
    }

    /// Clusters do not say when they give up: what has no address by its start deadline will have none.
    pub(super) fn give_up_late(&mut self, now: Instant) {
        let late = |member: &&Member| {
            let deadline = member.settings.health.start_deadline;
            member.phase == Phase::Starting
                && member.address.is_none()
                && !member.ending
                && member.accepted.is_some()
                && now.saturating_duration_since(member.started) >= deadline
                && self.engine(&member.host).is_some_and(|engine| engine.settings.engine.places())
        };
        let late: Vec<_> =
            self.members().filter(late).map(|member| (member.id.clone(), cause(member, now))).collect();
        for (id, cause) in late {
            self.broke(&id, cause);
        }
    }
}

fn cause(member: &Member, now: Instant) -> Cause {
    match &member.waits_for {
        Some(why) => Cause::NoPlace(why.clone()),
        None => Cause::NotReady {
            waited: Duration::from_secs(now.saturating_duration_since(member.started).as_secs()),
            last: "no node runs it yet; fetching its image counts, too".to_owned(),
        },
    }
}
