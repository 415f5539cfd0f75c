//! Where spans go.

use std::{collections::BTreeMap, path::PathBuf};

/// Where spans go.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// The collector's address, as in `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// The authorities that its certificate may be from; `None` for those of the machine.
    pub ca: Option<PathBuf>,
    /// The share of the traces that begin here that is recorded, 0 to 1.
    pub sample: f64,
    /// Fields that the collector wants, each with the file that its value is in.
    pub headers: BTreeMap<String, PathBuf>,
}

impl Default for Tracing {
    fn default() -> Self {
        let endpoint = "http://127.0.0.1:4318/v1/traces".into();
        Self { endpoint, ca: None, sample: 0.01, headers: BTreeMap::new() }
    }
}
