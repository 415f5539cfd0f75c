//! How many requests come just now, told by those who have come since requests began to wait: averages follow a step within
//! seconds, but the first one who waits says that there may be one. Used by the law [`work`](super).

use std::time::{Duration, Instant};

use crate::snapshot::Snapshot;

/// Where nothing was ready, whoever comes is news, and who decides later makes all of them wait for longer;
const WAKE: Evidence = Evidence { cheap: 1.75, dear: 0.5, of_a_start: 0.05 };
/// where something runs, most who wait do so by chance, and a page that asks for many things at once is no step.
const STEP: Evidence = Evidence { cheap: 2.5, dear: 2.5, of_a_start: 0.25 };
/// Halfway between cheap and dear: seconds of a replica that a late request is worth. This and what a wake takes as they come out
/// cheapest for 49 kinds of traffic at four prices each; for a step the price makes no difference.
const HALFWAY: f64 = 10.0;
/// It is news for so long; then averages have followed.
const NEWS: Duration = Duration::from_secs(10);
/// Only for so long if it says no more than they do: a step may come later.
const NOTHING_NEW: Duration = Duration::from_secs(1);
/// No rate is told from less time than this, in seconds.
const SHORTEST: f64 = 0.05;

/// When a rate counts as proven.
struct Evidence {
    /// By so many deviations less than what has come, where a late request is worth nothing,
    cheap: f64,
    /// and where it is worth any number of replicas.
    dear: f64,
    /// It is told from this part of a start at the least: who decides that little later decides better.
    of_a_start: f64,
}

impl Evidence {
    /// Who comes within so many seconds, where a start takes so long, is taken to have come in all of them.
    fn shortest(&self, start: f64) -> f64 {
        SHORTEST.max(self.of_a_start * start)
    }

    /// Deviations that are taken off where a late request is worth so many seconds of a replica.
    fn sure(&self, worth: f64) -> f64 {
        self.dear + (self.cheap - self.dear) * HALFWAY / (HALFWAY + worth)
    }
}

/// What those tell who wait.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct News {
    told: Option<Told>,
    /// Since when requests wait without a pause; `None` where none did at the last look.
    waiting_since: Option<Instant>,
    /// Requests per second that were proven then.
    rate: f64,
}

/// Requests have begun to wait.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Told {
    since: Instant,
    /// How many have come since, but for those of the second that is not over yet.
    came: f64,
    /// How many had come by the last look within the [shortest](Evidence::shortest) time of which a rate is told.
    first: f64,
    /// No replica was ready.
    wake: bool,
    /// Requests per second that were usual before.
    before: f64,
}

/// What is known otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    /// Requests per second.
    pub(super) rate: f64,
    /// The same at the last look.
    pub(super) before: f64,
    /// How many times more than by chance their number varies.
    pub(super) peakedness: f64,
    /// Seconds that a start takes.
    pub(super) start: f64,
    /// Seconds of a replica that a late request is worth.
    pub(super) worth: f64,
}

impl News {
    /// One more second in which so many came.
    pub(super) fn count(&mut self, arrived: f64) {
        if let Some(told) = &mut self.told {
            told.came += arrived;
        }
    }

    /// One look, after what was counted until then.
    pub(super) fn look(&mut self, seen: &Snapshot, usual: Usual) {
        let waits = seen.queued() > 0;
        let began = waits && self.waiting_since.is_none();
        self.waiting_since = waits.then(|| self.waiting_since.unwrap_or(seen.now));
        self.told = self.told.filter(|told| {
            let age = seen.now.saturating_duration_since(told.since);
            let tells = told.wake || told.rate(seen, usual) > usual.rate;
            age < NEWS && (tells || !began && age < NOTHING_NEW)
        });
        if waits {
            self.told.get_or_insert_with(|| Told::begin(seen, usual.before));
        }
        self.told = self.told.map(|told| told.look(seen, usual.start));
        self.rate = self.told.map_or(0.0, |told| told.rate(seen, usual));
    }

    /// Requests per second that are proven; none without news.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// For how long requests have been waiting without a pause, in seconds.
    pub(super) fn waits_for(&self, now: Instant) -> f64 {
        self.waiting_since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64())
    }

    /// Whether requests found no replica ready, and that is news.
    pub(super) fn is_wake(&self) -> bool {
        self.wake().is_some()
    }

    /// Requests per second that were usual before they found no replica ready, while that is news.
    pub(super) fn before_wake(&self) -> Option<f64> {
        self.wake().map(|told| told.before)
    }

    /// How many requests have come since they found no replica ready, while that is news.
    pub(super) fn came_since_wake(&self, seen: &Snapshot) -> Option<f64> {
        self.wake().map(|told| told.came(seen))
    }

    /// How many of them did not come at once, within the shortest time of which a rate is told.
    pub(super) fn came_later(&self, seen: &Snapshot) -> f64 {
        self.wake().map_or(0.0, |told| (told.came(seen) - told.first).max(0.0))
    }

    fn wake(&self) -> Option<Told> {
        self.told.filter(|told| told.wake)
    }
}

impl Told {
    fn begin(seen: &Snapshot, before: f64) -> Self {
        let wake = !seen.is_ready();
        // Who came in this second before the first one waited is no news, unless nobody can be served.
        let came = if wake { 0.0 } else { -arriving(seen) };
        Self { since: seen.now, came, first: came, wake, before }
    }

    /// One look; a start takes so many seconds.
    fn look(self, seen: &Snapshot, start: f64) -> Self {
        let tells = self.age(seen) > self.evidence().shortest(start);
        Self { first: if tells { self.first } else { self.came(seen) }, ..self }
    }

    fn evidence(self) -> Evidence {
        if self.wake { WAKE } else { STEP }
    }

    fn age(self, seen: &Snapshot) -> f64 {
        seen.now.saturating_duration_since(self.since).as_secs_f64()
    }

    fn came(self, seen: &Snapshot) -> f64 {
        (self.came + arriving(seen)).max(0.0)
    }

    fn rate(self, seen: &Snapshot, usual: Usual) -> f64 {
        let evidence = self.evidence();
        let within = self.age(seen).max(evidence.shortest(usual.start));
        let came = self.came(seen);
        (came - evidence.sure(usual.worth) * (came * usual.peakedness).sqrt()) / within
    }
}

/// Requests that have come in the second that is not over yet.
fn arriving(seen: &Snapshot) -> f64 {
    seen.demand.iter().map(|gateway| f64::from(gateway.arriving)).sum()
}
