//! What a law can do at best: of all settings tried, those that are beaten in cost and late requests by no other one and by no mixture of
//! two, and straight lines between them: who has one setting for a part of the time and another one for the rest gets what is on the
//! line. So the front is convex, and a further setting never makes it worse. Pure.

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
            if front.last().is_some_and(|last| point.1 >= last.1) {
                continue;
            }
            while let [.., before, last] = front[..]
                && is_above(last, before, point)
            {
                front.pop();
            }
            front.push(point);
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

/// Whether a point is on the line between two others, or above it.
fn is_above(point: (f64, f64), from: (f64, f64), to: (f64, f64)) -> bool {
    (point.1 - from.1) * (to.0 - from.0) >= (to.1 - from.1) * (point.0 - from.0)
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
    fn a_further_setting_never_makes_it_worse() {
        let all = [(100.0, 0.5), (110.0, 0.1), (115.0, 0.09), (130.0, 0.01), (90.0, 0.6), (120.0, 0.3)];
        for n in 0..all.len() {
            let (fewer, more) = (Front::of(all[..n].to_vec()), Front::of(all[..=n].to_vec()));
            for step in 0..=200 {
                let (cost, share) = (f64::from(step), f64::from(step) / 200.0);
                assert!(more.share_at(cost) <= fewer.share_at(cost) + 1e-9, "at {cost}, with {:?}", all[n]);
                let reached = fewer.share_at(f64::INFINITY) <= share;
                assert!(!reached || more.cost_at(share) <= fewer.cost_at(share) + 1e-9, "at {share}");
            }
        }
        let front = Front::of(all);
        assert_eq!(front.points(), [(0.0, 1.0), (110.0, 0.1), (130.0, 0.01)]);
    }

    #[test]
    fn ratios_are_numbers() {
        assert!((ratio(1.0, 2.0) - 0.5).abs() < 1e-9);
        assert!((ratio(0.0, 0.0) - 1.0).abs() < 1e-9);
        assert!(ratio(0.0, 2.0).abs() < 1e-9);
        assert!(ratio(2.0, 0.0) > 1.0);
    }
}
