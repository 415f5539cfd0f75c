//! What the law learns from what it is shown: arrivals, how long a request takes, how long a start takes, and the gaps
//! in which nothing happens.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use tidegate_config::{model::Aim, units::Count};

use super::{
    crowd::Crowd,
    follow::Follow,
    levels::{Habit, Levels, Terms},
    news::{News, Usual},
    outlook::Outlook,
    room::CLEARED,
    service_time::ServiceTime,
    steer::Steer,
};
use crate::{
    forecast::{Expected, Rates},
    keepalive::{Gaps, StartTime},
    policy::kpa,
    replica::Phase,
    snapshot::{Flow, Snapshot},
    staffing::Load,
    starts::Starts,
};

/// Half of all surges last for so many seconds, as long as nothing else is known of them.
const SURGE: f64 = 4.0;
/// What has not lasted for so many seconds may be a page that asks for many things at once.
const SURGE_SHOWS: f64 = 0.5;

/// In a wake there is room for no more than so many times those who have come later than the first ones. This, and how it grows with
/// what a late request is worth, as they come out cheapest for 49 kinds of traffic at four prices each.
const MOST_TIMES: f64 = 4.0;

/// What has been learned of a service.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Learned {
    pub(super) rates: Rates,
    pub(super) gaps: Gaps,
    pub(super) levels: Levels,
    service: ServiceTime,
    start: Starts,
    crowd: Crowd,
    steer: Steer,
    /// Requests that come within a start after the one that ends a gap.
    follow: Follow,
    news: News,
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
    #[serde(default)]
    followed: Follow,
    #[serde(default)]
    steer: Steer,
    #[serde(default)]
    levels: Vec<Habit>,
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
    /// Seconds of a replica that one late request less is held to be worth so that the goal comes out.
    pub worth: Option<f64>,
}

impl Habits {
    /// Whether these are numbers that can have been learned: files are written by others, too.
    fn is_sound(&self) -> bool {
        let Self { gaps: _, service, start, crowd, followed, steer, levels } = self;
        let (mean, deviation) = start.unwrap_or_default();
        let values = [mean, deviation];
        service.is_sound()
            && crowd.is_sound()
            && followed.is_sound()
            && steer.is_sound()
            && Levels::is_sound(levels)
            && values.iter().all(|value| (0.0..=1e6).contains(value))
    }
}

impl Learned {
    /// As it was when these were kept; as at first where they cannot be right.
    pub(super) fn restored(habits: Habits) -> Self {
        if !habits.is_sound() {
            return Self::default();
        }
        let Habits { gaps, service, start, crowd, followed: follow, steer, levels } = habits;
        let (start, levels) = (Starts::known(start), Levels::restored(levels));
        Self { gaps, levels, service, start, crowd, follow, steer, ..Self::default() }
    }

    /// What is worth keeping.
    pub(super) fn habits(&self) -> Habits {
        Habits {
            gaps: self.gaps.clone(),
            service: self.service,
            start: self.start.learned(),
            crowd: self.crowd,
            followed: self.follow,
            steer: self.steer,
            levels: self.levels.habits(),
        }
    }

    /// For people.
    pub(super) fn findings(&self, aim: Aim) -> Findings {
        Findings {
            request: self.knows_service().then(|| self.service()),
            start: self.start.learned().map(|(mean, _)| mean),
            peakedness: self.crowd.peakedness(),
            worth: matches!(aim, Aim::Share(_)).then(|| self.worth(aim)),
        }
    }

    pub(super) fn look(&mut self, seen: &Snapshot, slots: f64) {
        self.start.look(seen);
        let (service, ahead) = (self.service(), self.start() + 5.0);
        // How long a start takes that is not over nobody knows.
        let start = if seen.is_ready() { self.mean_start() } else { f64::INFINITY };
        let (flow, before) = (seen.flow(), self.rates.now());
        let work = &seen.service.scaling.work;
        let worth = self.worth(work.aim);
        let late_after = work.late_after.as_secs_f64();
        let queue = Count::try_from(seen.service.scaling.queue).unwrap_or(Count::MAX);
        let most = seen.service.scaling.max;
        let terms = Terms { service, start: self.start_time(), slots, most, queue, late_after, worth };
        self.called |= seen.idle_since().is_none() || flow.iter().any(|second| second.arrived > 0);
        for second in flow {
            let arrived = f64::from(second.arrived);
            self.rates.record(arrived, ahead);
            self.follow.count(arrived, start);
            self.news.count(arrived);
            self.service.count(second);
            if self.knows_service() {
                self.crowd.count(second, service, self.rates.now());
                self.levels.count(seen.now, second, terms);
            }
            if let Aim::Share(goal) = work.aim {
                let helpless = self.levels.is_new(seen.now) || self.levels.is_beyond_all(terms);
                let told = if helpless { Flow::default() } else { second };
                self.steer.count(told, goal, work.late_after);
            }
        }
        self.look_at_gap(seen);
        let (rate, peakedness) = (self.rates.now(), self.crowd.peakedness());
        self.news.look(seen, Usual { rate, before, peakedness, start: self.mean_start(), worth });
    }

    /// What is to be expected in `ahead` seconds, or now: what is usual, and that a surge goes on which has just begun.
    pub(super) fn outlook(&self, seen: &Snapshot, ahead: Option<f64>) -> Outlook {
        let service = self.service();
        let Expected { usual, surge, sudden } = self.rates.expects(ahead.unwrap_or(0.0));
        let varies = self.crowd.peakedness();
        // What clumps of seconds bring has come already where a quick average is believed.
        let told = sudden || self.news.rate() > surge;
        let quick = if told { varies.min(self.crowd.peakedness_within()) } else { varies };
        // Who comes while nobody can be served is all surge.
        let usual = self.news.before_wake().map_or(usual, |before| usual.min(before));
        let surge = surge.max(self.news.rate());
        let present = f64::from(seen.in_flight() + seen.queued());
        let load = |peakedness, rate| Load::after(self.start() + 1.0, present, peakedness, rate, service);
        if surge <= usual {
            return Outlook::steady(load(quick, usual));
        }
        Outlook { usual: load(varies, usual), surge: load(quick, surge), likely: self.goes_on(seen.now) }
    }

    /// As many replicas as there have been requests for, and as there should be room for more, while a wake is news: no more is proven,
    /// however quickly they came. Replicas that take more than one at a time may be full where a late request is worth little compared
    /// with a start, half full where it is worth much.
    pub(super) fn proven(&self, seen: &Snapshot, slots: f64) -> Count {
        let Some(came) = self.news.came_since_wake(seen) else { return Count::MAX };
        let come = came.max(f64::from(seen.in_flight() + seen.queued()));
        let worth = self.worth(seen.service.scaling.work.aim);
        let spare = if slots < 2.0 { 0.0 } else { come * worth / (worth + self.mean_start()) };
        kpa::count(((come + spare.max(self.more(seen, slots))) / slots).ceil()).max(1)
    }

    /// For how many more requests there should be room in a wake: for as many as have come later than the first ones (half of all
    /// wakes go on as far, by Lindy's law), for more where a late request is worth more than a slot costs, and the closer to what is
    /// usual the better it is known how many come. None where it is no wake.
    pub(super) fn more(&self, seen: &Snapshot, slots: f64) -> f64 {
        let Some(came) = self.news.came_since_wake(seen) else { return 0.0 };
        let worth = self.worth(seen.service.scaling.work.aim);
        let price = (self.mean_start() + CLEARED) / slots;
        let times = (worth / price).sqrt().min(MOST_TIMES);
        self.follow.more(came, times * self.news.came_later(seen))
    }

    /// How likely it is that a surge lasts through a start: the longer it has, the likelier (Lomax's law with an exponent of 1, which is
    /// Lindy's in a wake, of which nothing else is known), and as likely as earlier ones lasted.
    fn goes_on(&self, now: Instant) -> f64 {
        let age = self.news.waits_for(now).max(self.rates.surges_for());
        let wake = self.news.is_wake();
        let granted = if wake { 0.0 } else { SURGE * (age / SURGE_SHOWS).min(1.0) };
        let guess = if age > 0.0 { (age + granted) / (age + granted + self.mean_start()) } else { 0.0 };
        if wake { guess } else { self.rates.lasting(guess) }
    }

    /// Whether there is anything to keep warm: a service that nobody has called yet is left as it is.
    pub(super) fn is_known(&self, seen: &Snapshot) -> bool {
        self.called || seen.replicas.iter().any(|replica| replica.phase.is_live())
    }

    /// From now on the last replica that formulas ask for, for a goal, spares so many requests per second being late.
    pub(super) fn expect(&mut self, spared: f64) {
        self.steer.expect(spared);
    }

    /// Seconds of a replica that one late request less is worth: one price for all that is bought, so that nothing costs more than the
    /// same elsewhere.
    pub(super) fn worth(&self, aim: Aim) -> f64 {
        match aim {
            Aim::Worth(worth) => worth.as_secs_f64(),
            Aim::Share(_) => self.steer.price(),
        }
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

    /// How long each of those that start still takes, in seconds.
    pub(super) fn remaining<'a>(&'a self, seen: &'a Snapshot) -> impl Iterator<Item = f64> + 'a {
        let starting = seen.replicas.iter().filter(|replica| replica.phase == Phase::Starting);
        let ages = starting.map(|replica| seen.now.saturating_duration_since(replica.started).as_secs_f64());
        ages.map(|age| self.start.remaining(age))
    }

    /// How many more requests usually come during a start that begins with the first one after a gap.
    pub(super) fn follow(&self) -> f64 {
        self.follow.usual()
    }

    /// How long a start takes, in seconds: only one in ten takes longer.
    pub(super) fn start(&self) -> f64 {
        self.start.mostly()
    }

    /// How long a start takes on average.
    pub(super) fn mean_start(&self) -> f64 {
        self.start.mean()
    }

    pub(super) fn start_time(&self) -> StartTime {
        self.start.time()
    }

    fn look_at_gap(&mut self, seen: &Snapshot) {
        let since = seen.idle_since();
        if let Some(before) = self.idle_since.filter(|before| since != Some(*before)) {
            // Whoever waits or runs now, or did in between, came after the gap.
            let ended = since.map_or(seen.now, |since| since.min(seen.now));
            let length = ended.saturating_duration_since(before).as_secs_f64();
            self.gaps.record(length);
            self.follow.after(length, !seen.is_ready());
        }
        self.idle_since = since;
    }
}
