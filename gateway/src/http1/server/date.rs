//! The `Date` of answers (RFC 9110, 6.6.1), written once in half a second and thread.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use crate::clock;

/// A date may be so old.
const FRESH: Duration = Duration::from_millis(500);

thread_local! {
    static WRITTEN: RefCell<Option<(Instant, String)>> = const { RefCell::new(None) };
}

/// Lends the date as of `now`.
pub(super) fn with<T>(now: Instant, lend: impl FnOnce(&[u8]) -> T) -> T {
    WRITTEN.with_borrow_mut(|written| {
        let old = |at: Instant| now.saturating_duration_since(at) >= FRESH;
        if written.as_ref().is_none_or(|(at, _)| old(*at)) {
            *written = Some((now, httpdate::fmt_http_date(clock::wall())));
        }
        lend(written.as_ref().map_or(b"", |(_, date)| date.as_bytes()))
    })
}
