//! What a law can do at best: of all settings tried, those that no other one beats in both cost and late requests, and
//! straight lines between them. Pure.

/// Costs in replica-seconds and shares of late requests, cheapest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Front(Vec<(f64, f64)>);

impl Front {
    /// The front of these `(cost, share)`. Doing nothing costs nothing, and all are late: that is always to be had.
    #[must_use]
    pub fn of(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut all: Vec<(f64, f64)> = points.into_iter().chain([(0.0, 1.0)]).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut front: Vec<(f64, f64)> = Vec::new();
        for point in all {
            if front.last().is_none_or(|last| point.1 < last.1) {
                front.push(point);
            }
        }
        Self(front)
    }

    /// Its points.
    #[must_use]
    pub fn points(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// The share of late requests at this cost.
    #[must_use]
    pub fn share_at(&self, cost: f64) -> f64 {
        let next = self.0.partition_point(|point| point.0 <= cost);
        let before = self.0[next.saturating_sub(1)];
        let Some(after) = self.0.get(next) else { return before.1 };
        before.1 + (after.1 - before.1) * (cost - before.0) / (after.0 - before.0)
    }

    /// The cost of this share; where it is never reached, as much more than the dearest setting as that one is late more.
    #[must_use]
    pub fn cost_at(&self, share: f64) -> f64 {
        let next = self.0.partition_point(|point| point.1 > share);
        let Some(after) = self.0.get(next) else {
            let (cost, least) = self.0[self.0.len() - 1];
            return cost * if share > 0.0 { least / share } else { 1000.0 };
        };
        let Some(before) = next.checked_sub(1).map(|at| self.0[at]) else { return after.0 };
        before.0 + (after.0 - before.0) * (before.1 - share) / (before.1 - after.1)
    }
}

/// One over the other; nothing over nothing is 1, something over nothing a thousand.
#[must_use]
pub fn ratio(ours: f64, theirs: f64) -> f64 {
    match (ours > 0.0, theirs > 0.0) {
        (_, true) => ours / theirs,
        (false, false) => 1.0,
        (true, false) => 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_is_what_nothing_beats() {
        let front = Front::of([(100.0, 0.2), (200.0, 0.1), (150.0, 0.3), (300.0, 0.1)]);
        assert_eq!(front.points(), [(0.0, 1.0), (100.0, 0.2), (200.0, 0.1)]);
        for (cost, share) in [(0.0, 1.0), (50.0, 0.6), (150.0, 0.15), (999.0, 0.1)] {
            assert!((front.share_at(cost) - share).abs() < 1e-9, "at {cost}");
        }
        for (share, cost) in [(1.0, 0.0), (0.6, 50.0), (0.15, 150.0), (0.1, 200.0), (0.05, 400.0)] {
            assert!((front.cost_at(share) - cost).abs() < 1e-9, "at {share}");
        }
    }

    #[test]
    fn ratios_are_numbers() {
        assert!((ratio(1.0, 2.0) - 0.5).abs() < 1e-9);
        assert!((ratio(0.0, 0.0) - 1.0).abs() < 1e-9);
        assert!(ratio(0.0, 2.0).abs() < 1e-9);
        assert!(ratio(2.0, 0.0) > 1.0);
    }
}
