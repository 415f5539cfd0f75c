//! A histogram of durations. `[P]`

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer as HdrReader, Serializer as _, V2DeflateSerializer},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _, ser::SerializeMap,
};

/// The longest duration that is told from longer ones, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Durations in microseconds, to three significant digits, an hour at most.
#[derive(Clone, PartialEq)]
pub struct Spread(Histogram<u64>);

impl fmt::Debug for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Self::FIGURES.map(|(name, figure)| (name, figure(self)))).finish()
    }
}

impl Default for Spread {
    /// Grows with the longest duration in it.
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are possible"))
    }
}

/// A figure of a spread, and what it is called.
pub(crate) type Figure = fn(&Spread) -> Option<Duration>;

impl Spread {
    /// The figures that are printed.
    pub(crate) const FIGURES: [(&str, Figure); 8] = [
        ("min", Self::min),
        ("mean", Self::mean),
        ("p50", |spread| spread.percentile(50.0)),
        ("p90", |spread| spread.percentile(90.0)),
        ("p95", |spread| spread.percentile(95.0)),
        ("p99", |spread| spread.percentile(99.0)),
        ("p99.9", |spread| spread.percentile(99.9)),
        ("max", Self::max),
    ];

    /// Adds one.
    pub fn add(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        self.0.record(micros).expect("it grows up to the longest");
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("it grows up to the longest");
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

    /// How many were added that are not longer.
    #[must_use]
    pub fn count_up_to(&self, limit: Duration) -> u64 {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).min(LONGEST);
        if self.0.is_empty() { 0 } else { self.0.count_between(0, micros) }
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

    /// The histogram itself, in microseconds.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    fn some(&self, micros: u64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_micros(micros))
    }
}

/// Figures in seconds for whoever reads them, and the whole histogram (`hdr`, in the form of HdrHistogram's logs) for
/// whoever adds it to another.
impl Serialize for Spread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &self.count())?;
        for (name, figure) in Self::FIGURES {
            map.serialize_entry(name, &figure(self).map(|duration| duration.as_secs_f64()))?;
        }
        if self.count() > 0 {
            let mut bytes = Vec::new();
            V2DeflateSerializer::new().serialize(&self.0, &mut bytes).map_err(S::Error::custom)?;
            map.serialize_entry("hdr", &BASE64_STANDARD.encode(bytes))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Spread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            hdr: Option<String>,
        }
        let Some(hdr) = Written::deserialize(deserializer)?.hdr else { return Ok(Self::default()) };
        let bytes = BASE64_STANDARD.decode(hdr).map_err(D::Error::custom)?;
        let read: Histogram<u64> =
            HdrReader::new().deserialize(&mut bytes.as_slice()).map_err(D::Error::custom)?;
        let mut spread = Self::default();
        spread.0.add(&read).map_err(D::Error::custom)?;
        Ok(spread)
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn percentiles() {
        let mut spread = Spread::default();
        assert_eq!((spread.percentile(50.0), spread.mean(), spread.max()), (None, None, None));
        assert_eq!(spread.count_up_to(MS), 0);
        for ms in 1..=100 {
            spread.add(ms * MS);
        }
        for (percent, ms) in [(50.0, 50.0), (99.0, 99.0), (100.0, 100.0), (0.0, 1.0)] {
            let found = spread.percentile(percent).expect("not empty").as_secs_f64() * 1e3;
            assert!((found / ms - 1.0_f64).abs() < 0.002, "p{percent}: {found}");
        }
        assert_eq!([0, 1, 50, 1000].map(|ms| spread.count_up_to(ms * MS)), [0, 1, 50, 100]);
        spread.add(Duration::from_secs(1_000_000));
        assert!(spread.max() >= Some(Duration::from_secs(3590)), "too long is kept as the longest");
    }

    #[test]
    fn histograms_agree_with_exact_sorting() {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut spread = Spread::default();
            // From 10 us to 100 s, evenly over the orders of magnitude.
            let mut exact: Vec<f64> =
                (0..5000).map(|_| 10_f64.powf(random.random_range(-5.0..2.0))).collect();
            exact.iter().for_each(|seconds| spread.add(Duration::from_secs_f64(*seconds)));
            exact.sort_by(f64::total_cmp);
            for percent in [1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                let rank = ((percent / 100.0 * exact.len() as f64).ceil() as usize).max(1);
                let (found, want) =
                    (spread.percentile(percent).expect("some").as_secs_f64(), exact[rank - 1]);
                assert!(
                    (found - want).abs() <= want * 0.001 + 1e-6,
                    "seed {seed}, p{percent}: {found} for {want}"
                );
            }
        }
    }

    #[test]
    fn written_and_read_it_is_the_same() {
        let mut spread = Spread::default();
        for value in [Spread::default(), {
            (1..500).for_each(|ms| spread.add(ms * ms * MS));
            spread
        }] {
            let json = serde_json::to_value(&value).expect("plain values");
            assert_eq!(json["count"], value.count());
            assert_eq!(serde_json::from_value::<Spread>(json).expect("readable"), value);
        }
        assert!(serde_json::from_str::<Spread>(r#"{"hdr":"bm90"}"#).is_err());
    }
}
