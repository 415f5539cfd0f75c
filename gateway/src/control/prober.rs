//! Probing: densely until a replica is ready, then every few seconds as long as it lives, and at once when the data plane
//! could not connect to it. Each runs as a task that is aborted when its replica leaves the phase.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidegate_autoscaler::Phase;
use tidegate_config::{
    model::{Health, Probe, Service},
    name::ReplicaId,
    spec::{Exit, ObservedState, Protocol},
};
use tidegate_runner::{
    self as runner, Reached,
    probe::{Check, NotReady, Target, once, until_ready},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    Control,
    apply::send,
    engine::Handle,
    event::{Event, Probed},
};
use crate::clock;

/// A replica that did not take a connection gets this many probes in quick succession before it is given up.
pub(super) const SUSPECT_PROBES: u32 = 3;
pub(super) const SUSPECT_PAUSE: Duration = Duration::from_millis(50);

/// The same for one whose engine does not answer either: requests are waiting for the word.
const SILENT_PROBES: u32 = 2;
const SILENT_PATIENCE: Duration = Duration::from_millis(500);

/// How long its engine may take to say whether it has ended.
const EXIT_WITHIN: Duration = Duration::from_secs(1);

impl Control {
    /// Probes a starting replica until it is ready or its start deadline has passed.
    pub(super) fn probe_start(&mut self, id: &ReplicaId) {
        let Some((target, health)) = self.target(id) else { return };
        let Some(member) = self.member(id) else { return };
        let used = clock::now().saturating_duration_since(member.started);
        // One that was heard of late, because its event was lost, still gets a fair try.
        let left = health.start_deadline.saturating_sub(used).max(2 * health.timeout);
        let (events, told) = (self.events.clone(), id.clone());
        let task = self.tasks.spawn(async move {
            let found = match until_ready(&target, health.successes, health.timeout, left).await {
                Ok(()) => Probed::Ready,
                Err(NotReady { last, .. }) => Probed::NotReady(last.to_string()),
            };
            send(&events, Event::Probed(told, found)).await;
        });
        self.set_prober(id, task);
    }

    /// Probes a ready replica as long as it lives.
    pub(super) fn probe_life(&mut self, id: &ReplicaId) {
        self.watch_over(id, true);
    }

    /// The same with a probe that is new to a replica which was ready before: one that nobody has seen pass yet may be a
    /// mistake in the file, and takes nothing down.
    pub(super) fn probe_anew(&mut self, id: &ReplicaId) {
        self.watch_over(id, false);
    }

    fn watch_over(&mut self, id: &ReplicaId, proven: bool) {
        let alive =
            |member: &mut super::member::Member| matches!(member.phase, Phase::Ready | Phase::Draining);
        if !self.member(id).is_some_and(alive) {
            return;
        }
        let Some((target, health)) = self.target(id) else { return };
        let (events, told) = (self.events.clone(), id.clone());
        let task = self.tasks.spawn(async move {
            let last = fails(&target, &health, proven).await;
            send(&events, Event::Probed(told, Probed::Unhealthy(last))).await;
        });
        self.set_prober(id, task);
    }

    /// Probes a replica now that did not take a connection, or whose host is silent. One that did not take a connection gets
    /// no requests until it has passed.
    pub(super) fn probe_suspect(&mut self, id: &ReplicaId) {
        if self.doubt_outside(id) {
            return;
        }
        let Some((target, health)) = self.target(id) else { return };
        let Some(handle) = self.handle_of(id) else { return };
        let serves = |member: &&mut super::member::Member| {
            matches!(member.phase, Phase::Ready | Phase::Draining) && !member.suspected
        };
        let silent = self.is_on_silent_host(id);
        let Some(member) = self.member(id).filter(serves) else { return };
        member.suspected = true;
        // Where the engine is silent too, little more is needed.
        let (tries, patience) = if silent {
            (SILENT_PROBES, health.timeout.min(SILENT_PATIENCE))
        } else {
            (SUSPECT_PROBES, health.timeout)
        };
        let (events, told) = (self.events.clone(), id.clone());
        self.tasks.spawn(async move {
            let mut last = String::new();
            for _ in 0..tries {
                match once(&target, patience).await {
                    Ok(()) => return send(&events, Event::Probed(told, Probed::WellAfterAll)).await,
                    Err(failure) if failure.is_ours() => {
                        return send(&events, Event::Probed(told, Probed::WellAfterAll)).await;
                    }
                    Err(failure) => last = failure.to_string(),
                }
                tokio::time::sleep(SUSPECT_PAUSE).await;
            }
            // If its process has ended, how it did says more than that nobody answers.
            let ended = if silent { Err(Silent) } else { exit(&handle, &told).await };
            let event = match ended {
                Ok(Some(exit)) => Event::Engine(handle.host, runner::Event::Exited { id: told, exit }),
                Ok(None) => Event::Probed(told, Probed::Unreachable(last)),
                Err(Silent) => Event::Probed(told, Probed::Silent),
            };
            send(&events, event).await;
        });
    }

    pub(super) fn handle_of(&mut self, id: &ReplicaId) -> Option<Handle> {
        let host = self.member(id)?.host.clone();
        self.handle(&host)
    }

    fn set_prober(&mut self, id: &ReplicaId, task: tokio::task::AbortHandle) {
        if let Some(member) = self.member(id) {
            member.stop_probing();
            member.prober = Some(task);
        }
    }

    /// What to ask a replica: what the file says, else what its image says, else whether it takes connections.
    fn target(&mut self, id: &ReplicaId) -> Option<(Target, Health)> {
        let state = self.states.get(id.service())?;
        let member = state.members.get(id)?;
        let address = member.address?;
        let settings = Arc::clone(&member.settings);
        let engine = self.engine(&member.host)?;
        let exec = |command: Vec<String>| Check::Exec {
            runner: engine.handle.runner.clone(),
            id: id.clone(),
            command,
        };
        let images = state.images.get(&member.host).and_then(|image| image.healthcheck.clone());
        let images = images.filter(|_| engine.handle.runner.capabilities().exec && engine.is_up());
        // Whatever publishes a port takes connections by itself; only an answer comes from the replica.
        let connect = match engine.handle.runner.reach() {
            Reached::Address => Check::Tcp,
            Reached::Published if settings.launch.protocol == Protocol::Tcp => Check::StaysOpen,
            Reached::Published => Check::AnyAnswer { protocol: settings.launch.protocol },
        };
        let check = match (&settings.health.probe, images) {
            // An engine that does not answer runs no command, which says nothing of its replicas.
            (Some(Probe::Exec { .. }), _) if !engine.is_up() => connect,
            (Some(Probe::Exec { command }), _) => exec(command.clone()),
            (None, Some(command)) => exec(command),
            (Some(Probe::Http { .. } | Probe::Grpc { .. } | Probe::Tcp) | None, _) => {
                asked(&settings, address).unwrap_or(connect)
            }
        };
        Some((Target { address, check }, settings.health.clone()))
    }
}

/// What the file asks over the network, beyond whether the address takes connections.
pub(super) fn asked(settings: &Service, address: SocketAddr) -> Option<Check> {
    let at = |port: Option<u16>| SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
    match settings.health.probe.as_ref()? {
        Probe::Grpc { service, port } => Some(Check::Grpc { address: at(*port), service: service.clone() }),
        Probe::Http { path, port } => Some(Check::Http {
            address: at(*port),
            path: path.clone(),
            protocol: if port.is_some() { Protocol::Http1 } else { settings.launch.protocol },
        }),
        Probe::Tcp | Probe::Exec { .. } => None,
    }
}

/// The engine does not answer.
struct Silent;

/// How a replica's process ended, if the engine says that it did.
async fn exit(handle: &Handle, id: &ReplicaId) -> Result<Option<Exit>, Silent> {
    let listed = tokio::time::timeout(EXIT_WITHIN, handle.call("list", handle.runner.list())).await;
    let Ok(Ok(listed)) = listed else { return Err(Silent) };
    let seen = listed.into_iter().find(|seen| seen.id == *id);
    Ok(seen.and_then(|seen| match seen.state {
        ObservedState::Exited(exit) => Some(exit),
        ObservedState::Created | ObservedState::Running | ObservedState::Frozen => None,
    }))
}

/// Ends with the last failure once enough probes in a row have failed. A probe that is not `proven` counts from its first
/// pass on.
pub(super) async fn fails(target: &Target, health: &Health, mut proven: bool) -> String {
    let mut ticks = interval_at(Instant::from_std(clock::now() + health.interval), health.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = 0;
    loop {
        ticks.tick().await;
        match once(target, health.timeout).await {
            Ok(()) => (failed, proven) = (0, true),
            Err(failure) if failure.is_ours() => tracing::warn!(%failure, "no liveness probe"),
            Err(failure) => {
                failed += 1;
                tracing::debug!(%failure, failed, "liveness probe");
                if failed >= health.failures && proven {
                    return failure.to_string();
                }
                if failed == health.failures {
                    tracing::warn!(%failure, "the probe that the file has by now has not passed once; it is not counted");
                }
            }
        }
    }
}
