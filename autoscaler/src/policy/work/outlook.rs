//! What is to be expected: a load, and a higher one, as likely as a surge goes on. Used by the law [`work`](super).

use crate::staffing::Load;

/// Two loads, of which one will come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outlook {
    pub(super) usual: Load,
    pub(super) surge: Load,
    /// The probability of the surge.
    pub(super) likely: f64,
}

impl Outlook {
    /// Nothing but this.
    pub(super) fn steady(load: Load) -> Self {
        Self { usual: load, surge: load, likely: 0.0 }
    }

    /// Requests per second, on average.
    pub(super) fn rate(&self) -> f64 {
        self.mean_of(|load| load.rate)
    }

    /// Erlangs, on average.
    pub(super) fn mean(&self) -> f64 {
        self.mean_of(|load| load.mean)
    }

    /// Seconds of work per request.
    pub(super) fn service(&self) -> f64 {
        self.usual.service
    }

    /// Requests that are late per second, on average, where so many slots are there and who waits longer than `bound` seconds is.
    pub(super) fn late(&self, slots: f64, bound: f64) -> f64 {
        self.mean_of(|load| load.rate * load.late(slots, bound))
    }

    /// What is to be expected of something that differs.
    pub(super) fn mean_of(&self, value: impl Fn(&Load) -> f64) -> f64 {
        if self.likely == 0.0 {
            return value(&self.usual);
        }
        self.likely * value(&self.surge) + (1.0 - self.likely) * value(&self.usual)
    }
}
