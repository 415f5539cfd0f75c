//! Promises that a run must keep, as in `p99<50ms`, `cold.p95<1.5s`, `slo(200ms)>=99%` or `error_rate<0.1%`. `[P]`

use std::{fmt, str::FromStr, time::Duration};

use serde::Serialize;

use crate::{
    overlay::{Overlay, Summary},
    record::Spread,
    report::{Report, human, precise},
};

/// One promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    expression: String,
    scope: Scope,
    metric: Metric,
    operator: Operator,
    /// Seconds, a share from 0 to 1, requests per second, or a count.
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
        "{expression:?}: unknown metric {found:?}; expected pNN (as p50 or p99.9), min, mean or max, each also behind \
         cold., warm., service., lag., phase1. and so on or target(NAME).; or slo(TIME), error_rate, errors, unsent, rate or cold_requests; where a gateway is \
         looked at, replica_seconds, peak_replicas, first_ready, overshoot or flaps"
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

/// Which times of which requests.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    All,
    Cold,
    Warm,
    Service,
    Lag,
    /// From 1.
    Phase(usize),
    /// By its name.
    Target(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    Percentile(f64),
    Min,
    Mean,
    Max,
    /// The share of requests that were answered without an error within so long.
    Slo(Duration),
    ErrorRate,
    Errors,
    Unsent,
    Rate,
    ColdRequests,
    Replicas(Replicas),
}

/// What the server's side did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replicas {
    Seconds,
    Peak,
    FirstReady,
    Overshoot,
    Flaps,
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
        let value = self.metric.value(&self.scope, report);
        Outcome {
            expression: self.expression.clone(),
            pass: value.as_ref().is_ok_and(|value| self.operator.holds(*value, self.limit)),
            found: value.map_or_else(|unknown| unknown, |value| self.metric.show(value)),
        }
    }

    /// The target whose times are promised, if it is about one.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match &self.scope {
            Scope::Target(name) => Some(name),
            Scope::All | Scope::Cold | Scope::Warm | Scope::Service | Scope::Lag | Scope::Phase(_) => None,
        }
    }

    /// The phase whose times are promised, from 1, if it is about one.
    #[must_use]
    pub fn phase(&self) -> Option<usize> {
        match self.scope {
            Scope::Phase(number) => Some(number),
            Scope::All | Scope::Cold | Scope::Warm | Scope::Service | Scope::Lag | Scope::Target(_) => None,
        }
    }

    /// Whether it is about replicas, which somebody has to look at.
    #[must_use]
    pub fn is_about_replicas(&self) -> bool {
        matches!(self.metric, Metric::Replicas(_))
    }

    /// The time of a promise about a service level.
    #[must_use]
    pub fn slo(&self) -> Option<Duration> {
        match self.metric {
            Metric::Slo(limit) => Some(limit),
            _ => None,
        }
    }
}

/// As the user wrote it.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)
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
        let (scope, metric) = parse(metric).ok_or_else(unknown)?;
        let limit = metric.limit(value).map_err(|expected| Invalid::Value {
            expression: text.to_owned(),
            found: value.to_owned(),
            expected,
        })?;
        Ok(Self { expression: text.trim().to_owned(), scope, metric, operator, limit })
    }
}

/// A metric, and what it is of.
fn parse(text: &str) -> Option<(Scope, Metric)> {
    if let Some(metric) = Metric::parse(text) {
        return Some((Scope::All, metric));
    }
    if let Some((target, metric)) = text.strip_prefix("target(").and_then(|rest| rest.rsplit_once(").")) {
        let time = Metric::parse(metric).filter(Metric::is_time)?;
        return Some((Scope::Target(target.to_owned()), time));
    }
    let (scope, metric) = text.split_once('.')?;
    let scope = match scope {
        "cold" => Scope::Cold,
        "warm" => Scope::Warm,
        "service" => Scope::Service,
        "lag" => Scope::Lag,
        _ => Scope::Phase(scope.strip_prefix("phase")?.parse().ok().filter(|number| *number > 0)?),
    };
    // Only times are kept apart.
    Metric::parse(metric).filter(Metric::is_time).map(|metric| (scope, metric))
}

impl Scope {
    fn spread(&self, report: &Report) -> Spread {
        match self {
            Self::All => report.latency.clone(),
            Self::Cold => report.spread(|cell| &cell.response, |key| key.cold),
            Self::Warm => report.spread(|cell| &cell.response, |key| !key.cold),
            Self::Service => report.service_time.clone(),
            Self::Lag => report.lag.clone(),
            Self::Phase(number) => report.spread(|cell| &cell.response, |key| key.phase + 1 == *number),
            Self::Target(name) => match report.targets.iter().position(|target| target == name) {
                None => Spread::default(),
                // One alone is not counted apart.
                Some(target) => {
                    report.counts.targets.get(target).map_or(&report.latency, |one| &one.latency).clone()
                }
            },
        }
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
            "unsent" => Some(Self::Unsent),
            "rate" => Some(Self::Rate),
            "cold_requests" => Some(Self::ColdRequests),
            "replica_seconds" => Some(Self::Replicas(Replicas::Seconds)),
            "peak_replicas" => Some(Self::Replicas(Replicas::Peak)),
            "first_ready" => Some(Self::Replicas(Replicas::FirstReady)),
            "overshoot" => Some(Self::Replicas(Replicas::Overshoot)),
            "flaps" => Some(Self::Replicas(Replicas::Flaps)),
            _ => match text.strip_prefix("slo(").and_then(|rest| rest.strip_suffix(')')) {
                Some(limit) => Some(Self::Slo(Duration::try_from_secs_f64(seconds(limit.trim())?).ok()?)),
                None => {
                    let percent = number(text.strip_prefix('p')?)?;
                    // p999 is refused rather than guessed at.
                    (percent <= 100.0).then_some(Self::Percentile(percent))
                }
            },
        }
    }

    fn is_time(&self) -> bool {
        match self {
            Self::Percentile(_) | Self::Min | Self::Mean | Self::Max => true,
            Self::Slo(_)
            | Self::ErrorRate
            | Self::Errors
            | Self::Unsent
            | Self::Rate
            | Self::ColdRequests
            | Self::Replicas(_) => false,
        }
    }

    fn limit(self, text: &str) -> Result<f64, &'static str> {
        match self {
            Self::Percentile(_) | Self::Min | Self::Mean | Self::Max => {
                seconds(text).ok_or("a time with its unit, as 500us, 50ms or 1.5s")
            }
            Self::ErrorRate | Self::Slo(_) => {
                share(text).filter(|share| *share <= 1.0).ok_or("a share, as 0.1% or 0.001, at most 100%")
            }
            Self::Replicas(Replicas::FirstReady) => {
                seconds(text).ok_or("a time with its unit, as 500us, 50ms or 1.5s")
            }
            Self::Errors | Self::Unsent | Self::ColdRequests | Self::Replicas(_) => {
                number(text).ok_or("a count, as 1")
            }
            Self::Rate => {
                number(text.strip_suffix("/s").unwrap_or(text)).ok_or("requests per second, as 190 or 190/s")
            }
        }
    }

    /// The value, or why there is none.
    fn value(self, scope: &Scope, report: &Report) -> Result<f64, String> {
        match self {
            Self::Replicas(figure) => figure.of(report),
            _ => self.of_requests(scope, report).ok_or_else(|| "no requests".to_owned()),
        }
    }

    fn of_requests(self, scope: &Scope, report: &Report) -> Option<f64> {
        let time = |figure: fn(&Spread) -> Option<Duration>| {
            figure(&scope.spread(report)).map(|time| time.as_secs_f64())
        };
        match self {
            Self::Percentile(percent) => {
                scope.spread(report).percentile(percent).map(|time| time.as_secs_f64())
            }
            Self::Min => time(Spread::min),
            Self::Mean => time(Spread::mean),
            Self::Max => time(Spread::max),
            Self::Slo(limit) => report.counts.within(limit),
            Self::ErrorRate => (report.requests > 0).then_some(report.error_rate),
            Self::Errors => Some(precise(report.counts.errors.total())),
            Self::Unsent => Some(precise(report.counts.errors.unsent)),
            Self::Rate => Some(report.rate),
            Self::Replicas(_) => None,
            Self::ColdRequests => {
                let cold = report.counts.cells.iter().filter(|(key, _)| key.cold);
                Some(precise(cold.map(|(_, cell)| cell.response.count()).sum()))
            }
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Percentile(_) | Self::Min | Self::Mean | Self::Max => human(Duration::from_secs_f64(value)),
            Self::ErrorRate | Self::Slo(_) => format!("{:.3}%", value * 100.0),
            Self::Replicas(Replicas::FirstReady) => human(Duration::from_secs_f64(value)),
            Self::Replicas(Replicas::Seconds) => format!("{value:.1}"),
            Self::Errors | Self::Unsent | Self::ColdRequests | Self::Replicas(_) => format!("{value}"),
            Self::Rate => format!("{value:.1}/s"),
        }
    }
}

impl Replicas {
    /// The value, or why there is none: of what was seen in part nobody knows how the rest was.
    fn of(self, report: &Report) -> Result<f64, String> {
        let seen = report.overlay.as_ref().filter(|seen| !seen.looks.is_empty());
        let seen = seen.ok_or_else(|| "nobody looked".to_owned())?;
        if seen.is_partial() {
            let Overlay { unseen, until, .. } = seen;
            return Err(format!("not seen for {unseen:.1}s of {until:.1}s: the gateway did not answer"));
        }
        let summary = report.replicas().unwrap_or_default();
        self.value(&summary).ok_or_else(|| "never ready".to_owned())
    }

    fn value(self, summary: &Summary) -> Option<f64> {
        match self {
            Self::Seconds => Some(summary.replica_seconds),
            Self::Peak => Some(f64::from(summary.peak)),
            Self::FirstReady => summary.first_ready.seconds(),
            Self::Overshoot => Some(f64::from(summary.overshoot)),
            Self::Flaps => Some(f64::from(summary.flaps)),
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
    use crate::{
        overlay::{Look, Overlay},
        record::TargetCount,
        report::tests::sample,
    };

    #[test]
    fn promises_kept_and_broken() {
        // Response times 1 to 100 ms, the first five cold; one of 100 requests failed, 9.9 good per second.
        for (expression, pass, found) in [
            ("p99<99.5ms", true, "99.0ms"),
            ("p99<50ms", false, "99.0ms"),
            ("p50 <= 60ms", true, "50.0ms"),
            ("p99.9<1s", true, "100ms"),
            ("min<500us", false, "1.00ms"),
            ("mean>40ms", true, "50.5ms"),
            ("max<0.001m", false, "100ms"),
            ("cold.p100<5.1ms", true, "5.00ms"),
            ("warm.min>5.5ms", true, "6.00ms"),
            ("service.max<1.1ms", true, "1.00ms"),
            ("lag.p50<1ms", false, "49.0ms"),
            ("phase1.p99.9<1s", true, "100ms"),
            ("phase2.p50<1s", false, "no requests"),
            ("target(http://a.localhost/).p99.9<1s", true, "100ms"),
            ("target(http://b.localhost/).p99.9<1s", false, "no requests"),
            ("slo(50ms)>=99%", false, "50.000%"),
            ("slo(200ms) >= 0.99", true, "99.000%"),
            ("error_rate<0.1%", false, "1.000%"),
            ("error_rate<=1%", true, "1.000%"),
            ("error_rate<0.011", true, "1.000%"),
            ("errors<1", false, "1"),
            ("unsent<1", true, "0"),
            ("cold_requests<=5", true, "5"),
            ("rate>190", false, "9.9/s"),
            ("rate>=9.9/s", true, "9.9/s"),
        ] {
            let outcome = expression.parse::<Threshold>().expect(expression).check(&sample());
            assert_eq!((outcome.pass, outcome.found.as_str()), (pass, found), "{expression}");
        }
    }

    #[test]
    fn promises_about_one_of_several_targets() {
        let mut report = sample();
        report.targets = vec!["quiet".to_owned(), "noisy".to_owned()];
        report.counts.targets = [5, 50]
            .map(|ms| {
                let mut latency = Spread::default();
                latency.add(Duration::from_millis(ms));
                TargetCount { latency, ..TargetCount::default() }
            })
            .to_vec();
        for (expression, pass) in [("target(quiet).p99<10ms", true), ("target(noisy).p99<10ms", false)] {
            let promise = expression.parse::<Threshold>().expect(expression);
            assert_eq!(promise.check(&report).pass, pass, "{expression}");
            assert!(expression.contains(promise.target().expect("its name")));
        }
    }

    #[test]
    fn promises_about_replicas() {
        let mut report = sample();
        let check = |report: &Report, expression: &str| {
            let outcome = expression.parse::<Threshold>().expect(expression).check(report);
            (outcome.pass, outcome.found)
        };
        assert_eq!(check(&report, "replica_seconds<900"), (false, "nobody looked".to_owned()));
        report.overlay =
            Some(seen(20, |at| if at < 1.5 { (0, 1) } else { (if at < 10.0 { 1 } else { 2 }, 2) }));
        for (expression, pass, found) in [
            ("replica_seconds<28.6", true, "28.5"),
            ("peak_replicas<=1", false, "2"),
            ("first_ready<2s", true, "1.50s"),
            ("overshoot<1", true, "0"),
            ("flaps<1", true, "0"),
        ] {
            assert_eq!(check(&report, expression), (pass, found.to_owned()), "{expression}");
        }
        report.overlay = Some(seen(20, |_| (0, 1)));
        assert_eq!(check(&report, "first_ready<2s"), (false, "never ready".to_owned()));
        let mut lost = seen(10, |_| (1, 1));
        lost.end(60.0);
        report.overlay = Some(lost);
        for expression in
            ["replica_seconds<900", "peak_replicas<=1", "first_ready<2s", "flaps<1", "overshoot<1"]
        {
            let (pass, found) = check(&report, expression);
            assert!(!pass && found.starts_with("not seen for 50.0s of 60.0s"), "{expression}: {found}");
        }
    }

    /// A service that was looked at twice a second for so many seconds; tells ready and wanted replicas.
    fn seen(seconds: u32, state: impl Fn(f64) -> (u32, u32)) -> Overlay {
        let mut seen = Overlay::new("api");
        for at in (0..=2 * seconds).map(|half| f64::from(half) / 2.0) {
            let (ready, want) = state(at);
            seen.look(Look { at, ready, want, ..Look::default() });
        }
        seen
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
            ("hot.p99<5ms", "unknown metric \"hot.p99\""),
            ("phase0.p99<5ms", "unknown metric \"phase0.p99\""),
            ("target(a).rate>5", "unknown metric \"target(a).rate\""),
            ("target(a)>5", "unknown metric"),
            ("cold.rate>5", "unknown metric \"cold.rate\""),
            ("slo(5)>99%", "unknown metric \"slo(5)\""),
            ("p99<5", "a time with its unit"),
            ("p99<5h", "a time with its unit"),
            ("p99<-5ms", "a time with its unit"),
            ("error_rate<5ms", "a share"),
            ("slo(5ms)>101%", "at most 100%"),
            ("error_rate<200%", "at most 100%"),
            ("rate>fast", "requests per second"),
            ("errors<1e3", "a count"),
        ] {
            let error = expression.parse::<Threshold>().expect_err(expression).to_string();
            assert!(error.contains(part), "{expression}: {error}");
        }
    }
}
