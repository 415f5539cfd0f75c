//! One replica's connections: opened when needed, kept for reuse, dropped with the replica.
//! Called by [`exchange`](super::exchange). Holds: a connection is in the pool only between exchanges, and a failure says
//! whether anything may have been sent. Absent: retries, names to resolve.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_config::{model::Upstream, spec::Protocol};
use tokio::{net::TcpStream, sync::Notify};
use tokio_util::task::TaskTracker;

use super::{
    body::{Hold, Outbound},
    h2c,
    retry::Failure,
};
use crate::clock;

/// Data that was sent and is not acknowledged for this long ends the connection; Linux alone would try for 15 minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A kept connection that is not ready by then is still busy with something; a new one is made instead.
const READY_WITHIN: Duration = Duration::from_millis(10);

/// One replica's connections.
#[derive(Debug)]
pub(crate) struct Pool {
    address: SocketAddr,
    protocol: Protocol,
    shared: Arc<Shared>,
    h2c: h2c::Connections,
}

#[derive(Debug, Default)]
struct Shared {
    /// Last used last.
    idle: Mutex<Vec<Idle>>,
    /// The connections' tasks. They end with their connections, which end with the pool.
    tasks: TaskTracker,
    /// Rung when the replica is given up: whoever waits for a response to begin waits no more.
    abandoned: Notify,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Outbound>,
    since: Instant,
}

/// A failed attempt, with the request if nothing of it was sent.
pub(crate) struct Failed {
    /// How it failed.
    pub(crate) failure: Failure,
    /// The request as it was given, unless some of it may have been sent.
    pub(crate) unsent: Option<Request<Outbound>>,
    /// For the log.
    pub(crate) error: String,
}

/// A connection on its way back to its pool, once the response's body has ended; of HTTP/2, a stream's room on it.
#[derive(Debug)]
pub(crate) struct Returning(Way);

#[derive(Debug)]
enum Way {
    Http1(http1::SendRequest<Outbound>, Arc<Shared>),
    H2c { _place: h2c::Place },
}

impl Returning {
    /// The response has ended well: the connection may serve another request.
    pub(crate) fn give_back(self) {
        if let Way::Http1(sender, shared) = self.0
            && !sender.is_closed()
        {
            shared.idle.lock().push(Idle { sender, since: clock::now() });
        }
    }
}

impl Pool {
    pub(crate) fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Self { address, protocol, shared: Arc::default(), h2c: h2c::Connections::default() }
    }

    /// Sends a request and waits for the response's head.
    pub(crate) async fn send(
        &self,
        request: Request<Outbound>,
        settings: &Upstream,
        now: Instant,
    ) -> Result<(Response<Incoming>, Returning), Failed> {
        match self.protocol {
            Protocol::Http1 => self.send_http1(request, settings, now).await,
            Protocol::H2c => {
                let sent = self.h2c.send(request, self.address, settings, &self.shared.abandoned, now);
                let (response, place) = Box::pin(sent).await?;
                Ok((response, Returning(Way::H2c { _place: place })))
            }
        }
    }

    /// The replica is lost: attempts whose response has not begun end now, and no kept connection is used again. What streams
    /// goes on, for as long as the network lets it.
    pub(crate) fn abandon(&self) {
        self.shared.idle.lock().clear();
        self.shared.abandoned.notify_waiters();
    }

    /// Closes connections that have been unused for `idle`.
    pub(crate) fn reap(&self, now: Instant, idle: Duration) {
        let fresh = |connection: &Idle| now.saturating_duration_since(connection.since) < idle;
        self.shared.idle.lock().retain(fresh);
        self.h2c.reap(now);
    }

    async fn send_http1(
        &self,
        request: Request<Outbound>,
        settings: &Upstream,
        now: Instant,
    ) -> Result<(Response<Incoming>, Returning), Failed> {
        let mut sender = match self.reuse(now, settings.idle_connection).await {
            Some(sender) => sender,
            // Boxed: rare, and large enough to weigh on every request's future.
            None => match Box::pin(self.connect_http1(settings.connect_timeout)).await {
                Ok(sender) => sender,
                Err((failure, error)) => return Err(Failed { failure, unsent: Some(request), error }),
            },
        };
        let upload = Upload::of(&request);
        let sent = sender.try_send_request(request);
        let response = match first_byte(sent, settings, &upload, &self.shared.abandoned).await? {
            Ok(response) => response,
            Err(mut error) => {
                let unsent = error.take_message();
                return Err(Failed::sending(unsent, error.error()));
            }
        };
        Ok((response, Returning(Way::Http1(sender, Arc::clone(&self.shared)))))
    }

    /// A kept connection that is ready, last used first.
    async fn reuse(&self, now: Instant, idle: Duration) -> Option<http1::SendRequest<Outbound>> {
        loop {
            let Idle { mut sender, since } = self.shared.idle.lock().pop()?;
            // The backend may be closing what it has not used for long; a fresh connection cannot lose that race.
            let fresh = now.saturating_duration_since(since) < idle;
            if fresh && matches!(tokio::time::timeout(READY_WITHIN, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    async fn connect_http1(
        &self,
        timeout: Duration,
    ) -> Result<http1::SendRequest<Outbound>, (Failure, String)> {
        let stream = connect(self.address, timeout).await?;
        let broken = |error: hyper::Error| (Failure::Connect, error.to_string());
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        self.shared.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(sender)
    }
}

/// Whether a request's body is still on its way to the replica.
pub(super) struct Upload(Option<Weak<Hold>>);

impl Upload {
    pub(super) fn of(request: &Request<Outbound>) -> Self {
        Self::by(request.body())
    }

    fn by(body: &Outbound) -> Self {
        match body {
            Outbound::Flowing { hold: Some(hold), .. } => Self(Some(Arc::downgrade(hold))),
            Outbound::Flowing { hold: None, .. } | Outbound::Empty | Outbound::Kept(_) => Self(None),
            Outbound::Again { rest, .. } => Self::by(rest),
        }
    }

    /// The exchange holds itself once; a body that flows holds it once more.
    fn goes_on(&self) -> bool {
        self.0.as_ref().is_some_and(|hold| hold.strong_count() > 1)
    }
}

/// The response, unless it has not begun in time or the replica was given up. The clock starts anew as long as the request's
/// body flows.
pub(super) async fn first_byte<T>(
    sent: impl Future<Output = T>,
    settings: &Upstream,
    upload: &Upload,
    abandoned: &Notify,
) -> Result<T, Failed> {
    let (mut sent, mut abandoned) = (std::pin::pin!(sent), std::pin::pin!(abandoned.notified()));
    loop {
        let begun = tokio::time::timeout(settings.first_byte_timeout, sent.as_mut());
        // Cancel-safe: both are polled again where they were.
        tokio::select! {
            biased;
            begun = begun => match begun {
                Ok(response) => return Ok(response),
                Err(_) if upload.goes_on() => {}
                Err(_) => return Err(Failed::timeout()),
            },
            () = abandoned.as_mut() => return Err(Failed::abandoned()),
        }
    }
}

impl Failed {
    pub(super) fn sending(unsent: Option<Request<Outbound>>, error: &hyper::Error) -> Self {
        let failure = match &unsent {
            Some(_) => Failure::NotSent,
            None if error.is_user() => Failure::Client,
            None => Failure::Reset,
        };
        Self { failure, unsent, error: error.to_string() }
    }

    fn abandoned() -> Self {
        Self { failure: Failure::Reset, unsent: None, error: "its host is lost".into() }
    }

    fn timeout() -> Self {
        Self { failure: Failure::Timeout, unsent: None, error: "no response in time".into() }
    }
}

pub(super) async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, (Failure, String)> {
    let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err((blame(&error), format!("connect to {address}: {error}"))),
        Err(_) => {
            return Err((Failure::Connect, format!("connect to {address}: nothing within {timeout:?}")));
        }
    };
    let socket = socket2::SockRef::from(&stream);
    let set = stream.set_nodelay(true).and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)));
    set.map_err(|error| (Failure::Ours, format!("socket options: {error}")))?;
    Ok(stream)
}

/// Errors of our own making must not be held against the replica.
fn blame(error: &io::Error) -> Failure {
    let ours = [
        nix::libc::EMFILE,
        nix::libc::ENFILE,
        nix::libc::EADDRNOTAVAIL,
        nix::libc::ENOBUFS,
        nix::libc::ENOMEM,
    ];
    if error.raw_os_error().is_some_and(|code| ours.contains(&code)) {
        Failure::Ours
    } else {
        Failure::Connect
    }
}
