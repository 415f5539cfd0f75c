//! When requests come: instants that were noted, or numbers per bin of time, in which they come by chance (Poisson).

use std::time::Duration;

use crate::simulate::chance::Chance;

/// When requests come, told from the beginning.
#[derive(Debug, Clone, PartialEq)]
pub enum Trace {
    /// So many in each bin of time, one bin after the other.
    Counts {
        /// The length of a bin.
        bin: Duration,
        /// Requests in each.
        counts: Vec<u32>,
    },
    /// Each request by itself, in order of time; with how long it ran, where that was noted.
    Requests {
        /// When each came, and how long a replica worked on it.
        requests: Vec<(Duration, Option<Duration>)>,
        /// When the trace ends.
        length: Duration,
    },
}

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it comes.
    pub at: Duration,
    /// How long a replica works on it, where the trace says so.
    pub takes: Option<Duration>,
}

impl Trace {
    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        match self {
            Self::Counts { bin, counts } => *bin * u32::try_from(counts.len()).unwrap_or(u32::MAX),
            Self::Requests { length, .. } => *length,
        }
    }

    /// How many requests it has.
    #[must_use]
    pub fn requests(&self) -> u64 {
        match self {
            Self::Counts { counts, .. } => counts.iter().map(|count| u64::from(*count)).sum(),
            Self::Requests { requests, .. } => requests.len() as u64,
        }
    }

    /// Its requests in order of time; chance places those of a bin.
    pub fn arrivals(&self, chance: Chance) -> Arrivals<'_> {
        Arrivals { trace: self, chance, next: 0, bin: Vec::new() }
    }
}

/// The requests of a trace, one after the other.
#[derive(Debug)]
pub struct Arrivals<'t> {
    trace: &'t Trace,
    chance: Chance,
    /// The next bin, or the next request.
    next: usize,
    /// What is left of the current bin, latest first.
    bin: Vec<Duration>,
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        match self.trace {
            Trace::Requests { requests, .. } => {
                let (at, takes) = *requests.get(self.next)?;
                self.next += 1;
                Some(Arrival { at, takes })
            }
            Trace::Counts { bin, counts } => loop {
                if let Some(at) = self.bin.pop() {
                    return Some(Arrival { at, takes: None });
                }
                let count = *counts.get(self.next)?;
                let start = *bin * u32::try_from(self.next).unwrap_or(u32::MAX);
                self.next += 1;
                let chance = &mut self.chance;
                self.bin.extend((0..count).map(|_| start + bin.mul_f64(chance.unit())));
                self.bin.sort_unstable_by(|a, b| b.cmp(a));
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_has_its_requests_in_order() {
        let bin = Duration::from_secs(60);
        let trace = Trace::Counts { bin, counts: vec![3, 0, 200] };
        assert_eq!((trace.length(), trace.requests()), (bin * 3, 203));
        let times: Vec<Duration> = trace.arrivals(Chance::new(1)).map(|arrival| arrival.at).collect();
        assert_eq!(times.len(), 203);
        assert!(times.is_sorted());
        assert_eq!(times.iter().filter(|at| **at < bin).count(), 3);
        assert_eq!(times.iter().filter(|at| **at >= bin * 2 && **at < bin * 3).count(), 200);
    }

    #[test]
    fn noted_requests_come_as_they_were_noted() {
        let second = Duration::from_secs(1);
        let requests = vec![(second, None), (second * 2, Some(second))];
        let trace = Trace::Requests { requests, length: second * 5 };
        let got: Vec<_> = trace.arrivals(Chance::new(1)).collect();
        assert_eq!(got[1], Arrival { at: second * 2, takes: Some(second) });
        assert_eq!((got.len(), trace.length()), (2, second * 5));
    }
}
