//! Averages over one-second samples of demand.
//! Filled by [`decide`](crate::decide), read by the [`policy`](crate::policy). Holds: at most one stable window of
//! samples is kept (a stable window is at most an hour); an average divides by the seconds measured since the first
//! sample, so that a young service is not diluted by seconds before its birth.
//! Absent: clocks; a sample's place in the row is its time.

use std::{collections::VecDeque, time::Duration};

use crate::snapshot::{Demand, together};

/// The latest one-second samples, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Window {
    samples: VecDeque<f64>,
    /// Seconds at the end of the row in which nothing was measured.
    paused: usize,
}

impl Window {
    /// Records one second's demand and forgets what is older than `keep`.
    pub fn record(&mut self, sample: f64, keep: Duration) {
        self.paused = 0;
        self.push(sample, keep);
    }

    /// Lets one second pass in which nothing ran that could be measured. It counts as zero; a whole `keep` of such
    /// seconds makes the next sample a first one again.
    pub fn pause(&mut self, keep: Duration) {
        if self.samples.is_empty() {
            return;
        }
        self.paused += 1;
        if self.paused >= seconds(keep) {
            self.clear();
        } else {
            self.push(0.0, keep);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.samples.clear();
        self.paused = 0;
    }

    /// The average over the last `span`, or over as much of it as has been measured; 0 before the first sample.
    #[must_use]
    pub fn average(&self, span: Duration) -> f64 {
        let measured = self.samples.len().min(seconds(span));
        if measured == 0 {
            return 0.0;
        }
        let sum: f64 = self.samples.iter().rev().take(measured).sum();
        // Six digits, so that noise of adding floats never lifts a whole number over the next replica.
        (sum / as_float(measured) * 1e6).round() / 1e6
    }

    fn push(&mut self, sample: f64, keep: Duration) {
        self.samples.push_back(sample);
        while self.samples.len() > seconds(keep) {
            self.samples.pop_front();
        }
    }
}

/// The samples of all gateways, second by second, oldest first. The latest seconds are the same ones everywhere.
#[must_use]
pub fn merge(demand: &[Demand]) -> Vec<f64> {
    together(demand.iter().map(|gateway| &*gateway.samples), |sum, sample| *sum += sample)
}

/// Whole seconds, at least one.
fn seconds(span: Duration) -> usize {
    usize::try_from(span.as_secs()).unwrap_or(usize::MAX).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "at most an hour of seconds")]
fn as_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[f64], keep: u64) -> Window {
        let mut window = Window::default();
        for sample in samples {
            window.record(*sample, Duration::from_secs(keep));
        }
        window
    }

    #[test]
    fn averages_divide_by_what_was_measured() {
        for (samples, keep, span, average) in [
            (&[][..], 60, 60, 0.0),
            (&[7.0], 60, 60, 7.0),
            (&[7.0, 9.0], 60, 60, 8.0),
            (&[100.0, 7.0, 9.0], 60, 2, 8.0),
            // The oldest has left the window.
            (&[100.0, 1.0, 2.0, 3.0], 3, 60, 2.0),
            (&[0.1, 0.2], 60, 60, 0.15),
            // A span below a second is a second.
            (&[1.0, 5.0], 60, 0, 5.0),
        ] {
            let found = of(samples, keep).average(Duration::from_secs(span));
            assert!((found - average).abs() < 1e-9, "{samples:?} over {span}: {found}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(of(&[1.0; 10_000], 3600).samples.len(), 3600);
    }

    #[test]
    fn a_whole_window_without_measuring_starts_afresh() {
        let keep = Duration::from_secs(3);
        let mut window = of(&[9.0], 3);
        window.pause(keep);
        assert!((window.average(keep) - 4.5).abs() < 1e-9);
        window.pause(keep);
        window.pause(keep);
        window.pause(keep);
        window.record(6.0, keep);
        assert!((window.average(keep) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn gateways_are_summed_from_their_latest_second() {
        let none = Demand::none(crate::fixture::origin());
        let demand = |samples: &[f64]| Demand { samples: samples.to_vec(), ..none.clone() };
        assert_eq!(merge(&[demand(&[1.0, 2.0, 3.0]), demand(&[10.0])]), [1.0, 2.0, 13.0]);
        assert_eq!(merge(&[]), [0.0; 0]);
    }
}
