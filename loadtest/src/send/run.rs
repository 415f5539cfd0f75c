//! The state of a run, behind one lock: what is due, who is free, what was counted. The sending loop hands what is due to
//! free workers; a worker that finishes takes what is overdue itself. Nothing here waits.
//! The most recently used worker goes first, so that a low rate keeps few connections open and warm.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1};
use tokio::time::Instant;

use super::recent::{Recent, SNAPSHOT_EVERY};
use crate::{
    Snapshot,
    pace::{BEAT, Pace},
    plan::{
        Instants, Plan,
        language::{Closed, Think},
    },
    record::{Answer, Failure, Record, Sample, Told},
    send::Tally,
};

/// A request to send now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// When the plan wanted it sent.
    pub(crate) due: Instant,
    /// Which one it is, from 0.
    pub(crate) number: u64,
    /// Which target.
    pub(crate) aim: usize,
    /// When its worker had last become free, if the request had to wait for that.
    pub(crate) free: Option<Instant>,
}

/// A finished request.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) worker: usize,
    pub(crate) job: Job,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) answer: Answer,
    pub(crate) told: Told,
    /// Connections opened for it.
    pub(crate) opened: u32,
    /// Connections that were found closed by the server before the request had reached it.
    pub(crate) stale: u32,
    /// What was wrong, if something was.
    pub(crate) words: Option<String>,
}

/// When requests go out.
#[derive(Debug)]
pub(crate) enum Feed {
    /// When the plan says.
    Open(Box<Instants>),
    /// When the one before was answered and thought about.
    Closed {
        closed: Closed,
        random: Box<StdRng>,
        /// Who thinks, and until when.
        thinking: BinaryHeap<Reverse<(Instant, usize)>>,
    },
}

#[derive(Debug, Default)]
struct Slot {
    job: Option<Job>,
    /// What it sends or waits for, and since when.
    running: Option<(Job, Instant)>,
    waker: Option<Waker>,
    /// When it last became free.
    since: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Run {
    start: Instant,
    end: Instant,
    expected: u64,
    feed: Feed,
    /// The next request's instant.
    due: Option<Instant>,
    /// Its target: settled when it is due, for one that is never sent was somebody's, too.
    aim: usize,
    number: u64,
    weights: Vec<u32>,
    random: StdRng,
    slots: Vec<Slot>,
    /// Free workers of an open plan, the most recently used one last.
    idle: Vec<usize>,
    /// Workers that send or wait for an answer.
    busy: usize,
    record: Record,
    pace: Pace,
    opened: u64,
    stale: u64,
    sent: u64,
    last_outcome: Instant,
    next_beat: Instant,
    next_snapshot: Instant,
    recent: Recent,
    /// Whether somebody ended the plan.
    stopped: bool,
    over: bool,
}

impl Run {
    /// An open plan, with so many workers.
    pub(crate) fn open(plan: &Plan, workers: usize, weights: Vec<u32>, seed: u64, start: Instant) -> Self {
        let instants = Box::new(plan.instants());
        let ends = plan.phases().iter().map(|phase| phase.end).collect();
        let mut run = Self::new(Feed::Open(instants), ends, plan.expected(), workers, weights, seed, start);
        run.advance();
        run.idle = (0..workers).rev().collect();
        run
    }

    /// Users that wait for answers; each is a worker, and thinks before its first request.
    pub(crate) fn closed(closed: Closed, weights: Vec<u32>, seed: u64, start: Instant) -> Self {
        let random = Box::new(StdRng::seed_from_u64(seed));
        let feed = Feed::Closed { closed, random, thinking: BinaryHeap::new() };
        let users = usize::try_from(closed.users).unwrap_or(usize::MAX);
        let mut run = Self::new(feed, vec![closed.length], 0, users, weights, seed, start);
        for user in 0..users {
            run.think(user, start);
        }
        run
    }

    fn new(
        feed: Feed,
        ends: Vec<Duration>,
        expected: u64,
        workers: usize,
        weights: Vec<u32>,
        seed: u64,
        start: Instant,
    ) -> Self {
        let length = ends.last().copied().unwrap_or_default();
        Self {
            start,
            end: start + length,
            expected,
            feed,
            due: None,
            aim: 0,
            number: 0,
            record: Record::new(ends, weights.len()),
            weights,
            random: StdRng::seed_from_u64(seed ^ 0x7469_6465),
            slots: (0..workers).map(|_| Slot::default()).collect(),
            idle: Vec::with_capacity(workers),
            busy: 0,
            pace: Pace::default(),
            opened: 0,
            stale: 0,
            sent: 0,
            last_outcome: start,
            next_beat: start + BEAT,
            next_snapshot: start + SNAPSHOT_EVERY,
            recent: Recent::new(start),
            stopped: false,
            over: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn next_beat(&self) -> Instant {
        self.next_beat
    }

    /// When the loop has to hand something out, or to end the run; never while everybody is busy, for then workers help
    /// themselves.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        match (&self.feed, self.first_due()) {
            (Feed::Open(_), Some(due)) => Some(due).filter(|_| !self.idle.is_empty()),
            (Feed::Closed { .. }, Some(due)) => Some(due),
            (_, None) => Some(self.end).filter(|end| *end > now),
        }
    }

    /// Hands what is due to free workers.
    pub(crate) fn dispatch(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        while self.due.is_some_and(|due| due <= now) {
            let Some(worker) = self.idle.pop() else { return };
            let Some(job) = self.take_due() else { return };
            let free = self.slots[worker].since;
            wake.extend(self.hand(worker, Job { free, ..job }, now));
        }
        while let Some((job, user)) = self.take_thought(now) {
            wake.extend(self.hand(user, job, now));
        }
    }

    /// Gives a worker that waits its request; tells whom to wake.
    fn hand(&mut self, worker: usize, job: Job, now: Instant) -> Option<Waker> {
        self.begin(worker, job, now);
        let slot = &mut self.slots[worker];
        slot.job = Some(job);
        slot.waker.take()
    }

    fn begin(&mut self, worker: usize, job: Job, now: Instant) {
        self.busy += 1;
        self.slots[worker].running = Some((job, now));
    }

    /// A worker asks for its next request; `None` when there will be none.
    pub(crate) fn poll_job(&mut self, worker: usize, waker: &Waker) -> Poll<Option<Job>> {
        if let Some(job) = self.slots[worker].job.take() {
            return Poll::Ready(Some(job));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let slot = &mut self.slots[worker];
        if !slot.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    /// A worker's next request, if one waits already; and whether the sending loop has to look again.
    pub(crate) fn next(&mut self, worker: usize, now: Instant) -> (Option<Job>, bool) {
        self.busy -= 1;
        if let Feed::Closed { .. } = self.feed {
            let first = self.think(worker, now);
            // Who does not think at all goes on at once.
            if first && let Some((job, _)) = self.take_thought(now) {
                self.begin(worker, job, now);
                return (Some(job), false);
            }
            return (None, first || self.busy == 0);
        }
        self.slots[worker].since = Some(now);
        if self.due.is_some_and(|due| due <= now) {
            let job = self.take_due().map(|job| Job { free: Some(now), ..job });
            job.into_iter().for_each(|job| self.begin(worker, job, now));
            return (job, false);
        }
        self.idle.push(worker);
        // While nobody was free the loop waited for nothing; at the end it waits for the last one.
        (None, self.idle.len() == 1 || self.due.is_none())
    }

    /// Notes whether the run has ended, and tells whom to wake then. A pause at the end belongs to the run.
    pub(crate) fn settle(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        if !self.over && self.first_due().is_none() && self.busy == 0 && now >= self.end {
            self.over = true;
            wake.extend(self.slots.iter_mut().filter_map(|slot| slot.waker.take()));
        }
    }

    /// The loop's own pulse; `busy` is the share of the time since the last one that the thread worked.
    pub(crate) fn beat(&mut self, now: Instant, busy: Option<f64>) {
        let since = now - (self.next_beat - BEAT);
        self.pace.beat(now.saturating_duration_since(self.next_beat));
        let overdue = self.first_due().is_some_and(|due| due < now);
        self.pace.load(since, busy.filter(|_| overdue));
        self.next_beat = now + BEAT;
    }

    /// Counts everything that was not sent.
    pub(crate) fn give_up(&mut self, now: Instant) {
        while let Some(due) = self.due {
            self.record.unsent(due - self.start, now - self.start, self.aim);
            self.last_outcome = self.last_outcome.max(now);
            self.number += 1;
            self.advance();
        }
    }

    /// Ends the plan early: nothing more is sent. What is not due yet is not missed either; what is, and waits for a free
    /// worker, is given up.
    pub(crate) fn stop(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        self.dispatch(now, wake);
        self.stopped = true;
        self.end = self.end.min(now);
        self.due = self.due.filter(|due| *due <= now);
        if let Feed::Closed { thinking, .. } = &mut self.feed {
            thinking.clear();
        }
        self.give_up(now);
    }

    /// Ends the run at once: what is under way is cut off.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.stop(now, &mut Vec::new());
        for worker in 0..self.slots.len() {
            let Some((job, begun)) = self.slots[worker].running else { continue };
            let answer = Answer::Failed(Failure::Cut);
            self.count(&Done {
                worker,
                job,
                begun,
                ended: now,
                answer,
                told: Told::default(),
                opened: 0,
                stale: 0,
                words: None,
            });
            self.busy -= 1;
        }
    }

    pub(crate) fn snapshot_if_due(&mut self, now: Instant) -> Option<Snapshot> {
        (now >= self.next_snapshot).then(|| self.snapshot(now, false))
    }

    pub(crate) fn snapshot(&mut self, now: Instant, finished: bool) -> Snapshot {
        self.next_snapshot = now + SNAPSHOT_EVERY;
        let (rate, latency) = self.recent.turn(now);
        Snapshot {
            elapsed: now - self.start,
            expected: self.expected,
            sent: self.sent,
            done: self.record.done(),
            errors: self.record.errors().total(),
            in_flight: self.busy as u64,
            behind: self.first_due().map_or(Duration::ZERO, |due| now.saturating_duration_since(due)),
            rate,
            p50: latency.percentile(50.0),
            p90: latency.percentile(90.0),
            p99: latency.percentile(99.0),
            finished,
        }
    }

    pub(crate) fn into_tally(mut self) -> Tally {
        self.pace.elapsed = self.end.max(self.last_outcome) - self.start;
        let Self { record, pace, opened, stale, stopped, .. } = self;
        Tally { counts: record.into_counts(), pace, opened, stale, stopped }
    }

    /// Counts a finished request.
    pub(crate) fn count(&mut self, done: &Done) {
        let Job { due, free, aim, .. } = done.job;
        self.slots[done.worker].running = None;
        // What held the request back until here was the plan, then the server.
        let ready = free.map_or(due, |free| free.max(due));
        self.pace.sent(done.begun.saturating_duration_since(ready));
        let since = |at: Instant| at.saturating_duration_since(self.start);
        let sample = Sample {
            due: since(due),
            sent: since(done.begun),
            done: since(done.ended),
            answer: done.answer,
            told: done.told,
            target: aim,
        };
        self.record.add(&sample);
        if let Some(words) = &done.words {
            self.record.example(done.answer, words);
        }
        self.recent.add(done.ended.saturating_duration_since(due));
        self.opened += u64::from(done.opened);
        self.stale += u64::from(done.stale);
        self.last_outcome = self.last_outcome.max(done.ended);
    }

    fn take_due(&mut self) -> Option<Job> {
        let due = self.due?;
        let job = self.job(due, self.aim);
        self.advance();
        Some(job)
    }

    fn job(&mut self, due: Instant, aim: usize) -> Job {
        let number = self.number;
        self.number += 1;
        self.sent += 1;
        Job { due, number, aim, free: None }
    }

    /// On to the next instant.
    fn advance(&mut self) {
        self.due = match &mut self.feed {
            Feed::Open(instants) => instants.next().map(|at| self.start + at).filter(|due| *due <= self.end),
            Feed::Closed { .. } => None,
        };
        if self.due.is_some() {
            self.aim = self.choose();
        }
    }

    /// The instant at which somebody sends next.
    fn first_due(&self) -> Option<Instant> {
        match &self.feed {
            Feed::Open(_) => self.due,
            Feed::Closed { thinking, .. } => thinking.peek().map(|Reverse((due, _))| *due),
        }
    }

    /// A user thinks, unless the run ends before the thought; tells whether nobody else sends earlier.
    fn think(&mut self, user: usize, now: Instant) -> bool {
        let Feed::Closed { closed, random, thinking } = &mut self.feed else { return false };
        let thought = match closed.think {
            Think::Fixed(length) => length,
            Think::Exponential(mean) => {
                let factor: f64 = Exp1.sample(random);
                mean.mul_f64(factor)
            }
        };
        let due = now + thought;
        if due < self.end {
            thinking.push(Reverse((due, user)));
        }
        thinking.peek().is_some_and(|Reverse((_, first))| *first == user)
    }

    /// The request of a user who has thought.
    fn take_thought(&mut self, now: Instant) -> Option<(Job, usize)> {
        let Feed::Closed { thinking, .. } = &mut self.feed else { return None };
        let Reverse((due, user)) = *thinking.peek().filter(|Reverse((due, _))| *due <= now)?;
        thinking.pop();
        let aim = self.choose();
        Some((self.job(due, aim), user))
    }

    fn choose(&mut self) -> usize {
        if self.weights.len() < 2 {
            return 0;
        }
        let mut left =
            self.random.random_range(0..self.weights.iter().map(|weight| u64::from(*weight)).sum::<u64>());
        for (aim, weight) in self.weights.iter().enumerate() {
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => return aim,
            }
        }
        0
    }
}

/// A run that several tasks of one thread share.
pub(crate) type Shared = Arc<parking_lot::Mutex<Run>>;

#[cfg(test)]
mod tests {
    use super::*;

    /// The loop waits for them with the pacer: the runtime's own timers would add up to a millisecond, which is no server's.
    #[test]
    fn a_users_thought_ends_at_its_instant() {
        let (start, thought) = (Instant::now(), Duration::from_micros(4321));
        let closed = Closed { users: 2, think: Think::Fixed(thought), length: Duration::from_millis(10) };
        let (mut run, mut wake) = (Run::closed(closed, vec![1], 0, start), Vec::new());
        assert_eq!(run.next_due(start), Some(start + thought));
        run.dispatch(start + thought, &mut wake);
        assert_eq!(run.snapshot(start + thought, false).in_flight, 2);
        let (answered, later) = (start + 2 * thought, Duration::from_micros(100));
        assert_eq!(run.next(1, answered).0.map(|job| job.due), None, "it thinks first");
        assert!(
            run.next_due(answered).is_some_and(|due| due == start + closed.length),
            "and the run ends before"
        );
        run.next(0, answered + later);
        run.settle(start + closed.length, &mut wake);
        assert!(run.is_over());
    }
}
