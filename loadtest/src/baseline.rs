//! A run against an earlier one: what has become worse by more than is tolerated. `[P]`

use std::time::Duration;

use crate::{
    Pattern,
    record::Spread,
    report::{Mode, Report, human},
    threshold::Outcome,
};

/// The figures that are compared.
const FIGURES: [(&str, f64); 3] = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)];
/// Differences below this are the clock's and the machine's.
const NOISE: Duration = Duration::from_micros(100);
/// More errors than so many of all requests are never tolerated.
const ERRORS: f64 = 0.001;

/// An earlier run that says nothing about this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its generator could not keep up.
    #[error("that run is INVALID: its generator could not keep up")]
    Invalid,
    /// One is of users who wait.
    #[error("one of the runs is an open loop, the other a closed one")]
    Mode,
    /// It sent elsewhere.
    #[error("that run had other targets ({then}) than this one ({now})")]
    Targets {
        /// Its targets.
        then: String,
        /// Those of this run.
        now: String,
    },
}

/// Whether an earlier run can be compared with one that is to be made.
pub fn fits<'a>(
    baseline: &Report,
    pattern: &Pattern,
    targets: impl Iterator<Item = &'a str>,
) -> Result<(), Unfit> {
    let open = match pattern {
        Pattern::Open(_) => Mode::Open,
        Pattern::Closed(_) => Mode::Closed,
    };
    let mut now: Vec<&str> = targets.collect();
    let mut then: Vec<&str> = baseline.targets.iter().map(String::as_str).collect();
    now.sort_unstable();
    then.sort_unstable();
    if !baseline.kept_up {
        Err(Unfit::Invalid)
    } else if baseline.mode != open {
        Err(Unfit::Mode)
    } else if now != then {
        Err(Unfit::Targets { then: then.join(", "), now: now.join(", ") })
    } else {
        Ok(())
    }
}

/// Whether `report` is as good as `baseline`, but for the share `tolerance`; one outcome for each figure.
#[must_use]
pub fn check(report: &Report, baseline: &Report, tolerance: f64) -> Vec<Outcome> {
    let percent = tolerance * 100.0;
    let mut outcomes: Vec<Outcome> = FIGURES
        .iter()
        .map(|(name, quantile)| {
            let of = |spread: &Spread| spread.percentile(*quantile);
            let (now, then) = (of(&report.latency), of(&baseline.latency));
            Outcome {
                expression: format!("{name} within {percent}% of {}", shown(then)),
                found: shown(now),
                pass: match (now, then) {
                    (Some(now), Some(then)) => now <= then.mul_f64(1.0 + tolerance) + NOISE,
                    (None, Some(_)) => false,
                    (_, None) => true,
                },
            }
        })
        .collect();
    let (now, then) = (report.error_rate, baseline.error_rate);
    outcomes.push(Outcome {
        expression: format!("error_rate within {percent}% of {:.3}%", then * 100.0),
        found: format!("{:.3}%", now * 100.0),
        pass: now <= then * (1.0 + tolerance) + ERRORS,
    });
    outcomes
}

fn shown(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "no requests".to_owned(), human)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    fn failing(report: &Report, baseline: &Report, tolerance: f64) -> Vec<String> {
        let outcomes = check(report, baseline, tolerance);
        outcomes.into_iter().filter(|outcome| !outcome.pass).map(|outcome| outcome.expression).collect()
    }

    #[test]
    fn only_a_run_of_the_same_kind_is_a_baseline() {
        let plan: Pattern = crate::plan::Plan::even(1.0, Duration::from_secs(1)).expect("valid").into();
        let base = sample();
        let here = || base.targets.iter().map(String::as_str);
        assert_eq!(fits(&base, &plan, here()), Ok(()));
        let elsewhere = ["http://b.localhost/"];
        assert!(matches!(fits(&base, &plan, elsewhere.into_iter()), Err(Unfit::Targets { .. })));
        let closed = Report { mode: Mode::Closed, ..base.clone() };
        assert_eq!(fits(&closed, &plan, here()), Err(Unfit::Mode));
        let invalid = Report { kept_up: false, ..base.clone() };
        assert_eq!(fits(&invalid, &plan, here()), Err(Unfit::Invalid));
    }

    #[test]
    fn worse_is_worse_only_beyond_the_tolerance() {
        let (base, mut slower) = (sample(), sample());
        assert_eq!(failing(&base, &base, 0.0), Vec::<String>::new());
        slower.latency.clear();
        (1..=100).for_each(|ms| slower.latency.add(Duration::from_micros(1080 * ms)));
        assert_eq!(failing(&slower, &base, 0.10), Vec::<String>::new());
        let worse = failing(&slower, &base, 0.05);
        assert_eq!(worse, ["p50 within 5% of 50.0ms", "p95 within 5% of 95.0ms", "p99 within 5% of 99.0ms"]);
        assert_eq!(failing(&base, &slower, 0.0), Vec::<String>::new(), "better is always good");
        let failing_more = Report { error_rate: 0.05, ..base.clone() };
        assert_eq!(failing(&failing_more, &base, 0.10), ["error_rate within 10% of 1.000%"]);
    }
}
