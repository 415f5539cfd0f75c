//! What errors of the API's client mean.

use std::time::Duration;

use crate::{call::Failed, error::chain};

/// For the question whether the API answers.
pub(super) const PING: Duration = Duration::from_secs(1);

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
