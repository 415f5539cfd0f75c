//! Replicas that are kept by the clock.

use std::time::Duration;

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

use crate::units::Count;

/// So many replicas at least, from each instant on that an expression names.
#[derive(Debug, Clone, PartialEq)]
pub struct KeepWarm {
    /// When it begins, again and again.
    pub cron: Cron,
    /// Whose clocks the expression means.
    pub zone: TimeZone,
    /// For how long each time.
    pub lasts: Duration,
    /// How many.
    pub replicas: Count,
}

impl KeepWarm {
    /// Whether it holds at any time from an instant on, for so long.
    #[must_use]
    pub fn holds_within(&self, from: Timestamp, length: Duration) -> bool {
        let here = from.to_zoned(self.zone.clone());
        let before =
            self.cron.find_previous_occurrence(&here, true).ok().map(|begun| begun.timestamp() + self.lasts);
        let next = self.cron.find_next_occurrence(&here, true).ok().map(|next| next.timestamp());
        before.is_some_and(|ends| ends > from) || next.is_some_and(|begins| begins < from + length)
    }

    /// What the time zone database calls the zone.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_its_instants_on() {
        let keep = KeepWarm {
            cron: "0 8 * * mon-fri".parse().expect("an expression"),
            zone: TimeZone::UTC,
            lasts: Duration::from_secs(3600),
            replicas: 1,
        };
        let holds = |from: &str, minutes: u64| {
            keep.holds_within(from.parse().expect("an instant"), Duration::from_secs(60 * minutes))
        };
        // A Monday.
        assert!(!holds("2024-01-01T00:00:00Z", 5) && !holds("2024-01-01T00:00:00Z", 480));
        assert!(holds("2024-01-01T00:00:00Z", 481) && holds("2024-01-01T08:00:00Z", 1));
        assert!(holds("2024-01-01T08:59:00Z", 1) && !holds("2024-01-01T09:00:00Z", 1));
    }
}
