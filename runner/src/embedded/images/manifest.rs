//! What a registry says an image is made of. Pure; nothing here is trusted.
//! OCI's and Docker's formats are read alike: they differ in the names of their types only.

use serde::Deserialize;
use tidegate_config::spec::Digest;

use super::{places, source::platform::Platform};

/// More than any honest configuration has.
const CONFIG_BYTES: u64 = 8 << 20;
/// As many lower layers as overlayfs stacks.
pub(super) const LAYERS: usize = 500;

/// What a digest or tag of a registry leads to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Document {
    /// One image.
    Image(Manifest),
    /// Images for several machines.
    Index(Vec<Entry>),
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// A blob.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub digest: Digest,
    #[serde(default)]
    pub platform: Option<Platform>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// Reads a manifest or an index, or says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Document, String> {
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|e| format!("its manifest is not understood: {e}"))?;
    match raw {
        Raw { schema_version: 1, .. } => {
            Err("its manifest is of Docker's first format, which is not supported; push it again".into())
        }
        Raw { manifests: Some(entries), .. } => {
            entries.iter().try_for_each(|entry| well_formed(&entry.digest))?;
            Ok(Document::Index(entries))
        }
        Raw { config: Some(config), layers: Some(layers), .. } => {
            let manifest = Manifest { config, layers };
            check(&manifest)?;
            Ok(Document::Image(manifest))
        }
        _ => Err("its manifest names neither a configuration and layers nor other manifests".into()),
    }
}

fn check(manifest: &Manifest) -> Result<(), String> {
    well_formed(&manifest.config.digest)?;
    if manifest.config.size > CONFIG_BYTES {
        return Err(format!("its configuration has {} bytes, {CONFIG_BYTES} at most", manifest.config.size));
    }
    for layer in &manifest.layers {
        well_formed(&layer.digest)?;
        let kind = &layer.media_type;
        // Artifacts have manifests, too: charts, modules, signatures.
        if !kind.contains("tar") || kind.ends_with("+encrypted") {
            return Err(format!("it has a layer of type {kind:?}, which is not that of a container image"));
        }
    }
    Ok(())
}

fn well_formed(digest: &Digest) -> Result<(), String> {
    let good = places::hex(digest).is_some();
    good.then_some(())
        .ok_or_else(|| format!("{digest:?} is not a digest of sha256, which alone is supported"))
}

/// Whether the configuration's layers are the manifest's, and not too many.
pub(super) fn match_layers(stored: usize, diff_ids: &[Digest]) -> Result<(), String> {
    diff_ids.iter().try_for_each(well_formed)?;
    if stored != diff_ids.len() {
        return Err(format!("it has {stored} layers and its configuration names {}", diff_ids.len()));
    }
    let different = super::layers::once(diff_ids).len();
    if different > LAYERS {
        return Err(format!("it has {different} layers, and overlayfs stacks {LAYERS} at most"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    fn blob(kind: &str, size: u64) -> Value {
        json!({"mediaType": kind, "digest": digest("aa"), "size": size})
    }

    #[test]
    fn manifests_and_indexes_are_read() {
        let layer = "application/vnd.oci.image.layer.v1.tar+zstd";
        let config = "application/vnd.oci.image.config.v1+json";
        let image = json!({"schemaVersion": 2, "config": blob(config, 2), "layers": [blob(layer, 3)]});
        let Ok(Document::Image(found)) = read(image.to_string().as_bytes()) else {
            panic!("an image");
        };
        assert_eq!((found.layers.len(), found.layers[0].size), (1, 3));
        let platform = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
        let index = json!({"schemaVersion": 2, "manifests": [
            {"digest": digest("bb"), "size": 1, "platform": platform}, {"digest": digest("cc"), "size": 1}]});
        let Ok(Document::Index(entries)) = read(index.to_string().as_bytes()) else {
            panic!("an index");
        };
        assert_eq!(entries[0].platform.as_ref().map(|p| p.architecture.as_str()), Some("arm64"));
        assert_eq!(entries[1].platform, None);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let tar = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let bad = json!({"mediaType": tar, "digest": "sha256:../../x", "size": 1});
        let with = |layer: Value| json!({"schemaVersion": 2, "config": blob("c", 1), "layers": [layer]});
        for (document, words) in [
            (json!("text"), "not understood"),
            (json!({}), "neither"),
            (json!({"schemaVersion": 1, "fsLayers": []}), "first format"),
            (with(bad.clone()), "not a digest"),
            (with(blob("application/vnd.cncf.helm.chart.content.v1", 1)), "container image"),
            (with(blob(&format!("{tar}+encrypted"), 1)), "container image"),
            (json!({"config": bad, "layers": []}), "not a digest"),
            (json!({"config": blob("c", 1 << 40), "layers": []}), "at most"),
            (json!({"manifests": [{"digest": "sha512:0"}]}), "not a digest"),
        ] {
            let why = read(document.to_string().as_bytes()).expect_err(words);
            assert!(why.contains(words), "{document}: {why}");
        }
    }

    #[test]
    fn layers_have_to_match_and_to_fit() {
        let many = |count: usize| (0..count).map(|n| Digest(format!("sha256:{n:064x}"))).collect::<Vec<_>>();
        for (stored, diff_ids, words) in [
            (0, many(0), ""),
            (130, many(130), ""),
            (500, many(500), ""),
            (501, many(501), "500 at most"),
            (600, vec![many(1)[0].clone(); 600], ""),
            (1, many(2), "names 2"),
            (1, vec![Digest("x".into())], "not a digest"),
        ] {
            let outcome = match_layers(stored, &diff_ids);
            let why = outcome.err().unwrap_or_default();
            assert!(why.contains(words) && why.is_empty() == words.is_empty(), "{stored}: {why}");
        }
    }
}
