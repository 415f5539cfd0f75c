//! Containers call services by name, at `http://NAME`: on the address of each containers' network (and on
//! `gateway.internal_address`, for other machines) a resolver says that NAME is there, and a listener routes the bare
//! NAME through the ordinary request path. Called by the control loop for each host whose network it learns of.
//! Holds: an engine is told of a resolver only once its sockets are bound. An address that cannot be had is said once and tried
//! again; only names do not work there meanwhile. Absent: the messages (see [`answer`]), connections (see [`listener`](crate::listener)).

mod answer;
mod bind;
mod peers;
mod resolver;
mod upstream;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use tidegate_config::{
    model::{self, Model},
    name::HostName,
};
use tidegate_runner::Runner;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::peers::own_ips;
use self::{bind::Bound, resolver::Resolver};
pub use self::{bind::Ports, upstream::Upstreams};
use crate::{fleet::Fleet, listener::Inside};

/// Between two tries to bind what could not be bound.
const AGAIN: Duration = Duration::from_secs(2);

/// Addresses that wait to be served; there is one per host at most.
const WAITING: usize = 256;

/// What names are served from.
#[derive(Debug)]
pub struct Setup {
    /// What can be called.
    pub fleet: Arc<Fleet>,
    /// Opens listeners on the running server.
    pub inside: Inside,
    /// The file.
    pub model: Arc<Model>,
    /// Where resolver and listener are, on each address.
    pub ports: Ports,
    /// Who knows the names that are no services.
    pub upstreams: Upstreams,
}

/// Tells names what hosts there are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Names(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    fleet: Arc<Fleet>,
    inside: Inside,
    ports: Ports,
    upstreams: Arc<Upstreams>,
    internal: Option<IpAddr>,
    subnet: Option<Ipv4Net>,
    hosts: Vec<model::Host>,
    places: Mutex<BTreeMap<IpAddr, Place>>,
    orders: mpsc::Sender<Order>,
    received: tokio::sync::Mutex<mpsc::Receiver<Order>>,
}

/// An address, bound or to be bound.
struct Place {
    /// Where resolver and listener are, with the ports that 0 turned into.
    bound: Option<(SocketAddr, SocketAddr)>,
    /// The engines whose containers ask there.
    engines: BTreeMap<HostName, Arc<dyn Runner>>,
    /// Ends what serves it.
    until: CancellationToken,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engines: Vec<_> = self.engines.keys().collect();
        f.debug_struct("Place").field("bound", &self.bound).field("engines", &engines).finish_non_exhaustive()
    }
}

/// What the task does next.
#[derive(Debug)]
enum Order {
    Serve(IpAddr, Bound, CancellationToken),
    TryAgain(IpAddr, CancellationToken),
}

impl Names {
    /// Names as the file has them. Nothing is bound before [`Self::serve`] or [`Self::host`] asks for it.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let (orders, received) = mpsc::channel(WAITING);
        let gateway = &setup.model.gateway;
        if !gateway.internal_names {
            return Self(None);
        }
        let inner = Inner {
            fleet: setup.fleet,
            inside: setup.inside,
            ports: setup.ports,
            upstreams: Arc::new(setup.upstreams),
            internal: gateway.internal_address,
            subnet: gateway.subnet,
            hosts: setup.model.hosts.clone(),
            places: Mutex::default(),
            orders,
            received: tokio::sync::Mutex::new(received),
        };
        Self(Some(Arc::new(inner)))
    }

    /// Nothing resolves: for gateways without containers of their own.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// The host's containers reach this machine at `bridge`, or at the gateway's internal address if they are on another
    /// one. Binds there and tells the engine whom its containers are to ask, before anything is started there. To be called
    /// whenever the host has told what it offers; the same answer changes nothing.
    pub fn host(&self, host: &HostName, bridge: Option<IpAddr>, engine: &Arc<dyn Runner>) {
        match &self.0 {
            Some(inner) => engine.resolve_at(inner.host(host, bridge, engine)),
            None => engine.resolve_at(None),
        }
    }

    /// Serves until `stop`. Ports are free again afterwards, and calls that run go on; it can be asked to serve again.
    pub async fn serve(self, stop: CancellationToken) {
        if let Some(inner) = self.0 {
            inner.serve_all(stop).await;
        }
    }

    /// Where resolvers and listeners are now.
    #[must_use]
    pub fn places(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let Some(inner) = &self.0 else { return Vec::new() };
        inner.places.lock().values().filter_map(|place| place.bound).collect()
    }
}

impl Inner {
    /// Where the host's containers are to ask, if that works.
    fn host(&self, host: &HostName, bridge: Option<IpAddr>, engine: &Arc<dyn Runner>) -> Option<IpAddr> {
        let remote = self.hosts.iter().any(|known| known.name == *host && known.is_remote());
        let at = bridge.or(self.internal.filter(|_| remote));
        let mut places = self.places.lock();
        for (_, place) in places.iter_mut().filter(|(address, _)| Some(**address) != at) {
            place.engines.remove(host);
        }
        places.retain(|address, place| {
            let wanted = !place.engines.is_empty() || self.internal == Some(*address) || at == Some(*address);
            if !wanted {
                place.until.cancel();
            }
            wanted
        });
        let at = at?;
        let place = places.entry(at).or_insert_with(|| self.open(at));
        place.engines.insert(host.clone(), Arc::clone(engine));
        place.bound.map(|_| at)
    }

    async fn serve_all(self: Arc<Self>, stop: CancellationToken) {
        let mut orders = self.received.lock().await;
        let mut tasks = JoinSet::new();
        self.reopen();
        loop {
            // Cancel-safe: an order that is not taken stays queued.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(order) = orders.recv() => {
                    let inner = Arc::clone(&self);
                    drop(match order {
                        Order::Serve(address, bound, until) => tasks.spawn(inner.serve(address, bound, until)),
                        Order::TryAgain(address, until) => tasks.spawn(inner.try_again(address, until)),
                    });
                }
                Some(_) = tasks.join_next() => {}
            }
        }
        self.close();
        while orders.try_recv().is_ok() {}
        tasks.shutdown().await;
    }

    /// Opens the gateway's internal address, and what an earlier [`Self::close`] closed.
    fn reopen(&self) {
        let mut places = self.places.lock();
        if let Some(address) = self.internal {
            places.entry(address).or_insert_with(|| self.open(address));
        }
        for (address, place) in places.iter_mut().filter(|(_, place)| place.until.is_cancelled()) {
            let engines = std::mem::take(&mut place.engines);
            *place = Place { engines, ..self.open(*address) };
            for engine in place.engines.values() {
                engine.resolve_at(place.bound.map(|_| *address));
            }
        }
    }

    fn open(&self, address: IpAddr) -> Place {
        let until = CancellationToken::new();
        let (bound, order) = match Bound::new(address, self.ports, &self.inside) {
            Ok(bound) => (Some(bound.addresses()), Order::Serve(address, bound, until.clone())),
            Err(error) => {
                tracing::warn!(
                    %address, %error,
                    "services cannot be called by name there; everything else works, and it is tried again"
                );
                (None, Order::TryAgain(address, until.clone()))
            }
        };
        if self.orders.try_send(order).is_err() {
            tracing::error!(%address, "names are not served any more");
        }
        Place { bound, engines: BTreeMap::new(), until }
    }

    /// It could be bound at last: containers that start from now on ask there.
    fn opened(&self, address: IpAddr, bound: &Bound) {
        let mut places = self.places.lock();
        let Some(place) = places.get_mut(&address) else { return };
        place.bound = Some(bound.addresses());
        for engine in place.engines.values() {
            engine.resolve_at(Some(address));
        }
        tracing::info!(%address, "services can be called by name there now");
    }

    /// Whom an address answers: its own network; hosts' containers come with their host's address, or with their own.
    fn allowed(&self, address: IpAddr) -> Vec<IpNet> {
        if self.internal != Some(address) {
            return vec![peers::network_of(address)];
        }
        let hosts = self.hosts.iter().filter_map(|host| host.address).map(IpNet::from);
        hosts.chain(self.subnet.map(IpNet::V4)).chain([IpNet::from(address)]).collect()
    }

    async fn serve(self: Arc<Self>, address: IpAddr, bound: Bound, until: CancellationToken) {
        let allowed = self.allowed(address);
        let Bound { udp, tcp, http, .. } = bound;
        let ours = self.places.lock().keys().map(|ip| SocketAddr::new(*ip, self.ports.dns)).collect();
        let resolver = Resolver {
            fleet: Arc::clone(&self.fleet),
            upstreams: Arc::clone(&self.upstreams),
            at: address,
            allowed: allowed.clone(),
            ours,
        };
        if !self.inside.open(address, http, allowed, until.clone()).await {
            return;
        }
        tracing::info!(%address, "services can be called by name");
        tokio::select! {
            () = resolver.run(udp, tcp) => {}
            () = until.cancelled() => {}
        }
    }

    async fn try_again(self: Arc<Self>, address: IpAddr, until: CancellationToken) {
        let mut tries = tokio::time::interval(AGAIN);
        tries.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: a tick that is not taken stays due.
            tokio::select! {
                _ = tries.tick() => {}
                () = until.cancelled() => return,
            }
            if let Ok(bound) = Bound::new(address, self.ports, &self.inside) {
                self.opened(address, &bound);
                return self.serve(address, bound, until).await;
            }
        }
    }

    /// Ends everything that serves; who has asked is remembered.
    fn close(&self) {
        for place in self.places.lock().values_mut() {
            place.until.cancel();
            place.bound = None;
        }
    }
}
