//! Who listens to a service's requests as they end, and to starts of its replicas. The request path and the control loop tell
//! of each; the admin API hands them to `tidegate record`. Holds: while nobody listens it costs one load; a listener that is slow keeps no request waiting, and
//! hears how many it missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Requests that a listener may be behind by.
const BEHIND: usize = 65_536;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A request that has ended, and that a replica had: what the gateway answers itself is work for nobody.
    Request {
        /// When it came.
        arrived: Instant,
        /// From the first lease of a replica to its end.
        took: Duration,
    },
    /// A replica that was started is ready.
    Start {
        /// From the call to start it.
        took: Duration,
    },
}

/// All who listen to a service.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    open: AtomicBool,
    listeners: Mutex<Vec<Ear>>,
}

#[derive(Debug)]
struct Ear {
    heard: mpsc::Sender<Heard>,
    missed: Arc<AtomicU64>,
}

/// One who listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    heard: mpsc::Receiver<Heard>,
    missed: Arc<AtomicU64>,
}

impl Tap {
    /// Whether anybody listens.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Tells all who listen. Never waits for them.
    pub(crate) fn tell(&self, heard: Heard) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|ear| match ear.heard.try_send(heard) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                ear.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
        self.open.store(!listeners.is_empty(), Ordering::Relaxed);
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) -> Listener {
        let (sender, heard) = mpsc::channel(BEHIND);
        let missed = Arc::<AtomicU64>::default();
        let mut listeners = self.listeners.lock();
        listeners.push(Ear { heard: sender, missed: Arc::clone(&missed) });
        self.open.store(true, Ordering::Relaxed);
        drop(listeners);
        Listener { heard, missed }
    }
}

impl Listener {
    /// All that was told since, at least one thing, and how much more was missed. `None`: the service is gone.
    pub(crate) async fn next(&mut self) -> Option<(Vec<Heard>, u64)> {
        let mut heard = Vec::new();
        (self.heard.recv_many(&mut heard, BEHIND).await > 0)
            .then(|| (heard, self.missed.swap(0, Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ms: u64) -> Heard {
        Heard::Request { arrived: crate::clock::now(), took: Duration::from_millis(ms) }
    }

    #[tokio::test]
    async fn all_who_listen_hear_what_ends_from_then_on() {
        let tap = Tap::default();
        assert!(!tap.is_open());
        let (mut one, mut other) = (tap.listen(), tap.listen());
        let requests = vec![request(1), request(2)];
        requests.iter().for_each(|request| tap.tell(*request));
        assert_eq!(one.next().await, Some((requests.clone(), 0)));
        assert_eq!(other.next().await, Some((requests, 0)));
        drop(one);
        tap.tell(request(3));
        assert!(tap.is_open());
        drop(other);
        tap.tell(request(4));
        assert!(!tap.is_open(), "the last one has gone");
    }

    #[tokio::test]
    async fn who_is_slow_hears_how_many_it_missed() {
        let tap = Tap::default();
        let mut listener = tap.listen();
        let request = request(1);
        (0..BEHIND + 7).for_each(|_| tap.tell(request));
        let (heard, missed) = listener.next().await.expect("the service is there");
        assert_eq!((heard.len(), missed), (BEHIND, 7));
    }
}
