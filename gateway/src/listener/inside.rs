//! Listeners that are opened on the running server, for calls by name: each on one address, for the peers that it names. Where
//! a listener of the file has all addresses of the port already, the address is claimed there instead.
//! Called by [`names`](crate::names). Absent: which addresses and peers.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    sync::Arc,
};

use ipnet::IpNet;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{App, Opened, Stage, Way};

/// Opens listeners for calls by name on the running server.
#[derive(Debug, Clone)]
pub struct Inside {
    pub(super) app: Arc<App>,
    pub(super) front: Arc<App>,
    pub(super) listening: Arc<[SocketAddr]>,
    pub(super) doors: mpsc::Sender<Opened>,
}

impl Inside {
    /// Serves the peers in `allowed` on a bound socket of `ip` until `until`; without a socket, where a listener of the
    /// file [has all addresses](Self::covers). False if the server has ended.
    pub async fn open(
        &self,
        ip: IpAddr,
        socket: Option<TcpListener>,
        allowed: Vec<IpNet>,
        until: CancellationToken,
    ) -> bool {
        let app = Arc::clone(&self.app);
        let Some(socket) = socket else {
            self.front.claim(Claim { ip, allowed, until, app });
            return true;
        };
        self.doors.send(Opened::Inside(SideDoor { socket, allowed, until, app })).await.is_ok()
    }

    /// Whether a listener of the file already takes what comes to this address.
    #[must_use]
    pub fn covers(&self, address: SocketAddr) -> bool {
        let all = |own: &SocketAddr| own.ip().is_unspecified() && (own.is_ipv6() || address.is_ipv4());
        self.listening.iter().any(|own| own.port() == address.port() && all(own))
    }
}

/// A listener that was opened later.
#[derive(Debug)]
pub(super) struct SideDoor {
    socket: TcpListener,
    allowed: Vec<IpNet>,
    until: CancellationToken,
    app: Arc<App>,
}

impl SideDoor {
    pub(super) async fn serve(self, stages: watch::Receiver<Stage>) {
        let Self { socket, allowed, until, app } = self;
        match tokio::net::TcpListener::from_std(socket) {
            // Cancel-safe: a connection is accepted and handed to a task of its own in one step.
            Ok(listener) => tokio::select! {
                () = app.accept(listener, Some(allowed), Way::default(), stages) => {}
                () = until.cancelled() => {}
            },
            Err(error) => tracing::error!(%error, "cannot accept calls by name"),
        }
    }
}

/// An address whose connections come in by the listener of all addresses, but are calls by name.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    ip: IpAddr,
    allowed: Vec<IpNet>,
    until: CancellationToken,
    app: Arc<App>,
}

impl Claim {
    fn is_for(&self, at: IpAddr, peer: IpAddr) -> bool {
        self.ip == at && !self.until.is_cancelled() && contains(&self.allowed, peer)
    }
}

impl App {
    fn claim(&self, claim: Claim) {
        self.claims.rcu(|claims| {
            let others = claims.iter().filter(|other| other.ip != claim.ip && !other.until.is_cancelled());
            others.chain([&claim]).cloned().collect::<Vec<_>>()
        });
    }

    /// Who serves a connection instead of us, because its address is claimed.
    pub(super) fn claimed(&self, stream: &TcpStream, peer: SocketAddr) -> Option<Arc<Self>> {
        let claims = self.claims.load();
        if claims.is_empty() {
            return None;
        }
        let at = stream.local_addr().ok()?.ip().to_canonical();
        let claim = claims.iter().find(|claim| claim.is_for(at, peer.ip()))?;
        Some(Arc::clone(&claim.app))
    }
}

/// Whether a peer is in one of the networks.
pub(super) fn contains(networks: &[IpNet], peer: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&peer.to_canonical()))
}
