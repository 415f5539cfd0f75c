//! Figures of the last second, for those who watch.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::record::Spread;

pub(crate) const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);
/// Snapshots that the moving figures look back on: one second.
const SNAPSHOTS_BACK: usize = 4;

/// Latencies since each of the last few snapshots.
#[derive(Debug)]
pub(crate) struct Recent {
    windows: VecDeque<(Instant, Spread)>,
}

impl Recent {
    pub(crate) fn new(start: Instant) -> Self {
        Self { windows: VecDeque::from([(start, Spread::default())]) }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        if let Some((_, window)) = self.windows.back_mut() {
            window.add(latency);
        }
    }

    /// Rate and latencies of what is kept; then begins the next window.
    pub(crate) fn turn(&mut self, now: Instant) -> (f64, Spread) {
        let mut all = Spread::default();
        self.windows.iter().for_each(|(_, window)| all.merge(window));
        let since = self.windows.front().map_or(now, |(since, _)| *since);
        let seconds = (now - since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of one second")]
        let rate = if seconds > 0.0 { all.count() as f64 / seconds } else { 0.0 };
        let mut next = match self.windows.len() {
            SNAPSHOTS_BACK.. => self.windows.pop_front().map(|(_, window)| window).unwrap_or_default(),
            _ => Spread::default(),
        };
        next.clear();
        self.windows.push_back((now, next));
        (rate, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_figures_look_one_second_back() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        let mut rates = Vec::new();
        for quarter in 1..=8_u32 {
            let count = if quarter <= 4 { 10 } else { 0 };
            (0..count).for_each(|_| recent.add(Duration::from_millis(1)));
            rates.push(recent.turn(start + SNAPSHOT_EVERY * quarter).0.round());
        }
        assert_eq!(rates, [40.0, 40.0, 40.0, 40.0, 30.0, 20.0, 10.0, 0.0]);
    }
}
