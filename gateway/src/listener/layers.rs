//! What every request goes through, in either version of HTTP: layers of tower around the [request path](request::handle).
//! Made once per connection by [`connection`](super::connection). What a route switches on stands behind them, in
//! [`middleware`](crate::middleware).

use std::{
    convert::Infallible,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION};
use tokio::sync::Notify;
use tower::ServiceBuilder;

use super::{
    connection::Place,
    idle::{Active, Activity},
    unread::{Answers, Watched},
};
use crate::{
    http1::server::{self, Switch, Unheard},
    panics::{self, CatchPanic},
    request::{self, Door, Incoming, Peer, body::Body, upgrade},
    telemetry,
};

/// The layers as the two servers call them. Every one of them is ready at any time, so none is asked before a call.
pub(super) struct Layers(CatchPanic<Entry>);

impl Layers {
    /// The layers around the requests of a connection.
    pub(super) fn new(caller: Caller) -> Self {
        Self(ServiceBuilder::new().layer_fn(CatchPanic::new).service(Entry(Arc::new(caller))))
    }

    /// What they share.
    pub(super) fn caller(&self) -> &Arc<Caller> {
        &self.0.inner().0
    }
}

/// The layers as they serve the streams of an HTTP/2 connection.
pub(super) struct Streams {
    pub(super) layers: Layers,
    /// Those that are being sent.
    pub(super) answers: Arc<Answers>,
    pub(super) activity: Arc<Activity>,
}

impl hyper::service::Service<Request<hyper::body::Incoming>> for Streams {
    type Response = Response<Watched>;
    type Error = h2::Error;
    type Future = Watching;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Watching {
        let active = match self.activity.begin() {
            Ok(active) => active,
            Err(whose) => {
                telemetry::stream_refused(whose);
                return Watching::Refused;
            }
        };
        let mut request = request.map(Incoming::Http2);
        upgrade::Held::by(&mut request, || Arc::new(active.again()));
        let answer = tower::Service::call(&mut self.layers.0.clone(), request);
        Watching::Answer { answer, answers: Arc::clone(&self.answers), active: Some(active) }
    }
}

/// An answer on its way, which is watched from its head on.
pub(super) enum Watching {
    /// It comes for sure.
    Answer {
        answer: panics::Answer<Answer>,
        answers: Arc<Answers>,
        /// Until the answer begins, which has it from then on.
        active: Option<Active>,
    },
    /// There are too many: nothing was done, and the client knows that it can ask again (RFC 9113, 8.7).
    Refused,
}

impl Future for Watching {
    type Output = Result<Response<Watched>, h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Answer { answer, answers, active } => {
                let Ok(response) = ready!(Pin::new(answer).poll(cx));
                let active = active.take();
                Poll::Ready(Ok(response.map(|body| answers.watch(body, active))))
            }
            Self::Refused => Poll::Ready(Err(h2::Reason::REFUSED_STREAM.into())),
        }
    }
}

impl server::Service for Layers {
    type Answer = Told;

    fn answer(&self, mut request: Request<server::Incoming>) -> Told {
        Switch::hold(&mut request, || Arc::clone(self.caller()) as _);
        Told(tower::Service::call(&mut self.0.clone(), request.map(Incoming::http1)))
    }

    fn refuse(&self, why: Unheard) -> Response<Body> {
        let caller = self.caller();
        request::unheard(&caller.door, why, &caller.peer)
    }
}

/// An answer that comes for sure.
pub(super) struct Told(panics::Answer<Answer>);

impl Future for Told {
    type Output = Response<Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        Pin::new(&mut self.0).poll(cx).map(|Ok(response)| response)
    }
}

/// The innermost service: the request path.
#[derive(Clone)]
struct Entry(Arc<Caller>);

/// What all requests of a connection share.
pub(super) struct Caller {
    pub(super) door: Arc<Door>,
    pub(super) peer: Peer,
    /// Where a connection may carry so many requests only.
    pub(super) left: Option<Left>,
    /// Whether answers over HTTP/1 are the last ones of their connections.
    pub(super) leaving: Arc<AtomicBool>,
    pub(super) _place: Place,
}

/// Boxed: a connection's own future stays small while it is between requests.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl tower::Service<Request<Incoming>> for Entry {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let is_http2 = request.version() == Version::HTTP_2;
        let caller = Arc::clone(&self.0);
        let enough = caller.is_last(is_http2);
        Box::pin(async move {
            let mut response = request::handle(&caller.door, request, &caller.peer).await;
            let last = !is_http2 && (enough || caller.leaving.load(Ordering::Relaxed));
            if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

/// How many requests a connection may still carry, and a bell for when it is none.
pub(super) struct Left(AtomicU32, Notify);

impl Left {
    /// So many.
    pub(super) fn new(requests: NonZeroU32) -> Self {
        Self(AtomicU32::new(requests.get()), Notify::new())
    }
}

impl Caller {
    /// A request has come. Whether it is the last one that the connection carries.
    fn is_last(&self, is_http2: bool) -> bool {
        let Some(Left(left, none)) = &self.left else { return false };
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let last = before.is_ok_and(|before| before == 1) || before.is_err();
        if last && is_http2 {
            none.notify_one();
        }
        last
    }

    /// Ends when a connection has carried as many requests as it may.
    pub(super) async fn enough(&self) {
        match &self.left {
            Some(Left(_, none)) => none.notified().await,
            None => std::future::pending().await,
        }
    }
}
