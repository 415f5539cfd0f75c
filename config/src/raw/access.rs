//! The access log.

use super::duration;
use crate::{
    decode::{
        leaf::{Span, Text},
        section,
    },
    model::{self, LogFormat},
};

section! {
    /// A line for each request. Off unless this table is there.
    AccessLog, d = model::AccessLog::default(); bare = true => {
        /// An object for each request, or the line that Apache and nginx write.
        format: LogFormat = "json",
        /// `"stdout"`, `"stderr"`, or a file, relative to this file's folder. A file may be moved away at any time: it is made
        /// anew.
        to: Text = "stdout",
        /// The share of requests that are logged, 0 to 1. What failed, was refused or was slow always is.
        sample: f64 = d.sample,
        /// From then on a request is slow.
        slow: Span = duration(d.slow),
        /// Whether values in queries are hidden, as in `/x?token=*`: they may be secrets.
        redact_query: bool = d.redact_query,
    }
}
