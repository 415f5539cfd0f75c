//! The highest want of the recent past, by which laws let go slowly: a monotonic queue, newest (and lowest) last.
//! What counts as past is the law's to say.

use std::collections::VecDeque;

use tidegate_config::units::Count;

/// Wants with their times, which are instants or anything else that only grows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Highest<T>(VecDeque<(T, Count)>);

impl<T> Default for Highest<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Copy + PartialEq> Highest<T> {
    /// Notes a want and tells the highest that is not past.
    pub(crate) fn note(&mut self, at: T, want: Count, is_past: impl Fn(T) -> bool) -> Count {
        while self.0.back().is_some_and(|(_, older)| *older <= want) {
            self.0.pop_back();
        }
        while self.0.front().is_some_and(|(at, _)| is_past(*at)) {
            self.0.pop_front();
        }
        // A lower want at a time that has one already says nothing: the time keeps its maximum.
        if self.0.back().is_none_or(|(newest, _)| *newest != at) {
            self.0.push_back((at, want));
        }
        self.0.front().map_or(want, |(_, highest)| *highest)
    }
}
