//! Which listeners there are for TCP services: they come and go with the file, and none is touched that stays. Called on
//! a reload before and after the model is swapped, and when sockets are handed over.
//! Holds: what can fail (a port that is taken) fails before anything has changed.

use std::{collections::BTreeMap, fmt, io, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidegate_config::{model::Model, name::ServiceName};
use tokio_util::sync::CancellationToken;

use crate::{
    listener::Streams,
    sockets::{BindError, Socket, Sockets},
};

/// A listener's name: the address that the file has. Port 0 is another one for each service.
type Key = (SocketAddr, Option<ServiceName>);

/// The listeners of TCP services.
pub struct Doors {
    streams: Streams,
    open: Mutex<BTreeMap<Key, Open>>,
}

/// Sockets for listeners that the file has and that are not open yet.
#[derive(Debug)]
pub struct Bound(Vec<(Key, ServiceName, Socket)>);

/// An open listener.
struct Open {
    /// Whose connections come in here.
    of: Arc<ArcSwap<ServiceName>>,
    until: CancellationToken,
    /// Another handle on it, to be passed on.
    socket: Socket,
}

impl Doors {
    /// No listeners yet.
    #[must_use]
    pub(crate) fn new(streams: Streams) -> Self {
        Self { streams, open: Mutex::default() }
    }

    /// Binds what the model has and is not open. What was bound and is not taken up is closed when it is dropped.
    ///
    /// # Errors
    /// The first address that cannot be had; nothing has changed then.
    pub fn bind(&self, model: &Model) -> Result<Bound, BindError> {
        let open = self.open.lock();
        let new = wanted(model).filter(|(key, _)| !open.contains_key(key));
        let bind = |(key, name): (Key, ServiceName)| {
            let mut sockets = Sockets::bind(&[key.0])?.into_sockets();
            let socket = sockets.pop().expect("a socket for the address");
            Ok((key, name, socket))
        };
        new.map(bind).collect::<Result<_, _>>().map(Bound)
    }

    /// The sockets of a start, which are bound in the order of [`addresses`].
    #[must_use]
    pub fn given(model: &Model, sockets: Sockets) -> Bound {
        let sockets = sockets.into_sockets();
        Bound(wanted(model).zip(sockets).map(|((key, name), socket)| (key, name, socket)).collect())
    }

    /// Opens what was bound for the model, and closes what it does not have any more.
    ///
    /// # Errors
    /// When there are no file descriptors left; a listener that has none is not open.
    pub fn take_up(&self, model: &Model, bound: Bound) -> io::Result<()> {
        let wanted: BTreeMap<Key, ServiceName> = wanted(model).collect();
        let mut open = self.open.lock();
        open.retain(|key, door| {
            if !wanted.contains_key(key) {
                tracing::info!(address = %door.socket.address, "closed");
                door.until.cancel();
            }
            wanted.contains_key(key)
        });
        for (key, door) in open.iter() {
            if let Some(name) = wanted.get(key).filter(|name| **name != **door.of.load()) {
                door.of.store(Arc::new(name.clone()));
            }
        }
        for (key, name, socket) in bound.0 {
            let Socket { configured, address, listener } = socket;
            let socket = Socket { configured, address, listener: listener.try_clone()? };
            let (of, until) = (Arc::new(ArcSwap::from_pointee(name)), CancellationToken::new());
            tracing::info!(%address, service = %of.load(), "open for connections");
            self.streams.open(listener, Arc::clone(&of), until.clone());
            open.insert(key, Open { of, until, socket });
        }
        Ok(())
    }

    /// Where a service's connections come in, with the ports that 0 turned into.
    #[must_use]
    pub fn of(&self, service: &ServiceName) -> Vec<SocketAddr> {
        let open = self.open.lock();
        open.values().filter(|door| **door.of.load() == *service).map(|door| door.socket.address).collect()
    }

    /// More handles on the sockets, to be passed on.
    ///
    /// # Errors
    /// When this process has no more file descriptors.
    pub(crate) fn duplicates(&self) -> io::Result<Vec<Socket>> {
        self.open.lock().values().map(|door| door.socket.duplicate()).collect()
    }

    /// Lets go of every socket: nothing is accepted here any more.
    pub(crate) fn close(&self) {
        for door in std::mem::take(&mut *self.open.lock()).into_values() {
            door.until.cancel();
        }
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.open.lock().keys()).finish()
    }
}

/// The addresses of the model's TCP services, in one order.
#[must_use]
pub fn addresses(model: &Model) -> Vec<SocketAddr> {
    wanted(model).map(|((address, _), _)| address).collect()
}

fn wanted(model: &Model) -> impl Iterator<Item = (Key, ServiceName)> {
    model.services.values().flat_map(|service| {
        let key = |address: &SocketAddr| (*address, (address.port() == 0).then(|| service.name.clone()));
        service.listen.iter().map(move |address| (key(address), service.name.clone()))
    })
}
