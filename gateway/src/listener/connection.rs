//! One client's connection, from its acceptance to its end: the handshake if it speaks TLS, then HTTP/1.1 or
//! HTTP/2, through tower's layers. Called by the accept loops of [`listener`](super). Absent: what a request is for.

use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::Gauge;
use tidegate_config::model::Limits;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, watch},
};
use tokio_rustls::server::TlsStream;

use super::{
    App, Stage, Way,
    hello::{self, Hello},
    idle::Activity,
    inside,
    layers::{Caller, Layers, Left, Streams},
    preface, proxied,
    seats::Seat,
    unread::Answers,
};
use crate::{
    clock,
    fleet::Service,
    http1::{
        input::Input,
        request as request_head,
        rewound::Rewound,
        server::{self, Line, Terms},
    },
    request::{Entrance, Peer, most_bytes},
    tcp::{self, Accepted},
    telemetry,
    tls::{Secured, Tls},
};

/// How long a client over HTTP/2 on whose connection there is nothing may take to confirm that it ends.
const LINGER: Duration = Duration::from_secs(2);

impl App {
    pub(super) fn open(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        way: &Way,
        stages: watch::Receiver<Stage>,
    ) {
        // A balancer's connection counts for the client that it names.
        let Some(mut place) = self.admit(peer, way.proxied) else { return };
        if let Err(error) = self.fit(&stream) {
            return tracing::debug!(%peer, %error, "gone before it was served");
        }
        let (app, way) = (Arc::clone(self), way.clone());
        self.tasks.spawn(async move {
            if way.proxied {
                // Boxed, here and below: so that plain connections need not have room for it.
                match Box::pin(app.introduced(stream, peer)).await {
                    Ok((stream, client, seat)) => {
                        place.seat = seat;
                        app.enter(stream, client, way, place, stages).await;
                    }
                    Err(unwanted) => app.turn_away(peer, &unwanted),
                }
            } else {
                app.enter(stream, peer, way, place, stages).await;
            }
        });
    }

    async fn enter(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        way: Way,
        place: Place,
        stages: watch::Receiver<Stage>,
    ) {
        let peer = Peer::new(peer, self.entrance.clone()).redirected_to(way.redirect);
        match way.tls {
            None => self.serve(Line::Plain(stream), false, self.layers(peer, place), stages).await,
            Some((listener, tls)) => {
                Box::pin(self.secure(stream, (peer, place), &tls, listener, stages)).await;
            }
        }
    }

    /// A place for one more connection from there; `None` where any number may come.
    fn seat(&self, from: IpAddr) -> Result<Option<Seat>, Unwanted> {
        match &self.seats {
            Some(seats) if !self.trusts(from) => seats.take(from).map(Some).ok_or(Unwanted::Address),
            _ => Ok(None),
        }
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        inside::contains(&self.door.settings.load().trusted_proxies, peer)
    }

    /// Hears from a balancer who the client is.
    async fn introduced(
        &self,
        mut stream: TcpStream,
        balancer: SocketAddr,
    ) -> Result<(TcpStream, SocketAddr, Option<Seat>), Unwanted> {
        if !self.trusts(balancer.ip()) {
            return Err(Unwanted::Stranger);
        }
        let heard = tokio::time::timeout(self.limits.header_timeout, proxied::client(&mut stream, balancer));
        let client = heard.await.map_err(|_| Unwanted::Silent)?.map_err(Unwanted::Balancer)?;
        let seat = self.seat(client.ip())?;
        Ok((stream, client, seat))
    }

    /// Counts a connection that is closed unserved, and says so where an operator can do something about it.
    fn turn_away(&self, peer: SocketAddr, unwanted: &Unwanted) {
        telemetry::turned_away(unwanted.label());
        if matches!(unwanted, Unwanted::Total) && !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "as many connections as gateway.limits.connections allows; further ones are closed"
            );
        }
        tracing::debug!(%peer, why = %unwanted, "closed");
    }

    /// Comes to terms with the client, then serves.
    async fn secure(
        &self,
        mut stream: TcpStream,
        (peer, place): (Peer, Place),
        tls: &Tls,
        listener: usize,
        mut stages: watch::Receiver<Stage>,
    ) {
        let active = Arc::clone(&tls.active());
        let handshake = async {
            // Who is silent costs a connection, and nobody else a handshake.
            let hello = Hello::read(&mut stream).await?;
            let from = Some(peer.address().ip()).filter(|from| !self.trusts(*from));
            let _shaking = self.handshakes.begin(from)?;
            match self.passed_on(&hello) {
                Some(service) => Ok(Met::Other(service, stream, hello.into_bytes())),
                None if hello.is_challenge() => {
                    hello.prove(stream, tls.challenges()).await.map(|()| Met::Authority)
                }
                None => {
                    self.handshakes.count(from, clock::now())?;
                    hello.answer(stream, &active, listener).await.map(|shaken| Met::Us(Box::new(shaken)))
                }
            }
        };
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(active.handshake_timeout, handshake) => {
                shaken.unwrap_or(Err(hello::Broken::Late))
            }
            _ = stages.wait_for(|stage| *stage >= Stage::Closing) => return,
        };
        match &shaken {
            Ok(Met::Us(_)) => telemetry::handshake("ok"),
            Ok(Met::Authority) => telemetry::handshake("challenge"),
            Ok(Met::Other(..)) => {}
            Err(broken) => telemetry::handshake(broken.label()),
        }
        // So that a connection does not keep certificates that were replaced long ago.
        drop(active);
        match shaken {
            Ok(Met::Us(shaken)) => {
                let (stream, secured) = *shaken;
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let layers = self.layers(peer.over_tls(secured), place);
                self.serve(Line::Tls(Box::new(stream)), is_http2, layers, stages).await;
            }
            Ok(Met::Other(service, client, first)) => {
                let accepted = Accepted { client, peer: peer.address(), first };
                let served = tcp::serve(accepted, service, &self.door);
                self.door.tasks.track_future(served).await;
            }
            Ok(Met::Authority) => {
                tracing::debug!(peer = %peer.address(), "an authority was shown that a name is ours")
            }
            Err(error) => tracing::debug!(peer = %peer.address(), %error, "no handshake"),
        }
    }

    /// The TCP service that has the name which the client calls, if one does: to be passed on as it is.
    fn passed_on(&self, hello: &Hello) -> Option<Arc<Service>> {
        let table = self.door.passed_on.load();
        let found = table.find(&hello.name()?, "/")?;
        Some(Arc::clone(found.service))
    }

    /// Room for one more connection. Over a limit it is closed at once; a client that is told to come back would only
    /// hold one more socket. Whose client is not known yet, is counted when it is.
    pub(super) fn admit(&self, peer: SocketAddr, proxied: bool) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.turn_away(peer, &Unwanted::Total);
            return None;
        };
        self.full.store(false, Ordering::Relaxed);
        let seat = if proxied { Ok(None) } else { self.seat(peer.ip()) };
        let seat = seat.map_err(|unwanted| self.turn_away(peer, &unwanted)).ok()?;
        self.open.increment(1.0);
        Some(Place { _permit: permit, seat, open: self.open.clone() })
    }

    /// Sets what every client's connection has: no waiting for more to send, and the kernel finds out a client that takes
    /// nothing or is not there any more.
    pub(super) fn fit(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        socket2::SockRef::from(stream).set_tcp_user_timeout(Some(self.limits.send_timeout))
    }

    /// Serves a connection in the version of HTTP that the client speaks.
    async fn serve(&self, mut line: Line, is_http2: bool, layers: Layers, stages: watch::Receiver<Stage>) {
        let since = clock::now();
        let mut input = Input::default();
        let is_http2 = is_http2
            || {
                let greeted = preface::greets(&mut line, &mut input);
                tokio::select! {
                    // Who has gone or is late is met as one who asks nothing.
                    greeted = tokio::time::timeout(self.limits.header_timeout, greeted) => matches!(greeted, Ok(Ok(true))),
                    () = closing(stages.clone()) => return,
                }
            };
        let address = layers.caller().peer.address();
        let ended: Result<(), Box<dyn Error + Send + Sync>> = if is_http2 {
            let stream = Rewound::new(input.bytes.freeze(), line);
            Box::pin(self.serve_http2(stream, layers, stages)).await.map_err(Into::into)
        } else {
            let goodbye = FuturesUnordered::from_iter([Box::pin(closing(stages))]);
            server::serve(line, input, &layers, self.terms, goodbye, since).await.map_err(Into::into)
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %address, %error, "client connection ended");
        }
    }

    async fn serve_http2(
        &self,
        stream: Rewound<Line>,
        layers: Layers,
        stages: watch::Receiver<Stage>,
    ) -> hyper::Result<()> {
        let (caller, answers) = (Arc::clone(layers.caller()), Arc::new(Answers::default()));
        // As with seats: where a bridge's containers come in, each has an address of its own.
        let from = caller.peer.address().ip();
        let bounded = matches!(self.entrance, Entrance::Routes) && !self.trusts(from);
        let activity = Arc::new(Activity::none(clock::now(), self.crowd.corner(bounded.then_some(from))));
        let streams = Streams { layers, answers: Arc::clone(&answers), activity: Arc::clone(&activity) };
        let connection = self.http2.serve_connection(TokioIo::new(stream), streams);
        let served = async {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                () = farewell(stages, &caller) => {}
                () = activity.idle(self.limits.idle_timeout) => {}
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection => ended,
                // A client that says nothing any more does not confirm it either.
                () = activity.idle(LINGER) => Ok(()),
            }
        };
        tokio::select! {
            ended = served => ended,
            never = answers.sweep(self.limits.send_timeout) => match never {},
        }
    }

    fn layers(&self, peer: Peer, place: Place) -> Layers {
        Layers::new(Caller {
            door: Arc::clone(&self.door),
            peer,
            left: self.limits.keep_alive_requests.map(Left::new),
            leaving: Arc::clone(&self.leaving),
            _place: place,
        })
    }
}

/// Ends when a connection over HTTP/1.1 on which nothing happens is to be closed. Before that the last answer says so.
async fn closing(mut stages: watch::Receiver<Stage>) {
    // An error means that the server has gone.
    drop(stages.wait_for(|stage| *stage >= Stage::Closing).await);
}

/// Ends when a connection over HTTP/2 is to take no more requests.
async fn farewell(mut stages: watch::Receiver<Stage>, caller: &Caller) {
    tokio::select! {
        left = stages.wait_for(|stage| *stage >= Stage::Leaving) => drop(left),
        () = caller.enough() => {}
    }
}

/// Who a connection over TLS is for.
enum Met {
    /// The gateway itself.
    Us(Box<(TlsStream<TcpStream>, Secured)>),
    /// A TCP service; with what was read.
    Other(Arc<Service>, TcpStream, Bytes),
    /// An authority, which has seen what it looked for.
    Authority,
}

/// One connection's place. Dropping it gives it back.
#[must_use]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    seat: Option<Seat>,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Unwanted {
    #[error("there are as many connections as there may be")]
    Total,
    #[error("this address has as many connections as it may")]
    Address,
    #[error("not a trusted proxy, where those say who the client is")]
    Stranger,
    #[error("the balancer does not say in time who the client is")]
    Silent,
    #[error("the balancer does not say who the client is: {0}")]
    Balancer(proxied::Broken),
}

impl Unwanted {
    fn label(&self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
            Self::Stranger => "proxy_untrusted",
            Self::Silent => "proxy_late",
            Self::Balancer(proxied::Broken::Malformed(_)) => "proxy_malformed",
            Self::Balancer(proxied::Broken::Closed(_)) => "proxy_closed",
        }
    }
}

/// Streams of one HTTP/2 connection that we may have to reset for breaking the protocol before it is closed: a client
/// that makes us do it has them processed, but not counted as its own (MadeYouReset).
const RESETS_BY_US: usize = 50;

/// A head over HTTP/2 that is too long by less than this factor is answered like any other request; of a longer one the stream is reset.
const HEARD: usize = 2;

/// What a client may send ahead on one stream whose replica reads slowly.
const UPLOAD_WINDOW: u32 = 256 << 10;

/// The same on all streams of a connection.
const UPLOADS_WINDOW: u32 = 1 << 20;

/// What is kept of an answer on one stream that the client does not take, besides what one read of its replica brought.
const ANSWER_AHEAD: usize = 16 << 10;

/// What a connection over HTTP/1.1 may do.
pub(super) fn terms(limits: &Limits) -> Terms {
    let (bytes, fields) = (most_bytes(limits), limits.header_count as usize);
    Terms {
        head: limits.header_timeout,
        idle: limits.idle_timeout,
        limits: request_head::Limits { bytes, fields },
        least: limits.send_rate.0,
        grace: limits.send_grace,
    }
}

/// hyper's limits, from ours.
pub(super) fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(HEARD * most_bytes(limits)).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(Some(limits.h2_resets as usize))
        .max_local_error_reset_streams(Some(RESETS_BY_US))
        .initial_stream_window_size(UPLOAD_WINDOW)
        .initial_connection_window_size(UPLOADS_WINDOW)
        .max_send_buf_size(ANSWER_AHEAD)
        .enable_connect_protocol()
        .keep_alive_interval(Some(limits.h2_ping));
    http
}
