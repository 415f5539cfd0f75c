//! How requests are spread within their rate. `[P]`
//! Each process is one of rate 1 in a time of its own, in which the shape's requests are counted; the shape turns that
//! into seconds. So Poisson arrivals under any shape are what statistics call an inhomogeneous Poisson process.

use std::{fmt, str::FromStr};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Exp1, Gamma};

use super::ROUNDING;

/// How requests are spread within their rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Process {
    /// Equal gaps; the first request goes out at once.
    Uniform,
    /// Exponential gaps, as of many independent users.
    Poisson,
    /// Gamma gaps.
    Gamma {
        /// Coefficient of variation: standard deviation by mean. Below 1 steadier than Poisson, above 1 more in bunches.
        cv: f64,
    },
    /// Several at one instant, then none until the rate has made up for them.
    Burst {
        /// How many.
        size: u32,
    },
    /// As many as the shape says in each of its segments and in each bin of a recording, at random instants.
    Scatter,
}

impl Process {
    /// Requests to expect of a shape that holds `mass`.
    pub(crate) fn count(self, mass: f64) -> u64 {
        match self {
            Self::Uniform => whole((mass - ROUNDING).ceil()),
            Self::Poisson | Self::Gamma { .. } => whole(mass.round()),
            Self::Burst { size } => whole(((mass - ROUNDING) / f64::from(size)).ceil() * f64::from(size)),
            Self::Scatter => scattered(mass),
        }
    }
}

fn whole(mass: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are checked")]
    let count = mass.max(0.0) as u64;
    count
}

/// Scattered requests in the first `mass` of a shape: what is less than one waits for the rest of it.
fn scattered(mass: f64) -> u64 {
    whole(mass + ROUNDING)
}

impl FromStr for Process {
    type Err = String;

    /// `uniform`, `poisson`, `scatter`, `gamma(CV)` or `burst(N)`.
    fn from_str(text: &str) -> Result<Self, String> {
        let argument =
            |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')').map(str::trim);
        let wrong = |what: &str| Err(format!("{text:?}: expected {what}"));
        match text.trim() {
            "uniform" => Ok(Self::Uniform),
            "poisson" => Ok(Self::Poisson),
            "scatter" => Ok(Self::Scatter),
            _ if argument("gamma").is_some() => match argument("gamma").and_then(|cv| cv.parse::<f64>().ok())
            {
                Some(cv) if (0.01..=100.0).contains(&cv) => Ok(Self::Gamma { cv }),
                _ => wrong("a coefficient of variation from 0.01 to 100, as in gamma(2)"),
            },
            _ if argument("burst").is_some() => match argument("burst").and_then(|size| size.parse().ok()) {
                Some(size @ 1..=1_000_000) => Ok(Self::Burst { size }),
                _ => wrong("a number of requests from 1 to 1000000, as in burst(10)"),
            },
            _ => wrong("uniform, poisson, scatter, gamma(CV) or burst(N)"),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Poisson => f.write_str("poisson"),
            Self::Scatter => f.write_str("scatter"),
            Self::Gamma { cv } => write!(f, "gamma({cv})"),
            Self::Burst { size } => write!(f, "burst({size})"),
        }
    }
}

/// Arrivals of rate 1, ascending, for ever.
#[derive(Debug)]
pub(crate) enum Arrivals {
    Even { next: u64, size: u64 },
    Exponential { next: f64, random: Box<StdRng> },
    Gamma { next: f64, gap: Gamma<f64>, random: Box<StdRng> },
    Scattered { last: f64, left: u64, random: Box<StdRng> },
}

impl Arrivals {
    pub(crate) fn new(process: Process, seed: u64) -> Self {
        let mut random = Box::new(StdRng::seed_from_u64(seed));
        match process {
            Process::Uniform => Self::Even { next: 0, size: 1 },
            Process::Burst { size } => Self::Even { next: 0, size: u64::from(size.max(1)) },
            Process::Poisson => Self::Exponential { next: Exp1.sample(&mut random), random },
            Process::Gamma { cv } => {
                let shape = 1.0 / (cv * cv);
                let gap =
                    Gamma::new(shape, 1.0 / shape).expect("a coefficient of variation is finite and above 0");
                Self::Gamma { next: gap.sample(&mut random), gap, random }
            }
            Process::Scatter => Self::Scattered { last: 0.0, left: 0, random },
        }
    }

    /// Goes on to the piece that reaches from one mass to another.
    pub(crate) fn enter(&mut self, begin: f64, end: f64) {
        if let Self::Scattered { last, left, .. } = self {
            (*last, *left) = (begin, scattered(end) - scattered(begin));
        }
    }

    /// The next one before the end of the piece that was entered last, if there is one.
    pub(crate) fn before(&mut self, end: f64) -> Option<f64> {
        // One at the very end of a piece belongs to the next one, which may begin after a pause.
        let limit = end - ROUNDING;
        match self {
            Self::Even { next, size } => {
                #[expect(clippy::cast_precision_loss, reason = "below 2^53 by the bounds on rate and time")]
                let at = (*next / *size * *size) as f64;
                (at < limit).then(|| {
                    *next += 1;
                    at
                })
            }
            Self::Exponential { next, random } => (*next < limit).then(|| {
                let gap: f64 = Exp1.sample(random);
                std::mem::replace(next, *next + gap)
            }),
            Self::Gamma { next, gap, random } => {
                (*next < limit).then(|| std::mem::replace(next, *next + gap.sample(random)))
            }
            Self::Scattered { last, left, random } => (*left > 0).then(|| {
                // The least of so many that are each anywhere in what is left.
                #[expect(clippy::cast_precision_loss, reason = "below 2^53 by the bounds on rate and time")]
                let over = random.random::<f64>().powf(1.0 / *left as f64);
                *left -= 1;
                *last = end - (end - *last) * over;
                *last
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_processes() {
        for (text, process) in [
            ("uniform", Process::Uniform),
            ("poisson", Process::Poisson),
            ("gamma(2.5)", Process::Gamma { cv: 2.5 }),
            ("burst(10)", Process::Burst { size: 10 }),
            ("scatter", Process::Scatter),
        ] {
            assert_eq!(text.parse(), Ok(process));
            assert_eq!(process.to_string(), text);
        }
        for (text, part) in [
            ("", "expected uniform"),
            ("even", "expected uniform"),
            ("gamma", "expected uniform"),
            ("gamma(0)", "coefficient of variation"),
            ("gamma(x)", "coefficient of variation"),
            ("gamma(inf)", "coefficient of variation"),
            ("burst(0)", "number of requests"),
            ("burst(1.5)", "number of requests"),
        ] {
            let error = text.parse::<Process>().expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn bursts_come_together() {
        let mut arrivals = Arrivals::new(Process::Burst { size: 3 }, 0);
        let times: Vec<f64> = std::iter::from_fn(|| arrivals.before(6.5)).take(7).collect();
        assert_eq!(times, [0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 6.0]);
    }

    #[test]
    fn what_is_expected() {
        for (process, mass, count) in [
            (Process::Uniform, 3.000_000_000_4, 3),
            (Process::Uniform, 2.5, 3),
            (Process::Poisson, 2.4, 2),
            (Process::Burst { size: 10 }, 25.0, 30),
            (Process::Uniform, 0.0, 0),
            (Process::Scatter, 2.5, 2),
            (Process::Scatter, 2.999_999_999, 3),
        ] {
            assert_eq!(process.count(mass), count, "{process} of {mass}");
        }
    }
}
