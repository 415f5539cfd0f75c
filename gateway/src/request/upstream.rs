//! One replica's connections: opened when needed, kept for reuse, dropped with the replica.
//! Called by [`exchange`](super::exchange). Holds: a failure says whether anything may have been sent. HTTP/1.1 is spoken by
//! [`wire`](super::wire), HTTP/2 by hyper, see [`h2c`]. Absent: retries, names to resolve.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use http::{Request, Response, Uri, Version, header::HOST, request::Parts};
use tidegate_config::{model::Upstream, spec::Protocol};
use tokio::sync::Notify;

use super::{
    body::{Hold, Inbound, Outbound},
    h2c,
    retry::Failure,
    wire::Home,
};
use crate::http1::server::Early;

/// One replica's connections.
#[derive(Debug)]
pub(crate) struct Pool {
    address: SocketAddr,
    protocol: Protocol,
    http1: Arc<Home>,
    h2c: h2c::Connections,
    /// Rung when the replica is given up: whoever waits for a response over HTTP/2 to begin waits no more.
    abandoned: Notify,
}

/// A failed attempt, with the request's body if nothing of the request was sent.
pub(crate) struct Failed {
    /// How it failed.
    pub(crate) failure: Failure,
    /// The body as it was given, unless something may have been sent.
    pub(crate) unsent: Option<Outbound>,
    /// For the log.
    pub(crate) error: String,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Self {
            address,
            protocol,
            http1: Arc::new(Home::new(address)),
            h2c: h2c::Connections::default(),
            abandoned: Notify::new(),
        }
    }

    /// Sends a request and waits for the response's head. What comes before that goes to the client by `early`; in HTTP/2 hyper
    /// keeps it to itself.
    pub(crate) async fn send(
        &self,
        head: &Parts,
        body: Outbound,
        early: Option<&Early>,
        settings: &Upstream,
        now: Instant,
    ) -> Result<Response<Inbound>, Failed> {
        match self.protocol {
            Protocol::Http1 | Protocol::Tcp => {
                let sent = self.http1.send(head, body, early, settings, now).await;
                sent.map(|got| got.map(Inbound::Http1))
            }
            Protocol::H2c => {
                let request = Request::from_parts(for_http2(head), body);
                let sent = self.h2c.send(request, self.address, settings, &self.abandoned, now);
                let (response, place) = Box::pin(sent).await?;
                Ok(response.map(|body| Inbound::Http2(body, Some(place))))
            }
        }
    }

    /// The replica is lost: attempts whose response has not begun end now, and no kept connection is used again. What streams
    /// goes on, for as long as the network lets it.
    pub(crate) fn abandon(&self) {
        self.http1.abandon();
        self.abandoned.notify_waiters();
    }

    /// Closes connections that have been unused for `idle`.
    pub(crate) fn reap(&self, now: Instant, idle: Duration) {
        self.http1.reap(now, idle);
        self.h2c.reap(now);
    }
}

/// The head in HTTP/2's dialect, which wants the authority in the target and not in `Host`.
fn for_http2(head: &Parts) -> Parts {
    let mut head = head.clone();
    head.version = Version::HTTP_2;
    let authority = head.headers.remove(HOST);
    let authority = authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
    head.uri = uri.unwrap_or_default();
    head
}

/// Whether a request's body is still on its way to the replica.
pub(super) struct Upload(Option<Weak<Hold>>);

impl Upload {
    pub(super) fn of(body: &Outbound) -> Self {
        match body {
            Outbound::Flowing { hold: Some(hold), .. } => Self(Some(Arc::downgrade(hold))),
            Outbound::Flowing { hold: None, .. } | Outbound::Empty | Outbound::Kept(_) => Self(None),
            Outbound::Again { rest, .. } => Self::of(rest),
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
    pub(super) fn sending(unsent: Option<Outbound>, error: &hyper::Error) -> Self {
        let failure = match &unsent {
            Some(_) => Failure::NotSent,
            None if error.is_user() => Failure::Client,
            None => Failure::Reset,
        };
        Self { failure, unsent, error: error.to_string() }
    }

    pub(super) fn abandoned() -> Self {
        Self { failure: Failure::Reset, unsent: None, error: "its host is lost".into() }
    }

    pub(super) fn timeout() -> Self {
        Self { failure: Failure::Timeout, unsent: None, error: "no response in time".into() }
    }
}
