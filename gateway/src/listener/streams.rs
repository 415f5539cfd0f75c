//! Listeners of TCP services, opened on the running server. Their connections count among the gateway's; each is served by
//! [`tcp`](crate::tcp). Called by [`tcp::doors`](crate::tcp::doors). Absent: which addresses there are.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tidegate_config::name::ServiceName;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{ACCEPT_PAUSE, App, Opened, Stage};
use crate::{
    fleet::Fleet,
    tcp::{self, Accepted},
};

/// Opens listeners of TCP services on the running server.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    pub(super) app: Arc<App>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) doors: mpsc::Sender<Opened>,
}

impl Streams {
    /// Serves the connections of a bound socket as those of the service that `of` names by then, until `until`.
    pub(crate) fn open(&self, socket: TcpListener, of: Arc<ArcSwap<ServiceName>>, until: CancellationToken) {
        let (app, fleet) = (Arc::clone(&self.app), Arc::clone(&self.fleet));
        let door = StreamDoor { socket, of, until, app, fleet };
        // As many may wait as a file can have; one that finds the server ended is not missed.
        drop(self.doors.try_send(Opened::Stream(door)));
    }
}

/// A listener of a TCP service.
#[derive(Debug)]
pub(super) struct StreamDoor {
    socket: TcpListener,
    of: Arc<ArcSwap<ServiceName>>,
    until: CancellationToken,
    app: Arc<App>,
    fleet: Arc<Fleet>,
}

impl StreamDoor {
    /// Accepts while the server is open and the listener is in the file.
    pub(super) async fn serve(self, mut stages: watch::Receiver<Stage>) {
        let Self { socket, of, until, app, fleet } = self;
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(service = %of.load(), %error, "cannot accept"),
        };
        // An error means that the server has gone.
        drop(stages.wait_for(|stage| *stage >= Stage::Open).await);
        let mut stopped = std::pin::pin!(stages.wait_for(|stage| *stage >= Stage::Leaving));
        loop {
            // Cancel-safe: a connection is accepted and handed to a task of its own in one step.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = until.cancelled() => return,
                _ = stopped.as_mut() => return,
            };
            match accepted {
                Ok((client, peer)) => app.open_stream(client, peer, &of, &fleet),
                Err(error) => {
                    tracing::warn!(service = %of.load(), %error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl App {
    fn open_stream(
        self: &Arc<Self>,
        client: TcpStream,
        peer: SocketAddr,
        of: &ArcSwap<ServiceName>,
        fleet: &Fleet,
    ) {
        // One that has just left the file.
        let Some(service) = fleet.get(&of.load()) else { return };
        let Some(permit) = self.admit(peer, false) else { return };
        if let Err(error) = self.fit(&client) {
            return tracing::debug!(%peer, %error, "gone before it was served");
        }
        let door = Arc::clone(&self.door);
        let accepted = Accepted { client, peer, first: Bytes::new() };
        self.door.tasks.spawn(async move {
            tcp::serve(accepted, service, &door).await;
            drop(permit);
        });
    }
}
