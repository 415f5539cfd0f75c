//! One call of the engine's API: its deadline, its debug line and what its failure means.
//! Every call in this folder goes through [`within`], because bollard's own timeout ends with the response's headers.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{Error, Kind};

/// For the question whether the engine is there.
pub(super) const PING: Duration = Duration::from_secs(1);
/// For calls that only read.
pub(super) const READ: Duration = Duration::from_secs(10);
/// For calls that make, start or remove something.
pub(super) const WRITE: Duration = Duration::from_secs(30);

/// A call that the engine refused, or did not answer.
#[derive(Debug)]
pub(super) struct Failed {
    /// The HTTP status, if the engine answered at all.
    pub status: Option<u16>,
    /// The engine's words, or ours for what kept it from answering.
    pub words: String,
}

impl Failed {
    /// Whether the engine answered with this status.
    pub(super) fn is(&self, status: u16) -> bool {
        self.status == Some(status)
    }

    /// The error for a caller that was doing `what`.
    pub(super) fn during(self, what: impl std::fmt::Display) -> Error {
        Error::new(self.kind(), format!("{what}: {}", self.words))
    }

    /// The same, but never worth another try.
    pub(super) fn permanent(self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::Permanent, format!("{what}: {}", self.words))
    }

    fn kind(&self) -> Kind {
        match self.status {
            Some(404) => Kind::Gone,
            Some(400 | 401 | 403) => Kind::Permanent,
            _ => Kind::Retryable,
        }
    }
}

/// Runs one call, at most for `limit`.
pub(super) async fn within<T>(
    name: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
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
pub(super) fn failed(error: bollard::errors::Error) -> Failed {
    use bollard::errors::Error as E;
    match error {
        E::DockerResponseServerError { status_code, message } => {
            Failed { status: Some(status_code), words: message.trim().to_owned() }
        }
        E::DockerStreamError { error } => Failed { status: None, words: error },
        error => Failed { status: None, words: chain(&error) },
    }
}

/// An error with its causes in one line; equal neighbours are said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        next = cause.source();
    }
    words
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
            (None, Kind::Retryable),
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
        assert_eq!(failed.during("list").kind, Kind::Retryable);
    }
}
