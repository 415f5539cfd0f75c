//! What a scenario's file holds, as it is written. `[P]`

use std::collections::BTreeMap;

use serde::Deserialize;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// TOML.
    Toml,
    /// YAML, and so JSON too.
    Yaml,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: Option<String>,
    /// Of all targets that have none of their own.
    pub(super) url: Option<String>,
    pub(super) shape: Option<String>,
    #[serde(default)]
    pub(super) stages: Vec<Stage>,
    /// Before the first stage.
    pub(super) start_rate: Option<f64>,
    pub(super) users: Option<u32>,
    pub(super) think: Option<String>,
    pub(super) duration: Option<String>,
    pub(super) process: Option<String>,
    pub(super) seed: Option<u64>,
    pub(super) connections: Option<usize>,
    pub(super) requests_per_connection: Option<u32>,
    pub(super) timeout: Option<String>,
    pub(super) h2: Option<bool>,
    pub(super) h2_connections: Option<usize>,
    pub(super) slo: Option<String>,
    #[serde(default)]
    pub(super) assert: Vec<String>,
    /// Of all targets.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stage {
    pub(super) name: Option<String>,
    /// At its end.
    pub(super) rate: f64,
    pub(super) duration: String,
    /// The rate is there at once.
    #[serde(default)]
    pub(super) jump: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) url: Option<String>,
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) method: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
    pub(super) body_file: Option<String>,
    /// `http`, `ws` or `grpc`.
    pub(super) kind: Option<String>,
    pub(super) hold: Option<String>,
}

impl Scenario {
    pub(super) fn parse(text: &str, form: Form) -> Result<Self, String> {
        match form {
            Form::Toml => toml_edit::de::from_str(text).map_err(|problem| problem.to_string()),
            Form::Yaml => serde_saphyr::from_str(text).map_err(|problem| problem.to_string()),
        }
    }
}
