//! What happens in the swarm, as events. A swarm tells of services and not of tasks, so it is looked at: densely while
//! something starts, once a second otherwise.
//! Holds: a swarm that goes silent is one line in the log, and one when it is back, when everyone is told to list again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    inner::Inner,
    secrets::{self, Alone, SWEEP},
};
use crate::{Event, cluster::Told};

/// Between two looks while nothing starts.
const SPARSE: Duration = Duration::from_secs(1);
/// From a start on: a look costs a manager about as much as it costs us, and every wake waits for one.
const DENSE: [(Duration, Duration); 3] = [
    (Duration::from_secs(2), Duration::from_millis(4)),
    (Duration::from_secs(10), Duration::from_millis(50)),
    (Duration::MAX, Duration::from_millis(250)),
];
/// Between two questions to a swarm that does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the swarm until the task is dropped.
pub(super) async fn follow(inner: Arc<Inner>) {
    let mut told = Told::default();
    let mut begun = Instant::now();
    let (mut alone, mut swept) = (Alone::default(), begun);
    loop {
        let pause = match inner.look().await {
            Ok(seen) => {
                if swept.elapsed() >= SWEEP {
                    swept = Instant::now();
                    let replicas = seen.iter().map(|seen| seen.observed.id.clone()).collect();
                    if let Err(error) = secrets::sweep(&inner, &replicas, &mut alone).await {
                        tracing::debug!(host = %inner.options.host, %error, "cannot look for secrets that are alone");
                    }
                }
                told.news(&seen, Instant::now().into_std())
                    .into_iter()
                    .for_each(|event| inner.events.tell(event));
                if seen.iter().any(|seen| seen.standing.is_coming()) {
                    dense(begun.elapsed())
                } else {
                    SPARSE
                }
            }
            Err(error) => {
                tracing::warn!(host = %inner.options.host, %error, "the swarm does not answer");
                until_answered(&inner).await;
                inner.events.tell(Event::Resync);
                PAUSE
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = inner.started.notified() => begun = Instant::now(),
        }
    }
}

async fn until_answered(inner: &Inner) {
    while inner.look().await.is_err() {
        sleep(PAUSE).await;
    }
    tracing::info!(host = %inner.options.host, "the swarm answers again");
}

fn dense(since: Duration) -> Duration {
    DENSE.iter().find(|(until, _)| since < *until).map_or(SPARSE, |(_, pause)| *pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_dense_at_first() {
        for (since, pause) in [(0, 4), (1_999, 4), (2_000, 50), (9_999, 50), (10_000, 250), (3_600_000, 250)]
        {
            assert_eq!(dense(Duration::from_millis(since)), Duration::from_millis(pause), "{since} ms");
        }
    }
}
