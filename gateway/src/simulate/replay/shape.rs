//! Traffic in words: `20/s x 10m, 20-100/s x 5m, 100/s x 30s` is a rate, a ramp and a rate, each for its length. Requests come
//! independently of each other.

use std::time::Duration;

use super::Trace;
use crate::simulate::chance::Chance;

/// The text is no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} is no part of a shape; expected RATE/s x DURATION or FROM-TO/s x DURATION, as in \"20/s x 10m, 20-100/s x 5m\""
)]
pub struct NotAShape {
    part: String,
}

/// A month: more seconds than that are a mistake.
const LONGEST: u64 = 31 * 86_400;

/// Requests per second for the shape, drawn by chance.
///
/// # Errors
/// The part that cannot be read.
pub fn shape(text: &str, chance: &mut Chance) -> Result<Trace, NotAShape> {
    let mut counts = Vec::new();
    for part in text.split(',') {
        let (from, to, length) = segment(part).ok_or_else(|| NotAShape { part: part.trim().to_owned() })?;
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX).max(1);
        for second in 0..seconds {
            let rate = from + (to - from) * f64::from(second) / f64::from(seconds);
            counts.push(poisson(rate, chance));
        }
    }
    Ok(Trace::Counts { bin: Duration::from_secs(1), counts })
}

fn segment(part: &str) -> Option<(f64, f64, Duration)> {
    let (rates, length) = part.split_once('x')?;
    let rates = rates.trim().strip_suffix("/s")?;
    let (from, to) = rates.split_once('-').unwrap_or((rates, rates));
    let (from, to) = (from.trim().parse::<f64>().ok()?, to.trim().parse::<f64>().ok()?);
    let length = humantime::parse_duration(length.trim()).ok()?;
    let sound =
        [from, to].iter().all(|rate| (0.0..=1e5).contains(rate)) && (1..=LONGEST).contains(&length.as_secs());
    sound.then_some((from, to, length))
}

/// A number of independent requests with this mean: by Knuth's method, for large means by the normal distribution.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and bounded")]
pub fn poisson(mean: f64, chance: &mut Chance) -> u32 {
    if mean > 50.0 {
        return (mean + mean.sqrt() * chance.normal()).round().max(0.0) as u32;
    }
    let (least, mut product, mut count) = ((-mean).exp(), chance.unit(), 0);
    while product > least {
        product *= chance.unit();
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_ramps_one_after_the_other() {
        let trace = shape("10/s x 100s, 10-90/s x 100s", &mut Chance::new(1)).expect("a shape");
        let Trace::Counts { counts, .. } = trace else { panic!("counts") };
        let sum = |range: std::ops::Range<usize>| counts[range].iter().sum::<u32>();
        assert!((900..1100).contains(&sum(0..100)), "{}", sum(0..100));
        assert!((4700..5300).contains(&sum(100..200)), "{}", sum(100..200));
        assert!(sum(100..150) < sum(150..200));
    }

    #[test]
    fn what_is_no_shape_is_refused() {
        for text in ["", "10", "10/s", "10 x 5m", "-1/s x 5m", "10/s x 5", "10/s x 0s", "x"] {
            assert!(shape(text, &mut Chance::new(1)).is_err(), "{text}");
        }
    }
}
