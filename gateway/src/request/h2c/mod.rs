//! One replica's HTTP/2 connections, in clear text with prior knowledge: as many as its limit on streams makes necessary,
//! dropped with the replica. Called by [`upstream`](super::upstream).
//! Holds: a stream begins on a connection that has room for it, instead of waiting for another one to end; what a replica
//! says it has not begun to process comes back as unsent, with its body if that is not too long.
//! Absent: retries, the clock, and pings: servers of gRPC close a connection that is asked more than once in five minutes whether
//! it is there (`ENHANCE_YOUR_CALM`, too many pings). That is TCP's to find out, see [`dial`].

mod greeting;
mod spare;

use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tidegate_config::model::Upstream;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use self::{
    greeting::{Greeted, Settings},
    spare::Spared,
};
use super::{
    body::Outbound,
    dial,
    retry::Failure,
    upstream::{self, Failed, Upload},
};

/// What a replica may send ahead of the reader of one stream, and so what we keep for a slow one.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same on all streams of a connection: no bound of its own, which would let a few slow readers stop the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A connection that has carried nothing for so long is closed.
const UNUSED: Duration = Duration::from_secs(60);

/// One replica's connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    /// Oldest first.
    kept: Mutex<Vec<Connection>>,
    /// Held while one is opened, so that a thousand first requests open one.
    opening: tokio::sync::Mutex<()>,
    /// The connections' tasks. They end with their connections, which end with this.
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Connection {
    sender: http2::SendRequest<Spared>,
    settings: Settings,
    /// Held once here and once for each stream.
    streams: Arc<()>,
    used: Instant,
}

/// A stream's room on its connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<()>);

/// Room for one stream, and the way to it.
struct Room {
    sender: http2::SendRequest<Spared>,
    place: Place,
    settings: Settings,
}

impl Connection {
    fn room(&mut self, now: Instant) -> Option<Room> {
        let streams = Arc::strong_count(&self.streams) - 1;
        if self.sender.is_closed() || streams >= self.settings.streams {
            return None;
        }
        self.used = now;
        let place = Place(Arc::clone(&self.streams));
        Some(Room { sender: self.sender.clone(), place, settings: self.settings })
    }
}

impl Connections {
    /// Sends a request and waits for the response's head.
    pub(super) async fn send(
        &self,
        request: Request<Outbound>,
        address: SocketAddr,
        settings: &Upstream,
        abandoned: &Notify,
        now: Instant,
    ) -> Result<(Response<Incoming>, Place), Failed> {
        let mut room = match self.room(address, settings.connect_timeout, now).await {
            Ok(room) => room,
            Err((failure, error)) => {
                return Err(Failed { failure, unsent: Some(request.into_body()), error });
            }
        };
        if request.method() == http::Method::CONNECT && !room.settings.extended_connect {
            let error = "it does not take WebSockets over HTTP/2 (RFC 8441)".into();
            return Err(Failed { failure: Failure::Unable, unsent: None, error });
        }
        let upload = Upload::of(request.body());
        let (head, body) = request.into_parts();
        let (spare, body) = spare::spared(body);
        let sent = room.sender.try_send_request(Request::from_parts(head, body));
        let mut error = match upstream::first_byte(sent, settings, &upload, abandoned).await? {
            Ok(response) => {
                spare.forget();
                return Ok((response, room.place));
            }
            Err(error) => error,
        };
        let unsent = match error.take_message() {
            Some(message) => Some(message.into_body().into_inner()),
            None if not_processed(error.error()) => spare.back().await,
            None => None,
        };
        if unsent.is_some() && !is_refused(error.error()) {
            self.forget(&room.place);
        }
        Err(Failed::sending(unsent, error.error()))
    }

    /// Closes connections that have carried nothing for long.
    pub(super) fn reap(&self, now: Instant) {
        self.kept.lock().retain(|connection| {
            let idle = Arc::strong_count(&connection.streams) == 1;
            let old = now.saturating_duration_since(connection.used) >= UNUSED;
            !(connection.sender.is_closed() || idle && old)
        });
    }

    /// The first connection that has room, or a new one.
    async fn room(
        &self,
        address: SocketAddr,
        timeout: Duration,
        now: Instant,
    ) -> Result<Room, (Failure, String)> {
        if let Some(room) = self.free(now) {
            return Ok(room);
        }
        let _opening = self.opening.lock().await;
        if let Some(room) = self.free(now) {
            return Ok(room);
        }
        let mut connection = self.open(address, timeout, now).await?;
        let room = connection.room(now);
        self.kept.lock().push(connection);
        room.ok_or_else(|| (Failure::Connect, "it closed the connection, or takes no streams".into()))
    }

    fn free(&self, now: Instant) -> Option<Room> {
        self.kept.lock().iter_mut().find_map(|connection| connection.room(now))
    }

    /// No stream begins on this connection any more.
    fn forget(&self, place: &Place) {
        self.kept.lock().retain(|connection| !Arc::ptr_eq(&connection.streams, &place.0));
    }

    /// A new connection, once the replica has said what it allows.
    async fn open(
        &self,
        address: SocketAddr,
        timeout: Duration,
        now: Instant,
    ) -> Result<Connection, (Failure, String)> {
        let stream = dial::connect(address, timeout).await?;
        let (stream, greeting) = Greeted::new(stream);
        let broken = |error: hyper::Error| (Failure::Connect, error.to_string());
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        match tokio::time::timeout(timeout, greeting).await {
            Ok(Ok(settings)) => Ok(Connection { sender, settings, streams: Arc::default(), used: now }),
            Ok(Err(_)) => Err((Failure::Connect, "it closed the connection without a word of HTTP/2".into())),
            Err(_) => Err((Failure::Connect, format!("no word of HTTP/2 within {timeout:?}"))),
        }
    }
}

/// Whether the replica says that it has not begun to process the stream: refused, or beyond the last one of its GOAWAY
/// (RFC 9113, 8.7).
fn not_processed(error: &hyper::Error) -> bool {
    let gone = |error: &h2::Error| error.is_remote() && error.is_go_away();
    is_refused(error) || cause(error).is_some_and(gone)
}

fn is_refused(error: &hyper::Error) -> bool {
    let refused = |error: &h2::Error| error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    cause(error).is_some_and(|error| error.is_reset() && refused(error))
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}
