//! Serves one address over UDP and TCP: reads, has [`answer`](super::answer) judge, replies or passes on. Bounded in every
//! way: queries that are passed on, connections, and how long each of them may take. Absent: what is answered.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{
    answer::{Verdict, failed, judge},
    upstream::{self, Over, Upstreams},
};
use crate::fleet::Fleet;

/// Queries that may be on their way to nameservers at once; further ones are dropped, and asked again by who waits.
const FORWARDS: usize = 256;

/// Connections that may be open at once.
const CONNECTIONS: usize = 64;

/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// After a failed receive nothing is received for this long, instead of spinning.
const PAUSE: Duration = Duration::from_millis(100);

/// What a resolver answers from.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) fleet: Arc<Fleet>,
    pub(super) upstreams: Arc<Upstreams>,
    /// Where it is reached, which is where services are.
    pub(super) at: IpAddr,
    /// Whom it answers.
    pub(super) allowed: Vec<IpNet>,
    /// Never asked: resolvers of ours.
    pub(super) ours: Vec<SocketAddr>,
}

impl Resolver {
    /// Answers until it is dropped.
    pub(super) async fn run(self, udp: std::net::UdpSocket, tcp: std::net::TcpListener) {
        let (udp, tcp) = match (UdpSocket::from_std(udp), TcpListener::from_std(tcp)) {
            (Ok(udp), Ok(tcp)) => (Arc::new(udp), tcp),
            (Err(error), _) | (_, Err(error)) => return tracing::error!(%error, "cannot answer for names"),
        };
        let (resolver, mut tasks) = (Arc::new(self), JoinSet::new());
        let forwards = Arc::new(Semaphore::new(FORWARDS));
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let mut message = vec![0; usize::from(u16::MAX)];
        loop {
            // Cancel-safe: what was not received or accepted stays with the kernel.
            tokio::select! {
                received = udp.recv_from(&mut message) => match received {
                    Ok((length, peer)) => {
                        if let Some(query) = resolver.datagram(&message[..length], peer, &udp)
                            && let Ok(permit) = Arc::clone(&forwards).try_acquire_owned()
                        {
                            let (resolver, udp) = (Arc::clone(&resolver), Arc::clone(&udp));
                            tasks.spawn(async move {
                                let answer = resolver.forward(&query, Over::Udp).await;
                                // A full buffer drops it, as a network may.
                                let _ = udp.try_send_to(&answer, peer);
                                drop(permit);
                            });
                        }
                    }
                    Err(error) => pause(&error).await,
                },
                accepted = tcp.accept() => match accepted {
                    Ok((stream, peer)) if resolver.knows(peer) => {
                        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
                            let resolver = Arc::clone(&resolver);
                            tasks.spawn(async move {
                                resolver.connection(stream).await;
                                drop(permit);
                            });
                        }
                    }
                    Ok((_, peer)) => tracing::debug!(%peer, "a stranger asks for names; closed"),
                    Err(error) => pause(&error).await,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Replies at once, or gives the query back to be passed on.
    fn datagram(&self, message: &[u8], peer: SocketAddr, udp: &UdpSocket) -> Option<Vec<u8>> {
        if !self.knows(peer) {
            tracing::debug!(%peer, "a stranger asks for names; ignored");
            return None;
        }
        match self.judge(message) {
            Verdict::Answer(answer) => {
                // A full buffer drops it, as a network may.
                let _ = udp.try_send_to(&answer, peer);
                None
            }
            Verdict::Forward => Some(message.to_vec()),
            Verdict::Ignore => None,
        }
    }

    /// One query after the other.
    async fn connection(&self, mut stream: TcpStream) {
        while let Ok(Ok(query)) = timeout(SILENCE, upstream::read_tcp(&mut stream)).await {
            let answer = match self.judge(&query) {
                Verdict::Answer(answer) => answer,
                Verdict::Forward => self.forward(&query, Over::Tcp).await,
                Verdict::Ignore => return,
            };
            if !matches!(timeout(SILENCE, upstream::write_tcp(&mut stream, &answer)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    fn judge(&self, message: &[u8]) -> Verdict {
        let is_service = |name: &str| name.parse().is_ok_and(|name| self.fleet.get(&name).is_some());
        judge(message, self.at, is_service)
    }

    /// What a nameserver says, or that none says anything. Empty if not even that can be put into a message.
    async fn forward(&self, query: &[u8], over: Over) -> Vec<u8> {
        let servers = self.upstreams.servers(&self.ours);
        match upstream::ask(query, &servers, over).await {
            Some(answer) => answer,
            None => match failed(query) {
                Verdict::Answer(answer) => answer,
                Verdict::Forward | Verdict::Ignore => Vec::new(),
            },
        }
    }

    fn knows(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.allowed.iter().any(|net| net.contains(&ip))
    }
}

async fn pause(error: &std::io::Error) {
    tracing::debug!(%error, "cannot receive queries for names");
    tokio::time::sleep(PAUSE).await;
}
