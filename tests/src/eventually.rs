//! The one place where tests wait: until something holds, within a bound that only a failure ever reaches.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

/// Far more than anything takes; reached only by what never happens.
const BOUND: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(10);

/// Waits until `holds` answers true.
///
/// # Errors
/// What was waited for, if it never came; or whatever `holds` failed with.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !holds().await.with_context(|| format!("waiting until {what}"))? {
        ensure!(begun.elapsed() < BOUND, "it never came true that {what}");
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
