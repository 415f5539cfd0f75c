//! Whether hosts answer, and what the operator wants of them. A task per host asks its engine every second; an engine
//! that stays silent gets no calls, and replicas there that do not answer either are lost: replaced elsewhere, taken back
//! as they are found when the host returns. Holds: an engine's silence alone takes nothing out of traffic.

use std::time::{Duration, Instant};

use tidegate_autoscaler::{
    Phase, replica,
    snapshot::{HostOrder, HostState},
};
use tidegate_config::name::{HostName, ReplicaId};
use tokio::sync::oneshot;

use super::{Control, apply::send, engine::Handle, event::Event, member::Member, status::HostStatus};
use crate::clock;

/// Between two questions to an engine that answers.
const BEAT: Duration = Duration::from_secs(1);
/// Between two to one that did not.
const BEAT_AGAIN: Duration = Duration::from_millis(250);
/// How long it may take to answer, should its runner set no bound of its own.
const ANSWER: Duration = Duration::from_secs(5);
/// Questions in a row without an answer that make a silent engine.
const MISSES: u32 = 2;

/// One question to an engine.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    /// Whether it counts as answering.
    pub(crate) answers: bool,
    /// When it last did.
    pub(crate) heard: Instant,
    /// What it said instead of an answer, if it said something.
    pub(crate) said: Option<String>,
}

/// Somebody who waits until a host is empty.
#[derive(Debug)]
pub(super) struct Drainer {
    host: HostName,
    reply: oneshot::Sender<Result<(), String>>,
}

/// Asks an engine whether it answers, for ever.
pub(super) async fn listen(handle: Handle, events: tokio::sync::mpsc::Sender<Event>) {
    let (mut heard, mut misses) = (clock::now(), 0);
    loop {
        let asked = clock::now();
        let answer = tokio::time::timeout(ANSWER, handle.runner.ping()).await;
        let answered = matches!(answer, Ok(Ok(())));
        let said = answer.ok().and_then(Result::err).and_then(|error| said(&error));
        (heard, misses) = if answered { (asked, 0) } else { (heard, misses + 1) };
        let beat = Beat { answers: misses < MISSES, heard, said };
        // The first failure is no news yet.
        if answered || !beat.answers {
            send(&events, Event::Beat(handle.host.clone(), beat)).await;
        }
        tokio::time::sleep(if answered { BEAT } else { BEAT_AGAIN }).await;
    }
}

impl Control {
    pub(super) fn beat(&mut self, host: &HostName, beat: Beat) {
        let Some(engine) = self.engine_mut(host) else { return };
        if beat.answers {
            // It is up once it has told what it runs.
            if !engine.is_up() && !engine.listing {
                self.list(host);
            }
            return;
        }
        self.silent(host, beat.heard, beat.said);
    }

    /// The host's engine has not done what it was asked since `since`, and this is what it said, if anything.
    pub(super) fn silent(&mut self, host: &HostName, since: Instant, said: Option<String>) {
        let Some(engine) = self.engine_mut(host) else { return };
        if said.is_some() && engine.said != said {
            tracing::warn!(%host, error = said, "the engine does not do what it is asked");
        }
        engine.said = said;
        let before = engine.state();
        let since = *engine.silent_since.get_or_insert(since);
        let silence = clock::now().saturating_duration_since(since);
        engine.lost = engine.lost || silence >= engine.settings.lost_after;
        let (now, up_to) = (engine.state(), engine.settings.lost_after);
        match (before == now, now) {
            (true, _) => {}
            (false, HostState::Lost) => {
                tracing::error!(%host, silent_for = ?up_to, "the host is lost; its replicas are started elsewhere");
                self.lose_sleepers(host);
                self.unlisted.remove(host);
            }
            (false, _) => tracing::warn!(%host, "the engine does not answer; nothing is started there"),
        }
        self.probe_all(host);
        if before != now {
            self.evaluate_all();
        }
    }

    /// The host's engine answers; true if it did not before.
    pub(super) fn heard(&mut self, host: &HostName) -> bool {
        let Some(engine) = self.engine_mut(host) else { return false };
        engine.lost = false;
        engine.said = None;
        let is_back = engine.silent_since.take().is_some();
        if is_back {
            tracing::info!(%host, "the engine answers");
        }
        self.unlisted.remove(host);
        is_back
    }

    /// What the engine of a lost host was doing with replicas will not end; those that serve are judged by probes.
    fn lose_sleepers(&mut self, host: &HostName) {
        let waits = |member: &&Member| {
            matches!(member.phase, Phase::Starting | Phase::Freezing | Phase::Frozen | Phase::Thawing)
        };
        for id in self.members_on(host, waits) {
            if let Some(member) = self.member(&id).filter(|member| member.accepted.is_none()) {
                member.cancel.cancel();
            }
            self.advance(&id, replica::Event::Lost);
        }
    }

    /// Asks everything that serves on a silent host whether it still does.
    fn probe_all(&mut self, host: &HostName) {
        let serves = |member: &&Member| matches!(member.phase, Phase::Ready | Phase::Draining);
        for id in self.members_on(host, serves) {
            self.probe_suspect(&id);
        }
    }

    pub(super) fn members_on(&self, host: &HostName, test: impl Fn(&&Member) -> bool) -> Vec<ReplicaId> {
        let there = self.members().filter(|member| member.host == *host);
        there.filter(test).map(|member| member.id.clone()).collect()
    }

    /// Sets what a host is to do. Whoever asks to drain it is answered when it is empty.
    pub(super) fn order(
        &mut self,
        host: HostName,
        order: HostOrder,
        reply: oneshot::Sender<Result<(), String>>,
    ) {
        let Some(engine) = self.engine_mut(&host) else {
            drop(reply.send(Err(format!("no host is called {host}"))));
            return;
        };
        if engine.order != order {
            engine.order = order;
            tracing::info!(%host, order = word(order), "host");
            self.unsaved.note_all();
        }
        match order {
            HostOrder::Draining => self.drainers.push(Drainer { host, reply }),
            // Whoever asked may have gone.
            HostOrder::Open | HostOrder::Cordoned => drop(reply.send(Ok(()))),
        }
        self.evaluate_all();
    }

    /// Answers those whose host has become empty, or is not to be drained any more.
    pub(super) fn answer_drainers(&mut self) {
        for Drainer { host, reply } in std::mem::take(&mut self.drainers) {
            let empty = self.members_on(&host, |_| true).is_empty();
            let draining = self.engine(&host).is_some_and(|engine| engine.order == HostOrder::Draining);
            match (draining, empty) {
                (false, _) => drop(reply.send(Err(format!("{host} is not to be drained any more")))),
                (true, true) => drop(reply.send(Ok(()))),
                (true, false) if !reply.is_closed() => self.drainers.push(Drainer { host, reply }),
                (true, false) => {}
            }
        }
    }

    pub(super) fn host_status(&self) -> Vec<HostStatus> {
        let reserved = self.reserved.rooms();
        let status = |engine: &super::Engine| {
            let (has, taken) = (engine.capacity(), reserved.get(engine.name()).copied().unwrap_or_default());
            let mut replicas = std::collections::BTreeMap::new();
            for member in self.members().filter(|member| member.host == *engine.name()) {
                *replicas.entry(member.phase.label().to_owned()).or_default() += 1;
            }
            let silent = engine.silent_since.map(|since| clock::now().saturating_duration_since(since));
            HostStatus {
                host: engine.name().to_string(),
                state: match engine.state() {
                    HostState::Up => "up".into(),
                    HostState::Silent => "silent".into(),
                    HostState::Lost => "lost".into(),
                },
                silent: silent.map_or(0, |silent| silent.as_secs()),
                said: engine.said.clone(),
                order: word(engine.order).into(),
                engine: engine.inventory.as_ref().map(|found| found.engine.clone()),
                labels: engine.labels(),
                cpu: has.cpu,
                cpu_reserved: taken.cpu,
                memory: has.memory.0,
                memory_reserved: taken.memory.0,
                replicas,
            }
        };
        self.engines.iter().map(status).collect()
    }
}

/// What an engine said that answered, and did not do what it was asked.
pub(super) fn said(error: &tidegate_runner::Error) -> Option<String> {
    (error.kind != tidegate_runner::Kind::Silent).then(|| tidegate_runner::chain(error))
}

/// An order as commands name it.
pub(super) fn word(order: HostOrder) -> &'static str {
    match order {
        HostOrder::Open => "open",
        HostOrder::Cordoned => "cordoned",
        HostOrder::Draining => "draining",
    }
}
