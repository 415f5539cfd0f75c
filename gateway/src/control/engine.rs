//! One host's engine as the control loop keeps it: the runner, what it offers, whether it answers, what the operator
//! wants of it, and a count of every call.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use metrics::{counter, histogram};
use tidegate_autoscaler::snapshot::{HostOrder, HostState, Room};
use tidegate_config::{
    model,
    name::{HostName, ServiceName},
};
use tidegate_runner::{Inventory, Kind, Result, Runner};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{clock, telemetry};

/// One host's engine.
pub(crate) struct Engine {
    pub(crate) settings: model::Host,
    pub(crate) handle: Handle,
    /// Since when it has not answered; `None`: it does.
    pub(crate) silent_since: Option<Instant>,
    /// It was heard of no more for so long that its replicas are started elsewhere.
    pub(crate) lost: bool,
    /// What the operator wants of it.
    pub(crate) order: HostOrder,
    /// A list is under way.
    pub(crate) listing: bool,
    pub(crate) inventory: Option<Inventory>,
    /// It places by itself, and had no place: for these services, as each asks for something else.
    pub(crate) full: BTreeMap<ServiceName, Full>,
    /// What it said when it was asked last, if it did not do what it was asked.
    pub(crate) said: Option<String>,
    /// When it was last asked for all that it runs.
    pub(crate) listed: Instant,
}

/// A cluster that had no place for a replica.
#[derive(Debug, Clone)]
pub(crate) struct Full {
    /// In its own words.
    pub(crate) why: String,
    /// Until when it is not asked again.
    pub(crate) until: Instant,
}

/// What tasks need to call an engine.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) host: HostName,
    pub(crate) runner: Arc<dyn Runner>,
    /// Counts the calls that are under way.
    pub(crate) busy: TaskTracker,
    /// Starts that may be under way at once.
    pub(crate) starts: Arc<Semaphore>,
}

impl Handle {
    /// Makes a call and counts it.
    pub(crate) async fn call<T>(
        &self,
        call: &'static str,
        made: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let _under_way = self.busy.token();
        let begun = clock::now();
        let outcome = made.await;
        let word = match &outcome {
            Ok(_) => "ok",
            Err(error) => match error.kind {
                Kind::Retryable => "retryable",
                Kind::Silent => "silent",
                Kind::Permanent => "permanent",
                Kind::Gone => "gone",
                Kind::NoImage => "no_image",
            },
        };
        let host = self.host.to_string();
        counter!(telemetry::ENGINE_CALLS, "host" => host.clone(), "call" => call, "outcome" => word)
            .increment(1);
        histogram!(telemetry::ENGINE_SECONDS, "host" => host, "call" => call)
            .record(clock::now().saturating_duration_since(begun));
        outcome
    }
}

impl Engine {
    pub(crate) fn new(settings: model::Host, runner: Arc<dyn Runner>, now: Instant) -> Self {
        let starts = Arc::new(Semaphore::new(settings.parallel_starts.max(1) as usize));
        let handle = Handle { host: settings.name.clone(), runner, busy: TaskTracker::new(), starts };
        Self {
            settings,
            handle,
            // Until it has answered once.
            silent_since: Some(now),
            lost: false,
            order: HostOrder::Open,
            listing: false,
            inventory: None,
            full: BTreeMap::new(),
            said: None,
            listed: now,
        }
    }

    pub(crate) fn name(&self) -> &HostName {
        &self.settings.name
    }

    /// Whether it answers.
    pub(crate) fn state(&self) -> HostState {
        match (self.silent_since, self.lost) {
            (None, _) => HostState::Up,
            (Some(_), false) => HostState::Silent,
            (Some(_), true) => HostState::Lost,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.silent_since.is_none()
    }

    /// The host's name as the label `host`, overlaid with the engine's labels, overlaid with the file's.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([("host".to_owned(), self.name().to_string())]);
        labels.extend(self.inventory.iter().flat_map(|found| found.labels.clone()));
        labels.extend(self.settings.labels.clone());
        labels
    }

    /// What the engine has, unless the file says otherwise. What fits into a cluster the cluster knows best.
    pub(crate) fn capacity(&self) -> Room {
        let set = &self.settings.capacity;
        let found = self.inventory.as_ref().filter(|_| !self.settings.engine.places());
        Room {
            cpu: set.cpu.or(found.map(|found| found.cpu)).unwrap_or_default(),
            memory: set.memory.or(found.map(|found| found.memory)).unwrap_or_default(),
            replicas: set.replicas.unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.settings.name)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.host)
    }
}
