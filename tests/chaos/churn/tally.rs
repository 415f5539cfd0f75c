//! What the load says: which errors a killed gateway explains, and how long it was away.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use e2e::chaos::load::{Sample, Tally};
use tokio::time::Instant;

/// The figures of a run.
pub(crate) struct Outcome {
    requests: usize,
    errors: usize,
    gateway_lost: usize,
    gap: Duration,
    /// Errors that no killed gateway explains.
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl Outcome {
    pub(crate) fn of(tally: &Tally, kills: &[Instant]) -> Self {
        let gaps: Vec<(Instant, Instant)> =
            kills.iter().filter_map(|kill| Some((*kill, back(&tally.samples, *kill)?))).collect();
        let (mut reasons, mut gateway_lost) = (BTreeMap::new(), 0);
        for (sample, reason) in
            tally.samples.iter().filter_map(|sample| Some((sample, sample.error.clone()?)))
        {
            if broken(&reason) && gaps.iter().any(|gap| touches(sample, *gap)) {
                gateway_lost += 1;
            } else {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let mut lengths: Vec<Duration> = gaps.iter().map(|(kill, back)| *back - *kill).collect();
        lengths.sort();
        let gap = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
        let errors = reasons.values().sum();
        Self { requests: tally.requests(), errors, gateway_lost, gap, reasons }
    }

    /// In percent, of the requests that no killed gateway lost.
    pub(crate) fn availability(&self) -> f64 {
        let counted = self.requests - self.gateway_lost;
        #[expect(clippy::cast_precision_loss, reason = "a hundred thousand requests")]
        let share = self.errors as f64 / counted.max(1) as f64;
        100.0 - 100.0 * share
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, errors, gateway_lost, gap, .. } = self;
        // Rounded down: what is shown as 99.99 is no less.
        let availability = (self.availability() * 1e4).floor() / 1e4;
        write!(
            f,
            "requests={requests} errors={errors} availability={availability:.4} gateway_lost={gateway_lost} "
        )?;
        write!(f, "gateway_gap_ms={}", gap.as_millis())
    }
}

/// When the first request that was sent after a kill was answered.
fn back(samples: &[Sample], kill: Instant) -> Option<Instant> {
    let answered = samples.iter().filter(|sample| sample.error.is_none() && sample.begun > kill);
    answered.map(|sample| sample.begun + sample.took).min()
}

/// Whether it is the connection that failed, and not an answer that says so.
fn broken(reason: &str) -> bool {
    reason.starts_with("connect: ") || reason.starts_with("no answer: ") || reason.contains("broke off")
}

fn touches(sample: &Sample, (kill, back): (Instant, Instant)) -> bool {
    sample.begun <= back && sample.begun + sample.took >= kill
}
