//! The closed list of answers that are ours: each a status, a reason that machines read, and whether waiting helps.
//! Becomes HTTP in [`response`](super::response) and nowhere else.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, StatusCode};

use crate::http1::{Bad, server::Unheard};

/// Why a request got an answer of ours. Clones are cheap enough for the moment when a thousand waiters get the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request itself is wrong.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The same, and nobody knows where the next one begins: the connection ends.
    #[error("{0}")]
    BadFraming(&'static str),
    /// The connection's certificate does not stand for the host; the client may ask again over another one.
    #[error("this connection is not for this host")]
    Misdirected,
    /// Nobody sends it who may.
    #[error("a name and password, or a token, is needed")]
    Unauthorized {
        /// What may be shown.
        challenges: Arc<[HeaderValue]>,
    },
    /// Its sender's address may not.
    #[error("not from this address")]
    Forbidden,
    /// Its body is longer than it may be.
    #[error("the request's body is longer than it may be")]
    BodyTooLarge,
    /// Its headers are more, or longer, than they may be.
    #[error("the request's headers are too large")]
    HeadTooLarge,
    /// Its headers do not come to their end.
    #[error("the request's headers come too slowly")]
    HeadTooSlow,
    /// Path and query are longer than they may be.
    #[error("the request's path and query are too long")]
    UriTooLong,
    /// The body comes too slowly.
    #[error("the request's body comes too slowly")]
    BodyTooSlow,
    /// The request took longer than any may.
    #[error("the request took too long")]
    RequestDeadline,
    /// No route leads anywhere.
    #[error("no service has a route for this host and path")]
    NoRoute,
    /// The client asks too often.
    #[error("too many requests of this client")]
    RateLimited {
        /// When the next one may come.
        again: Instant,
    },
    /// The service was woken too often.
    #[error("the service was woken too often")]
    TooManyWakes {
        /// When it may be woken again.
        again: Instant,
    },
    /// As many requests wait as may.
    #[error("too many requests wait for this service")]
    QueueFull,
    /// The image is still being downloaded.
    #[error("the service's image is still being pulled")]
    Pulling {
        /// In words, for `expose_errors`.
        cause: String,
    },
    /// Replicas do not start; see `again`.
    #[error("the service did not start")]
    StartFailed {
        /// In words, for `expose_errors`.
        cause: String,
        /// When the next start is tried.
        again: Option<Instant>,
    },
    /// Replicas keep failing; see `again`.
    #[error("the service fails again and again")]
    CrashLooping {
        /// In words, for `expose_errors`.
        cause: String,
        /// When the next start is tried.
        again: Option<Instant>,
    },
    /// No host has room.
    #[error("no host has room for the service")]
    OutOfResources {
        /// In words, for `expose_errors`.
        cause: String,
    },
    /// No host answers.
    #[error("no host can run the service now")]
    NoCapacity {
        /// In words, for `expose_errors`.
        cause: String,
    },
    /// The service has addresses of its own, and none of them is well.
    #[error("none of the service's addresses answers")]
    NoUpstream {
        /// In words, for `expose_errors`.
        cause: String,
    },
    /// The gateway stops, or the service was taken out of the file.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// Nothing came free within the hold deadline.
    #[error("no replica was ready within the hold deadline")]
    HoldDeadline,
    /// Too many requests have failed; see `again`.
    #[error("the service fails too many requests")]
    CircuitOpen {
        /// When a request is tried.
        again: Instant,
    },
    /// No replica took a connection.
    #[error("the replica did not take a connection")]
    UpstreamRefused,
    /// The replica broke off before its response began, and the request could not be sent again.
    #[error("the replica broke off before it answered")]
    UpstreamReset,
    /// The response did not begin in time.
    #[error("the replica did not answer in time")]
    UpstreamTimeout,
    /// We broke. The request was lost, nothing else was.
    #[error("an error inside the gateway")]
    Internal,
}

impl Refusal {
    /// The word that machines read: the closed list of the contract.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::BadFraming(_) => "bad_request",
            Self::Misdirected => "misdirected",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTooSlow => "head_too_slow",
            Self::UriTooLong => "uri_too_long",
            Self::BodyTooSlow => "body_too_slow",
            Self::RequestDeadline => "request_deadline",
            Self::NoRoute => "no_route",
            Self::BodyTooLarge => "body_too_large",
            Self::RateLimited { .. } => "rate_limited",
            Self::TooManyWakes { .. } => "too_many_wakes",
            Self::QueueFull => "queue_full",
            Self::Pulling { .. } => "pulling",
            Self::StartFailed { .. } => "start_failed",
            Self::CrashLooping { .. } => "crash_looping",
            Self::OutOfResources { .. } => "out_of_resources",
            Self::NoCapacity { .. } => "no_capacity",
            Self::NoUpstream { .. } => "no_upstream",
            Self::ShuttingDown => "shutting_down",
            Self::HoldDeadline => "hold_deadline",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Internal => "internal",
        }
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadFraming(_) => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyWakes { .. }
            | Self::QueueFull
            | Self::Pulling { .. }
            | Self::StartFailed { .. }
            | Self::CrashLooping { .. }
            | Self::OutOfResources { .. }
            | Self::NoCapacity { .. }
            | Self::NoUpstream { .. }
            | Self::CircuitOpen { .. }
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::HoldDeadline | Self::UpstreamTimeout | Self::RequestDeadline => StatusCode::GATEWAY_TIMEOUT,
            Self::UpstreamRefused | Self::UpstreamReset => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// After how many seconds another try may go better; `None` where waiting does not help.
    #[must_use]
    pub fn retry_after(&self, now: Instant) -> Option<u64> {
        match self {
            Self::StartFailed { again, .. } | Self::CrashLooping { again, .. } => {
                again.map(|at| seconds_until(at, now))
            }
            Self::RateLimited { again } | Self::TooManyWakes { again } => Some(seconds_until(*again, now)),
            Self::CircuitOpen { again } => Some(seconds_until(*again, now)),
            Self::QueueFull | Self::ShuttingDown | Self::HoldDeadline => Some(1),
            Self::Pulling { .. } | Self::NoUpstream { .. } => Some(5),
            Self::OutOfResources { .. } | Self::NoCapacity { .. } => Some(10),
            Self::BadRequest(_)
            | Self::BadFraming(_)
            | Self::Misdirected
            | Self::Unauthorized { .. }
            | Self::Forbidden
            | Self::HeadTooLarge
            | Self::HeadTooSlow
            | Self::UriTooLong
            | Self::BodyTooSlow
            | Self::RequestDeadline
            | Self::NoRoute
            | Self::BodyTooLarge
            | Self::UpstreamRefused
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::Internal => None,
        }
    }

    /// What happened behind it, for operators, and for clients with `expose_errors`.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Pulling { cause }
            | Self::StartFailed { cause, .. }
            | Self::CrashLooping { cause, .. }
            | Self::OutOfResources { cause }
            | Self::NoCapacity { cause }
            | Self::NoUpstream { cause } => Some(cause),
            Self::BadRequest(_)
            | Self::BadFraming(_)
            | Self::Misdirected
            | Self::Unauthorized { .. }
            | Self::Forbidden
            | Self::HeadTooLarge
            | Self::HeadTooSlow
            | Self::UriTooLong
            | Self::BodyTooSlow
            | Self::RequestDeadline
            | Self::NoRoute
            | Self::BodyTooLarge
            | Self::RateLimited { .. }
            | Self::TooManyWakes { .. }
            | Self::QueueFull
            | Self::ShuttingDown
            | Self::HoldDeadline
            | Self::CircuitOpen { .. }
            | Self::UpstreamRefused
            | Self::UpstreamReset
            | Self::UpstreamTimeout
            | Self::Internal => None,
        }
    }
}

/// Whole seconds, at least one.
fn seconds_until(at: Instant, now: Instant) -> u64 {
    let left = at.saturating_duration_since(now);
    (left.as_secs() + u64::from(left.subsec_nanos() > 0)).max(1)
}
impl From<Unheard> for Refusal {
    fn from(why: Unheard) -> Self {
        match why {
            Unheard::Late => Self::HeadTooSlow,
            Unheard::Bad(Bad::TooLarge) => Self::HeadTooLarge,
            Unheard::Bad(Bad::Target) => Self::BadFraming("a target that is none"),
            Unheard::Bad(Bad::Length) => Self::BadFraming("a Content-Length that is not one number"),
            Unheard::Bad(Bad::Coding) => Self::BadFraming("a Transfer-Encoding that is not just chunked"),
            Unheard::Bad(Bad::Alien) => Self::BadFraming("not HTTP/1.1"),
            Unheard::Bad(_) => Self::BadFraming("malformed headers"),
        }
    }
}
