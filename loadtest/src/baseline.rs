//! A run against an earlier one: what has become worse by more than is tolerated. `[P]`

use std::time::Duration;

use crate::{
    record::Spread,
    report::{Report, human},
    threshold::Outcome,
};

/// The figures that are compared.
const FIGURES: [(&str, f64); 3] = [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)];
/// Differences below this are the clock's and the machine's.
const NOISE: Duration = Duration::from_micros(100);
/// More errors than so many of all requests are never tolerated.
const ERRORS: f64 = 0.001;

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
