//! Faults that tests inject into debug builds: `FAILPOINTS="request.panic=1000"` makes one request in a thousand panic, after
//! it has its lease. Release builds have none of it.

/// A request has its lease.
#[cfg(debug_assertions)]
pub(crate) fn request() {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    static EVERY: OnceLock<Option<u64>> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let set = || {
        let points = std::env::var("FAILPOINTS").ok()?;
        points.split(',').find_map(|point| point.strip_prefix("request.panic="))?.parse().ok()
    };
    if let Some(every) = *EVERY.get_or_init(set)
        && (COUNT.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
    {
        panic!("failpoint request.panic");
    }
}

/// A request has its lease.
#[cfg(not(debug_assertions))]
pub(crate) fn request() {}
