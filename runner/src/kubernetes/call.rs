//! One call of the API: its deadline, its debug line and what its failure means.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout};

use crate::{docker::call::Failed, error::chain};

/// For the question whether the API answers.
pub(super) const PING: Duration = Duration::from_secs(1);

/// Runs one call, at most for `limit`.
pub(super) async fn call<T>(
    name: &'static str,
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failed> {
    let started = Instant::now();
    let outcome = timeout(limit, Box::pin(call)).await;
    let elapsed = started.elapsed();
    let failed = match outcome {
        Ok(Ok(value)) => {
            tracing::debug!(call = name, ?elapsed, "the API answered");
            return Ok(value);
        }
        Ok(Err(error)) => failed(error),
        Err(_) => Failed {
            status: None,
            words: format!("the API did not answer `{name}` within {} s", limit.as_secs()),
        },
    };
    tracing::debug!(call = name, ?elapsed, status = failed.status, error = failed.words, "call failed");
    Err(failed)
}

/// What an error of the client says, without its wrapping.
pub(super) fn failed(error: kube::Error) -> Failed {
    match error {
        kube::Error::Api(status) => {
            Failed { status: Some(status.code), words: status.message.trim().to_owned() }
        }
        error => Failed { status: None, words: chain(&error) },
    }
}

/// Whether a namespace has as much as it may have, for now.
pub(super) fn is_over_quota(failed: &Failed) -> bool {
    failed.is(403) && failed.words.contains("exceeded quota")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_in_words() {
        let hangs = std::future::pending::<kube::Result<()>>();
        let failed = call("pod list", PING, hangs).await.expect_err("it hangs");
        assert_eq!(failed.words, "the API did not answer `pod list` within 1 s");
        assert_eq!(failed.during("list").kind, Kind::Silent);
    }

    #[test]
    fn quotas_are_told_apart_from_rights() {
        for (status, words, expected) in [
            (Some(403), "pods \"x\" is forbidden: exceeded quota: small, requested: pods=1", true),
            (Some(403), "pods is forbidden: User \"x\" cannot create resource \"pods\"", false),
            (None, "exceeded quota", false),
        ] {
            assert_eq!(is_over_quota(&Failed { status, words: words.into() }), expected, "{words}");
        }
    }
}
