//! What can go wrong with an engine, by what the caller can do about it.

/// A runner call that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller can do.
    pub kind: Kind,
    /// What happened, for people: what was tried, what the engine said.
    pub message: String,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Try again later: the engine was busy, or something that it needs failed.
    Retryable,
    /// The engine did not answer: nobody knows what became of the call. Try again once it does.
    Silent,
    /// Trying again changes nothing until someone changes the file or the host: no such image, bad mount, ...
    Permanent,
    /// The replica does not exist (any more).
    Gone,
    /// The image that it was to be started from does not exist (any more): it has to be prepared again.
    NoImage,
}

impl Kind {
    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Retryable | Self::Silent)
    }
}

impl Error {
    /// An error without a cause of its own.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error with its cause.
    #[must_use]
    pub fn because(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }
}

/// An error with its causes in one line; what one has said already is said once.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
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
