//! Executes steps. A step that needs an engine becomes a task whose outcome comes back as an event; nothing is tried
//! again here, the next look plans again. Holds: `Starting` is recorded before the engine is called.

use std::time::Duration;

use futures_util::StreamExt;
use tidegate_autoscaler::{Cause, Phase, Step, replica};
use tidegate_config::{
    name::{ReplicaId, ServiceName},
    spec::StartSpec,
};
use tidegate_runner::{Error, Kind, LogOptions, Runner};

use super::{Control, engine::Handle, event::Event, member::Member};
use crate::{clock, fleet::admission::SlotKey};

/// Lines of a failed replica that are kept for `explain`.
const LAST_LINES: usize = 20;

/// How long reading those may take.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(2);

/// From SIGTERM to SIGKILL for a replica that never got a request.
const UNHEARD_GRACE: Duration = Duration::from_secs(1);

/// On top of a stop's grace: the engine's own work.
const STOP_MARGIN: Duration = Duration::from_secs(20);

impl Control {
    pub(super) fn apply(&mut self, service: &ServiceName, step: Step) {
        match step {
            Step::Prepare { host } => self.prepare(service, host),
            Step::Find { host, version } => self.find_version(service, host, version),
            Step::Start(spec) => self.start(spec),
            Step::Undrain(id) => drop(self.advance(&id, replica::Event::Undrain)),
            Step::Drain(id) => drop(self.advance(&id, replica::Event::Drain)),
            Step::Freeze(id) => self.freeze(&id),
            Step::Thaw(id) => self.thaw(&id),
            Step::Restart(id) => self.restart(&id),
            Step::Stop { id, grace, keep } => self.stop(&id, grace, keep),
            Step::Remove(id) => self.remove(&id),
        }
    }

    fn start(&mut self, spec: StartSpec) {
        let host = spec.target.host();
        let Some(handle) = self.handle(host) else { return };
        let Some(state) = self.states.get_mut(spec.id.service()) else { return };
        let slot = SlotKey(self.next_slot);
        self.next_slot += 1;
        self.next_number = self.next_number.max(spec.id.order().1 + 1);
        tracing::info!(replica = %spec.id, %host, revision = %spec.revision, reason = %state.reason, "starting");
        let settings = state.fleet.settings();
        if state.pinned.is_none() && spec.launch.has_own_data() {
            state.pinned = Some(host.clone());
            self.unsaved.note(spec.id.service());
        }
        state
            .members
            .insert(spec.id.clone(), Member::starting(&spec, settings, host.clone(), slot, clock::now()));
        let cancelled = self.member(&spec.id).map(|member| member.cancel.clone()).unwrap_or_default();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            // Only the wait for its turn can be cancelled: a call that was cut off might leave a container behind.
            let outcome = tokio::select! {
                permit = handle.starts.acquire() => {
                    let outcome = handle.call("start", handle.runner.start(&spec)).await;
                    drop(permit);
                    outcome
                }
                () = cancelled.cancelled() => Err(Error::new(Kind::Gone, "it was not needed any more")),
            };
            send(&events, Event::Started(spec.id, outcome)).await;
        });
    }

    /// The engine has answered a start.
    pub(super) fn start_answered(&mut self, id: &ReplicaId, outcome: tidegate_runner::Result<()>) {
        let Some(member) = self.member(id) else { return };
        member.accepted = Some(clock::now());
        match outcome {
            Err(error) if error.kind == Kind::Gone => self.forget(id),
            // It was to be stopped while its start was under way.
            _ if member.phase == Phase::Stopping => self.stop(id, UNHEARD_GRACE, false),
            Err(error) if error.kind == Kind::NoImage => self.image_gone(id),
            // Whether it was started nobody knows, and it is not to blame.
            Err(error) if error.kind == Kind::Silent => self.unheard(id),
            Err(error) => {
                let retryable = error.kind == Kind::Retryable;
                self.broke(id, Cause::StartRefused { message: tidegate_runner::chain(&error), retryable });
            }
            // Should it have ended at once, its end was taken for that of its former life.
            Ok(()) if member.again => {
                let host = member.host.clone();
                self.list(&host);
            }
            Ok(()) => {}
        }
    }

    /// Somebody has removed the image since it was looked at: it is looked for again, while requests wait, and the start is held
    /// against nobody.
    fn image_gone(&mut self, id: &ReplicaId) {
        let Some(member) = self.member(id) else { return };
        let (host, revision) = (member.host.clone(), member.revision.clone());
        tracing::warn!(replica = %id, %host, "the image is gone; looking for it again");
        self.advance(id, replica::Event::Lost);
        self.advance(id, replica::Event::Removed);
        if let Some(state) = self.states.get_mut(id.service()) {
            state.image_gone(&host, &revision);
        }
        self.evaluate(id.service(), false);
    }

    /// The engine has not answered about a replica: it is found again, or not, once the engine does.
    fn unheard(&mut self, id: &ReplicaId) {
        let Some(host) = self.member(id).map(|member| member.host.clone()) else { return };
        self.advance(id, replica::Event::Lost);
        self.silent(&host, clock::now(), None);
    }

    pub(super) fn stop(&mut self, id: &ReplicaId, grace: Duration, keep: bool) {
        self.advance(id, replica::Event::Stop);
        if let Some(member) = self.member(id).filter(|member| member.accepted.is_none()) {
            // Its start has not been answered yet: a stop now might come before the container.
            member.cancel.cancel();
            return;
        }
        self.end(id, move |handle, id| async move {
            let call = handle.call("stop", handle.runner.stop(&id, grace, keep));
            let stopped = tokio::time::timeout(grace + STOP_MARGIN, call).await;
            let late = || Err(Error::new(Kind::Retryable, format!("{id} was not stopped in time")));
            (stopped.unwrap_or_else(|_| late()), Vec::new())
        });
        if let Some(member) = self.member(id) {
            member.kept = keep;
        }
    }

    pub(super) fn remove(&mut self, id: &ReplicaId) {
        if let Some(member) = self.member(id) {
            member.kept = false;
        }
        self.end(id, |handle, id| async move {
            let log = tokio::time::timeout(LAST_LINES_WITHIN, last_lines(&*handle.runner, &id)).await;
            let removed = handle.call("remove", handle.runner.remove(&id)).await;
            (removed, log.unwrap_or_default())
        });
    }

    /// Runs a call that ends a replica, unless one is under way.
    fn end<F>(&mut self, id: &ReplicaId, call: impl FnOnce(Handle, ReplicaId) -> F)
    where
        F: Future<Output = (tidegate_runner::Result<()>, Vec<String>)> + Send + 'static,
    {
        let Some(member) = self.member(id).filter(|member| !member.ending) else { return };
        member.ending = true;
        member.stop_probing();
        let host = member.host.clone();
        let Some(handle) = self.handle(&host) else { return };
        let (events, id) = (self.events.clone(), id.clone());
        let call = call(handle, id.clone());
        self.tasks.spawn(async move {
            let (outcome, log) = call.await;
            send(&events, Event::Ended(id, outcome, log)).await;
        });
    }

    /// A call that ends a replica has ended. If it failed, the next tick tries again: at once would be a hot loop.
    pub(super) fn ended(&mut self, id: &ReplicaId, outcome: tidegate_runner::Result<()>, log: Vec<String>) {
        if let Some(state) = self.states.get_mut(id.service())
            && let Some(failure) = state.last_failure.as_mut().filter(|failure| failure.replica == *id)
            && !log.is_empty()
        {
            failure.log = log;
        }
        match outcome {
            Err(error) if error.kind != Kind::Gone => {
                tracing::warn!(replica = %id, error = tidegate_runner::chain(&error), "could not be ended; trying again");
                if let Some(member) = self.member(id) {
                    member.ending = false;
                }
                return;
            }
            Ok(()) if self.was_kept(id) => {}
            Ok(()) | Err(_) => self.forget(id),
        }
        self.evaluate(id.service(), false);
        self.room_freed();
    }

    /// The stop that has ended left the container: it sleeps now.
    fn was_kept(&mut self, id: &ReplicaId) -> bool {
        let Some(member) = self.member(id).filter(|member| member.kept) else { return false };
        (member.kept, member.ending, member.address) = (false, false, None);
        self.unsaved.note(id.service());
        self.advance(id, replica::Event::Stopped)
    }

    /// The engine has it no more.
    fn forget(&mut self, id: &ReplicaId) {
        // A live one that vanishes counts as failed first; its removal then finds nothing and ends here again.
        self.advance(id, replica::Event::Removed);
    }
}

/// Sends an event to the loop; if the loop has ended, nobody needs it.
pub(super) async fn send(events: &tokio::sync::mpsc::Sender<Event>, event: Event) {
    drop(events.send(event).await);
}

async fn last_lines(runner: &dyn Runner, id: &ReplicaId) -> Vec<String> {
    let options = LogOptions { tail: Some(LAST_LINES), follow: false };
    match runner.logs(id, options).await {
        Ok(lines) => lines.filter_map(|line| async { line.ok().map(|line| line.text) }).collect().await,
        Err(_) => Vec::new(),
    }
}
