//! Whether an image can run here: its configuration is understood, its layers are not too many, its machine is like this
//! one. Pure.

use serde::Deserialize;
use tidegate_config::spec::Digest;

use super::{
    Config, layers, manifest, places,
    source::platform::{self, Platform},
};

/// An image's configuration that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Accepted {
    pub id: Digest,
    pub bytes: Vec<u8>,
    pub config: Config,
    /// When it was built, as it says.
    pub created: Option<String>,
    /// Its layers, lowest first, each once.
    pub layers: Vec<Digest>,
}

/// Takes a configuration of an image that has so many layers, or says what is wrong with it.
pub(super) fn accept(bytes: Vec<u8>, stored: usize) -> Result<Accepted, String> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(default)]
        created: Option<String>,
    }
    let broken = |e: serde_json::Error| format!("its configuration is not that of a container image: {e}");
    let config: Config = serde_json::from_slice(&bytes).map_err(broken)?;
    let Created { created } = serde_json::from_slice(&bytes).map_err(broken)?;
    runs_here(&config)?;
    let layers = layers::once(&config.rootfs.diff_ids);
    manifest::match_layers(stored, &config.rootfs.diff_ids)?;
    let id = places::sha256(&bytes);
    Ok(Accepted { id, bytes, config, created, layers })
}

/// The manifest for this machine among those of an index.
pub(super) fn choose(entries: &[manifest::Entry]) -> Result<Digest, String> {
    let offers: Vec<_> = entries.iter().map(|entry| entry.platform.clone()).collect();
    let place = platform::choose(&offers, &Platform::here()).map_err(|e| e.to_string())?;
    entries.get(place).map(|entry| entry.digest.clone()).ok_or_else(|| "its index is empty".into())
}

/// An image that does not say for what machine it is was made by hand, and is trusted in this.
fn runs_here(config: &Config) -> Result<(), String> {
    let here = Platform::here();
    let or_here = |said: &String, here: &String| if said.is_empty() { here.clone() } else { said.clone() };
    let said = Platform {
        architecture: or_here(&config.architecture, &here.architecture),
        os: or_here(&config.os, &here.os),
        variant: None,
    };
    here.runs(&said).then_some(()).ok_or_else(|| format!("it is for {said}, and this machine is {here}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn taken(config: &Value, stored: usize) -> Result<Accepted, String> {
        accept(config.to_string().into_bytes(), stored)
    }

    #[test]
    fn what_runs_here_is_accepted() {
        let layer = format!("sha256:{}", "ab".repeat(32));
        let rootfs = json!({"type": "layers", "diff_ids": [layer, layer]});
        let architecture = Platform::here().architecture;
        let good = json!({"architecture": architecture, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["x"]}, "rootfs": rootfs});
        let accepted = taken(&good, 2).expect("accepted");
        assert_eq!(accepted.layers, [Digest(layer)]);
        assert_eq!(accepted.created.as_deref(), Some("2024-01-01T00:00:00Z"));
        assert_eq!(accepted.id, places::sha256(good.to_string().as_bytes()));
        taken(&json!({"rootfs": rootfs}), 2).expect("an image that says nothing of machines");
        for (config, words) in [
            (json!({"rootfs": rootfs, "os": "windows"}), "windows"),
            (json!({"rootfs": rootfs, "architecture": "s390x"}), "this machine is"),
            (json!({"name": "a chart"}), "not that of a container image"),
            (json!({"rootfs": {"diff_ids": ["../x"]}}), "not a digest"),
        ] {
            let why = taken(&config, 2).expect_err(words);
            assert!(why.contains(words), "{why}");
        }
        assert!(taken(&json!({"rootfs": rootfs}), 3).expect_err("another count").contains("3 layers"));
    }

    #[test]
    fn the_index_is_asked_for_this_machine() {
        let entry = |byte: &str, platform: Option<Platform>| manifest::Entry {
            digest: Digest(byte.into()),
            platform,
        };
        let other = Platform { architecture: "s390x".into(), os: "linux".into(), variant: None };
        let entries = [entry("a", Some(other)), entry("b", Some(Platform::here()))];
        assert_eq!(choose(&entries), Ok(Digest("b".into())));
        assert!(choose(&entries[..1]).expect_err("none fits").contains("s390x"));
        choose(&[]).expect_err("none at all");
    }
}
