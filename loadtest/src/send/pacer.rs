//! Wakes the sending loop at a planned instant. `[IO]`
//! The runtime's own timers count whole milliseconds: at 200 requests per second that alone would show as a millisecond of
//! latency that no server caused. The kernel's are exact to some ten microseconds. Where time is virtual, the runtime's do.

use std::{io, os::fd::OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep_until},
};

/// Waits for instants.
#[derive(Debug)]
pub(crate) enum Pacer {
    Kernel(AsyncFd<OwnedFd>),
    Virtual,
}

impl Pacer {
    pub(crate) fn kernel() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self::Kernel(registered(timer)?))
    }

    /// Ends at `due`, or never without one. Cancel-safe: each call sets the timer anew.
    pub(crate) async fn wait(&self, due: Option<Instant>) -> io::Result<()> {
        match (self, due) {
            (_, None) => std::future::pending().await,
            (Self::Virtual, Some(due)) => {
                sleep_until(due).await;
                Ok(())
            }
            (Self::Kernel(timer), Some(due)) => {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                let value = Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(left.subsec_nanos()),
                };
                let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
                timerfd_settime(
                    timer,
                    TimerfdTimerFlags::empty(),
                    &Itimerspec { it_interval: interval, it_value: value },
                )?;
                // Setting it has made it unreadable; what the runtime remembers of the last time is forgotten first.
                loop {
                    timer.readable().await?.clear_ready();
                    if Instant::now() >= due {
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[expect(unsafe_code, reason = "registered by its number")]
fn registered(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor keeps its number, and keeps it open, for as long as it is registered.
    Ok(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_rings_again_and_again_and_never_early() {
        let pacer = Pacer::kernel().expect("a timer");
        let start = Instant::now();
        for step in 1..=20 {
            let due = start + step * Duration::from_micros(300);
            pacer.wait(Some(due)).await.expect("rings");
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test]
    async fn giving_up_a_long_wait_leaves_it_useful() {
        let pacer = Pacer::kernel().expect("a timer");
        let hour = Instant::now() + Duration::from_secs(3600);
        for _ in 0..3 {
            tokio::select! {
                biased;
                _ = pacer.wait(Some(hour)) => panic!("an hour has not passed"),
                () = tokio::task::yield_now() => {}
            }
            pacer.wait(Some(Instant::now() + Duration::from_millis(1))).await.expect("rings");
        }
    }
}
