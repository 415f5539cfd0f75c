//! Surges that come back: how many replicas stay behind one, or are there again before the next. For each of some sizes of a fleet it is
//! reckoned who would be late with it, and learned how long it is from one such time to the next, as [`Gaps`] of the last replica
//! are. Used by the law [`work`](super). Absent: the last replica, which [`Work::idle`](super::Work) speaks of.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_config::units::Count;

use super::crowd;
use crate::{
    keepalive::{Gaps, Schedule, StartTime},
    policy::kpa,
    snapshot::Flow,
};

/// Weight of the newest surge.
const NEWEST: f64 = 0.2;
/// After so long averages have followed a surge.
const SEEN: Duration = Duration::from_secs(10);
/// Who comes at once waits longer by so much of a request than who comes evenly: places do not become free evenly, either.
const TOGETHER: f64 = 0.5;
/// From so many late requests in a second on a fleet is too small.
const SOMEBODY: f64 = 0.5;
/// Fleets that are reckoned with, at most: up to some thousand replicas.
const MOST: usize = 22;

/// Fleets, smallest first, up to the largest with which somebody would have been late.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Levels {
    fleets: Vec<Level>,
    /// Requests per second, averaged over a start and [`SEEN`].
    recent: f64,
    /// Those who came in the second half of the last second.
    later: f64,
    /// Requests that would run or wait if there had always been as many replicas as there may be.
    beyond: f64,
    /// Until then those are late whom no habit told of.
    new_until: Option<Instant>,
}

/// A fleet, and when it was too small.
#[derive(Debug, Clone, PartialEq, Default)]
struct Level {
    /// By whole seconds, and by those that lie across two: no burst is cut in two by both.
    rows: [Row; 2],
    /// Since when nobody would be late; `None` while somebody is.
    enough_since: Option<Instant>,
    /// Since when somebody was.
    late_since: Option<Instant>,
    /// How many fewer would have been late in this surge for each replica more; and on average.
    late: f64,
    usually: f64,
    gaps: Gaps,
    schedule: Schedule,
    /// It was there already when somebody would have been late without, and stays until the law has seen why.
    stays_until: Option<Instant>,
}

/// What is reckoned of a fleet by one row of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Row {
    /// Requests that would run or wait at the end of a second.
    present: f64,
    /// Requests beyond the usual that all slots have been busy with: the more, the further from what is expected they may be together.
    busy: f64,
}

/// A second that has gone by.
#[derive(Debug, Clone, Copy)]
struct Second {
    arrived: f64,
    /// Those who came from the middle of the one before to its own.
    across: f64,
    /// Those who came in the last seconds, on average: chance among these is not a surge's.
    usual: f64,
    /// So many came together.
    at_once: f64,
    /// Those who come during a start. More do not wait for long, however small a fleet is: then others are there, too.
    wait: f64,
}

/// What is worth keeping of one: the gaps, and who is late after one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Habit(Gaps, f64);

/// What fleets are judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Seconds that a request takes.
    pub(super) service: f64,
    /// How long a start takes.
    pub(super) start: StartTime,
    /// Requests at once that a replica is good for.
    pub(super) slots: f64,
    /// Replicas that there may be.
    pub(super) most: Count,
    /// Requests that may wait.
    pub(super) queue: Count,
    /// Seconds after which who waits is late.
    pub(super) late_after: f64,
    /// Seconds of a replica that one late request less is worth.
    pub(super) worth: f64,
}

impl Levels {
    /// As it was when these were kept.
    pub(super) fn restored(habits: Vec<Habit>) -> Self {
        let level = |Habit(gaps, usually)| Level { gaps, usually, ..Level::default() };
        Self { fleets: habits.into_iter().take(MOST).map(level).collect(), ..Self::default() }
    }

    /// What is worth keeping.
    pub(super) fn habits(&self) -> Vec<Habit> {
        self.fleets.iter().map(|level| Habit(level.gaps.clone(), level.usually)).collect()
    }

    /// A second has gone by.
    pub(super) fn count(&mut self, now: Instant, second: Flow, terms: Terms) {
        let terms = Terms { service: terms.service.max(1e-3), ..terms };
        let second = self.second(second, terms);
        self.beyond =
            terms.left(self.beyond + second.arrived, terms.all()).min(terms.all() + f64::from(terms.queue));
        let late = self.late(second, terms);
        // The larger ones first: what was a habit before is asked of a smaller one.
        for at in (0..self.fleets.len()).rev() {
            let smaller = self.fleets[at.saturating_sub(2)].gaps.is_habit();
            let level = &mut self.fleets[at];
            if late[at] < SOMEBODY {
                level.was_enough(now, terms);
            } else {
                let larger = at + 1..late.len();
                let spared = larger.map(|other| (late[at] - late[other]) / (fleet(other) - fleet(at)));
                // Up to twice what is usual comes by chance.
                let is_new = level.begins() && !level.gaps.is_habit() && !smaller;
                level.was_late(now, spared.fold(0.0, f64::max), terms);
                self.new_until = Some(terms.after_start(now)).filter(|_| is_new).or(self.new_until);
            }
        }
    }

    /// How many of those who come in this second are late with each of the fleets, up to one with which nobody is.
    fn late(&mut self, second: Second, terms: Terms) -> Vec<f64> {
        let mut late = Vec::with_capacity(self.fleets.len() + 1);
        for at in 0..MOST {
            let cap = fleet(at) * terms.slots;
            if at == self.fleets.len() {
                // Until now nobody would have been late with this one.
                let mut rows = self.fleets.last().map_or_else(Default::default, |smaller| smaller.rows);
                for (row, came) in rows.iter_mut().zip(second.came()) {
                    *row = Row { present: (row.present - came).clamp(0.0, cap), busy: 0.0 };
                }
                self.fleets.push(Level { rows, ..Level::default() });
            }
            late.push(self.fleets[at].serve(second, cap, terms));
            if late[at] < SOMEBODY && at + 1 >= self.fleets.len() {
                break;
            }
        }
        late
    }

    fn second(&mut self, flow: Flow, terms: Terms) -> Second {
        let (arrived, start, usual) = (f64::from(flow.arrived), terms.start.mean, self.recent);
        self.recent += (arrived - self.recent) / (start + SEEN.as_secs_f64());
        let at_once = crowd::at_once(flow, terms.service);
        let later = f64::from(flow.later);
        let across = arrived - later + std::mem::replace(&mut self.later, later);
        Second { arrived, across, usual, at_once, wait: self.recent.max(arrived) * (start + 1.0) }
    }

    /// Whether a surge goes on of a size that has not come often enough to be expected: hardly any price would have spared those who are
    /// late in it.
    pub(super) fn is_new(&self, now: Instant) -> bool {
        self.new_until.is_some_and(|until| now < until)
    }

    /// Whether somebody would be late also with all replicas that there may be.
    pub(super) fn is_beyond_all(&self, terms: Terms) -> bool {
        self.beyond > terms.bears(terms.all())
    }

    /// Replicas that are to be there for what may come.
    pub(super) fn warm(&self, now: Instant) -> Count {
        let warm = self.fleets.iter().rposition(|level| level.is_warm(now));
        warm.map_or(0, |at| kpa::count(fleet(at + 1)))
    }

    /// When that changes next, where nothing comes.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let change = |level: &Level| {
            let since = level.enough_since?;
            Some(since + level.schedule.next_change(now.saturating_duration_since(since))?)
        };
        self.fleets.iter().filter_map(change).min()
    }

    /// Whether these are numbers that can have been learned.
    pub(super) fn is_sound(habits: &[Habit]) -> bool {
        habits.iter().all(|Habit(_, usually)| (0.0..=1e9).contains(usually))
    }
}

impl Terms {
    /// Requests at once that all replicas are good for.
    fn all(self) -> f64 {
        f64::from(self.most) * self.slots
    }

    /// Of so many who are present on `cap` slots, those who still are a second later.
    fn left(self, present: f64, cap: f64) -> f64 {
        present - (present * (1.0 - (-1.0 / self.service).exp())).min(cap / self.service)
    }

    /// Where so many are present on `cap` slots, the last one is just not late.
    fn bears(self, cap: f64) -> f64 {
        cap * (1.0 + self.late_after / self.service)
    }

    /// When the law has seen why somebody was late, and those are ready whom it has started.
    fn after_start(self, now: Instant) -> Instant {
        now + Duration::from_secs_f64(self.start.mean) + SEEN
    }
}

impl Second {
    /// Those who came in it, for each row.
    fn came(self) -> [f64; 2] {
        [self.arrived, self.across]
    }
}

impl Row {
    /// A second goes by in which so many came, with `cap` slots. How many of them wait too long at its end.
    fn serve(&mut self, came: f64, second: Second, cap: f64, terms: Terms) -> f64 {
        let bears = terms.bears(cap);
        // A queue forgets chance the sooner the more slots are free (relaxation in heavy traffic; Kingman 1962). What chance alone
        // brings more of than usual it brings less of soon, so that it does not add up (the cumulative sum of Page 1954).
        let load = ((self.present + came) * terms.service.min(1.0) / cap).min(1.0);
        self.busy = (self.busy * load.powi(2) + came - second.usual).max(0.0);
        self.present = terms.left(self.present + came, cap).min(bears + second.wait);
        // Chance makes it a few more or fewer, by how long they take: so many times that vary by as much as they are long vary by the
        // root of their number together (the logistic curve that is next to the normal one).
        let above = (self.present - bears) / self.present.max(self.busy).max(1.0).sqrt();
        came / (1.0 + (-1.702 * above).exp())
    }
}

impl Level {
    /// A second goes by with `cap` slots. How many of those who come in it wait too long, at its end or where most come.
    fn serve(&mut self, second: Second, cap: f64, terms: Terms) -> f64 {
        let rows = self.rows.iter_mut().zip(second.came());
        let by_end = rows.map(|(row, came)| row.serve(came, second, cap, terms)).fold(0.0, f64::max);
        // Of those who come at once it bears fewer: all replicas begin together, and no place is free before the first has ended.
        let patience = terms.late_after / terms.service;
        let at_once = second.at_once - cap * (1.0 + (patience - TOGETHER).max(0.0));
        by_end.max(at_once.min(second.arrived))
    }

    /// Whether a surge that is too large for it would begin now.
    fn begins(&self) -> bool {
        self.enough_since.is_some() || self.late_since.is_none()
    }

    /// `spared`: how many fewer would have been late for each replica more.
    fn was_late(&mut self, now: Instant, spared: f64, terms: Terms) {
        if let Some(since) = self.enough_since {
            self.stays_until = Some(terms.after_start(now)).filter(|_| self.is_warm(now));
            self.enough_since = None;
            self.gaps.record(now.saturating_duration_since(since).as_secs_f64());
            self.late = 0.0;
            self.late_since = None;
        }
        let since = *self.late_since.get_or_insert(now);
        if now.saturating_duration_since(since).as_secs_f64() < terms.start.mean.max(1.0) {
            self.late += spared;
        }
    }

    fn was_enough(&mut self, now: Instant, terms: Terms) {
        if self.enough_since.is_some() {
            return;
        }
        self.enough_since = Some(now);
        if self.late_since.is_some() {
            let first = self.usually == 0.0;
            self.usually += if first { 1.0 } else { NEWEST } * (self.late - self.usually);
        }
        self.schedule = self.gaps.habit(terms.worth * self.usually, terms.start);
    }

    fn is_warm(&self, now: Instant) -> bool {
        match self.enough_since {
            Some(since) => self.schedule.is_warm(now.saturating_duration_since(since)),
            None => self.stays_until.is_some_and(|until| now < until),
        }
    }
}

/// Replicas of a fleet: 1, 2, 3, 4, 6, 8, 12, 16, ...
fn fleet(at: usize) -> f64 {
    let doubled = f64::from(1_u32 << (at / 2).min(20));
    match at {
        0 => 1.0,
        _ if at % 2 == 1 => 2.0 * doubled,
        _ => 1.5 * doubled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PARTS;

    const START: StartTime = StartTime { mean: 2.0, deviation: 0.0 };
    const TERMS: Terms = Terms {
        service: 0.2,
        start: START,
        slots: 1.0,
        most: 100,
        queue: 1000,
        late_after: 0.5,
        worth: 60.0,
    };

    /// After so many seconds, each with what came in it; and when that is.
    fn counted(seconds: usize, terms: Terms, second: impl Fn(usize) -> Flow) -> (Levels, Instant) {
        let (mut levels, mut now) = (Levels::default(), crate::fixture::origin());
        for at in 0..seconds {
            now += Duration::from_secs(1);
            levels.count(now, second(at), terms);
        }
        (levels, now)
    }

    fn of(arrived: u32) -> Flow {
        Flow { arrived, ..Flow::default() }
    }

    /// Surges of five seconds every minute, of so many per second, and then nothing for so many seconds.
    fn warm_after(surges: usize, rate: u32, quiet: usize) -> Count {
        let surge = |at| at < surges * 60 && at % 60 >= 55;
        let (levels, now) = counted(surges * 60 + quiet, TERMS, |at| of(if surge(at) { rate } else { 1 }));
        levels.warm(now)
    }

    #[test]
    fn what_surges_that_come_back_need_is_there_again() {
        // Fifty times 200 ms are ten at once. They are started again in time for the next one.
        assert!(warm_after(6, 50, 20) < 10, "{}", warm_after(6, 50, 20));
        assert!((10..=16).contains(&warm_after(6, 50, 54)), "{}", warm_after(6, 50, 54));
        assert_eq!(warm_after(6, 50, 600), 0, "they no longer come");
    }

    #[test]
    fn chance_in_steady_traffic_is_no_surge() {
        // One a second of ten seconds each, by chance.
        let chance =
            |at: usize| u32::try_from(at).expect("an hour").wrapping_mul(2_654_435_769).rotate_left(7);
        let second = |at| of([0, 0, 0, 1, 1, 1, 2, 3][chance(at) as usize % 8]);
        let terms = Terms { service: 10.0, ..TERMS };
        let warm =
            (1200..1300).map(|seconds| counted(seconds, terms, second)).map(|(levels, now)| levels.warm(now));
        let warm = warm.max();
        assert!(warm <= Some(16), "{warm:?} replicas for ten");
    }

    /// One row of a fleet with so many slots, after so many seconds, each with those who came in it; one in a second is usual.
    fn row(seconds: usize, cap: f64, terms: Terms, came: impl Fn(usize) -> f64) -> Row {
        let second = Second { arrived: 1.0, across: 1.0, usual: 1.0, at_once: 0.0, wait: 100.0 };
        let mut row = Row::default();
        for at in 0..seconds {
            row.serve(came(at), second, cap, terms);
        }
        row
    }

    #[test]
    fn seconds_above_and_below_the_usual_make_up_for_each_other() {
        let busy = |cap| row(1000, cap, TERMS, |at| if at % 2 == 0 { 2.0 } else { 0.0 }).busy;
        assert!(busy(0.2) <= 2.0, "{} with a fleet that is always busy", busy(0.2));
    }

    #[test]
    fn a_fleet_with_free_slots_forgets_chance_however_long_requests_take() {
        let terms = Terms { service: 10.0, ..TERMS };
        let busy = |cap| row(40, cap, terms, |at| if at == 0 { 50.0 } else { 1.0 }).busy;
        assert!(busy(100.0) < 0.1 && busy(8.0) > 10.0, "{} and {}", busy(100.0), busy(8.0));
    }

    #[test]
    fn a_small_fleet_does_not_work_off_for_hours_what_others_have_served() {
        // Ten minutes of three hundred per second, and then surges of five seconds every minute.
        let rate = |at: usize| match at % 60 {
            _ if at < 600 => 300,
            55.. => 50,
            _ => 1,
        };
        let (levels, now) = counted(1014, TERMS, |at| of(rate(at)));
        assert!((10..=16).contains(&levels.warm(now)), "{}", levels.warm(now));
    }

    #[test]
    fn two_surges_are_no_habit() {
        assert_eq!(warm_after(2, 50, 54), 0);
    }

    #[test]
    fn a_surge_is_new_until_others_like_it_have_come_back() {
        let is_new = |surges: usize, after: usize| {
            let surge = |at| at < surges * 60 && at % 60 >= 55;
            let (levels, now) =
                counted(surges * 60 - 5 + after, TERMS, |at| of(if surge(at) { 50 } else { 1 }));
            levels.is_new(now)
        };
        assert!(!is_new(1, 0) && is_new(1, 1) && is_new(3, 1));
        assert!(!is_new(1, 20), "it is over");
        assert!(!is_new(6, 1), "it was to be expected");
    }

    #[test]
    fn what_one_replica_bears_is_no_surge() {
        assert_eq!(warm_after(6, 3, 54), 0);
        assert_eq!(warm_after(6, 5, 54), 2, "it is just busy, and chance makes some late");
    }

    #[test]
    fn who_comes_at_once_is_late_though_all_are_through_within_the_second() {
        let warm = |pairs| {
            let clump = Flow { pairs: [pairs; PARTS.len()], ..of(10) };
            let (levels, now) = counted(500, TERMS, |at| if at % 60 == 5 { clump } else { Flow::default() });
            levels.warm(now + Duration::from_secs(42))
        };
        // Of ten times 200 ms on three replicas the last waits for 600 ms.
        assert_eq!((warm(45), warm(0)), (4, 2));
    }

    #[test]
    fn where_the_last_one_is_only_just_in_time_chance_makes_some_late() {
        let warm = |service, late_after| {
            let terms = Terms { service, late_after, ..TERMS };
            let (levels, now) = counted(500, terms, |at| of(if at % 60 == 5 { 10 } else { 0 }));
            levels.warm(now + Duration::from_secs(42))
        };
        // One replica has half of ten times 200 ms behind it after a second, and who comes last waits for as long.
        assert_eq!(warm(0.2, 1.0), 2);
        // Of ten times a second six are enough on average.
        assert_eq!(warm(1.0, 0.05), 8);
    }

    #[test]
    fn late_also_with_all_replicas_until_what_waits_is_worked_off() {
        let beyond = |seconds| {
            let terms = Terms { most: 4, ..TERMS };
            let (levels, _) = counted(seconds, terms, |at| of(if at < 100 { 60 } else { 5 }));
            levels.is_beyond_all(terms)
        };
        // Four serve twenty per second, and a thousand may wait.
        assert!(beyond(100) && beyond(160) && !beyond(180));
        let (levels, _) = counted(300, TERMS, |at| of(if at < 100 { 60 } else { 5 }));
        assert!(!levels.is_beyond_all(TERMS), "others could be started");
    }

    #[test]
    fn pauses_shorter_than_a_start_are_no_reason_where_little_is_lost() {
        let warm = |worth| {
            let terms = Terms { worth, ..TERMS };
            let (levels, now) = counted(300, terms, |at| of(if at % 3 == 0 { 50 } else { 1 }));
            levels.warm(now)
        };
        assert_eq!(warm(0.01), 0);
        assert!(warm(60.0) > 0, "but where much is");
    }

    #[test]
    fn what_was_learned_of_surges_is_known_again() {
        let (levels, _) = counted(600, TERMS, |at| of(if at % 60 < 5 { 50 } else { 1 }));
        let kept = serde_json::to_string(&levels.habits()).expect("values only");
        let after = Levels::restored(serde_json::from_str(&kept).expect("as it was kept"));
        assert_eq!(after.habits(), serde_json::from_str::<Vec<Habit>>(&kept).expect("as it was kept"));
        assert!(!after.habits().is_empty());
    }
}
