//! Counts what came back, apart for each phase, class of answer, and cold or warm. Three times of every request are kept as
//! histograms: response time from the planned instant to the end of the answer, service time from when it was sent, and
//! schedule lag between the two. Failed and unsent requests are in the response times, so that no failure makes a figure better.
//! Memory depends on phases and classes, not on the length of the run. `[P]`

mod cell;
mod spread;
mod timeline;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use cell::{Cell, Class, Key};
pub use spread::Spread;
pub use timeline::{Moment, Timeline};

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be opened.
    Connect,
    /// The connection broke, or what came back was not the protocol.
    Reset,
    /// No complete answer within the timeout.
    Timeout,
    /// A WebSocket that was to be held was closed by the server before its time.
    Closed,
    /// The run was ended at once, before an answer or the timeout came.
    Cut,
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A complete answer.
    Status {
        /// Its code; 400 and above counts as an error.
        code: u16,
        /// The status of a gRPC call; anything but 0 counts as an error.
        grpc: Option<u8>,
        /// Bytes of its body.
        bytes: u64,
    },
    /// None.
    Failed(Failure),
}

/// What a server said about itself in `Server-Timing` and `X-Tidegate-Cold`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// The request started a replica, or waited for one to start.
    pub cold: bool,
    /// How long it waited, for its turn and for a replica to start.
    pub queue: Option<Duration>,
    /// How long the start took for which it waited, from its begin, which may have been before the request.
    pub start: Option<Duration>,
    /// How long the replica took.
    pub upstream: Option<Duration>,
}

impl Told {
    /// With the two kinds of waiting apart: a start counts as far as the request waited for it, and that is no waiting for
    /// a turn.
    fn apart(self) -> Self {
        let (Some(queue), Some(start)) = (self.queue, self.start) else { return self };
        let start = start.min(queue);
        Self { queue: Some(queue - start), start: Some(start), ..self }
    }
}

/// One finished request. Times count from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was to be sent.
    pub due: Duration,
    /// When it was sent, or its connection began to be opened.
    pub sent: Duration,
    /// When its outcome was known.
    pub done: Duration,
    /// What came of it.
    pub answer: Answer,
    /// What the server said about itself.
    pub told: Told,
    /// Which of several targets, from 0.
    pub target: usize,
}

/// Failed requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// No connection could be opened.
    pub connect: u64,
    /// The connection broke, or what came back was not the protocol.
    pub reset: u64,
    /// No complete answer within the timeout.
    pub timeout: u64,
    /// Answered with 400 or above, or with a gRPC status other than 0.
    pub status: u64,
    /// Never sent: all connections were still busy one timeout after the end of the plan.
    pub unsent: u64,
    /// WebSockets that were to be held and were closed by the server before their time.
    #[serde(default)]
    pub closed: u64,
    /// Still under way when the run was ended at once.
    #[serde(default)]
    pub cut: u64,
}

impl Errors {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.timeout + self.status + self.unsent + self.closed + self.cut
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        let Self { connect, reset, timeout, status, unsent, closed, cut } = other;
        self.connect += connect;
        self.reset += reset;
        self.timeout += timeout;
        self.status += status;
        self.unsent += unsent;
        self.closed += closed;
        self.cut += cut;
    }
}

/// The parts of the time that the server says it spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Waiting for a turn.
    pub queue: Spread,
    /// Waiting for a replica to start.
    pub start: Spread,
    /// The replica's own.
    pub upstream: Spread,
}

/// One of several targets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetCount {
    /// From the planned instant to the end of the answer.
    pub latency: Spread,
    /// Failed requests.
    pub errors: u64,
    /// When the first one was due, in seconds since the start.
    #[serde(default)]
    pub first: Option<f64>,
}

/// Everything counted so far.
#[derive(Debug, Clone)]
pub struct Record {
    /// The ends of the phases, ascending.
    phases: Vec<Duration>,
    cells: BTreeMap<Key, Cell>,
    targets: Vec<TargetCount>,
    timeline: Timeline,
    parts: Parts,
    codes: BTreeMap<u16, u64>,
    grpc: BTreeMap<u8, u64>,
    errors: Errors,
    examples: BTreeMap<String, String>,
    bytes: u64,
    done: u64,
}

impl Record {
    /// Nothing yet, of phases that end at these instants.
    #[must_use]
    pub fn new(phases: Vec<Duration>, targets: usize) -> Self {
        Self {
            phases,
            cells: BTreeMap::new(),
            // One target's figures are those of all.
            targets: if targets > 1 { vec![TargetCount::default(); targets] } else { Vec::new() },
            timeline: Timeline::default(),
            parts: Parts::default(),
            codes: BTreeMap::new(),
            grpc: BTreeMap::new(),
            errors: Errors::default(),
            examples: BTreeMap::new(),
            bytes: 0,
            done: 0,
        }
    }

    /// Counts one request that was sent.
    pub fn add(&mut self, sample: &Sample) {
        let Sample { due, sent, done, answer, told, target } = *sample;
        let told = told.apart();
        let class = Class::of(answer);
        let response = done.saturating_sub(due);
        self.cell(due, class, told.cold).add(response, done.saturating_sub(sent), sent.saturating_sub(due));
        self.timeline.add(due, response, class.is_error(), &told);
        self.count_target(target, due, response, class);
        self.count_answer(answer);
        for (part, spread) in [
            (told.queue, &mut self.parts.queue),
            (told.start, &mut self.parts.start),
            (told.upstream, &mut self.parts.upstream),
        ] {
            part.into_iter().for_each(|part| spread.add(part));
        }
        self.done += 1;
    }

    /// Keeps what was wrong with one request, the first of each kind of error.
    pub fn example(&mut self, answer: Answer, words: &str) {
        let kind = match answer {
            Answer::Status { .. } => "status",
            Answer::Failed(Failure::Connect) => "connect",
            Answer::Failed(Failure::Reset) => "reset",
            Answer::Failed(Failure::Timeout) => "timeout",
            Answer::Failed(Failure::Closed) => "closed",
            Answer::Failed(Failure::Cut) => "cut",
        };
        if !self.examples.contains_key(kind) {
            self.examples.insert(kind.to_owned(), words.to_owned());
        }
    }

    /// Counts one request that was given up before it was sent, at an instant.
    pub fn unsent(&mut self, due: Duration, now: Duration, target: usize) {
        let waited = now.saturating_sub(due);
        self.cell(due, Class::Unsent, false).unsent(waited);
        self.timeline.add(due, waited, true, &Told::default());
        self.count_target(target, due, waited, Class::Unsent);
        self.errors.unsent += 1;
        self.done += 1;
    }

    /// Requests with an outcome.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Failures by kind.
    #[must_use]
    pub fn errors(&self) -> Errors {
        self.errors
    }

    /// What is reported of it.
    #[must_use]
    pub fn into_counts(self) -> Counts {
        let Self { cells, targets, timeline, parts, codes, grpc, errors, examples, bytes, .. } = self;
        let cells = cells.into_iter().collect();
        Counts { cells, targets, timeline, parts, codes, grpc, errors, examples, bytes }
    }

    fn cell(&mut self, due: Duration, class: Class, cold: bool) -> &mut Cell {
        let phase = self.phases.partition_point(|end| *end <= due).min(self.phases.len().saturating_sub(1));
        self.cells.entry(Key { phase, class, cold }).or_default()
    }

    fn count_target(&mut self, target: usize, due: Duration, response: Duration, class: Class) {
        if let Some(count) = self.targets.get_mut(target) {
            count.latency.add(response);
            count.errors += u64::from(class.is_error());
            count.first = earlier(count.first, Some(due.as_secs_f64()));
        }
    }

    fn count_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Status { code, grpc, bytes } => {
                *self.codes.entry(code).or_default() += 1;
                if let Some(grpc) = grpc {
                    *self.grpc.entry(grpc).or_default() += 1;
                }
                self.bytes += bytes;
                self.errors.status += u64::from(Class::of(answer).is_error());
            }
            Answer::Failed(Failure::Connect) => self.errors.connect += 1,
            Answer::Failed(Failure::Reset) => self.errors.reset += 1,
            Answer::Failed(Failure::Timeout) => self.errors.timeout += 1,
            Answer::Failed(Failure::Closed) => self.errors.closed += 1,
            Answer::Failed(Failure::Cut) => self.errors.cut += 1,
        }
    }
}

fn earlier(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::min)
}

/// Everything counted, for reports. Can be read back and added to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// By phase, class and cold or warm.
    #[serde(with = "cell::rows")]
    pub cells: Vec<(Key, Cell)>,
    /// By target, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetCount>,
    /// Over time.
    pub timeline: Timeline,
    /// What the server says it spent its time on.
    #[serde(default)]
    pub parts: Parts,
    /// Answers by status code.
    pub codes: BTreeMap<u16, u64>,
    /// Answers by gRPC status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grpc: BTreeMap<u8, u64>,
    /// Failures by kind.
    pub errors: Errors,
    /// What was wrong with one request of each kind of error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub examples: BTreeMap<String, String>,
    /// Bytes of answers' bodies.
    pub bytes: u64,
}

impl Counts {
    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        for (key, cell) in &other.cells {
            match self.cells.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => known.merge(cell),
                None => self.cells.push((*key, cell.clone())),
            }
        }
        self.cells.sort_by_key(|(key, _)| *key);
        for (ours, theirs) in self.targets.iter_mut().zip(&other.targets) {
            ours.latency.merge(&theirs.latency);
            ours.errors += theirs.errors;
            ours.first = earlier(ours.first, theirs.first);
        }
        self.timeline.merge(&other.timeline);
        self.parts.queue.merge(&other.parts.queue);
        self.parts.start.merge(&other.parts.start);
        self.parts.upstream.merge(&other.parts.upstream);
        other.codes.iter().for_each(|(code, count)| *self.codes.entry(*code).or_default() += count);
        other.grpc.iter().for_each(|(code, count)| *self.grpc.entry(*code).or_default() += count);
        self.errors.merge(&other.errors);
        for (kind, words) in &other.examples {
            self.examples.entry(kind.clone()).or_insert_with(|| words.clone());
        }
        self.bytes += other.bytes;
    }

    /// One of the times of all requests that `wanted` picks.
    pub fn all(&self, time: impl Fn(&Cell) -> &Spread, wanted: impl Fn(&Key) -> bool) -> Spread {
        let mut all = Spread::default();
        self.cells.iter().filter(|(key, _)| wanted(key)).for_each(|(_, cell)| all.merge(time(cell)));
        all
    }

    /// The share of all requests that were answered without an error within `limit`; `None` without requests.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Option<f64> {
        let good = self.cells.iter().filter(|(key, _)| !key.class.is_error());
        let good: u64 = good.map(|(_, cell)| cell.response.count_up_to(limit)).sum();
        let all: u64 = self.cells.iter().map(|(_, cell)| cell.response.count()).sum();
        #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let share = good as f64 / all as f64;
        (all > 0).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn status(code: u16) -> Answer {
        Answer::Status { code, grpc: None, bytes: 5 }
    }

    fn sample(due: u32, answer: Answer) -> Sample {
        let due = due * MS;
        Sample { due, sent: due + MS, done: due + 3 * MS, answer, told: Told::default(), target: 0 }
    }

    fn every_outcome() -> Counts {
        let mut record = Record::new(vec![100 * MS, 200 * MS], 1);
        let failed = [Failure::Connect, Failure::Reset, Failure::Reset, Failure::Timeout, Failure::Cut]
            .map(Answer::Failed);
        for answer in failed.into_iter().chain([200, 204, 304, 400, 503].map(status)) {
            record.add(&sample(10, answer));
        }
        record.add(&sample(10, Answer::Status { code: 200, grpc: Some(14), bytes: 0 }));
        record.unsent(100 * MS, 109 * MS, 0);
        assert_eq!(record.done(), 12);
        record.into_counts()
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let counts = every_outcome();
        assert_eq!(
            counts.errors,
            Errors { connect: 1, reset: 2, timeout: 1, status: 3, unsent: 1, closed: 0, cut: 1 }
        );
        assert_eq!(counts.bytes, 25);
        assert_eq!(counts.codes, BTreeMap::from([(200, 2), (204, 1), (304, 1), (400, 1), (503, 1)]));
        assert_eq!(counts.grpc, BTreeMap::from([(14, 1)]));
        let count = |time: fn(&Cell) -> &Spread| counts.all(time, |_| true).count();
        assert_eq!(count(|cell| &cell.response), 12);
        assert_eq!(count(|cell| &cell.service), 11, "what was not sent has no service time");
        assert_eq!(count(|cell| &cell.lag), 11);
    }

    #[test]
    fn added_to_itself_it_is_twice_as_much() {
        let mut twice = every_outcome();
        twice.merge(&every_outcome());
        assert_eq!(twice.errors.total(), 18);
        assert_eq!((twice.bytes, twice.codes[&503], twice.grpc[&14]), (50, 2, 2));
        assert_eq!(twice.all(|cell| &cell.response, |_| true).count(), 24);
        assert_eq!(twice.cells.len(), every_outcome().cells.len());
    }

    #[test]
    fn a_start_counts_as_far_as_it_was_waited_for() {
        for (queue, start, expected) in [
            (Some(10), Some(7), (Some(3), Some(7))),
            // It was under way before the request came.
            (Some(10), Some(30), (Some(0), Some(10))),
            (Some(10), None, (Some(10), None)),
            (None, Some(7), (None, Some(7))),
        ] {
            let ms = |ms: Option<u32>| ms.map(|ms| ms * MS);
            let told = Told { queue: ms(queue), start: ms(start), ..Told::default() }.apart();
            assert_eq!((told.queue, told.start), (ms(expected.0), ms(expected.1)), "{queue:?} {start:?}");
        }
    }

    #[test]
    fn phases_classes_and_cold_starts_are_apart() {
        let mut record = Record::new(vec![100 * MS, 200 * MS], 1);
        let cold = Told { cold: true, start: Some(2 * MS), ..Told::default() };
        record.add(&Sample { told: cold, ..sample(99, status(200)) });
        record.add(&sample(99, status(200)));
        record.add(&sample(100, status(503)));
        // Rounding may put the last request on the very end.
        record.add(&sample(200, status(200)));
        let counts = record.into_counts();
        let keys: Vec<_> = counts.cells.iter().map(|(key, cell)| (*key, cell.response.count())).collect();
        let key = |phase, class, cold| Key { phase, class, cold };
        assert_eq!(
            keys,
            [
                (key(0, Class::Success, false), 1),
                (key(0, Class::Success, true), 1),
                (key(1, Class::Success, false), 1),
                (key(1, Class::Server, false), 1),
            ]
        );
        assert_eq!((counts.parts.start.count(), counts.parts.queue.count()), (1, 0));
        assert_eq!(counts.all(|cell| &cell.response, |key| key.cold).count(), 1);
    }

    #[test]
    fn within_counts_good_answers_of_all() {
        let mut record = Record::new(vec![100 * MS], 1);
        record.add(&sample(0, status(200)));
        record.add(&Sample { done: 50 * MS, ..sample(0, status(200)) });
        record.add(&sample(0, status(500)));
        record.unsent(Duration::ZERO, MS, 0);
        assert_eq!(record.into_counts().within(10 * MS), Some(0.25));
        assert_eq!(Record::new(vec![MS], 1).into_counts().within(MS), None);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let counts = every_outcome();
        let json = serde_json::to_string(&counts).expect("plain values");
        assert_eq!(serde_json::from_str::<Counts>(&json).expect(&json), counts);
    }
}
