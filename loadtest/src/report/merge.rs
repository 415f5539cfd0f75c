//! Reports of generators that ran at the same time, as one. `[P]`

use super::{PLANNED_POINTS, PhaseReport, Report, per, precise};

/// Reports that do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Apart {
    /// One is of users who wait.
    #[error("one is of an open loop, the other of a closed one")]
    Mode,
    /// They sent elsewhere.
    #[error("they have not the same targets: {0}, and {1}")]
    Targets(String, String),
    /// Their plans have parts that do not begin and end together.
    #[error("their plans have not the same phases: {0} and {1} of them, or at other times")]
    Phases(usize, usize),
    /// One had ended when the other began.
    #[error("they did not run at the same time: one had ended when the other began")]
    Time,
}

impl Report {
    /// Adds a run of another generator at the same time to the same targets: rates and counts add up. Plans of one phase
    /// may differ in length, those of several have to have them at the same times.
    pub fn merge(&mut self, other: &Self) -> Result<(), Apart> {
        let order = self.belongs(other)?;
        let mut counts = other.counts.clone();
        if !counts.targets.is_empty() {
            counts.targets = order.into_iter().map(|at| other.counts.targets[at].clone()).collect();
        }
        self.counts.merge(&counts);
        self.merge_plan(other);
        self.started = self.started.min(other.started);
        if self.overlay.is_none() {
            self.overlay.clone_from(&other.overlay);
        }
        self.stopped |= other.stopped;
        self.pace.merge(&other.pace);
        self.elapsed = self.pace.elapsed;
        self.requests += other.requests;
        let errors = self.counts.errors.total();
        self.rate = per(self.requests - errors, self.elapsed.as_secs_f64());
        self.error_rate = per(errors, precise(self.requests));
        self.connections += other.connections;
        self.stale += other.stale;
        self.latency.merge(&other.latency);
        self.service_time.merge(&other.service_time);
        self.lag.merge(&other.lag);
        self.kept_up = self.kept_up && other.kept_up;
        Ok(())
    }

    /// Whether they can be one; tells where the other has each of our targets.
    fn belongs(&self, other: &Self) -> Result<Vec<usize>, Apart> {
        if self.mode != other.mode {
            return Err(Apart::Mode);
        }
        let apart = || Apart::Targets(self.targets.join(", "), other.targets.join(", "));
        let order = order(&self.targets, &other.targets).ok_or_else(apart)?;
        let (ours, theirs) = (self.phases.len(), other.phases.len());
        let times =
            |phases: &[PhaseReport]| phases.iter().map(|phase| (phase.begin, phase.end)).collect::<Vec<_>>();
        if (ours, theirs) != (1, 1) && times(&self.phases) != times(&other.phases) {
            return Err(Apart::Phases(ours, theirs));
        }
        // Begins are noted in whole seconds.
        let end = |report: &Self| report.started + report.elapsed.as_secs() + 1;
        let noted = self.started > 0 && other.started > 0;
        if noted && self.started.max(other.started) > end(self).min(end(other)) {
            return Err(Apart::Time);
        }
        Ok(order)
    }

    /// One plan of both: rates add up by time.
    fn merge_plan(&mut self, other: &Self) {
        let longer = self.duration.max(other.duration);
        let requests = |report: &Self| report.planned_rate * report.duration.as_secs_f64();
        let planned = requests(self) + requests(other);
        self.planned_rate = if longer.is_zero() { 0.0 } else { planned / longer.as_secs_f64() };
        if !(self.planned.is_empty() && other.planned.is_empty()) {
            let step = longer.as_secs_f64() / f64::from(PLANNED_POINTS);
            let at = |point: u32| (f64::from(point) + 0.5) * step;
            let both =
                |at: f64| self.planned_at(at).unwrap_or_default() + other.planned_at(at).unwrap_or_default();
            self.planned = (0..PLANNED_POINTS).map(|point| both(at(point))).collect();
        }
        for (ours, theirs) in self.phases.iter_mut().zip(&other.phases) {
            if ours.name != theirs.name {
                ours.name = format!("{} + {}", ours.name, theirs.name);
            }
            ours.end = ours.end.max(theirs.end);
        }
        self.duration = longer;
    }
}

/// Where `theirs` has each of `ours`, if both have the same.
fn order(ours: &[String], theirs: &[String]) -> Option<Vec<usize>> {
    let mut left: Vec<Option<&String>> = theirs.iter().map(Some).collect();
    let mut place = |name: &String| {
        let at = left.iter().position(|other| *other == Some(name))?;
        left[at] = None;
        Some(at)
    };
    let order: Vec<usize> = ours.iter().map(&mut place).collect::<Option<_>>()?;
    (ours.len() == theirs.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Mode,
            tests::{MS, sample},
        },
        *,
    };
    use crate::record::{Spread, TargetCount};

    #[test]
    fn two_generators_together() {
        let mut both = sample();
        both.merge(&sample()).expect("the same load");
        assert_eq!((both.requests, both.counts.errors.reset, both.connections), (200, 2, 8));
        assert_eq!((both.planned_rate, both.error_rate, both.rate), (20.0, 0.01, 19.8));
        assert_eq!(both.latency.percentile(50.0), sample().latency.percentile(50.0));
        assert_eq!(both.latency.count(), 200);
        assert!((both.planned[0] - 20.0).abs() < 1e-9);
    }

    #[test]
    fn targets_are_matched_by_name_and_rates_by_time() {
        let with = |targets: [(&str, u32); 2]| {
            let mut report = sample();
            report.targets = targets.map(|(name, _)| name.to_owned()).to_vec();
            let count = |(_, ms): (&str, u32)| {
                let mut latency = Spread::default();
                latency.add(ms * MS);
                TargetCount { latency, ..TargetCount::default() }
            };
            report.counts.targets = targets.map(count).to_vec();
            report
        };
        let (mut ours, mut theirs) = (with([("a", 5), ("b", 50)]), with([("b", 60), ("a", 6)]));
        theirs.duration *= 2;
        theirs.phases[0].end *= 2.0;
        ours.merge(&theirs).expect("the same targets");
        let longest =
            ours.counts.targets.iter().map(|target| target.latency.max().map(|max| max.as_millis()));
        assert_eq!(longest.collect::<Vec<_>>(), [Some(6), Some(60)]);
        assert_eq!((ours.planned_at(9.9), ours.planned_at(10.1)), (Some(20.0), Some(10.0)));
        assert_eq!((ours.planned_rate, ours.phases[0].end), (15.0, 20.0));
    }

    #[test]
    fn what_does_not_belong_together() {
        let base = || Report { started: 1000, ..sample() };
        let mut phases = base();
        phases.phases.push(phases.phases[0].clone());
        for (other, expected) in [
            (Report { mode: Mode::Closed, ..base() }, Err(Apart::Mode)),
            (
                Report { targets: vec!["x".to_owned()], ..base() },
                Err(Apart::Targets("http://a.localhost/".to_owned(), "x".to_owned())),
            ),
            (phases, Err(Apart::Phases(1, 2))),
            (Report { started: 1012, ..base() }, Err(Apart::Time)),
            (Report { started: 988, ..base() }, Err(Apart::Time)),
            (Report { started: 1005, ..base() }, Ok(())),
            (Report { started: 0, ..base() }, Ok(())),
        ] {
            assert_eq!(base().merge(&other), expected);
        }
    }
}
