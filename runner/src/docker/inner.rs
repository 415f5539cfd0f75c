//! What the runner and its event task share: the connection, what was made here, and looking a container up.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bollard::{
    models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary},
    query_parameters::InspectContainerOptions,
};
use parking_lot::Mutex;
use tidegate_config::{
    name::{HostName, ReplicaId},
    spec::{Observed, ObservedState},
};
use tokio::time::Instant;

use super::{
    body::Place,
    call::Api,
    images::Images,
    labels::{self, Labels},
    network::Network,
    reach::{self, Reaching},
    removal,
};
use crate::{
    Event, InstanceId, Result,
    call::{Failed, READ, WRITE},
    events::Events,
    resolver::Resolvers,
};

/// How long after a freeze or thaw of ours the engine's word of it may come.
const ECHO: Duration = Duration::from_secs(10);

/// One connection to one engine.
pub(super) struct Inner {
    pub api: Api,
    pub host: HostName,
    pub instance: InstanceId,
    pub images: Images,
    pub network: Network,
    pub reaching: Reaching,
    pub events: Events,
    /// Engine ids of the containers that this process made: their starts are told without the engine's event.
    made: Mutex<HashSet<String>>,
    /// Until when the engine's word of a freeze or thaw is only the echo of ours, by its id of the container.
    changed: Mutex<HashMap<String, Instant>>,
    /// Whom new containers ask for names.
    pub resolvers: Resolvers,
}

/// A container that is ours.
pub(super) struct Container {
    /// The engine's id of it: a name could change hands between two calls.
    pub container: String,
    /// `None` while it is being removed.
    pub state: Option<ObservedState>,
}

impl Inner {
    pub(super) fn new(
        api: Api,
        host: HostName,
        instance: InstanceId,
        network: Network,
        reaching: Reaching,
    ) -> Arc<Self> {
        let images = Images::new(api.clone());
        let (made, changed, resolvers) = (Mutex::default(), Mutex::default(), Resolvers::default());
        Arc::new(Self {
            api,
            host,
            instance,
            images,
            network,
            reaching,
            events: Events::default(),
            made,
            changed,
            resolvers,
        })
    }

    /// Sees to it that the network is there, and that it is decided how replicas are reached.
    pub(super) async fn ready(&self) -> Result<()> {
        self.network.ensure(&self.api).await?;
        self.settle().await
    }

    /// Decides how replicas are reached, once there is a network to decide it by.
    pub(super) async fn settle(&self) -> Result<()> {
        if !self.reaching.is_decided()
            && let Some(bridge) = self.network.bridge(&self.api).await?
        {
            self.reaching.decide(&bridge, &reach::ours());
        }
        Ok(())
    }

    /// This machine's address on the containers' network.
    pub(super) async fn bridge(&self) -> Result<Option<IpAddr>> {
        let bridge = self.network.bridge(&self.api).await?;
        Ok(bridge.filter(|bridge| self.reaching.is_ours(bridge, &reach::ours())).map(|bridge| bridge.address))
    }

    /// What a new container has to do with the host.
    pub(super) fn place(&self) -> Place {
        Place { publish: self.reaching.publish_at(), resolvers: self.resolvers.now() }
    }

    /// Notes that this process made a container.
    pub(super) fn made(&self, container: &str) {
        self.made.lock().insert(container.to_owned());
    }

    /// Whether this process made it.
    pub(super) fn made_here(&self, container: &str) -> bool {
        self.made.lock().contains(container)
    }

    /// Notes that we are about to freeze or thaw a container.
    pub(super) fn changing(&self, container: &str) {
        let now = Instant::now();
        let mut changed = self.changed.lock();
        changed.retain(|_, until| *until > now);
        changed.insert(container.to_owned(), now + ECHO);
    }

    /// Whether the engine's word of a freeze or thaw says only what we did.
    pub(super) fn changed_here(&self, container: &str) -> bool {
        self.changed.lock().get(container).is_some_and(|until| *until > Instant::now())
    }

    /// Notes that a container is gone.
    pub(super) fn forget(&self, id: &ReplicaId, container: &str) {
        tracing::debug!(%id, container, "container is gone");
        self.made.lock().remove(container);
        self.changed.lock().remove(container);
    }

    /// The container of a replica, if there is one and it is ours.
    pub(super) async fn find(&self, id: &ReplicaId) -> Result<Option<Container>> {
        let name = labels::container(&self.instance, id);
        let found = self.inspect(&name).await.map_err(|f| f.during(format!("look for {id}")))?;
        Ok(found.and_then(|found| {
            self.stamp(&found)?;
            Some(Container { state: found.state.as_ref().and_then(labels::state), container: found.id? })
        }))
    }

    /// What is to be told of a container as it is now; `None` if it is gone or not ours.
    pub(super) async fn inspect_event(&self, container: &str) -> Result<Option<Event>> {
        self.settle().await?;
        let found =
            self.inspect(container).await.map_err(|f| f.during(format!("inspect container {container}")))?;
        let Some(found) = found else { return Ok(None) };
        let Some(observed) = self.observed(&found).await? else { return Ok(None) };
        Ok(Some(match observed.state {
            ObservedState::Exited(exit) => Event::Exited { id: observed.id, exit },
            ObservedState::Running => Event::Running(observed),
            ObservedState::Created | ObservedState::Frozen => Event::Resync,
        }))
    }

    /// A list's entry, if it is ours. Only one that ended needs a look of its own: the list has no exit code.
    pub(super) async fn observe(&self, summary: ContainerSummary) -> Result<Option<Observed>> {
        let empty = Labels::new();
        let labels = summary.labels.as_ref().unwrap_or(&empty);
        let names = summary.names.as_deref().unwrap_or_default();
        let Some(stamp) = names.iter().find_map(|name| labels::read(&self.instance, name, labels)) else {
            return Ok(None);
        };
        let status = summary.state.and_then(|s| s.to_string().parse::<ContainerStateStatusEnum>().ok());
        let state = ContainerState { status, ..ContainerState::default() };
        let state = match (labels::state(&state), summary.id) {
            (Some(ObservedState::Exited(_)), Some(id)) => {
                let found = self.inspect(&id).await.map_err(|f| f.during(format!("look at {}", stamp.id)))?;
                match found {
                    Some(found) => return self.observed(&found).await,
                    None => return Ok(None),
                }
            }
            (Some(state), _) => state,
            (None, _) => return Ok(None),
        };
        let networks = summary.network_settings.as_ref().and_then(|n| n.networks.as_ref());
        let own = reach::own(&self.network.name, networks, stamp.port);
        let published = |at| reach::listed(summary.ports.as_ref(), stamp.port, at);
        let address = self.address(&state, own, published);
        let facts = self.images.facts(&stamp.digest).await?.unwrap_or_default();
        Ok(Some(Observed {
            address,
            created: labels::created(None, summary.created),
            healthcheck: facts.healthcheck,
            id: stamp.id,
            revision: stamp.revision,
            digest: stamp.digest,
            state,
        }))
    }

    /// Removes a container of ours, and tells so.
    pub(super) async fn remove(&self, id: &ReplicaId, container: &str) -> Result<()> {
        match self.api.call("remove", WRITE, self.api.remove_container(container, Some(removal()))).await {
            // 404: gone already. 409: being removed already.
            Err(failed) if !failed.is(404) && !failed.is(409) => Err(failed.during(format!("remove {id}"))),
            _ => {
                self.events.tell(Event::Gone(id.clone()));
                Ok(())
            }
        }
    }

    /// The container by name or engine id, whoever's it is.
    pub(super) async fn inspect(
        &self,
        container: &str,
    ) -> std::result::Result<Option<ContainerInspectResponse>, Failed> {
        let call = self.api.inspect_container(container, None::<InspectContainerOptions>);
        match self.api.call("inspect", READ, call).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.is(404) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    fn address(
        &self,
        state: &ObservedState,
        own: Option<SocketAddr>,
        published: impl Fn(IpAddr) -> Option<u16>,
    ) -> Option<SocketAddr> {
        let alive = matches!(state, ObservedState::Running | ObservedState::Frozen);
        self.reaching.address(own, published).filter(|_| alive)
    }

    fn stamp(&self, found: &ContainerInspectResponse) -> Option<labels::Stamp> {
        let labels = found.config.as_ref()?.labels.as_ref()?;
        labels::read(&self.instance, found.name.as_deref()?, labels)
    }

    async fn observed(&self, found: &ContainerInspectResponse) -> Result<Option<Observed>> {
        let state = found.state.as_ref().and_then(labels::state);
        let (Some(stamp), Some(state)) = (self.stamp(found), state) else { return Ok(None) };
        let settings = found.network_settings.as_ref();
        let own = reach::own(&self.network.name, settings.and_then(|n| n.networks.as_ref()), stamp.port);
        let published = |at| reach::inspected(settings.and_then(|n| n.ports.as_ref()), stamp.port, at);
        let address = self.address(&state, own, published);
        let facts = self.images.facts(&stamp.digest).await?.unwrap_or_default();
        Ok(Some(Observed {
            address,
            created: labels::created(found.created.as_deref(), None),
            healthcheck: facts.healthcheck,
            id: stamp.id,
            revision: stamp.revision,
            digest: stamp.digest,
            state,
        }))
    }
}
