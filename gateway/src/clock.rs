//! The only place that asks what time it is; everything else is told.

use std::time::Instant;

/// Monotonic now. Wall-clock jumps do not move it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}
