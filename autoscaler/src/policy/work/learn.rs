//! What the law learns from what it is shown: arrivals, how long a request takes, how long a start takes, and the gaps
//! in which nothing happens.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_config::{model::Aim, units::Count};

use super::{service_time::ServiceTime, steer::Steer};
use crate::{
    forecast::Rates, keepalive::Gaps, policy::kpa, replica::Phase, snapshot::Snapshot, starts::Starts,
};

/// Weight of the newest second in what is learned of fluctuation.
const CROWD: f64 = 0.002;
/// By so many deviations less than what has come counts as proven.
const BURST: f64 = 1.75;
/// For so long a wake says more than what was usual before.
const NEWS: Duration = Duration::from_secs(10);
/// No rate is told from less time than this, in seconds.
const SHORTEST: f64 = 0.05;
/// Nor than from this part of a start: who decides that little later decides better.
const SHORTEST_OF_START: f64 = 0.05;

/// What has been learned of a service.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Learned {
    pub(super) rates: Rates,
    pub(super) gaps: Gaps,
    service: ServiceTime,
    start: Starts,
    crowd: Crowd,
    steer: Steer,
    /// Requests in a second after one with some, on average.
    follow: f64,
    came: bool,
    /// When requests came to a service without a ready replica, and how many have come since in whole seconds.
    wake: Option<(Instant, f64)>,
    /// Since when nothing ran or waited, at the last look.
    pub(super) idle_since: Option<Instant>,
    /// Somebody has called since the gateway began.
    called: bool,
}

/// What is learned over days, and worth to be known again when the gateway has started anew. How many requests come just now is
/// not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Habits {
    gaps: Gaps,
    service: ServiceTime,
    /// Seconds that a start takes: mean and mean deviation.
    start: Option<(f64, f64)>,
    crowd: Crowd,
    follow: f64,
    #[serde(default)]
    steer: Steer,
}

/// What has been learned, for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Findings {
    /// Seconds that a request takes; `None`: too few have ended.
    pub request: Option<f64>,
    /// Seconds that a start takes on average; `None`: none was seen.
    pub start: Option<f64>,
    /// Variance over mean of what would run if nobody waited; 1 for independent requests.
    pub peakedness: f64,
    /// The share of late requests that is aimed at so that the one that was asked for comes out.
    pub aim: Option<f64>,
}

/// What would run if nobody waited, as arrivals show it, and how much more it fluctuates than by chance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Crowd {
    running: f64,
    mean: f64,
    excess: f64,
}

impl Habits {
    /// Whether these are numbers that can have been learned: files are written by others, too.
    fn is_sound(&self) -> bool {
        let Self { gaps: _, service, start, crowd, follow, steer } = self;
        let (mean, deviation) = start.unwrap_or_default();
        let values = [mean, deviation, *follow, crowd.running, crowd.mean, crowd.excess.abs()];
        service.is_sound() && steer.is_sound() && values.iter().all(|value| (0.0..=1e6).contains(value))
    }
}

impl Learned {
    /// As it was when these were kept; as at first where they cannot be right.
    pub(super) fn restored(habits: Habits) -> Self {
        if !habits.is_sound() {
            return Self::default();
        }
        let Habits { gaps, service, start, crowd, follow, steer } = habits;
        let start = Starts::known(start);
        Self { gaps, service, start, crowd, follow, steer, ..Self::default() }
    }

    /// What is worth keeping.
    pub(super) fn habits(&self) -> Habits {
        Habits {
            gaps: self.gaps.clone(),
            service: self.service,
            start: self.start.learned(),
            crowd: self.crowd,
            follow: self.follow,
            steer: self.steer,
        }
    }

    /// For people.
    pub(super) fn findings(&self, asked: Aim) -> Findings {
        let aim = match self.aim(asked) {
            Aim::Share(share) => Some(share),
            Aim::Worth(_) => None,
        };
        Findings {
            request: self.knows_service().then(|| self.service()),
            start: self.start.learned().map(|(mean, _)| mean),
            peakedness: self.crowd.peakedness(),
            aim,
        }
    }

    pub(super) fn look(&mut self, seen: &Snapshot) {
        let (service, ahead) = (self.service(), self.start() + 5.0);
        let flow = seen.flow();
        self.called |= seen.idle_since().is_none() || flow.iter().any(|second| second.arrived > 0);
        for second in flow {
            let arrived = f64::from(second.arrived);
            self.rates.record(arrived, ahead);
            if self.came {
                self.follow += CROWD * 5.0 * (arrived - self.follow);
            }
            self.came = arrived > 0.0;
            if let Some((_, came)) = &mut self.wake {
                *came += arrived;
            }
            self.service.count(second);
            self.crowd.count(arrived, service, self.rates.now());
            if let Aim::Share(goal) = seen.service.scaling.work.aim {
                self.steer.count(second, goal, seen.service.scaling.work.late_after);
            }
        }
        self.start.look(seen);
        self.look_at_gap(seen);
    }

    /// Requests per second to be expected, and how much they fluctuate around that; a burst that has just begun shows at
    /// once.
    pub(super) fn rate(&self, seen: &Snapshot, ahead: Option<f64>) -> (f64, f64) {
        let rate = ahead.map_or_else(|| self.rates.now(), |ahead| self.rates.ahead(ahead));
        let usual = self.crowd.peakedness();
        // What clumps bring has come already where a quick average is believed.
        let peakedness = if self.rates.is_contradicted() { usual.min(1.0) } else { usual };
        (self.woken(seen, rate), peakedness)
    }

    /// The rate that those prove who have come since a wake began, while that is news.
    fn woken(&self, seen: &Snapshot, rate: f64) -> f64 {
        let Some((since, came)) = self.came_since_wake(seen) else { return rate };
        let within = seen.now.saturating_duration_since(since).as_secs_f64();
        let within = within.max(SHORTEST).max(SHORTEST_OF_START * self.mean_start());
        rate.max((came - BURST * came.sqrt()) / within)
    }

    /// As many replicas as there have been requests for, while a wake is news: no more is proven, however quickly they came. As many
    /// as would be full where a late request is worth little compared with a start; up to twice as many where it is worth much.
    pub(super) fn proven(&self, seen: &Snapshot, slots: f64) -> Count {
        let Some((_, came)) = self.came_since_wake(seen) else { return Count::MAX };
        let present = f64::from(seen.in_flight() + seen.queued());
        let spare = match seen.service.scaling.work.aim {
            Aim::Worth(worth) => worth.as_secs_f64() / (worth.as_secs_f64() + self.mean_start()),
            Aim::Share(_) => 1.0,
        };
        kpa::count((came.max(present) * ((1.0 + spare) / slots).min(1.0)).ceil()).max(1)
    }

    /// When a wake began that is still news, and how many requests have come since.
    fn came_since_wake(&self, seen: &Snapshot) -> Option<(Instant, f64)> {
        let (since, before) = self.wake?;
        let arriving: u32 = seen.demand.iter().map(|gateway| gateway.arriving).sum();
        Some((since, before + f64::from(arriving)))
    }

    /// Whether there is anything to keep warm: a service that nobody has called yet is left as it is.
    pub(super) fn is_known(&self, seen: &Snapshot) -> bool {
        self.called || seen.replicas.iter().any(|replica| replica.phase.is_live())
    }

    /// What is aimed at inside so that it comes out as asked for.
    pub(super) fn aim(&self, asked: Aim) -> Aim {
        match asked {
            Aim::Share(goal) => Aim::Share(self.steer.share(goal)),
            Aim::Worth(_) => asked,
        }
    }

    /// How many times more than usual sparing a late request is worth, where a share is aimed at.
    pub(super) fn urgency(&self) -> f64 {
        self.steer.urgency()
    }

    /// As if it had been learned.
    #[cfg(test)]
    pub(super) fn know(&mut self, service: f64, start: f64) {
        self.service = ServiceTime::of(service);
        self.start = Starts::known(Some((start, 0.0)));
    }

    /// How long a request takes, in seconds.
    pub(super) fn service(&self) -> f64 {
        self.service.time()
    }

    /// Whether that is known, and not only taken for granted.
    pub(super) fn knows_service(&self) -> bool {
        self.service.is_known()
    }

    /// How many requests come during a start that begins with the first one after a gap.
    pub(super) fn follow(&self) -> f64 {
        self.follow * self.mean_start()
    }

    /// How long a start takes, in seconds: only one in ten takes longer.
    pub(super) fn start(&self) -> f64 {
        self.start.mostly()
    }

    /// How long a start takes on average.
    pub(super) fn mean_start(&self) -> f64 {
        self.start.mean()
    }

    fn look_at_gap(&mut self, seen: &Snapshot) {
        let since = seen.idle_since();
        if let Some(before) = self.idle_since.filter(|before| since != Some(*before)) {
            // Whoever waits or runs now, or did in between, came after the gap.
            let ended = since.map_or(seen.now, |since| since.min(seen.now));
            self.gaps.record(ended.saturating_duration_since(before).as_secs_f64());
        }
        self.idle_since = since;
        let ready = seen.replicas.iter().any(|replica| replica.phase == Phase::Ready);
        self.wake = match self.wake {
            Some((at, _)) if at + NEWS <= seen.now => None,
            None if since.is_none() && !ready => Some((seen.now, 0.0)),
            wake => wake,
        };
    }
}

impl Crowd {
    fn count(&mut self, arrived: f64, service: f64, rate: f64) {
        let stays = (-1.0 / service.max(1e-3)).exp();
        self.running = self.running * stays + arrived * service * (1.0 - stays);
        let mean = rate * service;
        // What independent requests would show.
        let chance = mean * service * (1.0 - stays) / (1.0 + stays);
        self.mean += CROWD * (mean - self.mean);
        self.excess += CROWD * ((self.running - mean).powi(2) - chance - self.excess);
    }

    fn peakedness(&self) -> f64 {
        if self.mean <= 1e-6 { 1.0 } else { (1.0 + self.excess / self.mean).clamp(0.5, 20.0) }
    }
}
