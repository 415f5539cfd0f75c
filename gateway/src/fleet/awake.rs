//! Whether a service is awake, who was last seen to call it, and what is known of its start while it is not.
//! Read by the request path without the gate's lock; written by the control loop with the slots. Part of
//! [`Service`](super::Service). Absent: who is asking, and what they are told.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tidegate_config::model;

use super::wakes::{TooMany, Wakes};
use crate::request::Refusal;

/// Who comes so soon after a caller counts as one, without a look at who it is.
const JUST_BEFORE: Duration = Duration::from_secs(1);

/// Whether a service is awake, and what is known of it while it is not.
#[derive(Debug)]
pub(crate) struct Awake {
    /// Whether a replica takes requests.
    awake: AtomicBool,
    made: Instant,
    /// When a caller was last known to be one, in milliseconds after `made`, from 1 on; 0: never.
    caller: AtomicU64,
    wakes: Mutex<Wakes>,
    /// Why the last start failed, until one does not.
    trouble: ArcSwapOption<Refusal>,
    /// How long the last start took, in milliseconds; 0: none is known.
    usual: AtomicU64,
    /// Whether somebody looks at a waiting page.
    looked_at: Arc<AtomicBool>,
}

/// How far a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartSoFar {
    /// Since the service was woken.
    pub(crate) waited: Duration,
    /// What the last one took.
    pub(crate) usual: Option<Duration>,
}

/// Somebody looks at a waiting page; until this is dropped, nobody else counts as another.
#[derive(Debug)]
#[must_use = "dropping it ends it"]
pub(crate) struct LookedAt(Arc<AtomicBool>);

impl Drop for LookedAt {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Awake {
    /// Asleep since `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            awake: AtomicBool::new(false),
            made: now,
            caller: AtomicU64::new(0),
            wakes: Mutex::default(),
            trouble: ArcSwapOption::empty(),
            usual: AtomicU64::new(0),
            looked_at: Arc::default(),
        }
    }

    /// The slots have changed. Only the control loop changes them, or who stands in for it.
    pub(super) fn set(&self, awake: bool) {
        self.awake.store(awake, Ordering::Relaxed);
        if awake {
            self.rests();
            self.trouble.store(None);
        }
    }

    /// Whether a replica takes requests, now or once it has finished some.
    pub(crate) fn is_awake(&self) -> bool {
        self.awake.load(Ordering::Relaxed)
    }

    /// Whether a caller came a moment before.
    pub(crate) fn had_caller_just_before(&self, now: Instant) -> bool {
        let last = self.caller.load(Ordering::Relaxed);
        last > 0 && now.saturating_duration_since(self.made) < Duration::from_millis(last) + JUST_BEFORE
    }

    /// A request came that is demand.
    pub(crate) fn caller_came(&self, now: Instant) {
        let after = millis(now.saturating_duration_since(self.made));
        self.caller.store(after.max(1), Ordering::Relaxed);
    }

    /// Somebody comes while no replica takes requests. True if that wakes the service, false if it is being woken.
    ///
    /// # Errors
    /// The refusal to answer with, if that would be one wake too many.
    pub(crate) fn knock(&self, now: Instant, client: IpAddr, limits: &model::Wake) -> Result<bool, Refusal> {
        self.wakes.lock().knock(now, client, limits).map_err(|many| match many {
            TooMany::OfClient { again } => Refusal::RateLimited { again },
            TooMany::OfService { again } => Refusal::TooManyWakes { again },
        })
    }

    /// Nothing is wanted any more, or can be had: whoever comes next wakes it anew.
    pub(crate) fn rests(&self) {
        self.wakes.lock().over();
    }

    /// Why the last start failed, if it did.
    pub(crate) fn trouble(&self) -> Option<Refusal> {
        self.trouble.load().as_deref().cloned()
    }

    /// The last start failed.
    pub(crate) fn failed(&self, refusal: Refusal) {
        if !self.is_awake() {
            self.trouble.store(Some(Arc::new(refusal)));
        }
    }

    /// A start took that long.
    pub(crate) fn started_within(&self, took: Duration) {
        self.usual.store(millis(took).max(1), Ordering::Relaxed);
    }

    /// How far the start is.
    pub(crate) fn start_so_far(&self, now: Instant) -> StartSoFar {
        let since = self.wakes.lock().since();
        let usual = Some(self.usual.load(Ordering::Relaxed)).filter(|usual| *usual > 0);
        StartSoFar {
            waited: since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
            usual: usual.map(Duration::from_millis),
        }
    }

    /// Somebody looks at a waiting page; `None` if somebody does already.
    pub(crate) fn looked_at(&self) -> Option<LookedAt> {
        let first = !self.looked_at.swap(true, Ordering::Relaxed);
        first.then(|| LookedAt(Arc::clone(&self.looked_at)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
