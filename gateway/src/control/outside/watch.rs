//! Probes one address for as long as it is known, and tells when it becomes well or ill. The machine may be anybody's:
//! one that does not answer is asked with growing pauses, never as densely as a replica that was just started.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidegate_config::model::{self, Health};
use tidegate_runner::probe::{Check, Target, once};
use tokio::sync::Notify;

use crate::control::prober::{SUSPECT_PAUSE, SUSPECT_PROBES, asked, fails};

/// The pause after the first failed probe, doubled each time up to the interval between probes.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// What is watched, and how.
pub(super) struct Watched {
    pub(super) target: Target,
    pub(super) health: Health,
    /// Whether it was well by an earlier probe.
    pub(super) well: bool,
    /// Rung when it did not take a connection.
    pub(super) doubt: Arc<Notify>,
}

/// Whom to ask, and what.
pub(super) fn target(settings: &model::Service, address: SocketAddr) -> Target {
    Target { address, check: asked(settings, address).unwrap_or(Check::Tcp) }
}

/// Tells whenever the address becomes well, is ill, or is ill for another reason.
pub(super) async fn watch<F: Future<Output = ()> + Send>(
    watched: Watched,
    tell: impl Fn(Result<(), String>) -> F + Send + Sync,
) {
    let Watched { target, health, well, doubt } = watched;
    if well {
        // The probe is new to it: one that nobody has seen pass takes nothing down.
        tell(Err(until_ill(&target, &health, false, &doubt).await)).await;
    }
    loop {
        until_well(&target, &health, &tell).await;
        tell(Ok(())).await;
        tell(Err(until_ill(&target, &health, true, &doubt).await)).await;
    }
}

async fn until_well<F: Future<Output = ()> + Send>(
    target: &Target,
    health: &Health,
    tell: &(impl Fn(Result<(), String>) -> F + Send + Sync),
) {
    let (mut passed, mut pause) = (0, PAUSE_FIRST.min(health.interval));
    loop {
        match once(target, health.timeout).await {
            Ok(()) => passed += 1,
            Err(failure) => {
                passed = 0;
                tell(Err(failure.to_string())).await;
            }
        }
        if passed >= health.successes {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(health.interval);
    }
}

/// Ends with the last failure once enough probes in a row have failed: in their time, or at once after a connection was
/// not taken.
async fn until_ill(target: &Target, health: &Health, proven: bool, doubt: &Notify) -> String {
    tokio::select! {
        last = fails(target, health, proven) => last,
        last = doubted(target, health, doubt) => last,
    }
}

async fn doubted(target: &Target, health: &Health, doubt: &Notify) -> String {
    loop {
        doubt.notified().await;
        let mut last = None;
        for _ in 0..SUSPECT_PROBES {
            match once(target, health.timeout).await {
                Ok(()) => {
                    last = None;
                    break;
                }
                // Not its fault, whatever came of it before.
                Err(failure) if failure.is_ours() => {
                    last = None;
                    break;
                }
                Err(failure) => last = Some(failure.to_string()),
            }
            tokio::time::sleep(SUSPECT_PAUSE).await;
        }
        if let Some(last) = last {
            return last;
        }
    }
}
