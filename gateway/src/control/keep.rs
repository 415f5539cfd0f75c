//! What must outlive the gateway besides the containers themselves: which versions services have had, where data binds
//! them, which replicas sleep stopped, what hosts were told. One small JSON value, written whole whenever it changes, by a
//! task that the loop never waits for. A write that fails is loud, and is tried again; the gateway serves on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_autoscaler::{Habits, Memory, Phase, Release, snapshot::HostOrder};
use tidegate_config::name::{HostName, ReplicaId, ServiceName};
use tokio::sync::watch;

use super::{Control, state::State};
use crate::telemetry;

/// How often what was learned is written although nothing else has changed.
const LEARNED: Duration = Duration::from_secs(300);

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Writes the text to where it will be found again, whole or not at all.
pub type Save = Arc<dyn Fn(&str) -> std::io::Result<()> + Send + Sync>;

/// What was kept, and how it is kept from now on.
#[derive(Clone)]
pub struct Keeper {
    /// From the last start.
    pub kept: Kept,
    /// Called in a thread of its own.
    pub save: Save,
}

impl Keeper {
    /// Keeps nothing: for gateways whose state ends with them.
    #[must_use]
    pub fn none() -> Self {
        Self { kept: Kept::default(), save: Arc::new(|_| Ok(())) }
    }
}

/// What outlives the gateway.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Kept {
    #[serde(default)]
    pub(super) services: BTreeMap<ServiceName, KeptService>,
    #[serde(default)]
    pub(super) hosts: BTreeMap<HostName, KeptOrder>,
}

/// What outlives the gateway of one service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct KeptService {
    pub(super) release: Release,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pinned: Option<HostName>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) stopped: BTreeSet<ReplicaId>,
    /// What the law of scaling has learned. Of an older or newer version it may be something else, and is learned again then.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub(super) habits: Option<Habits>,
}

fn if_readable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Habits>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

/// An order that is not the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeptOrder {
    Cordoned,
    Draining,
}

impl From<KeptOrder> for HostOrder {
    fn from(order: KeptOrder) -> Self {
        match order {
            KeptOrder::Cordoned => Self::Cordoned,
            KeptOrder::Draining => Self::Draining,
        }
    }
}

/// Writes each new value until the loop has ended; the last one is written too.
pub(super) async fn write(mut values: watch::Receiver<Kept>, save: Save) {
    while values.changed().await.is_ok() {
        loop {
            let value = values.borrow_and_update().clone();
            match store(&save, &value).await {
                Ok(()) => break,
                Err(error) => {
                    metrics::counter!(telemetry::STATE_FAILURES).increment(1);
                    tracing::error!(%error, "the state cannot be written; a restart of the gateway would find the old one");
                    // Also woken by the end of the loop, after which one more try is all there is.
                    if tokio::time::timeout(AGAIN, values.changed()).await.is_ok_and(|ended| ended.is_err()) {
                        drop(store(&save, &value).await);
                        return;
                    }
                }
            }
        }
    }
}

async fn store(save: &Save, value: &Kept) -> std::io::Result<()> {
    let text = serde_json::to_string(value)?;
    let save = Arc::clone(save);
    tokio::task::spawn_blocking(move || save(&text)).await?
}

impl Control {
    /// Hosts are told again what they were told before this start.
    pub(super) fn restore_orders(&mut self) {
        for engine in &mut self.engines {
            engine.order =
                self.kept.hosts.get(engine.name()).map_or(HostOrder::Open, |order| (*order).into());
        }
    }

    /// What laws have learned changes all the time, and is not urgent.
    pub(super) fn keep_learned(&mut self, now: Instant) {
        if self.learned_at + LEARNED <= now {
            (self.learned_at, self.unsaved) = (now, true);
        }
    }

    /// Hands what is to be kept to its writer, if it has changed.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        let kept = Kept {
            services: self
                .kept
                .services
                .clone()
                .into_iter()
                .chain(self.states.iter().map(|(name, state)| (name.clone(), state.kept())))
                .collect(),
            hosts: self
                .engines
                .iter()
                .filter_map(|engine| match engine.order {
                    HostOrder::Open => None,
                    HostOrder::Cordoned => Some((engine.name().clone(), KeptOrder::Cordoned)),
                    HostOrder::Draining => Some((engine.name().clone(), KeptOrder::Draining)),
                })
                .collect(),
        };
        self.keep.send_if_modified(|before| {
            let changed = *before != kept;
            *before = kept;
            changed
        });
    }
}

impl State {
    pub(super) fn kept(&self) -> KeptService {
        let stopped = self.members.values().filter(|member| member.phase == Phase::Stopped);
        let mut stopped: BTreeSet<ReplicaId> = stopped.map(|member| member.id.clone()).collect();
        // Not listed yet by their host.
        stopped.extend(self.kept_stopped.iter().cloned());
        KeptService {
            release: self.memory.release().clone(),
            pinned: self.pinned.clone(),
            stopped,
            habits: self.memory.habits(),
        }
    }

    pub(super) fn restore(&mut self, kept: KeptService) {
        self.memory = Memory::restored(kept.release, kept.habits);
        self.pinned = kept.pinned;
        self.kept_stopped = kept.stopped;
    }
}
