//! A stretch of time whose rate has a formula, its integral and the inverse of that. `[P]`
//! "Mass" is the integral of the rate: the number of requests up to an instant.

/// A stretch of the plan. Times are seconds since its begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Piece {
    /// The rate runs straight from one value to another.
    Line { from: f64, to: f64, seconds: f64 },
    /// The rate swings around a mean, upwards first.
    Wave { mean: f64, amp: f64, period: f64, seconds: f64 },
    /// Requests at one instant.
    Atom { mass: f64 },
}

impl Piece {
    pub(crate) fn seconds(self) -> f64 {
        match self {
            Self::Line { seconds, .. } | Self::Wave { seconds, .. } => seconds,
            Self::Atom { .. } => 0.0,
        }
    }

    /// Requests in the whole piece.
    pub(crate) fn mass(self) -> f64 {
        match self {
            Self::Line { from, to, seconds } => f64::midpoint(from, to) * seconds,
            Self::Wave { mean, amp, period, seconds } => wave_mass(mean, amp, period, seconds),
            Self::Atom { mass } => mass,
        }
    }

    /// The rate at an instant within the piece.
    pub(crate) fn rate(self, at: f64) -> f64 {
        match self {
            Self::Line { from, to, seconds } if seconds > 0.0 => from + (to - from) * (at / seconds),
            Self::Line { from, .. } => from,
            Self::Wave { mean, amp, period, .. } => mean + amp * (std::f64::consts::TAU * at / period).sin(),
            Self::Atom { .. } => 0.0,
        }
    }

    /// When `mass` requests have gone out; `mass` is below the piece's own.
    pub(crate) fn when(self, mass: f64) -> f64 {
        match self {
            // 0 divided by 0, where the rate begins at nothing.
            _ if mass <= 0.0 => 0.0,
            Self::Line { from, to, seconds } => {
                let slope = (to - from) / seconds;
                // The form without a difference of nearly equal numbers; right for a slope of 0 too.
                2.0 * mass / (from + (from * from + 2.0 * slope * mass).max(0.0).sqrt())
            }
            Self::Wave { mean, amp, period, .. } => wave_when(mean, amp, period, mass),
            Self::Atom { .. } => 0.0,
        }
    }
}

fn wave_mass(mean: f64, amp: f64, period: f64, at: f64) -> f64 {
    let turn = std::f64::consts::TAU / period;
    mean * at + amp / turn * (1.0 - (turn * at).cos())
}

/// Newton's method between two bounds that close in: where the rate is near 0 a step may leave them, then they are halved.
fn wave_when(mean: f64, amp: f64, period: f64, mass: f64) -> f64 {
    const STEPS: u32 = 100;
    let turn = std::f64::consts::TAU / period;
    let (mut low, mut high) = (((mass - 2.0 * amp / turn) / mean).max(0.0), mass / mean);
    let mut at = high;
    for _ in 0..STEPS {
        let over = wave_mass(mean, amp, period, at) - mass;
        if over > 0.0 {
            high = at;
        } else {
            low = at;
        }
        let newton = at - over / (mean + amp * (turn * at).sin());
        let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
        if (next - at).abs() <= 1e-10 {
            return next;
        }
        at = next;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_undoes_mass() {
        for piece in [
            Piece::Line { from: 50.0, to: 50.0, seconds: 60.0 },
            Piece::Line { from: 0.0, to: 500.0, seconds: 20.0 },
            Piece::Line { from: 500.0, to: 0.0, seconds: 20.0 },
            Piece::Line { from: 10.0, to: 10.000_001, seconds: 5.0 },
            Piece::Wave { mean: 200.0, amp: 150.0, period: 300.0, seconds: 600.0 },
            Piece::Wave { mean: 5.0, amp: 5.0, period: 7.0, seconds: 30.0 },
        ] {
            for part in 0..10 {
                let mass = piece.mass() * f64::from(part) / 10.0;
                let at = piece.when(mass);
                assert!((0.0..=piece.seconds()).contains(&at), "{piece:?}: {at}");
                // The mass up to there, by adding up the rate instead of the formula under test.
                let width = at / 20_000.0;
                let sum: f64 = (0..20_000).map(|n| piece.rate((f64::from(n) + 0.5) * width) * width).sum();
                assert!((sum - mass).abs() < 1e-3, "{piece:?} at {at}: {sum} for {mass}");
            }
        }
    }

    #[test]
    fn an_atom_takes_no_time() {
        let atom = Piece::Atom { mass: 3.0 };
        assert_eq!((atom.mass(), atom.seconds(), atom.when(2.0)), (3.0, 0.0, 0.0));
    }
}
