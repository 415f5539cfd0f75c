//! What must outlive the gateway besides the containers themselves: which versions services have had, where data binds
//! them, which replicas sleep stopped, what hosts were told. One JSON value, written whole when it has changed, by a
//! task that the loop never waits for and that works a tenth of the time at most. A write that fails is loud, and is tried
//! again; the gateway serves on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_autoscaler::{Habits, Memory, Phase, Release, snapshot::HostOrder};
use tidegate_config::name::{HostName, ReplicaId, ServiceName};
use tokio::sync::watch;

use super::{Control, engine::Engine, state::State};
use crate::{clock, telemetry};

/// How often what was learned is written although nothing else has changed.
const LEARNED: Duration = Duration::from_secs(300);

/// Of its time the writer works this share at most,
const SHARE: f64 = 0.1;
/// but for so many seconds in one go.
const IN_ONE_GO: f64 = 0.5;
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
    /// What [addresses are named](super::outside) with for sessions, once there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<u64>,
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
    let mut pace = Pace { left: IN_ONE_GO, at: clock::now() };
    while values.changed().await.is_ok() {
        loop {
            let value = Arc::new(values.borrow_and_update().clone());
            let begun = clock::now();
            match store(&save, &value).await {
                Ok(()) => {
                    rest(&mut values, pace.rest_after(begun, clock::now())).await;
                    break;
                }
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

/// How long the writer may go on without a rest.
struct Pace {
    /// Seconds of work.
    left: f64,
    at: Instant,
}

impl Pace {
    /// How long to rest after a piece of work.
    fn rest_after(&mut self, begun: Instant, ended: Instant) -> Duration {
        let earned = begun.saturating_duration_since(self.at).as_secs_f64() * SHARE;
        let took = ended.saturating_duration_since(begun).as_secs_f64();
        (self.left, self.at) = ((self.left + earned).min(IN_ONE_GO) - took, ended);
        Duration::from_secs_f64((-self.left / SHARE).max(0.0))
    }
}

/// Lets so much time pass, or as much as the loop still runs; what has changed meanwhile is still new afterwards.
async fn rest(values: &mut watch::Receiver<Kept>, time: Duration) {
    let over = tokio::time::sleep(time);
    tokio::pin!(over);
    let mut changed = false;
    loop {
        tokio::select! {
            () = &mut over => break,
            news = values.changed() => match news {
                Ok(()) => changed = true,
                Err(_) => break,
            },
        }
    }
    if changed {
        values.mark_changed();
    }
}

async fn store(save: &Save, value: &Arc<Kept>) -> std::io::Result<()> {
    let (save, value) = (Arc::clone(save), Arc::clone(value));
    tokio::task::spawn_blocking(move || save(&serde_json::to_string(&*value)?)).await?
}

/// What has changed of what is to be kept.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    services: BTreeSet<ServiceName>,
    all: bool,
}

impl Unsaved {
    /// Of one service.
    pub(super) fn note(&mut self, service: &ServiceName) {
        self.services.insert(service.clone());
    }

    /// Of all of them, and of the hosts.
    pub(super) fn note_all(&mut self) {
        self.all = true;
    }
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
            self.learned_at = now;
            self.unsaved.note_all();
        }
    }

    /// Hands what is to be kept to its writer, where it has changed.
    pub(super) fn save(&mut self) {
        let Unsaved { services, all } = std::mem::take(&mut self.unsaved);
        if all {
            let kept = self.all_kept();
            self.keep.send_if_modified(|before| replace(before, kept));
        } else if !services.is_empty() {
            self.keep.send_if_modified(|all| {
                let changed = services.into_iter().filter(|name| self.save_one(all, name)).count();
                changed > 0
            });
        }
    }

    fn all_kept(&self) -> Kept {
        let names = self.kept.services.keys().chain(self.states.keys());
        let kept = |name: &ServiceName| Some((name.clone(), self.kept_of(name)?));
        let order = |engine: &Engine| match engine.order {
            HostOrder::Open => None,
            HostOrder::Cordoned => Some((engine.name().clone(), KeptOrder::Cordoned)),
            HostOrder::Draining => Some((engine.name().clone(), KeptOrder::Draining)),
        };
        Kept {
            services: names.filter_map(kept).collect(),
            hosts: self.engines.iter().filter_map(order).collect(),
            secret: self.kept.secret,
        }
    }

    /// True if it has changed.
    fn save_one(&self, all: &mut Kept, name: &ServiceName) -> bool {
        let Some(now) = self.kept_of(name) else { return all.services.remove(name).is_some() };
        replace(all.services.entry(name.clone()).or_default(), now)
    }

    /// What is kept of a service, there or gone.
    fn kept_of(&self, name: &ServiceName) -> Option<KeptService> {
        self.states.get(name).map(State::kept).or_else(|| self.kept.services.get(name).cloned())
    }
}

/// True if that changed anything.
fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_writes_come_at_once_and_many_take_a_tenth_of_the_time() {
        let (begun, ms) = (clock::now(), Duration::from_millis);
        let mut pace = Pace { left: IN_ONE_GO, at: begun };
        let mut now = begun;
        let mut write = |wait: Duration| {
            let ended = now + wait + ms(100);
            let rest = pace.rest_after(now + wait, ended);
            now = ended;
            rest
        };
        assert!((0..5).all(|_| write(Duration::ZERO) < ms(1)));
        let rests = [write(Duration::ZERO), write(ms(1000)), write(ms(1000))];
        assert!(rests.iter().all(|rest| rest.abs_diff(ms(1000)) < ms(1)), "{rests:?}");
        assert_eq!(write(ms(9000)), Duration::ZERO, "it has rested");
    }
}
