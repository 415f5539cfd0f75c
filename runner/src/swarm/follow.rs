//! What happens in the swarm, as events. A swarm tells of services and not of tasks, so it is looked at: densely while
//! something starts, once a second otherwise.
//! Holds: a swarm that goes silent is one line in the log, and one when it is back, when everyone is told to list again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidegate_config::name::ReplicaId;
use tokio::time::{Instant, sleep};

use super::{
    inner::{Inner, Seen},
    judge::Standing,
};
use crate::Event;

/// Between two looks while nothing starts.
const SPARSE: Duration = Duration::from_secs(1);
/// From a start on: a look costs a manager about as much as it costs us, and every wake waits for one.
const DENSE: [(Duration, Duration); 3] = [
    (Duration::from_secs(2), Duration::from_millis(4)),
    (Duration::from_secs(10), Duration::from_millis(50)),
    (Duration::MAX, Duration::from_millis(250)),
];
/// That no node takes a replica is said again after this, as long as it lasts.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two questions to a swarm that does not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// What was told of a replica.
struct Told {
    standing: Standing,
    at: Instant,
}

/// Follows the swarm until the task is dropped.
pub(super) async fn follow(inner: Arc<Inner>) {
    let mut told = BTreeMap::new();
    let mut begun = Instant::now();
    loop {
        let pause = match inner.look().await {
            Ok(seen) => {
                let coming = tell(&inner, &mut told, seen);
                if coming { dense(begun.elapsed()) } else { SPARSE }
            }
            Err(error) => {
                tracing::warn!(host = %inner.options.host, %error, "the swarm does not answer");
                until_answered(&inner).await;
                inner.tell(Event::Resync);
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

/// Tells what has changed since the last look; whether anything is on its way.
fn tell(inner: &Inner, told: &mut BTreeMap<ReplicaId, Told>, seen: Vec<Seen>) -> bool {
    let gone: Vec<_> =
        told.keys().filter(|id| !seen.iter().any(|s| s.observed.id == **id)).cloned().collect();
    for id in gone {
        told.remove(&id);
        inner.tell(Event::Gone(id));
    }
    let coming = seen.iter().any(|s| matches!(s.standing, Standing::Coming | Standing::Stuck(_)));
    for seen in seen {
        let now = Instant::now();
        let before = told.get(&seen.observed.id);
        if before.is_some_and(|before| before.standing == seen.standing && !is_due(before, now)) {
            continue;
        }
        told.insert(seen.observed.id.clone(), Told { standing: seen.standing.clone(), at: now });
        if let Some(event) = event(seen) {
            inner.tell(event);
        }
    }
    coming
}

fn is_due(told: &Told, now: Instant) -> bool {
    matches!(told.standing, Standing::Stuck(_)) && now.duration_since(told.at) >= AGAIN
}

fn event(seen: Seen) -> Option<Event> {
    let id = seen.observed.id.clone();
    match seen.standing {
        Standing::Coming => None,
        Standing::Stuck(why) => Some(Event::NoPlace { id, why }),
        Standing::Running(_) => Some(Event::Running(seen.observed)),
        Standing::Ended(exit) => Some(Event::Exited { id, exit }),
    }
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
