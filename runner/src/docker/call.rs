//! One call of the engine's API: its deadline, its debug line and what its failure means.
//! Every call in this folder goes through [`Api`], because bollard's own timeout ends with the response's headers.
//! Holds: an engine that hangs has a bounded number of calls waiting on it; the question whether it answers waits for
//! none of them; after a failure to answer, no pooled connection of before carries a call.

use std::{future::Future, ops::Deref, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, Semaphore};

use super::line::Line;
use crate::{
    call::{Failed, within},
    error::chain,
};

/// For the question whether the engine is there.
const PING: Duration = Duration::from_secs(1);
/// The same over ssh, where making a connection alone takes about as long.
const SLOW_PING: Duration = Duration::from_secs(3);
/// Calls of one engine under way at once.
const CALLS: usize = 64;
/// Stops of one engine under way at once; each takes as long as its process does.
const STOPS: usize = 128;

/// What bollard gives.
type Answer<T> = Result<T, bollard::errors::Error>;

/// One engine's API.
#[derive(Clone)]
pub(crate) struct Api {
    docker: bollard::Docker,
    line: Arc<Line>,
    calls: Arc<Semaphore>,
    stops: Arc<Semaphore>,
    unheard: Arc<Notify>,
}

impl Api {
    pub(in crate::docker) fn new(docker: bollard::Docker, line: Arc<Line>) -> Self {
        let (calls, stops) = (Arc::new(Semaphore::new(CALLS)), Arc::new(Semaphore::new(STOPS)));
        Self { docker, line, calls, stops, unheard: Arc::default() }
    }

    /// Runs one call, at most for `limit`, its wait for others included.
    pub(crate) fn call<'a, T: 'a>(
        &'a self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Answer<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Failed>> + Send + 'a {
        // Boxed, because bollard's futures are big and each caller would hold them several times over.
        self.queued(&self.calls, name, limit, call.boxed())
    }

    /// The same, for a stop.
    pub(crate) fn stop<'a, T: 'a>(
        &'a self,
        limit: Duration,
        call: impl Future<Output = Answer<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Failed>> + Send + 'a {
        self.queued(&self.stops, "stop", limit, call.boxed())
    }

    /// Whether the engine answers; waits for no other call.
    pub(crate) async fn ping(&self) -> Result<(), Failed> {
        self.ask(if self.line.is_slow_to_open() { SLOW_PING } else { PING }).await
    }

    /// The same, within a limit of the caller's.
    pub(crate) async fn ask(&self, limit: Duration) -> Result<(), Failed> {
        self.judged(within("ping", limit, self.docker.ping().boxed(), failed).await).map(drop)
    }

    /// Ends when a call from now on is not answered.
    pub(crate) fn unheard(&self) -> impl Future<Output = ()> + use<'_> {
        self.unheard.notified()
    }

    async fn queued<T>(
        &self,
        queue: &Semaphore,
        name: &'static str,
        limit: Duration,
        call: BoxFuture<'_, Answer<T>>,
    ) -> Result<T, Failed> {
        let turn = async {
            // Nobody closes it.
            let _turn = queue.acquire().await;
            call.await
        };
        self.judged(within(name, limit, turn, failed).await)
    }

    fn judged<T>(&self, outcome: Result<T, Failed>) -> Result<T, Failed> {
        if let Err(Failed { status: None, .. }) = &outcome {
            self.line.renew();
            self.unheard.notify_waiters();
        }
        outcome
    }
}

impl Deref for Api {
    type Target = bollard::Docker;

    fn deref(&self) -> &bollard::Docker {
        &self.docker
    }
}

/// What a bollard error says, without its wrapping.
pub(crate) fn failed(error: bollard::errors::Error) -> Failed {
    use bollard::errors::Error as E;
    match error {
        E::DockerResponseServerError { status_code, message } => {
            Failed { status: Some(status_code), words: message.trim().to_owned() }
        }
        // Its own words only say that it is the client's.
        E::HyperLegacyError { err } => {
            let words = std::error::Error::source(&err).map_or_else(|| err.to_string(), chain);
            Failed { status: None, words }
        }
        E::DockerStreamError { error } => Failed { status: None, words: error },
        error => Failed { status: None, words: chain(&error) },
    }
}
