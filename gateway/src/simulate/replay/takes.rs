//! How long things take: always the same, as was measured, or drawn from a lognormal distribution, which is what times of
//! services and of starts mostly look like.

use std::{sync::Arc, time::Duration};

use crate::simulate::chance::Chance;

/// A model of how long something takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Takes {
    /// Always this.
    Always(Duration),
    /// Lognormal: the logarithm of the seconds has this mean and deviation.
    Lognormal {
        /// Mean of the logarithm.
        mu: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// One of these, each as likely; there is at least one.
    Measured(Arc<[Duration]>),
}

impl Takes {
    /// Lognormal with this mean and coefficient of variation (standard deviation over mean).
    #[must_use]
    pub fn with_mean(mean: Duration, cv: f64) -> Self {
        if cv <= 0.0 || mean.is_zero() {
            return Self::Always(mean);
        }
        let variance = (1.0 + cv * cv).ln();
        Self::Lognormal { mu: mean.as_secs_f64().ln() - variance / 2.0, sigma: variance.sqrt() }
    }

    /// Lognormal with this median and deviation of the logarithm.
    #[must_use]
    pub fn with_median(median: Duration, sigma: f64) -> Self {
        if sigma <= 0.0 || median.is_zero() {
            return Self::Always(median);
        }
        Self::Lognormal { mu: median.as_secs_f64().ln(), sigma }
    }

    /// On average.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a length in memory")]
    pub fn mean(&self) -> Duration {
        match self {
            Self::Always(always) => *always,
            Self::Lognormal { mu, sigma } => seconds((mu + sigma * sigma / 2.0).exp()),
            Self::Measured(times) => times.iter().sum::<Duration>().div_f64(times.len() as f64),
        }
    }

    /// One draw.
    pub fn draw(&self, chance: &mut Chance) -> Duration {
        match self {
            Self::Always(always) => *always,
            Self::Lognormal { mu, sigma } => seconds((mu + sigma * chance.normal()).exp()),
            Self::Measured(times) => times[usize::try_from(chance.below(times.len() as u64)).unwrap_or(0)],
        }
    }
}

/// Saturates at a year.
fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 31_536_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_spread_that_were_asked_for() {
        let takes = Takes::with_mean(Duration::from_millis(200), 1.0);
        let mut chance = Chance::new(1);
        let draws: Vec<f64> = (0..200_000).map(|_| takes.draw(&mut chance).as_secs_f64()).collect();
        let mean = draws.iter().sum::<f64>() / 200_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 200_000.0;
        assert!((mean - 0.2).abs() < 0.002, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{variance}");
        assert!((takes.mean().as_secs_f64() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn what_was_measured_is_drawn_again_each_as_likely() {
        let times: Arc<[Duration]> = [1, 2, 6].map(Duration::from_secs).into();
        let takes = Takes::Measured(Arc::clone(&times));
        let mut chance = Chance::new(3);
        let draws: Vec<Duration> = (0..3000).map(|_| takes.draw(&mut chance)).collect();
        for time in times.iter() {
            let drawn = draws.iter().filter(|draw| *draw == time).count();
            assert!((900..1100).contains(&drawn), "{time:?}: {drawn}");
        }
        assert_eq!(takes.mean(), Duration::from_secs(3));
    }

    #[test]
    fn half_of_the_draws_are_below_the_median() {
        let takes = Takes::with_median(Duration::from_secs(2), 0.5);
        let mut chance = Chance::new(2);
        let below = (0..100_000).filter(|_| takes.draw(&mut chance) < Duration::from_secs(2)).count();
        assert!((49_000..51_000).contains(&below), "{below}");
    }

    #[test]
    fn without_spread_it_is_always_the_same() {
        for takes in
            [Takes::with_mean(Duration::from_secs(3), 0.0), Takes::with_median(Duration::from_secs(3), 0.0)]
        {
            assert_eq!(takes, Takes::Always(Duration::from_secs(3)));
        }
    }
}
