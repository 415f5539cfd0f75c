//! The access log.

use std::{path::PathBuf, time::Duration};

/// The access log.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go.
    pub to: LogTo,
    /// The share of requests that are logged, 0 to 1; errors and slow ones always are.
    pub sample: f64,
    /// From then on a request is slow.
    pub slow: Duration,
    /// Whether the values in queries are hidden.
    pub redact_query: bool,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            to: LogTo::Stdout,
            sample: 1.0,
            slow: Duration::from_secs(1),
            redact_query: true,
        }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// An object with a field for all that is known.
    Json,
    /// As Apache and nginx write it.
    Combined,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// Standard output.
    Stdout,
    /// Standard error, where the gateway's own log goes.
    Stderr,
    /// A file, which may be moved away.
    File(PathBuf),
}
