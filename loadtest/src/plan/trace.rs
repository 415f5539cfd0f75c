//! What was recorded elsewhere, to be sent again: counts per second or minute, or the time of each request. `[P]`
//! [`recording`](super::recording) knows how it is written down.

use std::{ops::Range, sync::Arc, time::Duration};

use super::{piece::Piece, recording::Invalid};

/// What was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Requests in each bin, spread evenly over it.
    Counts { counts: Arc<[f32]>, bin: f64 },
    /// Seconds since the begin, ascending.
    Times { times: Arc<[f64]>, seconds: f64 },
}

impl Profile {
    /// Requests in each of equal bins.
    pub fn counts(counts: Arc<[f32]>, bin: Duration) -> Result<Self, Invalid> {
        let sum: f64 = counts.iter().map(|count| f64::from(*count)).sum();
        if sum <= 0.0 || bin.is_zero() {
            return Err(Invalid::Empty);
        }
        Ok(Self(Kind::Counts { counts, bin: bin.as_secs_f64() }))
    }

    /// When each request came, in seconds since some begin.
    pub fn times(times: Arc<[f64]>) -> Result<Self, Invalid> {
        let seconds = *times.last().ok_or(Invalid::Empty)?;
        Ok(Self(Kind::Times { times, seconds }))
    }

    /// How long it was recorded.
    #[must_use]
    pub fn length(&self) -> Duration {
        match &self.0 {
            #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
            Kind::Counts { counts, bin } => Duration::from_secs_f64(counts.len() as f64 * bin),
            Kind::Times { seconds, .. } => Duration::from_secs_f64(*seconds),
        }
    }

    /// How many requests were recorded.
    #[must_use]
    pub fn requests(&self) -> f64 {
        match &self.0 {
            Kind::Counts { counts, .. } => counts.iter().map(|count| f64::from(*count)).sum(),
            #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
            Kind::Times { times, .. } => times.len() as f64,
        }
    }

    /// The highest rate, in requests per second; of times, which have none, 0.
    pub(crate) fn busiest(&self) -> f64 {
        match &self.0 {
            Kind::Counts { counts, bin } => {
                counts.iter().fold(0.0, |most, count| f64::max(most, f64::from(*count))) / bin
            }
            Kind::Times { .. } => 0.0,
        }
    }

    /// Requests per second around an instant.
    pub(crate) fn rate_at(&self, at: Duration) -> f64 {
        let at = at.as_secs_f64();
        match &self.0 {
            Kind::Counts { counts, bin } => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a place in memory"
                )]
                let index = (at / bin) as usize;
                counts.get(index).map_or(0.0, |count| f64::from(*count) / bin)
            }
            Kind::Times { times, .. } => {
                let (begin, end) = (at.floor(), at.floor() + 1.0);
                let until = |limit: f64| times.partition_point(|time| *time < limit);
                #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
                let count = (until(end) - until(begin)) as f64;
                count
            }
        }
    }

    /// The piece with that number, and when it begins, in seconds.
    pub(crate) fn piece(&self, index: usize, scale: f64, speed: f64) -> Option<(f64, Piece)> {
        match &self.0 {
            Kind::Counts { counts, bin } => {
                let (rate, seconds) = (f64::from(*counts.get(index)?) / bin * scale * speed, bin / speed);
                #[expect(clippy::cast_precision_loss, reason = "a place in memory")]
                let begin = index as f64 * seconds;
                Some((begin, Piece::Line { from: rate, to: rate, seconds }))
            }
            Kind::Times { times, .. } => Some((times.get(index)? / speed, Piece::Atom { mass: scale })),
        }
    }

    /// The requests that came in so much time from an instant on; in all that follows it, if that is not said.
    pub fn part(&self, from: Duration, length: Option<Duration>) -> Result<Self, Invalid> {
        let begin = from.as_secs_f64();
        let range = self.range(from, length);
        let part = match &self.0 {
            Kind::Counts { counts, bin } => Self::counts(counts[range].into(), Duration::from_secs_f64(*bin)),
            Kind::Times { times, .. } => Self::times(times[range].iter().map(|at| at - begin).collect()),
        };
        // As a whole it is not empty.
        part.map_err(|_| Invalid::EmptyPart { from, length, whole: self.length() })
    }

    /// Which of the bins, or of the requests, lie in that time.
    pub(crate) fn range(&self, from: Duration, length: Option<Duration>) -> Range<usize> {
        let begin = from.as_secs_f64();
        let end = length.map_or(f64::INFINITY, |length| begin + length.as_secs_f64());
        let place = |seconds: f64| match &self.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to memory")]
            Kind::Counts { counts, bin } => ((seconds / bin).round() as usize).min(counts.len()),
            Kind::Times { times, .. } => times.partition_point(|at| *at < seconds),
        };
        place(begin)..place(end)
    }

    /// The counts and what time each is for; none of times.
    #[must_use]
    pub fn bins(&self) -> Option<(&[f32], Duration)> {
        match &self.0 {
            Kind::Counts { counts, bin } => Some((counts, Duration::from_secs_f64(*bin))),
            Kind::Times { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn sums_and_rates() {
        let profile = Profile::counts([60.0, 0.0, 120.0].into(), s(60)).expect("some");
        assert_eq!((profile.length(), profile.requests(), profile.busiest()), (s(180), 180.0, 2.0));
        assert_eq!([0, 59, 60, 130, 500].map(|at| profile.rate_at(s(at))), [1.0, 1.0, 0.0, 2.0, 0.0]);
        assert_eq!(profile.bins(), Some((&[60.0, 0.0, 120.0][..], s(60))));
        let times = Profile::times([0.0, 0.5, 3.0].into()).expect("some");
        assert_eq!((times.rate_at(s(0)), times.bins()), (2.0, None));
    }

    #[test]
    fn a_part_of_it() {
        let counts = |counts: &[f32]| Profile::counts(counts.into(), s(1));
        let times = |times: &[f64]| Profile::times(times.into());
        let (bins, each) =
            (counts(&[1.0, 2.0, 3.0, 4.0]).expect("some"), times(&[0.0, 3.0, 4.0, 9.0]).expect("some"));
        for (from, length, left) in [
            (1, Some(2), counts(&[2.0, 3.0])),
            (2, None, counts(&[3.0, 4.0])),
            (9, None, Err(Invalid::EmptyPart { from: s(9), length: None, whole: s(4) })),
        ] {
            assert_eq!(bins.part(s(from), length.map(s)), left, "{from} {length:?}");
        }
        assert_eq!(each.part(s(2), Some(s(5))), times(&[1.0, 2.0]));
        let pause = Invalid::EmptyPart { from: s(5), length: Some(s(4)), whole: s(9) };
        assert_eq!(each.part(s(5), Some(s(4))), Err(pause));
    }
}
