//! Promises that a run must keep, as in `p99<50ms`, `error_rate<0.1%` or `rate>190`. `[P]`

use std::{str::FromStr, time::Duration};

use serde::Serialize;

use crate::report::{Report, human};

/// One promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    expression: String,
    metric: Metric,
    operator: Operator,
    /// Seconds, a share from 0 to 1, requests per second, or requests.
    limit: f64,
}

/// Whether a run kept it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// As the user wrote it.
    pub expression: String,
    /// The run's own value.
    pub found: String,
    /// Whether it was kept.
    pub pass: bool,
}

/// Not a threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No `<`, `<=`, `>` or `>=`.
    #[error("{0:?}: expected METRIC<VALUE or METRIC>VALUE, as in p99<50ms, error_rate<0.1% or rate>190")]
    Form(String),
    /// Not a metric.
    #[error(
        "{expression:?}: unknown metric {found:?}; expected pNN (as p50 or p99.9), min, mean, max, error_rate, errors or rate"
    )]
    Metric {
        /// The whole.
        expression: String,
        /// The part before the operator.
        found: String,
    },
    /// Not a value for that metric.
    #[error("{expression:?}: {found:?} is not a value here; expected {expected}")]
    Value {
        /// The whole.
        expression: String,
        /// The part after the operator.
        found: String,
        /// What would do.
        expected: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    Percentile(f64),
    Min,
    Mean,
    Max,
    ErrorRate,
    Errors,
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Threshold {
    /// Looks whether the run kept it. A latency without a single request keeps no promise.
    #[must_use]
    pub fn check(&self, report: &Report) -> Outcome {
        let value = self.metric.value(report);
        Outcome {
            expression: self.expression.clone(),
            found: value.map_or_else(|| "no requests".to_owned(), |value| self.metric.show(value)),
            pass: value.is_some_and(|value| self.operator.holds(value, self.limit)),
        }
    }
}

impl FromStr for Threshold {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let form = || Invalid::Form(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(form)?;
        let (metric, rest) = text.split_at(at);
        let (operator, value) = Operator::split(rest).ok_or_else(form)?;
        let (metric, value) = (metric.trim(), value.trim());
        if metric.is_empty() || value.is_empty() {
            return Err(form());
        }
        let unknown = || Invalid::Metric { expression: text.to_owned(), found: metric.to_owned() };
        let metric = Metric::parse(metric).ok_or_else(unknown)?;
        let limit = metric.limit(value).map_err(|expected| Invalid::Value {
            expression: text.to_owned(),
            found: value.to_owned(),
            expected,
        })?;
        Ok(Self { expression: text.trim().to_owned(), metric, operator, limit })
    }
}

impl Metric {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "min" => Some(Self::Min),
            "mean" => Some(Self::Mean),
            "max" => Some(Self::Max),
            "error_rate" => Some(Self::ErrorRate),
            "errors" => Some(Self::Errors),
            "rate" => Some(Self::Rate),
            _ => {
                let percent = number(text.strip_prefix('p')?)?;
                // p999 is refused rather than guessed at.
                (percent <= 100.0).then_some(Self::Percentile(percent))
            }
        }
    }

    fn limit(self, text: &str) -> Result<f64, &'static str> {
        match self {
            Self::Percentile(_) | Self::Min | Self::Mean | Self::Max => {
                seconds(text).ok_or("a time with its unit, as 500us, 50ms or 1.5s")
            }
            Self::ErrorRate => {
                share(text).filter(|share| *share <= 1.0).ok_or("a share, as 0.1% or 0.001, at most 100%")
            }
            Self::Errors => number(text).ok_or("a count, as 1"),
            Self::Rate => {
                number(text.strip_suffix("/s").unwrap_or(text)).ok_or("requests per second, as 190 or 190/s")
            }
        }
    }

    fn value(self, report: &Report) -> Option<f64> {
        let latency = &report.latency;
        let of = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        match self {
            Self::Percentile(percent) => of(latency.percentile(percent)),
            Self::Min => of(latency.min()),
            Self::Mean => of(latency.mean()),
            Self::Max => of(latency.max()),
            Self::ErrorRate => (report.requests > 0).then_some(report.error_rate),
            #[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
            Self::Errors => Some(report.errors.total() as f64),
            Self::Rate => Some(report.rate),
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Percentile(_) | Self::Min | Self::Mean | Self::Max => human(Duration::from_secs_f64(value)),
            Self::ErrorRate => format!("{:.3}%", value * 100.0),
            Self::Errors => format!("{value}"),
            Self::Rate => format!("{value:.1}/s"),
        }
    }
}

impl Operator {
    /// Takes the operator off the front.
    fn split(text: &str) -> Option<(Self, &str)> {
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below), (">", Self::Above)]
            .into_iter()
            .find_map(|(sign, operator)| Some((operator, text.strip_prefix(sign)?)))
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
        }
    }
}

/// Digits and one point; no sign, no exponent, no `inf`.
fn number(text: &str) -> Option<f64> {
    let digits = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    digits.then(|| text.parse().ok()).flatten()
}

fn seconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (value, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(number(value)? * factor)
}

fn share(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => Some(number(percent.trim())? / 100.0),
        None => number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn promises_kept_and_broken() {
        // Latencies 1 to 100 ms, one of 100 requests failed, 9.9 good per second.
        for (expression, pass, found) in [
            ("p99<99.5ms", true, "99.0ms"),
            ("p99<50ms", false, "99.0ms"),
            ("p50 <= 60ms", true, "50.0ms"),
            ("p99.9<1s", true, "100ms"),
            ("min<500us", false, "1.00ms"),
            ("mean>40ms", true, "50.5ms"),
            ("max<0.001m", false, "100ms"),
            ("error_rate<0.1%", false, "1.000%"),
            ("error_rate<=1%", true, "1.000%"),
            ("error_rate<0.011", true, "1.000%"),
            ("errors<1", false, "1"),
            ("rate>190", false, "9.9/s"),
            ("rate>=9.9/s", true, "9.9/s"),
        ] {
            let outcome = expression.parse::<Threshold>().expect(expression).check(&sample());
            assert_eq!((outcome.pass, outcome.found.as_str()), (pass, found), "{expression}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (expression, part) in [
            ("p99", "expected METRIC<VALUE"),
            ("", "expected METRIC<VALUE"),
            ("<5ms", "expected METRIC<VALUE"),
            ("p99<", "expected METRIC<VALUE"),
            ("p99=5ms", "expected METRIC<VALUE"),
            ("p999<5ms", "unknown metric \"p999\""),
            ("latency<5ms", "unknown metric \"latency\""),
            ("p<5ms", "unknown metric \"p\""),
            ("p99<5", "a time with its unit"),
            ("p99<5h", "a time with its unit"),
            ("p99<-5ms", "a time with its unit"),
            ("error_rate<5ms", "a share"),
            ("error_rate<200%", "at most 100%"),
            ("rate>fast", "requests per second"),
            ("errors<1e3", "a count"),
        ] {
            let error = expression.parse::<Threshold>().expect_err(expression).to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }
}
