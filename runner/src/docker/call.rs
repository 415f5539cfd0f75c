//! One call of the engine's API: its deadline, its debug line and what its failure means.
//! Every call in this folder goes through [`Api`], because bollard's own timeout ends with the response's headers.
//! Holds: an engine that hangs has a bounded number of calls waiting on it; the question whether it answers waits for
//! none of them; after a failure to answer, no pooled connection of before carries a call.

use std::{future::Future, ops::Deref, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};

use super::line::Line;
use crate::{Error, Kind, error::chain};

/// For the question whether the engine is there.
const PING: Duration = Duration::from_secs(1);
/// The same over ssh, where making a connection alone takes about as long.
const SLOW_PING: Duration = Duration::from_secs(3);
/// The same for one who is in no hurry.
pub(crate) const PATIENT: Duration = Duration::from_secs(5);
/// For calls that only read.
pub(crate) const READ: Duration = Duration::from_secs(10);
/// For calls that make, start or remove something.
pub(crate) const WRITE: Duration = Duration::from_secs(30);

/// For tidying up after a call that failed.
pub(crate) const UNDO: Duration = Duration::from_secs(5);
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
        self.judged(within("ping", limit, self.docker.ping().boxed()).await).map(drop)
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
        self.judged(within(name, limit, turn).await)
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

/// A call that the engine refused, or did not answer.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The HTTP status, if the engine answered at all.
    pub status: Option<u16>,
    /// The engine's words, or ours for what kept it from answering.
    pub words: String,
}

impl Failed {
    /// Whether the engine answered with this status.
    pub(crate) fn is(&self, status: u16) -> bool {
        self.status == Some(status)
    }

    /// The error for a caller that was doing `what`.
    pub(crate) fn during(self, what: impl std::fmt::Display) -> Error {
        Error::new(self.kind(), format!("{what}: {}", self.words))
    }

    /// The same, but never worth another try.
    pub(crate) fn permanent(self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::Permanent, format!("{what}: {}", self.words))
    }

    fn kind(&self) -> Kind {
        match self.status {
            Some(404) => Kind::Gone,
            Some(400 | 401 | 403) => Kind::Permanent,
            Some(_) => Kind::Retryable,
            None => Kind::Silent,
        }
    }
}

/// Runs one call, at most for `limit`.
async fn within<T>(
    name: &'static str,
    limit: Duration,
    call: impl Future<Output = Answer<T>>,
) -> Result<T, Failed> {
    let started = Instant::now();
    let outcome = timeout(limit, call).await;
    let elapsed = started.elapsed();
    let failed = match outcome {
        Ok(Ok(value)) => {
            tracing::debug!(call = name, ?elapsed, "engine answered");
            return Ok(value);
        }
        Ok(Err(error)) => failed(error),
        Err(_) => Failed {
            status: None,
            words: format!("the engine did not finish `{name}` within {} s", limit.as_secs()),
        },
    };
    tracing::debug!(
        call = name,
        ?elapsed,
        status = failed.status,
        error = failed.words,
        "engine call failed"
    );
    Err(failed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_what_the_caller_can_do() {
        for (status, kind) in [
            (Some(404), Kind::Gone),
            (Some(400), Kind::Permanent),
            (Some(409), Kind::Retryable),
            (Some(500), Kind::Retryable),
            (None, Kind::Silent),
        ] {
            let error = Failed { status, words: "x".into() }.during("start api-1-1");
            assert_eq!((error.kind, error.message.as_str()), (kind, "start api-1-1: x"), "{status:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_in_words() {
        let hangs = std::future::pending::<Result<(), bollard::errors::Error>>();
        let failed = within("inspect", READ, hangs).await.expect_err("it hangs");
        assert_eq!(failed.words, "the engine did not finish `inspect` within 10 s");
        assert_eq!(failed.during("list").kind, Kind::Silent);
    }
}
