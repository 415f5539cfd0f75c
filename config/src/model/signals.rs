//! What else than demand says how many replicas there should be.

use crate::units::Percent;

/// Signals besides what the law sees; each asks for so many replicas at the least.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Signals {
    /// Requests per second that a replica is good for.
    pub rps: Option<f64>,
    /// The share of its limit of cores (of one core where it has none) that a replica is to use.
    pub cpu: Option<Percent>,
    /// The share of its limit of memory that a replica is to use.
    pub memory: Option<Percent>,
}

impl Signals {
    /// Whether replicas have to be measured.
    #[must_use]
    pub fn measure(&self) -> bool {
        self.cpu.is_some() || self.memory.is_some()
    }
}
