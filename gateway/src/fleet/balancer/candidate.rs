//! One replica as the balancer sees it: its room, and what it has shown so far. Owned by the gate's slot; changed under
//! the gate's lock by what leases report. Pure.

use std::time::Instant;

use tidegate_config::model;

use super::{
    Draw,
    ejection::{self, Out, Standing},
    ewma::PeakEwma,
    gradient::Gradient,
};

/// A replica that has just come gets so much of its part (Envoy's slow start has the same floor).
const FRESH: f64 = 0.1;

/// From here on a capacity is no limit: a part of none may be lent to another gateway.
const UNLIMITED: u32 = u32::MAX / 2;

/// How an attempt went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Report {
    /// Nobody knows: the client left first, or it failed on our side.
    #[default]
    Unknown,
    /// A response began.
    Answered {
        /// After so long; `None` if nobody measured it.
        after: Option<std::time::Duration>,
        /// What it says of the replica.
        how: Answer,
    },
    /// Nothing within so long, when another attempt was answered.
    Overtaken {
        /// So long at least.
        after: std::time::Duration,
    },
    /// No connection, a broken one, or nothing in time.
    Failed,
}

/// What a response says of its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// All is well.
    Good,
    /// An error of the service's own: who gives those fast is not to look fast.
    Error,
    /// A status that the file counts as a failure of the replica.
    Failure,
}

impl Answer {
    /// What this status, which is 500 or above, says.
    #[must_use]
    pub fn of_error(status: u16, balance: &model::Balance) -> Self {
        let counts = |rules: &model::Ejection| rules.statuses.contains(&status);
        if balance.ejection.as_ref().is_some_and(counts) { Self::Failure } else { Self::Error }
    }
}

/// What the balancer sees of a replica.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// What it is called in every run of the gateway, as a number.
    pub(crate) name: u64,
    /// Requests that it may run at once; 0: none any more; `u32::MAX`: no limit.
    capacity: u32,
    /// The same, or the limit that was learned if that is less: what is asked for each request is kept ready.
    most: u32,
    /// Requests that it runs.
    pub(crate) in_flight: u32,
    /// It is suspended or ejected, or was not long ago.
    barred: bool,
    /// Gets nothing before then: a connect failed.
    suspended_until: Option<Instant>,
    /// It is of a version that is being tried.
    pub(crate) trial: bool,
    /// Since when it has been there.
    pub(crate) since: Instant,
    /// How long it takes to answer.
    pub(crate) latency: PeakEwma,
    /// Whether it is ejected.
    standing: Standing,
    /// What it can bear, where that is learned. Boxed: few have one, and all are looked at for each request.
    learned: Option<Box<Gradient>>,
}

impl Candidate {
    pub(crate) fn new(name: u64, capacity: u32, now: Instant) -> Self {
        Self {
            name,
            capacity,
            most: capacity,
            in_flight: 0,
            barred: false,
            suspended_until: None,
            trial: false,
            since: now,
            latency: PeakEwma::default(),
            standing: Standing::NEW,
            learned: None,
        }
    }

    /// Whether its limit is learned, and within which bounds.
    pub(crate) fn adapt(&mut self, now: Instant, bounds: Option<&model::Adaptive>) {
        match (&mut self.learned, bounds) {
            (Some(learned), Some(bounds)) => learned.set_bounds(bounds.clone()),
            (learned, bounds) => *learned = bounds.map(|bounds| Box::new(Gradient::new(now, bounds.clone()))),
        }
        self.set_capacity(self.capacity);
    }

    /// Sets how many requests it may run at once.
    pub(crate) fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity;
        self.most = self.limit().map_or(capacity, |limit| limit.min(capacity));
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The limit that was learned, if one is.
    pub(crate) fn limit(&self) -> Option<u32> {
        self.learned.as_ref().map(|learned| learned.limit())
    }

    pub(crate) fn is_free(&self, now: Instant) -> bool {
        self.in_flight < self.most && self.is_in(now)
    }

    /// Whether it is neither suspended nor ejected.
    pub(crate) fn is_in(&self, now: Instant) -> bool {
        !self.barred || (self.suspended_until.is_none_or(|until| until <= now) && self.standing.is_open(now))
    }

    /// How it is ejected, if it is.
    pub(crate) fn out(&self) -> Option<Out> {
        self.standing.out()
    }

    /// It gets a request.
    pub(crate) fn take(&mut self) {
        self.in_flight += 1;
        self.standing.taken();
    }

    /// It gets nothing before then.
    pub(crate) fn suspend(&mut self, until: Instant) {
        (self.suspended_until, self.barred) = (Some(until), true);
    }

    /// It gets nothing until the instant that is returned, and then one request.
    pub(crate) fn eject(&mut self, now: Instant, rules: &model::Ejection) -> Instant {
        self.barred = true;
        self.standing.eject(now, rules)
    }

    /// It is not ejected any more, whatever it did.
    pub(crate) fn pardon(&mut self) {
        self.standing = Standing::NEW;
    }

    /// It began to answer a request: a suspension or probation is over.
    pub(crate) fn answered(&mut self, now: Instant) {
        let was_out = self.out().is_some();
        self.suspended_until = None;
        self.standing.answered(now);
        self.barred = self.out().is_some();
        if was_out && !self.barred {
            // Its penalties are for what is over.
            self.latency = PeakEwma::default();
        }
    }

    /// Whether it serves at all.
    pub(crate) fn serves(&self) -> bool {
        self.capacity > 0
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        self.capacity >= UNLIMITED
    }

    /// What it would run with one more request, and the more the fresher it is.
    pub(crate) fn load(&self, draw: Draw) -> f64 {
        let load = f64::from(self.in_flight) + 1.0;
        if draw.slow_start.is_zero() {
            return load;
        }
        let age = draw.now.saturating_duration_since(self.since);
        if age >= draw.slow_start {
            return load;
        }
        load / (age.as_secs_f64() / draw.slow_start.as_secs_f64()).max(FRESH)
    }

    /// Learns how one of the attempts that it runs went. True if it should be ejected.
    pub(crate) fn learn(&mut self, now: Instant, report: Report, balance: &model::Balance) -> bool {
        match report {
            Report::Unknown => {
                self.standing.unknown(now);
                false
            }
            Report::Overtaken { after } => {
                if self.latency.read(now).is_none_or(|usual| usual < after.as_secs_f64()) {
                    self.latency.observe(now, after);
                }
                self.standing.unknown(now);
                false
            }
            Report::Answered { after, how: Answer::Good } => {
                if let Some(after) = after {
                    self.latency.observe(now, after);
                    if let Some(learned) = &mut self.learned {
                        learned.observe(now, after, self.in_flight);
                        self.most = learned.limit().min(self.capacity);
                    }
                }
                self.standing.answered(now);
                false
            }
            Report::Answered { how: Answer::Error, .. } => {
                self.latency.penalise(now);
                self.standing.answered(now);
                false
            }
            Report::Answered { how: Answer::Failure, .. } | Report::Failed => {
                self.latency.penalise(now);
                balance.ejection.as_ref().is_some_and(|rules| self.standing.failed(rules))
            }
        }
    }
}

impl AsRef<Self> for Candidate {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Whether one more of these that serve may be ejected.
pub(crate) fn may_eject<'c>(
    candidates: impl Iterator<Item = &'c Candidate> + Clone,
    rules: &model::Ejection,
) -> bool {
    let serving = candidates.filter(|candidate| candidate.serves());
    let out = serving.clone().filter(|candidate| candidate.out().is_some()).count();
    out < ejection::most(serving.count(), rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_is_not_held_to_have_been_slow() {
        let (now, balance) = (crate::clock::now(), model::Balance::default());
        let mut candidate = Candidate::new(0, u32::MAX, now);
        while !candidate.learn(now, Report::Failed, &balance) {}
        let rules = balance.ejection.as_ref().expect("by default there is one");
        let until = candidate.eject(now, rules);
        candidate.answered(until);
        assert!(candidate.latency.read(until).is_some(), "that was to a request of before");
        candidate.take();
        candidate.answered(until);
        assert!(candidate.is_in(until));
        assert_eq!(candidate.latency.read(until), None);
    }
}
