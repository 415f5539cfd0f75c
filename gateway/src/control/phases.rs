//! What happens to replicas, as engines and probers tell it: the one place where a member changes its phase.

use std::time::Duration;

use tidegate_autoscaler::{Cause, Phase, replica};
use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::Exit,
};
use tidegate_runner as runner;

use super::{
    Control,
    event::Probed,
    history::{self, What},
    member::Member,
    publish, state,
};
use crate::clock;

/// The exit code of a process that got SIGKILL.
pub(super) const KILLED: i64 = 137;

impl Control {
    /// Moves a replica to its next phase and tells the data plane. False if the event changes nothing.
    pub(super) fn advance(&mut self, id: &ReplicaId, event: replica::Event) -> bool {
        let Some(state) = self.states.get_mut(id.service()) else { return false };
        let Some(member) = state.members.get_mut(id) else { return false };
        let Some(phase) = replica::next(&member.phase, event) else { return false };
        let why = match &phase {
            Phase::Failed(cause) => cause.to_string(),
            Phase::Lost => "its host is silent, and it does not answer".to_owned(),
            Phase::Starting
            | Phase::Ready
            | Phase::Draining
            | Phase::Freezing
            | Phase::Frozen
            | Phase::Thawing
            | Phase::Stopping
            | Phase::Stopped
            | Phase::Gone => String::new(),
        };
        tracing::info!(replica = %id, from = member.phase.label(), to = phase.label(), reason = %why, "phase changed");
        state.history.note(What::Phase { replica: id.to_string(), to: phase.label().into() }, why);
        member.phase = phase;
        member.since = clock::now();
        publish::member(&state.fleet, member);
        if matches!(member.phase, Phase::Lost | Phase::Failed(_) | Phase::Gone) {
            member.stop_probing();
            member.suspected = false;
        }
        if let Some(failure) = state.last_failure.as_mut().filter(|_| member.phase == Phase::Ready) {
            failure.open = false;
        }
        if let Phase::Failed(cause) = &member.phase {
            publish::failed(&state.fleet.name, cause);
            state.last_failure = Some(state::LastFailure {
                replica: id.clone(),
                at: history::unix_now(),
                cause: cause.to_string(),
                open: true,
                log: Vec::new(),
            });
        }
        if state.members.get(id).is_some_and(|member| member.phase == Phase::Gone) {
            state.members.remove(id);
        }
        true
    }

    pub(super) fn engine_said(&mut self, host: &HostName, event: runner::Event) {
        match event {
            runner::Event::Running(seen) => {
                let Some(member) = self.member(&seen.id) else { return };
                if member.phase == Phase::Starting && member.address.is_none() {
                    (member.address, member.waits_for) = (seen.address, None);
                    self.probe_start(&seen.id);
                }
            }
            // The word on its former life comes late.
            runner::Event::Exited { id, .. } if self.is_being_restarted(&id) => {}
            runner::Event::Exited { id, exit } => {
                self.explain_later(&id, &exit);
                self.broke(&id, Cause::Exited(exit));
            }
            runner::Event::Gone(id) => {
                if self.advance(&id, replica::Event::Removed) {
                    self.evaluate(id.service(), false);
                    self.room_freed();
                }
            }
            runner::Event::NoPlace { id, why } => self.no_place(&id, why),
            runner::Event::Trouble { id, why } => self.in_trouble(&id, why),
            runner::Event::Resync => self.list(host),
        }
    }

    fn is_being_restarted(&mut self, id: &ReplicaId) -> bool {
        let begun = |member: &mut Member| {
            member.phase == Phase::Starting && member.again && member.accepted.is_none()
        };
        self.member(id).is_some_and(begun)
    }

    pub(super) fn probed(&mut self, id: &ReplicaId, found: Probed) {
        match found {
            Probed::Ready => {
                if self.advance(id, replica::Event::Passed) {
                    self.probe_life(id);
                    self.evaluate(id.service(), false);
                }
            }
            Probed::NotReady(last) => {
                let waited = self.member(id).map(|member| member.started.elapsed()).unwrap_or_default();
                self.unreachable(id, Cause::NotReady { waited: round(waited), last });
            }
            // Said by the engine, where it is a command: judged afresh by a connection.
            Probed::Unhealthy(_) if self.is_on_silent_host(id) => {
                self.probe_suspect(id);
                self.probe_life(id);
            }
            Probed::Unhealthy(last) => self.broke(id, Cause::Unhealthy { last }),
            Probed::Unreachable(last) => self.unreachable(id, Cause::Unhealthy { last }),
            Probed::Silent => self.lost(id),
            Probed::WellAfterAll => self.suspect_no_more(id),
        }
    }

    /// The engine may tell of an exit after a request or a probe has met the dead replica: then its word is the cause.
    /// An exit that our own removal brought about (SIGKILL) says nothing new.
    pub(super) fn explain_later(&mut self, id: &ReplicaId, exit: &Exit) {
        let Some(state) = self.states.get_mut(id.service()) else { return };
        let late =
            state.members.get(id).is_some_and(|m| matches!(m.phase, Phase::Failed(Cause::Unhealthy { .. })));
        let failure = state.last_failure.as_mut().filter(|failure| failure.replica == *id);
        if let Some(failure) = failure.filter(|_| late && (exit.out_of_memory || exit.code != KILLED)) {
            failure.cause = Cause::Exited(exit.clone()).to_string();
            state
                .history
                .note(What::Phase { replica: id.to_string(), to: "failed".into() }, failure.cause.clone());
        }
    }

    /// A probe has found that a replica does not answer. While its engine is silent too it is lost, not failed: nobody can say
    /// what became of it, and it is not to be removed when the host is back.
    pub(super) fn unreachable(&mut self, id: &ReplicaId, cause: Cause) {
        let host = self.member(id).map(|member| member.host.clone());
        let silent = host.and_then(|host| self.engine(&host)).is_some_and(|engine| !engine.is_up());
        if silent { self.lost(id) } else { self.broke(id, cause) }
    }

    pub(super) fn lost(&mut self, id: &ReplicaId) {
        if self.advance(id, replica::Event::Lost) {
            self.evaluate(id.service(), false);
        }
    }

    pub(super) fn broke(&mut self, id: &ReplicaId, cause: Cause) {
        if self.advance(id, replica::Event::Broke(cause)) {
            self.evaluate(id.service(), false);
        }
    }

    pub(super) fn suspect_no_more(&mut self, id: &ReplicaId) {
        let Some(state) = self.states.get_mut(id.service()) else { return };
        let Some(member) = state.members.get_mut(id) else { return };
        member.suspected = false;
        publish::member(&state.fleet, member);
    }

    pub(super) fn is_on_silent_host(&mut self, id: &ReplicaId) -> bool {
        let host = self.member(id).map(|member| member.host.clone());
        host.and_then(|host| self.engine(&host)).is_some_and(|engine| !engine.is_up())
    }
}

/// Whole milliseconds, as people read them.
fn round(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
