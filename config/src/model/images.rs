//! The settings of `[images]`.

use std::{collections::BTreeMap, time::Duration};

use crate::units::Bytes;

/// How the embedded engine comes by images, and how long it keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Registries (`HOST` or `HOST:PORT`) that are asked without TLS.
    pub insecure_registries: Vec<String>,
    /// For a registry, others that are asked before it, in order.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// How long an image that nothing runs is kept.
    pub keep_unused: Duration,
    /// What all images may take before the longest unused ones go; `None`: no bound.
    pub max_size: Option<Bytes>,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            insecure_registries: Vec::new(),
            mirrors: BTreeMap::new(),
            keep_unused: Duration::from_secs(30 * 24 * 3600),
            max_size: None,
        }
    }
}
