//! What the runner and the task that follows the swarm share: the connection, and one look at all that is ours.
//! Holds: ours is what has the instance's label and its name, as with Docker.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bollard::{
    models::{Node, Service, ServiceSpec, Task},
    query_parameters::{
        InspectContainerOptions, InspectServiceOptions, ListNodesOptions, ListServicesOptions,
        ListTasksOptions,
    },
};
use parking_lot::Mutex;
use tidegate_config::{name::ReplicaId, spec::Observed};
use tokio::{sync::Notify, time::sleep};

use super::{
    Options,
    judge::{self, Places},
};
use crate::{
    Error, Kind, Result,
    call::{Failed, READ},
    cluster::{Seen, Standing},
    docker::{
        call::Api,
        endpoint::Endpoint,
        images::Images,
        labels::{self, Labels, Stamp},
    },
    events::Events,
    resolver::Resolvers,
};

/// The exit code of a process that got SIGKILL, as the kernel sends it when memory is short.
const KILLED: i64 = 137;
/// An engine may hear that a container was killed before it hears why: so it is asked again.
const HEARSAY: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(600), Duration::from_millis(1200)];
/// The Engine API that can forbid new privileges to services.
const FORBIDS: (u32, u32) = (1, 46);

/// One connection to one swarm.
pub(super) struct Inner {
    pub api: Api,
    pub endpoint: Endpoint,
    pub options: Options,
    pub images: Images,
    pub events: Events,
    /// Something is starting: look at once, and densely.
    pub started: Notify,
    /// Whom new containers ask for names.
    pub resolvers: Resolvers,
    /// Whether memory was short when a container of the manager's own node was killed, by its id.
    short: Mutex<HashMap<String, bool>>,
    forbids: OnceLock<bool>,
}

/// A service that is ours.
pub(super) struct Found {
    /// Swarm's id of it: a name could change hands between two calls.
    pub service: String,
}

impl Inner {
    pub(super) fn new(api: Api, endpoint: Endpoint, options: Options) -> Arc<Self> {
        let images = Images::new(api.clone());
        let (resolvers, short, forbids) = (Resolvers::default(), Mutex::default(), OnceLock::new());
        let started = Notify::new();
        Arc::new(Self {
            api,
            endpoint,
            options,
            images,
            events: Events::default(),
            started,
            resolvers,
            short,
            forbids,
        })
    }

    /// Everything of ours, as it is now.
    pub(super) async fn look(&self) -> Result<Vec<Seen>> {
        let (services, tasks, nodes) = tokio::try_join!(self.services(), self.tasks(), self.nodes())?;
        let places = judge::places(&nodes, self.options.address, self.endpoint.is_local());
        let mut seen = Vec::with_capacity(services.len());
        for service in &services {
            seen.extend(self.see(service, &tasks, &places).await?);
        }
        Ok(seen)
    }

    async fn see(&self, service: &Service, tasks: &[Task], places: &Places) -> Result<Option<Seen>> {
        let Some(stamp) = service.spec.as_ref().and_then(|spec| self.stamp(spec)) else { return Ok(None) };
        let of_it = tasks.iter().filter(|task| task.service_id.is_some() && task.service_id == service.id);
        let task = judge::newest(of_it);
        let mut standing = task.map_or(Standing::Coming, |task| judge::standing(task, places, stamp.port));
        if let (Standing::Ended(exit), Some(task)) = (&mut standing, task)
            && exit.code == KILLED
        {
            exit.out_of_memory = self.was_short(task).await?;
        }
        let observed = Observed {
            state: standing.state(),
            address: standing.address(),
            created: labels::created(service.created_at.as_deref(), None),
            healthcheck: None,
            id: stamp.id,
            revision: stamp.revision,
            digest: stamp.digest,
        };
        Ok(Some(Seen { observed, standing, trouble: None }))
    }

    /// Whether a killed task's container was killed for want of memory: Swarm does not say, only the engine that has the
    /// container does, and only the manager's own is at hand.
    async fn was_short(&self, task: &Task) -> Result<bool> {
        let container = task.status.as_ref().and_then(|s| s.container_status.as_ref()?.container_id.clone());
        let Some(container) = container.filter(|id| !id.is_empty()) else { return Ok(false) };
        if let Some(short) = self.short.lock().get(&container) {
            return Ok(*short);
        }
        let mut short = self.is_out_of_memory(&container).await?;
        for wait in HEARSAY {
            if short == Some(false) {
                sleep(wait).await;
                short = self.is_out_of_memory(&container).await?;
            }
        }
        let short = short.unwrap_or(false);
        self.short.lock().insert(container, short);
        Ok(short)
    }

    /// What the manager's own engine says of a container; `None`: it is on another node.
    async fn is_out_of_memory(&self, container: &str) -> Result<Option<bool>> {
        let call = self.api.inspect_container(container, None::<InspectContainerOptions>);
        match self.api.call("inspect", READ, call).await {
            Ok(found) => Ok(Some(found.state.and_then(|state| state.oom_killed).unwrap_or(false))),
            Err(failed) if failed.is(404) => Ok(None),
            Err(failed) => Err(failed.during("look at a killed container")),
        }
    }

    /// The service of a replica, if there is one and it is ours.
    pub(super) async fn find(&self, id: &ReplicaId) -> Result<Option<Found>> {
        let name = labels::container(&self.options.instance, id);
        let found = self.inspect(&name).await.map_err(|f| f.during(format!("look for {id}")))?;
        let ours = found.filter(|found| found.spec.as_ref().is_some_and(|spec| self.stamp(spec).is_some()));
        Ok(ours.and_then(|found| Some(Found { service: found.id? })))
    }

    /// The service by its name, whoever's it is.
    pub(super) async fn inspect(&self, name: &str) -> std::result::Result<Option<Service>, Failed> {
        let call = self.api.inspect_service(name, None::<InspectServiceOptions>);
        match self.api.call("service inspect", READ, call).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.is(404) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Whether a replica's processes may run on, as far as its tasks say.
    pub(super) async fn runs_on(&self, service: &str) -> Result<bool> {
        let tasks = self.tasks().await?;
        let nodes = self.nodes().await?;
        let places = judge::places(&nodes, self.options.address, self.endpoint.is_local());
        let of_it = tasks.iter().filter(|task| task.service_id.as_deref() == Some(service));
        let mut standings = of_it.map(|task| judge::standing(task, &places, 0));
        Ok(standings.any(|standing| matches!(standing, Standing::Running(_))))
    }

    /// Whether the swarm can forbid new privileges to containers; asked once.
    pub(super) async fn forbids_new_privileges(&self) -> Result<bool> {
        if let Some(forbids) = self.forbids.get() {
            return Ok(*forbids);
        }
        let asked = self.api.call("version", READ, self.api.version()).await;
        let version = asked.map_err(|f| f.during("ask for the engine's version"))?.api_version;
        let forbids = version.as_deref().and_then(numbers).is_some_and(|version| version >= FORBIDS);
        if !forbids {
            tracing::warn!(
                host = %self.options.host,
                api = version,
                "this swarm's engines cannot forbid new privileges to containers of services: version 27 can"
            );
        }
        Ok(*self.forbids.get_or_init(|| forbids))
    }

    fn stamp(&self, spec: &ServiceSpec) -> Option<Stamp> {
        let empty = Labels::new();
        labels::read(&self.options.instance, spec.name.as_deref()?, spec.labels.as_ref().unwrap_or(&empty))
    }

    async fn services(&self) -> Result<Vec<Service>> {
        let options = ListServicesOptions { filters: self.ours(), ..ListServicesOptions::default() };
        let listed = self.api.call("service list", READ, self.api.list_services(Some(options))).await;
        listed.map_err(|f| silent_quorum(f, "list the services"))
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        let options = ListTasksOptions { filters: self.ours() };
        let listed = self.api.call("task list", READ, self.api.list_tasks(Some(options))).await;
        listed.map_err(|f| silent_quorum(f, "list the tasks"))
    }

    pub(super) async fn nodes(&self) -> Result<Vec<Node>> {
        let listed = self.api.call("node list", READ, self.api.list_nodes(None::<ListNodesOptions>)).await;
        listed.map_err(|f| silent_quorum(f, "list the nodes"))
    }

    fn ours(&self) -> Option<HashMap<String, Vec<String>>> {
        let label = format!("{}={}", labels::INSTANCE, self.options.instance);
        Some(HashMap::from([("label".to_owned(), vec![label])]))
    }
}

/// A manager that answers and cannot say anything is one without a majority, or none at all.
fn silent_quorum(failed: Failed, what: &str) -> Error {
    match failed.status {
        Some(503) => {
            let words = format!("{what}: {}; name a manager of a swarm that has a majority", failed.words);
            Error::new(Kind::Retryable, words)
        }
        _ => failed.during(what),
    }
}

/// `1.46` as numbers.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (text, forbids) in [("1.41", false), ("1.46", true), ("1.100", true), ("2.0", true), ("x", false)]
        {
            let seen = numbers(text).is_some_and(|version| version >= FORBIDS);
            assert_eq!(seen, forbids, "{text}");
        }
    }
}
