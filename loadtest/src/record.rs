//! Counts what came back. Latency runs from the planned instant, service time from when the request had a connection;
//! both hold every request, failed ones too (until the failure was known), so that no failure makes a figure better.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use http::StatusCode;
use serde::Serialize;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be opened.
    Connect,
    /// The connection broke, or what came back was not HTTP.
    Reset,
    /// No complete answer within the timeout.
    Timeout,
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A complete answer.
    Status {
        /// Its code; 400 and above counts as an error.
        code: StatusCode,
        /// Bytes of its body.
        bytes: u64,
    },
    /// None.
    Failed(Failure),
}

/// Failed requests by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// No connection could be opened.
    pub connect: u64,
    /// The connection broke, or what came back was not HTTP.
    pub reset: u64,
    /// No complete answer within the timeout.
    pub timeout: u64,
    /// Answered with 400 or above.
    pub status: u64,
    /// Never sent: all connections were still busy one timeout after the end of the plan.
    pub unsent: u64,
}

impl Errors {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.timeout + self.status + self.unsent
    }
}

/// Durations in microseconds, to three significant digits, an hour at most.
#[derive(Debug, Clone)]
pub struct Spread(Histogram<u64>);

impl Default for Spread {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant, valid bounds"))
    }
}

impl Spread {
    /// Adds one.
    pub fn add(&mut self, value: Duration) {
        self.0.saturating_record(u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value that `percent` percent do not exceed; `None` when empty.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        // The histogram answers with the upper end of its bucket, which may lie above the largest value added.
        self.some(self.0.value_at_quantile(percent / 100.0).min(self.0.max()))
    }

    /// The smallest.
    #[must_use]
    pub fn min(&self) -> Option<Duration> {
        self.some(self.0.min())
    }

    /// The largest, as near as the histogram keeps it.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        self.some(self.0.max())
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_secs_f64(self.0.mean() / 1e6))
    }

    fn some(&self, micros: u64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_micros(micros))
    }
}

/// Everything counted so far.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// From the planned instant to the end of the answer.
    pub latency: Spread,
    /// From having a connection (or starting to open one) to the end of the answer.
    pub service: Spread,
    /// Answers by status code.
    pub codes: BTreeMap<u16, u64>,
    /// Failures by kind.
    pub errors: Errors,
    /// Bytes of answers' bodies.
    pub bytes: u64,
}

impl Record {
    /// Counts one request that was sent.
    pub fn add(&mut self, answer: Answer, latency: Duration, service: Duration) {
        self.latency.add(latency);
        self.service.add(service);
        match answer {
            Answer::Status { code, bytes } => {
                *self.codes.entry(code.as_u16()).or_default() += 1;
                self.bytes += bytes;
                self.errors.status += u64::from(code.as_u16() >= 400);
            }
            Answer::Failed(Failure::Connect) => self.errors.connect += 1,
            Answer::Failed(Failure::Reset) => self.errors.reset += 1,
            Answer::Failed(Failure::Timeout) => self.errors.timeout += 1,
        }
    }

    /// Counts one request that was given up before it was sent, after `waited`.
    pub fn unsent(&mut self, waited: Duration) {
        self.latency.add(waited);
        self.errors.unsent += 1;
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.service.merge(&other.service);
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        let Errors { connect, reset, timeout, status, unsent } = other.errors;
        self.errors.connect += connect;
        self.errors.reset += reset;
        self.errors.timeout += timeout;
        self.errors.status += status;
        self.errors.unsent += unsent;
        self.bytes += other.bytes;
    }

    /// Requests with an outcome.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.latency.count()
    }

    /// Requests answered without an error.
    #[must_use]
    pub fn good(&self) -> u64 {
        self.done() - self.errors.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn status(code: u16) -> Answer {
        Answer::Status { code: StatusCode::from_u16(code).expect("a code"), bytes: 5 }
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let mut record = Record::default();
        let failed = [Failure::Connect, Failure::Reset, Failure::Reset, Failure::Timeout].map(Answer::Failed);
        for answer in failed.into_iter().chain([200, 204, 304, 400, 503].map(status)) {
            record.add(answer, 2 * MS, MS);
        }
        record.unsent(9 * MS);
        assert_eq!(record.errors, Errors { connect: 1, reset: 2, timeout: 1, status: 2, unsent: 1 });
        assert_eq!((record.done(), record.good(), record.bytes), (10, 3, 25));
        assert_eq!(record.codes, BTreeMap::from([(200, 1), (204, 1), (304, 1), (400, 1), (503, 1)]));
        assert_eq!(record.service.count(), 9, "what was not sent has no service time");

        let mut twice = record.clone();
        twice.merge(&record);
        assert_eq!((twice.done(), twice.good(), twice.bytes, twice.errors.reset), (20, 6, 50, 4));
        assert_eq!(twice.codes[&503], 2);
    }

    #[test]
    fn percentiles() {
        let mut spread = Spread::default();
        assert_eq!((spread.percentile(50.0), spread.mean(), spread.max()), (None, None, None));
        for ms in 1..=100 {
            spread.add(ms * MS);
        }
        for (percent, ms) in [(50.0, 50.0), (99.0, 99.0), (100.0, 100.0), (0.0, 1.0)] {
            let found = spread.percentile(percent).expect("not empty").as_secs_f64() * 1e3;
            assert!((found / ms - 1.0_f64).abs() < 0.002, "p{percent}: {found}");
        }
        spread.add(Duration::from_secs(1_000_000));
        assert!(spread.max() >= Some(Duration::from_secs(3590)), "too long is kept as the longest");
    }
}
