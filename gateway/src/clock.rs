//! The only place that asks what time it is; everything else is told.

use std::time::Instant;

/// Monotonic now. Wall-clock jumps do not move it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// What people and certificates call now. It may jump.
#[must_use]
pub fn wall() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
