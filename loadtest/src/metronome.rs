//! Wakes the sending loop at each planned instant. `[IO]`
//! A thread of its own, because the runtime's timers count whole milliseconds: at 200 requests per second that alone
//! would show as a millisecond of latency that no server caused. The thread sleeps in between and ends when dropped.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::{sync::Notify, time::Instant};

use crate::plan::Instants;

/// Ticks at each instant of a plan. Ticks that nobody waits for become one.
pub(crate) struct Metronome {
    ticks: Arc<Notify>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// Begins to tick; the instants count from `start`.
    pub(crate) fn start(start: Instant, instants: Instants) -> io::Result<Self> {
        let ticks = Arc::new(Notify::new());
        let stopped = Arc::new(AtomicBool::new(false));
        let (notify, stop) = (Arc::clone(&ticks), Arc::clone(&stopped));
        let thread = thread::Builder::new().name("metronome".to_owned()).spawn(move || {
            for at in instants {
                if !wait_until(start + at, &stop) {
                    return;
                }
                notify.notify_one();
            }
        })?;
        Ok(Self { ticks, stopped, thread: Some(thread) })
    }

    /// Waits for the next tick, or returns at once if there was one since the last call. Cancel-safe.
    pub(crate) async fn tick(&self) {
        self.ticks.notified().await;
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Whether to go on.
fn wait_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Acquire) {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Plan;

    fn started(rate: f64, duration: Duration) -> Metronome {
        let plan = Plan::even(rate, duration).expect("valid");
        Metronome::start(Instant::now(), plan.instants()).expect("a thread")
    }

    #[tokio::test]
    async fn ticks_come() {
        let metronome = started(10.0, Duration::from_millis(150));
        metronome.tick().await;
        metronome.tick().await;
    }

    #[tokio::test]
    async fn dropping_it_ends_a_long_wait() {
        let metronome = started(0.001, Duration::from_secs(3600));
        metronome.tick().await;
        // Would else join a thread that sleeps for a quarter of an hour.
        drop(metronome);
    }
}
