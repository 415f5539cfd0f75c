//! Sends the plan, open loop: one loop hands each request to an idle connection at its instant. `[IO]`
//! Holds: no request is dropped silently. When every connection is busy a request waits and its wait is part of its
//! latency; what still waits one timeout after the end of the plan is given up and counted as `unsent`.
//! The most recently used idle connection goes first, so that a low rate keeps few connections open and warm.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    connection::{Done, Job, worker},
    metronome::Metronome,
    pace::{BEAT, Pace},
    plan::{Instants, Plan},
    record::{Record, Spread},
    target::Target,
};

const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);
/// Snapshots that the moving figures look back on: one second.
const SNAPSHOTS_BACK: usize = 4;

/// What to send and how.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) target: Target,
    pub(crate) request: Request<Full<Bytes>>,
    pub(crate) h2c: bool,
    pub(crate) timeout: Duration,
    pub(crate) connections: usize,
}

/// The state of a run, for those who watch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Since the start.
    pub elapsed: Duration,
    /// Requests that the whole plan expects.
    pub expected: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests with an outcome.
    pub done: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Requests sent and without an outcome.
    pub in_flight: u64,
    /// How long the oldest unsent request is overdue: grows when all connections are busy.
    pub behind: Duration,
    /// Outcomes per second, over the last second.
    pub rate: f64,
    /// Median latency of the last second.
    pub p50: Option<Duration>,
    /// 99th percentile of the last second's latencies.
    pub p99: Option<Duration>,
    /// Whether this is the last one.
    pub finished: bool,
}

/// What a run counted.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) record: Record,
    pub(crate) pace: Pace,
    pub(crate) opened: u64,
}

/// Sends everything and waits for every outcome.
pub(crate) async fn send(
    sending: Sending,
    plan: &Plan,
    mut progress: impl FnMut(Snapshot),
) -> io::Result<Tally> {
    let connections = sending.connections;
    // Each worker has at most one outcome under way: sending it never waits.
    let (done, mut outcomes) = mpsc::channel(connections);
    let sending = Arc::new(sending);
    let mut workers = JoinSet::new();
    let jobs = (0..connections).map(|number| {
        let (job, jobs) = mpsc::channel(1);
        workers.spawn(worker(number, Arc::clone(&sending), jobs, done.clone()));
        job
    });
    let mut run = Run::new(plan, jobs.collect(), Instant::now());
    let metronome = Metronome::start(run.start, plan.instants())?;
    let give_up = run.start + plan.duration() + sending.timeout;
    while !run.is_over() {
        tokio::select! {
            biased;
            Some(outcome) = outcomes.recv() => run.finished(outcome),
            () = metronome.tick() => (),
            () = sleep_until(run.next_beat) => (),
        }
        let now = Instant::now();
        run.dispatch(now);
        run.beat(now);
        if now >= give_up {
            run.give_up(now);
        }
        if now >= run.next_snapshot {
            progress(run.snapshot(now, false));
        }
    }
    progress(run.snapshot(Instant::now(), true));
    run.pace.elapsed = plan.duration().max(run.last_outcome - run.start);
    Ok(Tally { record: run.record, pace: run.pace, opened: run.opened })
}

struct Idle {
    worker: usize,
    /// `None`: it has not been used yet.
    since: Option<Instant>,
}

struct Run {
    start: Instant,
    expected: u64,
    instants: Instants,
    /// The next request's instant.
    due: Option<Instant>,
    jobs: Vec<mpsc::Sender<Job>>,
    idle: Vec<Idle>,
    record: Record,
    pace: Pace,
    opened: u64,
    sent: u64,
    last_outcome: Instant,
    next_beat: Instant,
    next_snapshot: Instant,
    recent: Recent,
}

impl Run {
    fn new(plan: &Plan, jobs: Vec<mpsc::Sender<Job>>, start: Instant) -> Self {
        let mut instants = plan.instants();
        Self {
            start,
            expected: plan.expected(),
            due: instants.next().map(|at| start + at),
            instants,
            idle: (0..jobs.len()).rev().map(|worker| Idle { worker, since: None }).collect(),
            jobs,
            record: Record::default(),
            pace: Pace::default(),
            opened: 0,
            sent: 0,
            last_outcome: start,
            next_beat: start + BEAT,
            next_snapshot: start + SNAPSHOT_EVERY,
            recent: Recent::new(start),
        }
    }

    fn in_flight(&self) -> u64 {
        (self.jobs.len() - self.idle.len()) as u64
    }

    fn is_over(&self) -> bool {
        self.due.is_none() && self.in_flight() == 0
    }

    /// Sends what is due, as far as there are idle connections.
    fn dispatch(&mut self, now: Instant) {
        while let Some(due) = self.due.filter(|due| *due <= now) {
            let Some(idle) = self.idle.pop() else { return };
            let job = Job { due, free: idle.since };
            self.jobs[idle.worker].try_send(job).expect("an idle worker has room for its next job");
            self.sent += 1;
            self.due = self.instants.next().map(|at| self.start + at);
        }
    }

    fn finished(&mut self, done: Done) {
        let Job { due, free } = done.job;
        // What held the request back until here was the plan, then the server.
        let ready = free.map_or(due, |free| free.max(due));
        self.pace.sent(done.begun - ready);
        self.record.add(done.answer, done.ended - due, done.ended - done.begun);
        self.recent.add(done.ended - due);
        self.opened += u64::from(done.opened);
        self.last_outcome = self.last_outcome.max(done.ended);
        self.idle.push(Idle { worker: done.worker, since: Some(done.ended) });
    }

    fn beat(&mut self, now: Instant) {
        if now >= self.next_beat {
            self.pace.beat(now - self.next_beat);
            self.next_beat = now + BEAT;
        }
    }

    fn give_up(&mut self, now: Instant) {
        while let Some(due) = self.due {
            self.record.unsent(now - due);
            self.last_outcome = self.last_outcome.max(now);
            self.due = self.instants.next().map(|at| self.start + at);
        }
    }

    fn snapshot(&mut self, now: Instant, finished: bool) -> Snapshot {
        self.next_snapshot = now + SNAPSHOT_EVERY;
        let (rate, latency) = self.recent.turn(now);
        Snapshot {
            elapsed: now - self.start,
            expected: self.expected,
            sent: self.sent,
            done: self.record.done(),
            errors: self.record.errors.total(),
            in_flight: self.in_flight(),
            behind: self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due)),
            rate,
            p50: latency.percentile(50.0),
            p99: latency.percentile(99.0),
            finished,
        }
    }
}

/// Latencies since each of the last few snapshots.
struct Recent {
    windows: VecDeque<(Instant, Spread)>,
}

impl Recent {
    fn new(start: Instant) -> Self {
        Self { windows: VecDeque::from([(start, Spread::default())]) }
    }

    fn add(&mut self, latency: Duration) {
        if let Some((_, window)) = self.windows.back_mut() {
            window.add(latency);
        }
    }

    /// Rate and latencies of what is kept; then begins the next window.
    fn turn(&mut self, now: Instant) -> (f64, Spread) {
        let mut all = Spread::default();
        self.windows.iter().for_each(|(_, window)| all.merge(window));
        let since = self.windows.front().map_or(now, |(since, _)| *since);
        let seconds = (now - since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of one second")]
        let rate = if seconds > 0.0 { all.count() as f64 / seconds } else { 0.0 };
        let mut next = match self.windows.len() {
            SNAPSHOTS_BACK.. => self.windows.pop_front().map(|(_, window)| window).unwrap_or_default(),
            _ => Spread::default(),
        };
        next.clear();
        self.windows.push_back((now, next));
        (rate, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_figures_look_one_second_back() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        let mut rates = Vec::new();
        for quarter in 1..=8_u32 {
            let count = if quarter <= 4 { 10 } else { 0 };
            (0..count).for_each(|_| recent.add(Duration::from_millis(1)));
            rates.push(recent.turn(start + SNAPSHOT_EVERY * quarter).0.round());
        }
        assert_eq!(rates, [40.0, 40.0, 40.0, 40.0, 30.0, 20.0, 10.0, 0.0]);
    }
}
