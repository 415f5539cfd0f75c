//! Replicas that are kept by the clock.

use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;

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
    /// What the time zone database calls the zone.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
}
