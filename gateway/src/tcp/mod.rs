//! The life of a connection of a TCP service, in order: enter the gate, connect to a replica, carry bytes both ways, write it
//! down. Called by the listeners for each connection; meets the control plane only in [`fleet`](crate::fleet), as a request does.
//! Holds: a connection has a lease for as long as it lives, so that it counts as activity. The replica is connected to at
//! once and may speak first. Absent: HTTP, TLS, and which listener belongs to which service (see [`doors`]).

mod account;
mod carry;
pub mod doors;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use tidegate_config::model;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use self::{account::Account, carry::End};
use crate::{
    clock,
    fleet::{Lease, Service, Standing, service::hold_deadline, tap::Heard},
    request::{
        Door, Refusal, dial,
        retry::{self, Verdict},
    },
};

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) client: TcpStream,
    pub(crate) peer: SocketAddr,
    /// What has been read of it already; the replica gets it first.
    pub(crate) first: Bytes,
}

/// Serves a connection to its end, or to that of the gateway (`door.cut`).
pub(crate) async fn serve(accepted: Accepted, service: Arc<Service>, door: &Door) {
    let arrived = clock::now();
    let settings = service.settings();
    let mut account =
        Account::open(&service, accepted.peer.ip().to_canonical(), arrived, door.log.load_full());
    let (lease, mut replica) = match attempts(&accepted, &service, &settings, arrived).await {
        Ok(connected) => connected,
        Err(Some(refusal)) => return account.refused(&refusal),
        Err(None) => return account.left(),
    };
    let leased = clock::now();
    account.reached(&lease.replica.id);
    let Accepted { mut client, peer, first } = accepted;
    let end = match begin(&mut replica, &client, peer, &first, settings.upstream.proxy_protocol).await {
        Ok(()) => {
            account.flow().up(first.len());
            let told = told(&door.cut, &lease.replica.cut);
            carry::carry(&mut client, &mut replica, account.flow(), settings.upstream.idle_timeout, told)
                .await
        }
        Err(error) => End::Broke(error),
    };
    if let End::Broke(error) = &end {
        tracing::debug!(service = %service.name, replica = %lease.replica.id, %error, "connection broke off");
    }
    account.ended(&end);
    // Whoever has to hear of it hears it with the end of the connection, not before.
    drop((client, replica));
    let ended = clock::now();
    if service.tap.is_open() {
        service.tap.tell(Heard::Request { arrived, took: ended.saturating_duration_since(leased) });
    }
    lease.leave(ended);
}

/// Ends when the gateway or the replica goes.
async fn told(gateway: &CancellationToken, replica: &CancellationToken) {
    tokio::select! {
        () = gateway.cancelled() => {}
        () = replica.cancelled() => {}
    }
}

/// A connection to a replica, and the lease for it. One that does not take connections is left for another, as often as
/// a request of which nothing was sent; `None`: the client left meanwhile.
async fn attempts(
    accepted: &Accepted,
    service: &Arc<Service>,
    settings: &model::Service,
    arrived: Instant,
) -> Result<(Lease, TcpStream), Option<Refusal>> {
    let deadline = hold_deadline(arrived, settings.scaling.hold);
    let connected = async {
        if !service.awake.is_awake() && !settings.is_outside() {
            service.knock(arrived, accepted.peer.ip(), &settings.wake, "call")?;
        }
        let (mut lease, granted) = service.enter(arrived, deadline, Standing::Caller, None).await?;
        service.metrics.waited(granted.saturating_duration_since(arrived));
        let (mut tries, mut begun) = (0, granted);
        loop {
            tries += 1;
            let (failure, error) =
                match dial::connect(lease.replica.address, settings.upstream.connect_timeout).await {
                    Ok(stream) => {
                        lease.replica.count(false);
                        lease.answered(http::StatusCode::OK, begun, tries > 1);
                        return Ok((lease, stream));
                    }
                    Err(failed) => failed,
                };
            tracing::debug!(service = %service.name, replica = %lease.replica.id, ?failure, %error, "attempt failed");
            if failure.is_the_replicas() {
                lease.failed();
            }
            match retry::verdict(failure, false, tries <= retry::UNSENT) {
                Verdict::Refuse(refusal) => {
                    service.metrics.upstream_failed(failure.label());
                    return Err(refusal);
                }
                Verdict::Again { suspend } => {
                    if suspend {
                        service.suspend(&lease);
                    }
                    service.metrics.retries.increment(1);
                    lease = service.swap(lease, deadline).await.map_err(|late| retry::late(failure, late))?;
                    begun = clock::now();
                }
            }
        }
    };
    tokio::select! {
        connected = connected => connected.map_err(Some),
        // Dropped with its ticket or lease, which are given back.
        () = reset(&accepted.client) => Err(None),
    }
}

/// Ends when the client has broken off. One that has only finished sending may still want to be answered.
async fn reset(client: &TcpStream) {
    if client.ready(Interest::ERROR).await.is_err() {
        // Not to be told: the attempt finds out.
        std::future::pending::<()>().await;
    }
}

/// What goes to the replica before anything else: who the client is, if it wants to know, and what was read already.
async fn begin(
    replica: &mut TcpStream,
    client: &TcpStream,
    peer: SocketAddr,
    first: &[u8],
    proxy_protocol: bool,
) -> io::Result<()> {
    if proxy_protocol {
        replica.write_all(&header(peer, client.local_addr()?)?).await?;
    }
    replica.write_all(first).await
}

/// A PROXY protocol header, version 2, for a connection from `peer` to `at`.
fn header(peer: SocketAddr, at: SocketAddr) -> io::Result<Vec<u8>> {
    use ppp::v2::{Builder, Command, Protocol, Version};
    let unmapped = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let addresses = (unmapped(peer), unmapped(at));
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_who_the_client_is() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let v4 = header(address("[::ffff:192.0.2.1]:1000"), address("10.0.0.1:5432")).expect("a header");
        assert_eq!(&v4[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
        assert_eq!(&v4[16..], [192, 0, 2, 1, 10, 0, 0, 1, 0x03, 0xe8, 0x15, 0x38]);
        let v6 = header(address("[2001:db8::1]:1"), address("[2001:db8::2]:2")).expect("a header");
        assert_eq!((v6[13], v6.len()), (0x21, 16 + 36));
    }
}
