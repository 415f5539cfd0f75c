//! Numbers with a unit and a range, so that no one downstream asks "percent of what?".
//! Read from the file as text (`"30s"`, `"64MiB"`, `"10/m"`) or, for counts, as numbers. Absent: defaults (see [`crate::model`]).

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A whole share of something, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// `None` outside 1..=100.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value >= 1 && value <= 100 { Some(Self(value)) } else { None }
    }

    /// The share in percent.
    #[must_use]
    pub fn whole(self) -> u32 {
        u32::from(self.0)
    }

    /// The share as a fraction in (0, 1].
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A number of replicas.
pub type Count = u32;

/// Requests that one replica may run at once.
pub type Concurrency = NonZeroU32;

/// A size in bytes; reads `"512MiB"`, `"1GB"`, `"64k"`, prints the largest exact binary unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// In gibibytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "to a few digits")]
    pub const fn gib(self) -> f64 {
        self.0 as f64 / (1_u64 << 30) as f64
    }
}

/// The text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a size such as \"512MiB\", \"1GiB\" or \"500MB\"")]
pub struct InvalidBytes;

impl FromStr for Bytes {
    type Err = InvalidBytes;
    fn from_str(text: &str) -> Result<Self, InvalidBytes> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| InvalidBytes)?;
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "ki" | "kib" => 1024.0,
            "mi" | "mib" => 1024.0 * 1024.0,
            "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "ti" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            _ => return Err(InvalidBytes),
        };
        let bytes = number * factor;
        // Past 2^53 a float no longer counts bytes; no machine has them either.
        if !(0.0..=9_007_199_254_740_992.0).contains(&bytes) {
            return Err(InvalidBytes);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
            .into_iter()
            .find(|(_, shift)| self.0 >= 1 << shift && self.0.trailing_zeros() >= *shift);
        match unit {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// So many in so long; reads and prints `"10/m"`, with `s`, `m` or `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: Duration,
}

impl Rate {
    /// `None` for none at all, or for one that no time passes in.
    #[must_use]
    pub fn new(count: u32, per: Duration) -> Option<Self> {
        NonZeroU32::new(count).filter(|_| !per.is_zero()).map(|count| Self { count, per })
    }

    /// How many may come at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.count.get()
    }

    /// Over how long they are counted.
    #[must_use]
    pub fn per(self) -> Duration {
        self.per
    }

    /// The time between two, on average.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.per / self.count.get()
    }
}

const PERIODS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// The text is not a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a rate such as \"10/s\", \"60/m\" or \"100/h\"")]
pub struct InvalidRate;

impl FromStr for Rate {
    type Err = InvalidRate;
    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, period) = text.split_once('/').ok_or(InvalidRate)?;
        let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == period.trim()).ok_or(InvalidRate)?;
        let count = count.trim().parse().map_err(|_| InvalidRate)?;
        Self::new(count, Duration::from_secs(*seconds)).ok_or(InvalidRate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PERIODS.iter().find(|(_, seconds)| self.per == Duration::from_secs(*seconds)) {
            Some((name, _)) => write!(f, "{}/{name}", self.count),
            None => write!(f, "{} in {:?}", self.count, self.per),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1.5 GiB", 3 << 29, "1536MiB"),
            ("1kb", 1000, "1000B"),
            ("7", 7, "7B"),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
        for bad in ["", "MiB", "-1", "1XB", "1e99GB", "1..2"] {
            assert_eq!(bad.parse::<Bytes>(), Err(InvalidBytes), "{bad}");
        }
    }

    #[test]
    fn rates_read_and_print() {
        for (text, burst, interval) in [("10/m", 10, 6000), ("2/s", 2, 500), (" 60 / h", 60, 60_000)] {
            let rate: Rate = text.parse().expect("a rate");
            assert_eq!((rate.burst(), rate.interval()), (burst, Duration::from_millis(interval)), "{text}");
            assert_eq!(rate.to_string(), text.replace(' ', ""));
        }
        for bad in ["", "10", "0/m", "-1/s", "10/d", "x/m", "10/"] {
            assert_eq!(bad.parse::<Rate>(), Err(InvalidRate), "{bad}");
        }
    }

    #[test]
    fn percents_have_a_range() {
        assert_eq!(Percent::new(0), None);
        assert_eq!(Percent::new(101), None);
        assert!((Percent::new(70).expect("in range").fraction() - 0.7).abs() < 1e-9);
    }
}
