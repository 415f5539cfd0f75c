//! Where one replica's HTTP/1.1 connections are between exchanges, and how a request gets one and is sent on it.
//! Called by [`upstream`](crate::request::upstream). Holds: a connection is here only between exchanges that ended well, and a
//! failure says whether anything of the request may have been sent.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, ready},
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use http::{Response, StatusCode, request::Parts};
use parking_lot::Mutex;
use tidegate_config::model::Upstream;
use tokio_util::task::TaskTracker;

use super::{
    connection::{Broken, Connection},
    reply::Reply,
};
use crate::{
    clock,
    http1::response::Head,
    http1::server::Early,
    request::{
        body::Outbound,
        dial,
        retry::{self, Failure},
        upstream::Failed,
    },
};

/// A connection that is older is not used for another exchange: what balances or moves replicas gets its chance.
const MOST_AGE: Duration = Duration::from_secs(3600);

/// One replica's HTTP/1.1 connections.
#[derive(Debug)]
pub(crate) struct Home {
    address: SocketAddr,
    /// Last used last.
    #[expect(
        clippy::vec_box,
        reason = "they move between here and response bodies, and stay where they are"
    )]
    idle: Mutex<Vec<Box<Connection>>>,
    /// Who may wait for a response's head: one for each open connection.
    alarms: Mutex<Vec<Weak<AtomicWaker>>>,
    /// How often the replica was given up.
    abandoned: AtomicU64,
    /// Uploads that go on behind their response. They end with their connections.
    tasks: TaskTracker,
}

/// Why there is no response.
enum Ended {
    Broken(Broken),
    Timeout,
    Abandoned,
}

impl Home {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Mutex::default(),
            alarms: Mutex::default(),
            abandoned: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        }
    }

    /// Sends a request and waits for the response's head.
    pub(crate) async fn send(
        self: &Arc<Self>,
        head: &Parts,
        body: Outbound,
        early: Option<&Early>,
        settings: &Upstream,
        now: Instant,
    ) -> Result<Response<Reply>, Failed> {
        let mut connection = match self.reuse(head, settings.idle_connection, now) {
            Some(connection) => connection,
            // Boxed: rare, and large enough to weigh on every request's future.
            None => match Box::pin(self.open(settings.connect_timeout)).await {
                Ok(connection) => connection,
                Err((failure, error)) => return Err(Failed { failure, unsent: Some(body), error }),
            },
        };
        connection.begin(head, body, early);
        match self.head(&mut connection, settings.first_byte_timeout, now).await {
            // Whoever changes the protocol in the middle of a body has misunderstood it.
            Ok(head) if head.status == StatusCode::SWITCHING_PROTOCOLS && !connection.is_upload_whole() => {
                Err(Failed { failure: Failure::Reset, unsent: None, error: "101 within a body".into() })
            }
            Ok(head) => Ok(response(head, connection, self)),
            Err(ended) => Err(failed(ended, connection)),
        }
    }

    /// The replica is lost: attempts whose response has not begun end now, and no kept connection is used again.
    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::AcqRel);
        self.idle.lock().clear();
        for alarm in self.alarms.lock().iter().filter_map(Weak::upgrade) {
            alarm.wake();
        }
    }

    /// Closes connections that have been unused for `idle`.
    pub(crate) fn reap(&self, now: Instant, idle: Duration) {
        self.idle.lock().retain(|connection| is_fresh(connection, now, idle));
        self.alarms.lock().retain(|alarm| alarm.strong_count() > 0);
    }

    /// An exchange has ended on this connection.
    pub(super) fn take_back(self: Arc<Self>, mut connection: Box<Connection>) {
        if connection.abandoned != self.abandoned.load(Ordering::Acquire) {
            // Of a replica that was given up meanwhile: closed.
        } else if connection.is_reusable() {
            connection.used = clock::now();
            self.idle.lock().push(connection);
        } else if connection.is_ended() && !connection.is_uploaded() {
            // The response has ended and the request has not: its connection is busy with it and serves nobody else.
            let home = Arc::clone(&self);
            self.tasks.spawn(async move {
                let uploaded = poll_fn(|cx| match connection.poll_upload(cx) {
                    // A replica that closes now takes no more of it.
                    Ok(false) => connection.poll_said(cx).map(|()| false),
                    Ok(true) => Poll::Ready(true),
                    Err(_) => Poll::Ready(false),
                });
                if uploaded.await && connection.is_reusable() {
                    home.take_back(connection);
                }
            });
        }
    }

    /// A kept connection that is still good, last used first. Whoever cannot be sent twice is told for sure.
    fn reuse(&self, head: &Parts, idle: Duration, now: Instant) -> Option<Box<Connection>> {
        let once = !retry::is_idempotent(&head.method);
        loop {
            let connection = self.idle.lock().pop()?;
            // The backend may be closing what it has not used for long; a fresh connection cannot lose that race.
            let given_up = connection.abandoned != self.abandoned.load(Ordering::Acquire);
            if !given_up && is_fresh(&connection, now, idle) && connection.is_quiet(once) {
                return Some(connection);
            }
        }
    }

    async fn open(&self, within: Duration) -> Result<Box<Connection>, (Failure, String)> {
        let abandoned = self.abandoned.load(Ordering::Acquire);
        let stream = dial::connect(self.address, within).await?;
        let connection = Box::new(Connection::new(stream, clock::now(), abandoned));
        self.alarms.lock().push(Arc::downgrade(&connection.alarm));
        Ok(connection)
    }

    /// The response's head, unless it has not come in time or the replica was given up. The clock starts anew as long as the
    /// request's body flows.
    async fn head(&self, connection: &mut Connection, within: Duration, now: Instant) -> Result<Head, Ended> {
        let mut deadline = now.checked_add(within);
        let mut uploads = connection.uploads();
        poll_fn(|cx| {
            connection.alarm.register(cx.waker());
            if self.abandoned.load(Ordering::Acquire) != connection.abandoned {
                return Poll::Ready(Err(Ended::Abandoned));
            }
            if let Poll::Ready(head) = connection.poll_head(cx) {
                return Poll::Ready(head.map_err(Ended::Broken));
            }
            if uploads && connection.is_uploaded() {
                (uploads, deadline) = (false, clock::now().checked_add(within));
            }
            while let Some(at) = deadline {
                ready!(connection.timer.poll_passed(cx, at));
                if connection.is_uploaded() {
                    return Poll::Ready(Err(Ended::Timeout));
                }
                deadline = clock::now().checked_add(within);
            }
            Poll::Pending
        })
        .await
    }
}

fn is_fresh(connection: &Connection, now: Instant, idle: Duration) -> bool {
    now.saturating_duration_since(connection.used) < idle
        && now.saturating_duration_since(connection.opened) < MOST_AGE
}

fn response(head: Head, connection: Box<Connection>, home: &Arc<Home>) -> Response<Reply> {
    let mut response = Response::new(Reply::new(connection, Arc::clone(home)));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    response
}

fn failed(ended: Ended, connection: Box<Connection>) -> Failed {
    let broken = match ended {
        Ended::Timeout => return Failed::timeout(),
        Ended::Abandoned => return Failed::abandoned(),
        Ended::Broken(broken) => broken,
    };
    let error = broken.to_string();
    if let Broken::Client(_) = broken {
        return Failed { failure: Failure::Client, unsent: connection.into_unsent(), error };
    }
    let unsent = connection.into_unsent();
    let failure = if unsent.is_some() { Failure::NotSent } else { Failure::Reset };
    Failed { failure, unsent, error }
}
