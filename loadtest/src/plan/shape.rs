//! How the rate runs over time: segments, one after the other. `[P]`

use std::{sync::Arc, time::Duration};

use super::{Invalid, LONGEST, MOST, ROUNDING, piece::Piece, trace::Profile};

/// One part of a shape. Rates are requests per second.
#[derive(Debug, Clone, PartialEq)]
pub enum Segment {
    /// Straight from one rate to another; the same twice for one that does not change, 0 twice for a pause.
    Ramp {
        /// At its begin.
        from: f64,
        /// At its end.
        to: f64,
        /// How long.
        length: Duration,
    },
    /// Swings around a mean, upwards first.
    Sine {
        /// The middle.
        mean: f64,
        /// How far it swings to either side; at most the mean.
        amp: f64,
        /// From one crest to the next.
        period: Duration,
        /// How long.
        length: Duration,
    },
    /// What was recorded somewhere.
    Trace {
        /// The recording.
        profile: Arc<Profile>,
        /// Requests for each one recorded.
        scale: f64,
        /// Seconds recorded in a second of the run.
        speed: f64,
    },
}

/// A part of the run that is counted apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// As a person would call it.
    pub name: String,
    /// Since the start of the run.
    pub begin: Duration,
    /// The first instant after it.
    pub end: Duration,
}

/// How the rate runs over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shape {
    segments: Vec<(String, Segment)>,
}

impl Shape {
    /// One rate.
    #[must_use]
    pub fn constant(rate: f64, length: Duration) -> Self {
        Self::steps([(rate, length)])
    }

    /// One rate after the other, each for a while. A rate of 0 is a pause.
    #[must_use]
    pub fn steps(steps: impl IntoIterator<Item = (f64, Duration)>) -> Self {
        let mut shape = Self::default();
        for (rate, length) in steps {
            let name = if rate > 0.0 { format!("const {rate}") } else { "pause".to_owned() };
            shape.push(name, Segment::Ramp { from: rate, to: rate, length });
        }
        shape
    }

    /// What was recorded, as it was.
    #[must_use]
    pub fn recorded(name: impl Into<String>, profile: Profile) -> Self {
        let mut shape = Self::default();
        shape.push(name, Segment::Trace { profile: Arc::new(profile), scale: 1.0, speed: 1.0 });
        shape
    }

    /// Adds a segment, which is a phase of that name.
    pub fn push(&mut self, name: impl Into<String>, segment: Segment) {
        self.segments.push((name.into(), segment));
    }

    /// All segments with their names.
    #[must_use]
    pub fn segments(&self) -> &[(String, Segment)] {
        &self.segments
    }

    /// From begin to end.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.segments.iter().fold(Duration::ZERO, |sum, (_, segment)| sum.saturating_add(segment.length()))
    }

    /// Requests in the whole shape.
    #[must_use]
    pub fn requests(&self) -> f64 {
        self.segments.iter().map(|(_, segment)| segment.requests()).sum()
    }

    /// The rate at an instant; 0 after the end.
    #[must_use]
    pub fn rate_at(&self, at: Duration) -> f64 {
        let mut begin = Duration::ZERO;
        for (_, segment) in &self.segments {
            let end = begin.saturating_add(segment.length());
            if at < end {
                return segment.rate(at - begin);
            }
            begin = end;
        }
        0.0
    }

    /// The segments as phases.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        let mut begin = Duration::ZERO;
        let phase = |(name, segment): &(String, Segment)| {
            let end = begin.saturating_add(segment.length());
            let phase = Phase { name: name.clone(), begin, end };
            begin = end;
            phase
        };
        self.segments.iter().map(phase).collect()
    }

    /// Whether it can be sent.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.segments.iter().try_for_each(|(_, segment)| segment.check())?;
        if self.duration() > LONGEST {
            return Err(Invalid::TooLong);
        }
        if self.requests() < ROUNDING { Err(Invalid::Empty) } else { Ok(()) }
    }
}

impl Segment {
    /// From begin to end.
    #[must_use]
    pub fn length(&self) -> Duration {
        match self {
            Self::Ramp { length, .. } | Self::Sine { length, .. } => *length,
            Self::Trace { profile, speed, .. } => profile.length().div_f64(*speed),
        }
    }

    /// Whether each number is in its range.
    pub fn check(&self) -> Result<(), Invalid> {
        let rate = |rate: f64| if (0.0..=MOST).contains(&rate) { Ok(()) } else { Err(Invalid::Rate(rate)) };
        let positive = |what, found: f64| {
            if found > 0.0 && found.is_finite() { Ok(()) } else { Err(Invalid::NotPositive { what, found }) }
        };
        match self {
            Self::Ramp { from, to, .. } => rate(*from).and_then(|()| rate(*to)),
            Self::Sine { mean, amp, period, .. } => {
                positive("mean", *mean)?;
                positive("period", period.as_secs_f64())?;
                rate(mean + amp)?;
                if (0.0..=*mean).contains(amp) {
                    Ok(())
                } else {
                    Err(Invalid::Amplitude { amp: *amp, mean: *mean })
                }
            }
            Self::Trace { profile, scale, speed } => {
                positive("scale", *scale)?;
                positive("speed", *speed)?;
                if profile.length().as_secs_f64() / speed > LONGEST.as_secs_f64() {
                    return Err(Invalid::TooLong);
                }
                rate(profile.busiest() * scale * speed)
            }
        }
    }

    fn requests(&self) -> f64 {
        match self {
            Self::Trace { profile, scale, .. } => profile.requests() * scale,
            Self::Ramp { .. } | Self::Sine { .. } => self.formula().map_or(0.0, Piece::mass),
        }
    }

    fn rate(&self, at: Duration) -> f64 {
        match self {
            Self::Trace { profile, scale, speed } => profile.rate_at(at.mul_f64(*speed)) * scale * speed,
            Self::Ramp { .. } | Self::Sine { .. } => {
                self.formula().map_or(0.0, |piece| piece.rate(at.as_secs_f64()))
            }
        }
    }

    /// The piece with the number `index`, from 0, and when it begins, in seconds since the segment's begin.
    pub(crate) fn piece(&self, index: usize) -> Option<(f64, Piece)> {
        match self {
            Self::Trace { profile, scale, speed } => profile.piece(index, *scale, *speed),
            Self::Ramp { .. } | Self::Sine { .. } => {
                self.formula().filter(|_| index == 0).map(|piece| (0.0, piece))
            }
        }
    }

    fn formula(&self) -> Option<Piece> {
        match *self {
            Self::Ramp { from, to, length } => Some(Piece::Line { from, to, seconds: length.as_secs_f64() }),
            Self::Sine { mean, amp, period, length } => {
                Some(Piece::Wave { mean, amp, period: period.as_secs_f64(), seconds: length.as_secs_f64() })
            }
            Self::Trace { .. } => None,
        }
    }
}
