//! Putting replicas to sleep and waking them: freeze, thaw, and starting again what was stopped and kept. Each is a task
//! whose outcome comes back as an event; one that fails makes a failed replica, and the next look plans another.

use std::time::{Duration, Instant};

use tidegate_autoscaler::{Cause, Phase, replica};
use tidegate_config::name::ReplicaId;
use tidegate_runner::{Error, Kind, Result};

use super::{Control, apply::send, event::Event, member::Member};
use crate::{clock, fleet::admission::SlotKey};

/// How long an engine may take to freeze or thaw; requests may be waiting.
const WITHIN: Duration = Duration::from_secs(5);

impl Control {
    pub(super) fn freeze(&mut self, id: &ReplicaId) {
        if !self.advance(id, replica::Event::Freeze) {
            return;
        }
        let Some(handle) = self.handle_of(id) else { return };
        if let Some(member) = self.member(id) {
            member.stop_probing();
        }
        let (events, id) = (self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let outcome = in_time(handle.call("freeze", handle.runner.freeze(&id))).await;
            send(&events, Event::Froze(id, outcome)).await;
        });
    }

    pub(super) fn thaw(&mut self, id: &ReplicaId) {
        if !self.advance(id, replica::Event::Thaw) {
            return;
        }
        let Some(handle) = self.handle_of(id) else { return };
        let (events, id) = (self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let outcome = in_time(handle.call("thaw", handle.runner.thaw(&id))).await;
            send(&events, Event::Thawed(id, outcome)).await;
        });
    }

    /// Somebody else has frozen a replica that serves, or a call of the gateway's former life came late: it is thawed, or it
    /// would take connections and answer none.
    pub(super) fn thaw_stray(&mut self, id: &ReplicaId, seen: Instant) {
        let serves = |member: &&mut Member| {
            matches!(member.phase, Phase::Starting | Phase::Ready | Phase::Draining) && member.since < seen
        };
        if self.member(id).filter(serves).is_none() {
            return;
        }
        let Some(handle) = self.handle_of(id) else { return };
        tracing::warn!(replica = %id, "was frozen by somebody else; thawing it");
        let id = id.clone();
        self.tasks.spawn(async move {
            if let Err(error) = in_time(handle.call("thaw", handle.runner.thaw(&id))).await {
                tracing::warn!(replica = %id, error = tidegate_runner::chain(&error), "could not be thawed");
            }
        });
    }

    pub(super) fn froze(&mut self, id: &ReplicaId, outcome: Result<()>) {
        self.moved(id, outcome, replica::Event::Frozen, "frozen");
    }

    pub(super) fn thawed(&mut self, id: &ReplicaId, outcome: Result<()>) {
        self.moved(id, outcome, replica::Event::Thawed, "thawed");
        self.probe_life(id);
    }

    fn moved(&mut self, id: &ReplicaId, outcome: Result<()>, done: replica::Event, word: &str) {
        let event = match outcome {
            Ok(()) => done,
            Err(error) if error.kind == Kind::Gone => replica::Event::Removed,
            Err(error) => replica::Event::Broke(Cause::Unhealthy {
                last: format!("it could not be {word}: {}", tidegate_runner::chain(&error)),
            }),
        };
        if self.advance(id, event) {
            self.evaluate(id.service(), false);
        }
    }

    /// Starts a stopped replica again.
    pub(super) fn restart(&mut self, id: &ReplicaId) {
        let slot = SlotKey(self.next_slot);
        let Some(handle) = self.handle_of(id) else { return };
        if !self.advance(id, replica::Event::Restart) {
            return;
        }
        self.next_slot += 1;
        self.unsaved.note(id.service());
        let Some(member) = self.member(id) else { return };
        member.begin_again(slot, clock::now());
        let cancelled = member.cancel.clone();
        let (events, id) = (self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                permit = handle.starts.acquire() => {
                    let outcome = handle.call("restart", handle.runner.restart(&id)).await;
                    drop(permit);
                    outcome
                }
                () = cancelled.cancelled() => Err(Error::new(Kind::Silent, "it was not needed any more")),
            };
            send(&events, Event::Started(id, outcome)).await;
        });
    }
}

async fn in_time(call: impl Future<Output = Result<()>>) -> Result<()> {
    let late = || Err(Error::new(Kind::Retryable, format!("the engine took longer than {WITHIN:?}")));
    tokio::time::timeout(WITHIN, call).await.unwrap_or_else(|_| late())
}
