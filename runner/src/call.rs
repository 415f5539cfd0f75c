//! One call of an engine's API, whatever the engine: how long it may take, its debug line, and what its failure means.
//! Holds: every call ends in time, with words. Absent: connections, and which errors a client has.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{Error, Kind};

/// For one who is in no hurry to know whether the engine is there.
pub(crate) const PATIENT: Duration = Duration::from_secs(5);
/// For calls that only read.
pub(crate) const READ: Duration = Duration::from_secs(10);
/// For calls that make, start or remove something.
pub(crate) const WRITE: Duration = Duration::from_secs(30);
/// For tidying up after a call that failed.
pub(crate) const UNDO: Duration = Duration::from_secs(5);

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

/// Runs one call, at most for `limit`; `failed` reads the client's error.
pub(crate) async fn within<T, E>(
    name: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
    failed: fn(E) -> Failed,
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
        let hangs = std::future::pending::<Result<(), Failed>>();
        let failed = within("inspect", READ, hangs, |failed| failed).await.expect_err("it hangs");
        assert_eq!(failed.words, "the engine did not finish `inspect` within 10 s");
        assert_eq!(failed.during("list").kind, Kind::Silent);
    }
}
