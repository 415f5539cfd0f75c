//! Requests for a scenario: arrival processes, each a list of [`Arrival`]s that can be joined with others.

use std::time::Duration;

use tidegate_config::name::ServiceName;

use super::{
    chance::{Chance, Span},
    scenario::Arrival,
};

/// What the requests of one list have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Where they go.
    pub service: ServiceName,
    /// How long a replica works on one.
    pub takes: Span,
    /// When clients give up, if they do.
    pub patience: Option<Span>,
    /// Share that may be sent twice.
    pub replayable: f64,
    /// How many different keys their requests have; 0: none.
    pub keys: u64,
}

impl Kind {
    /// Requests of patient clients that may be sent twice.
    #[must_use]
    pub fn of(service: ServiceName, takes: impl Into<Span>) -> Self {
        Self { service, takes: takes.into(), patience: None, replayable: 1.0, keys: 0 }
    }

    fn at(&self, at: Duration, chance: &mut Chance) -> Arrival {
        Arrival {
            at,
            service: self.service.clone(),
            takes: chance.draw(self.takes),
            patience: self.patience.map(|patience| chance.draw(patience)),
            replayable: chance.happens(self.replayable),
            key: (self.keys > 0).then(|| chance.below(self.keys)),
        }
    }
}

/// So many at the same instant.
#[must_use]
pub fn burst(kind: &Kind, at: Duration, number: u32, chance: &mut Chance) -> Vec<Arrival> {
    (0..number).map(|_| kind.at(at, chance)).collect()
}

/// Independent clients: gaps of chance, `per_second` on average.
#[must_use]
pub fn poisson(
    kind: &Kind,
    from: Duration,
    to: Duration,
    per_second: f64,
    chance: &mut Chance,
) -> Vec<Arrival> {
    let gap = Span::Exponential(Duration::from_secs(1).div_f64(per_second.max(1e-6)));
    let mut at = from + chance.draw(gap);
    let mut arrivals = Vec::new();
    while at < to {
        arrivals.push(kind.at(at, chance));
        at += chance.draw(gap);
    }
    arrivals
}

/// One rate after another, each for its length.
#[must_use]
pub fn steps(kind: &Kind, from: Duration, rates: &[(Duration, f64)], chance: &mut Chance) -> Vec<Arrival> {
    let mut begin = from;
    let mut arrivals = Vec::new();
    for (length, per_second) in rates {
        arrivals.extend(poisson(kind, begin, begin + *length, *per_second, chance));
        begin += *length;
    }
    arrivals
}
