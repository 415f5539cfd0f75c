//! An image's configuration, as much of it as running a container needs: OCI's fields, and Docker's HEALTHCHECK.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_config::spec::Digest;

use crate::image;

/// What asks a container to end unless its image says otherwise.
const SIGTERM: i32 = 15;

/// An image's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// As Go names it: `amd64`, `arm64`, ...
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// How to run it.
    #[serde(default)]
    pub config: Process,
    /// What it is made of.
    pub rootfs: RootFs,
}

impl Config {
    /// How it says its health is checked, as an argument list.
    pub(crate) fn healthcheck(&self) -> Option<Vec<String>> {
        self.config.healthcheck.as_ref()?.test.as_deref().and_then(image::argv)
    }

    /// The number of the signal that asks it to end.
    pub(crate) fn stop_signal(&self) -> i32 {
        self.config.stop_signal.as_deref().and_then(image::stop_signal).unwrap_or(SIGTERM)
    }

    /// The TCP ports that it exposes.
    pub(crate) fn exposed(&self) -> Vec<u16> {
        let ports = self.config.exposed_ports.iter().flat_map(|ports| ports.keys().cloned());
        image::exposed(&ports.collect::<Vec<_>>())
    }
}

/// How to run an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Process {
    /// What is run.
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what is run where there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// `NAME=VALUE` each.
    pub env: Option<Vec<String>>,
    /// Who runs it; empty: root.
    pub user: Option<String>,
    /// Where.
    pub working_dir: Option<String>,
    /// `8080/tcp` and the like.
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// Folders that outlive a container in other engines.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// `SIGQUIT` or a number; absent: SIGTERM.
    pub stop_signal: Option<String>,
    /// Docker's.
    pub healthcheck: Option<Healthcheck>,
}

/// Docker's HEALTHCHECK.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", ...]` or `["CMD-SHELL", LINE]`.
    pub test: Option<Vec<String>>,
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// The digests of the layers' tars, unpacked, lowest first.
    pub diff_ids: Vec<Digest>,
}
