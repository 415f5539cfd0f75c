//! An aim as people say it, `p95 wait < 50ms`: read strictly, so that it means one thing, and what is no goal is told with
//! the goal that was probably meant.

use std::{fmt, str::FromStr, time::Duration};

/// An aim as people say it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// The share of requests that may wait longer, as a fraction.
    pub share: f64,
    /// How long the others wait at the most; more than nothing.
    pub wait: Duration,
}

/// Why a text says no goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAGoal {
    /// Something else than `<`, or nothing, stands before the bound.
    #[error("is no goal: there is no `<` with a duration after it")]
    Bound,
    /// It is not said in the first place how many.
    #[error("is no goal: it does not begin with a percentile")]
    Percentile,
    /// So many would be hardly any, or all.
    #[error("has a percentile out of range")]
    Range,
    /// It is not about the wait.
    #[error("is no goal: `wait` does not stand between percentile and `<`")]
    Wait,
    /// The bound is no duration.
    #[error("has a bound that is no duration with its unit")]
    Duration,
    /// Nobody may wait at all.
    #[error("leaves no time to wait")]
    Nothing,
}

impl Goal {
    /// How a goal is written.
    pub const FORM: &str = "a percentile from p50 to p99.99 and a bound, as in \"p95 wait < 50ms\"";

    /// The goal that somebody probably meant who wrote this: `95% of waits <= 500` is `p95 wait < 500ms`.
    #[must_use]
    pub fn meant(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (left, right) = text.split_once(['<', '≤', '='])?;
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let number = left.split(|c| !is_number(c)).find_map(|number| number.parse::<f64>().ok())?;
        let percentile = if number < 1.0 { number * 100.0 } else { number };
        let bound = right.trim_start_matches(['<', '≤', '=', ' ']).trim();
        let bound = if bound.chars().all(is_number) { format!("{bound}ms") } else { bound.to_owned() };
        format!("p{percentile} wait < {bound}").parse().ok()
    }
}

impl FromStr for Goal {
    type Err = NotAGoal;

    fn from_str(text: &str) -> Result<Self, NotAGoal> {
        let (left, right) = text.split_once('<').ok_or(NotAGoal::Bound)?;
        let (percentile, word) = left.trim().split_once(' ').unwrap_or((left.trim(), ""));
        let percentile: f64 =
            percentile.strip_prefix('p').and_then(|n| n.parse().ok()).ok_or(NotAGoal::Percentile)?;
        if !(50.0..=99.99).contains(&percentile) {
            return Err(NotAGoal::Range);
        }
        if word.trim() != "wait" {
            return Err(NotAGoal::Wait);
        }
        let wait = humantime::parse_duration(right.trim()).map_err(|_| NotAGoal::Duration)?;
        if wait.is_zero() {
            return Err(NotAGoal::Nothing);
        }
        // Decimal places of a percentage, no more.
        let share = ((100.0 - percentile) * 1e6).round() / 1e8;
        Ok(Self { share, wait })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percentile = ((1.0 - self.share) * 1e8).round() / 1e6;
        write!(f, "p{percentile} wait < {}", humantime::format_duration(self.wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_a_percentile_and_a_bound() {
        let goal: Goal = "p95 wait < 50ms".parse().expect("a goal");
        assert!((goal.share - 0.05).abs() < 1e-9);
        assert_eq!(goal.wait, Duration::from_millis(50));
        assert!("p99.9  wait <1s".parse::<Goal>().is_ok());
        assert_eq!(
            Goal { share: 0.0025, wait: Duration::from_millis(1500) }.to_string(),
            "p99.75 wait < 1s 500ms"
        );
    }

    #[test]
    fn what_is_no_goal_is_told_why() {
        for (text, why) in [
            ("", NotAGoal::Bound),
            ("p95", NotAGoal::Bound),
            ("p95 wait > 50ms", NotAGoal::Bound),
            ("95 wait < 50ms", NotAGoal::Percentile),
            ("p40 wait < 1s", NotAGoal::Range),
            ("p100 wait < 1s", NotAGoal::Range),
            ("p95 < 50ms", NotAGoal::Wait),
            ("p95 cpu < 1s", NotAGoal::Wait),
            ("p95 wait < 50", NotAGoal::Duration),
            ("p95 wait <= 50ms", NotAGoal::Duration),
            ("p95 wait < 0ms", NotAGoal::Nothing),
        ] {
            assert_eq!(text.parse::<Goal>(), Err(why), "{text}");
        }
    }

    #[test]
    fn what_was_meant_is_guessed_where_it_is_plain() {
        let meant = |text| Goal::meant(text).map(|goal| goal.to_string());
        for text in [
            "p95 wait < 50",
            "p95 wait <= 50ms",
            "P95 wait < 50ms",
            "95% wait < 50ms",
            "0.95 < 50ms",
            "p95 < 50ms",
            "p95 << 50ms",
            "95th wait ≤ 50 ms",
            "p95 latency = 50ms",
        ] {
            assert_eq!(meant(text).as_deref(), Some("p95 wait < 50ms"), "{text}");
        }
        for text in [
            "",
            "fast",
            "p95 wait > 50ms",
            "p100 wait < 50ms",
            "p5 wait < 1s",
            "p95 wait < 0ms",
            "wait < soon",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }
}
