//! Our own law: so many replicas that one more would cost more than the late requests that it spares. Demand is work
//! (arrivals times service time), not what queues up; it looks ahead over a start, acts on events and lets go slowly; when the
//! last replica goes is learned. Called through [`Policy`](super::Policy) at each look.
//! Holds: what is learned is values only, so that it can be kept. Absent: bounds, which replicas.

mod calm;
mod crowd;
mod follow;
mod invest;
mod learn;
mod levels;
mod news;
mod outlook;
mod room;
mod service_time;
mod steer;

use std::time::{Duration, Instant};

use tidegate_config::{
    model::{Aim, Idle},
    units::Count,
};

use self::{
    calm::Calm,
    invest::{Price, Purse},
    learn::Learned,
    outlook::Outlook,
};
pub use self::{
    learn::{Findings, Habits},
    steer::DEAREST,
};
use super::{Answer, Question, grace, kpa};
use crate::{
    keepalive::Schedule,
    reason::{Reason, WorkFigures},
    staffing::Load,
};

/// How often it looks while something happens.
const EVERY: Duration = Duration::from_secs(1);
/// Nobody has waited for so long: what was started for them may go.
const WORKED_OFF: Duration = Duration::from_secs(2);
/// Who comes more rarely, in requests per second, is no traffic to be averaged: it is expected as gaps say.
const RARE: f64 = 0.01;
/// A lower want is held back for so many start-up times at the least.
const STARTS: f64 = 1.5;

/// What the law remembers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    learned: Learned,
    purse: Purse,
    calm: Calm,
    /// For those who wait.
    waiting: Calm,
    schedule: Schedule,
}

impl Work {
    /// The law with what it had learned before the gateway started anew.
    #[must_use]
    pub fn restored(habits: Habits) -> Self {
        Self { learned: Learned::restored(habits), ..Self::default() }
    }

    /// What it has learned that is worth keeping.
    #[must_use]
    pub fn habits(&self) -> Habits {
        self.learned.habits()
    }

    /// What it has learned, for people.
    #[must_use]
    pub fn findings(&self, aim: Aim) -> Findings {
        self.learned.findings(aim)
    }

    /// One look.
    #[must_use]
    pub fn ask(mut self, question: Question<'_>) -> (Answer, Self) {
        self.learn(&question);
        let outlook = self.outlook(&question);
        let restart = self.restart(&question, &outlook);
        let calm = self.calm_for(&question, restart);
        let proven = self.learned.proven(question.seen, slots(&question));
        if let Aim::Share(goal) = question.settings.work.aim {
            self.learned.expect(room::spared(&question, &outlook, goal));
        }
        let steady = room::for_load(&question, &outlook, self.worth(&question)).min(proven);
        let steady = self.invest(&question, &outlook, calm, steady);
        let waiting = self.work_off(&question, &outlook, proven);
        let needs = steady.max(waiting);
        let held = self.hold(&question, calm, restart, steady).max(waiting).max(room::busy(&question));
        let held = if self.is_over(&question) { 0 } else { held };
        let again = self.for_surges(&question);
        let figures =
            WorkFigures { rate: outlook.rate(), service: outlook.service(), load: outlook.mean(), needs };
        let want = held.max(again);
        let reason = if again > held {
            Reason::Returns { held: again, figures }
        } else if held > needs {
            Reason::Calm { held, figures }
        } else {
            Reason::Work(figures)
        };
        let answer = Answer { want, reason, again: Some(question.now + EVERY) };
        let answer = match question.seen.idle_since() {
            Some(since) => self.idle(&question, since, answer),
            None => answer,
        };
        (answer, self)
    }

    fn learn(&mut self, question: &Question<'_>) {
        let (gap, knew) = (self.learned.idle_since, self.learned.knows_service());
        self.learned.look(question.seen, slots(question));
        if !knew && self.learned.knows_service() {
            // What was wanted before was guesswork.
            self.calm = Calm::default();
        }
        let since = question.seen.idle_since();
        if since.is_some() && since != gap {
            self.schedule = self.new_schedule(question);
        }
    }

    /// What is to be expected when a replica that is started now is ready.
    fn outlook(&self, question: &Question<'_>) -> Outlook {
        let (parts, learned) = (question.settings.work.parts, &self.learned);
        if !parts.work {
            let (mean, service) =
                (question.window.average(question.settings.stable_window), learned.service());
            return Outlook::steady(Load { mean, peakedness: 1.0, rate: mean / service.max(1e-6), service });
        }
        learned.outlook(question.seen, parts.forecast.then_some(learned.start() + 1.0))
    }

    /// Those who wait keep what they were given until they are gone.
    fn work_off(&mut self, question: &Question<'_>, outlook: &Outlook, proven: Count) -> Count {
        let now = question.now;
        if question.seen.queued() == 0 {
            return self.waiting.hold(now, 0, WORKED_OFF, 1.0);
        }
        let worth = self.worth(question);
        let wanted = room::for_backlog(question, &self.learned, outlook, worth).min(proven);
        self.waiting.hold(now, wanted.max(self.waiting.held()), WORKED_OFF, 1.0)
    }

    /// What surges that come back will need.
    fn for_surges(&self, question: &Question<'_>) -> Count {
        if question.settings.work.parts.surges { self.learned.levels.warm(question.now) } else { 0 }
    }

    /// Of what is worth it, what is also worth its start.
    fn invest(&mut self, question: &Question<'_>, outlook: &Outlook, calm: Duration, wanted: Count) -> Count {
        let work = &question.settings.work;
        if !work.parts.invest || !work.parts.staffing || !self.learned.knows_service() {
            return wanted;
        }
        let start = self.learned.mean_start();
        let price = Price { each: start + calm.as_secs_f64(), ahead: start + 1.0 };
        let worth = self.worth(question);
        let cost = |replicas| room::cost(question, outlook, worth, replicas);
        // What is there need not be bought.
        let held = self.calm.held().max(room::live(question.seen));
        self.purse.buy(question.now, held, wanted, price, cost)
    }

    /// For so long less must do before any goes: as long as is said, and for some starts where that pays.
    fn calm_for(&self, question: &Question<'_>, restart: Duration) -> Duration {
        let starts = Duration::from_secs_f64(STARTS * self.learned.start());
        starts.min(restart).max(question.settings.work.calm)
    }

    /// What it costs to start a replica again that was let go too early, in seconds of a replica: the start, and those who come
    /// meanwhile and would not be late if it were there. To hold it for longer than that would cost more.
    fn restart(&self, question: &Question<'_>, outlook: &Outlook) -> Duration {
        let start = self.learned.mean_start();
        let late = outlook.rate().min(slots(question) / outlook.service().max(1e-3)) * start;
        Duration::try_from_secs_f64(start + late * self.worth(question)).unwrap_or(Duration::MAX)
    }

    /// Up at once, down slowly.
    fn hold(&mut self, question: &Question<'_>, calm: Duration, restart: Duration, needs: Count) -> Count {
        if !question.settings.work.parts.calm {
            return needs;
        }
        self.calm.hold(question.now, needs, calm, calm::STEP.div_duration_f64(restart))
    }

    /// Nothing runs or waits: whether one replica stays, or is to be there again.
    fn idle(&self, question: &Question<'_>, since: Instant, answer: Answer) -> Answer {
        let fixed = question.settings.idle != Idle::Auto;
        // A fixed time begins anew with the gateway, as under the other laws.
        let since = if fixed { since.max(question.seen.gateway_started) } else { since };
        let idle = question.now.saturating_duration_since(since);
        let (warm_from, change) = if fixed {
            let keep = grace::idle(question.settings);
            ((idle < keep).then_some(Duration::ZERO), Some(keep).filter(|keep| *keep > idle))
        } else {
            (self.schedule.warm_from(idle), self.schedule.next_change(idle))
        };
        let at = change.map(|change| since + change);
        // Several are there for what may come soon, unless a time was said after which all go.
        let several = answer.want > 1 && (!fixed || warm_from.is_some());
        // Until it has been quiet for long enough it is not left alone.
        let alone = self.is_quiet(question) && !several;
        let look = if alone { self.learned.levels.next_change(question.now) } else { answer.again };
        let again = at.into_iter().chain(look).min();
        if several {
            return Answer { again, ..answer };
        }
        let warm_from = warm_from.filter(|_| self.learned.is_known(question.seen));
        let left = change.map_or(Duration::ZERO, |change| change.saturating_sub(idle));
        let reason = match warm_from {
            Some(Duration::ZERO) => Reason::KeptWarm { idle: idle + left, left },
            Some(_) => Reason::Expected { idle: idle + left, left },
            None if room::live(question.seen) > 0 => Reason::Idle { idle_for: idle },
            None => Reason::Asleep,
        };
        Answer { want: Count::from(warm_from.is_some()), reason, again }
    }

    /// So little has come for minutes that averages say nothing any more: the rarer, the more is lost where it does come.
    fn is_quiet(&self, question: &Question<'_>) -> bool {
        self.learned.rates.is_silent(RARE.min(1.0 / self.worth(question)))
    }

    /// Nothing runs or waits, and what averages ask for has been held for long enough.
    fn is_over(&self, question: &Question<'_>) -> bool {
        let since = question.seen.idle_since().filter(|_| question.settings.idle == Idle::Auto);
        since.is_some_and(|since| {
            let idle = question.now.saturating_duration_since(since);
            idle >= question.settings.work.calm && (self.is_quiet(question) || self.is_gap(idle))
        })
    }

    /// As gaps tell, nobody is to be expected for whom one replica would be worth it.
    fn is_gap(&self, idle: Duration) -> bool {
        self.learned.gaps.is_habit() && self.schedule.warm_from(idle) != Some(Duration::ZERO)
    }

    fn worth(&self, question: &Question<'_>) -> f64 {
        self.learned.worth(question.settings.work.aim)
    }

    fn new_schedule(&self, question: &Question<'_>) -> Schedule {
        let start = self.learned.start_time();
        let late_after = question.settings.work.late_after.as_secs_f64();
        // With the one that ends the gap all have to wait that come during the start: the less, the sooner it is over.
        let late = (1.0 + self.learned.follow()) * (start.mean / late_after).min(1.0);
        self.learned.gaps.schedule(self.worth(question) * late, start)
    }
}

/// Requests at once that a replica is good for.
fn slots(question: &Question<'_>) -> f64 {
    match question.settings.concurrency {
        Some(limit) => f64::from(limit.get()),
        None => kpa::target(question.settings, question.learned),
    }
}

#[cfg(test)]
mod tests;
