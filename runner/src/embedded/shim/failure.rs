//! Why nothing runs, and whether it may go better another time.

use std::error::Error;

use serde::{Deserialize, Serialize};

use crate::error::chain;

/// Whether it may go better another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Blame {
    /// Not until somebody changes something.
    Permanent,
    /// It may.
    Retryable,
}

/// Why nothing runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub blame: Blame,
    pub message: String,
}

/// A shim's step.
pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn permanent(message: impl Into<String>) -> Self {
        Self { blame: Blame::Permanent, message: message.into() }
    }

    pub(super) fn retryable(message: impl Into<String>) -> Self {
        Self { blame: Blame::Retryable, message: message.into() }
    }
}

/// Says of an error what was tried.
pub(super) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Error> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::retryable(format!("{}: {}", what(), chain(&error))))
    }
}
