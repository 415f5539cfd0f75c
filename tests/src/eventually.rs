//! The one place where tests wait: until something holds, within a bound that only a failure ever reaches.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

/// Far more than anything takes; reached only by what never happens.
const BOUND: Duration = Duration::from_secs(60);

/// The same, where nothing has to be pulled or built first.
const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `holds` answers true.
///
/// # Errors
/// What was waited for, if it never came; or whatever `holds` failed with.
pub async fn eventually(
    what: &str,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !holds().await.with_context(|| format!("waiting until {what}"))? {
        ensure!(begun.elapsed() < BOUND, "it never came true that {what}");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Looks until there is something to be found.
///
/// # Panics
/// When there never is; says what was seen last.
pub async fn found<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(begun.elapsed() < PATIENCE, "never came: {what}; last seen: {seen}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for something that ends by itself.
///
/// # Panics
/// When it does not.
pub async fn soon<T>(what: &str, ending: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, ending).await;
    ended.unwrap_or_else(|_| panic!("never ended: {what}"))
}
