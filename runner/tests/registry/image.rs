//! Images made in memory.

use std::io::Write;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Some bytes with their digest and type.
#[derive(Clone)]
pub(crate) struct Blob {
    pub bytes: Vec<u8>,
    pub digest: String,
    pub kind: String,
}

/// A layer, compressed or not.
#[derive(Clone)]
pub(crate) struct Layer {
    pub blob: Blob,
    pub diff_id: String,
}

/// An image.
pub(crate) struct Built {
    pub layers: Vec<Layer>,
    pub config: Blob,
    pub manifest: Blob,
}

/// How a layer is stored.
#[derive(Clone, Copy)]
pub(crate) enum Stored {
    Plain,
    Gzip,
    Zstd,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn blob(bytes: Vec<u8>, kind: &str) -> Blob {
    Blob { digest: digest(&bytes), bytes, kind: kind.into() }
}

/// Bytes that do not compress; the same ones for the same seed.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random()).collect()
}

/// A layer with files.
pub(crate) fn layer(files: &[(&str, &[u8])], stored: Stored) -> Layer {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *content).expect("appended");
    }
    stored_as(tar.into_inner().expect("a tar"), stored)
}

fn stored_as(tar: Vec<u8>, stored: Stored) -> Layer {
    let diff_id = digest(&tar);
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let blob = match stored {
        Stored::Plain => blob(tar, kind),
        Stored::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&tar).expect("written");
            blob(gzip.finish().expect("compressed"), &format!("{kind}+gzip"))
        }
        Stored::Zstd => blob(zstd::encode_all(&tar[..], 1).expect("compressed"), &format!("{kind}+zstd")),
    };
    Layer { blob, diff_id }
}

/// An image of layers, for this machine.
pub(crate) fn image(layers: &[Layer]) -> Built {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    image_for(architecture, layers)
}

/// An image of layers for some machine.
pub(crate) fn image_for(architecture: &str, layers: &[Layer]) -> Built {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": {"Cmd": ["/serve"], "Env": ["A=1"], "ExposedPorts": {"8080/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
    let layers_of: Vec<Value> = layers.iter().map(|layer| descriptor(&layer.blob)).collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": kind, "config": descriptor(&config), "layers": layers_of});
    let manifest = blob(manifest.to_string().into_bytes(), kind);
    Built { layers: layers.to_vec(), config, manifest }
}

/// An index of images, each with its machine.
pub(crate) fn index(images: &[(&str, &Built)]) -> Blob {
    let kind = "application/vnd.oci.image.index.v1+json";
    let entry = |(architecture, image): &(&str, &Built)| {
        let mut entry = descriptor(&image.manifest);
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    };
    let manifests: Vec<Value> = images.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    blob(index.to_string().into_bytes(), kind)
}

fn descriptor(blob: &Blob) -> Value {
    json!({"mediaType": blob.kind, "digest": blob.digest, "size": blob.bytes.len()})
}

/// Makes a folder an OCI layout with this image under a tag. What the folder had is kept, its index is not.
pub(crate) fn lay_out(folder: &std::path::Path, built: &Built, tag: &str) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("made");
    for blob in built.layers.iter().map(|layer| &layer.blob).chain([&built.config, &built.manifest]) {
        let name = blob.digest.strip_prefix("sha256:").expect("a digest");
        std::fs::write(blobs.join(name), &blob.bytes).expect("written");
    }
    let mut entry = descriptor(&built.manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(folder.join("index.json"), index.to_string()).expect("written");
    std::fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("written");
}

/// What `docker save` would write for this image, whose layers are stored as they are.
pub(crate) fn save(built: &Built, name: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).expect("appended");
    };
    let config = format!("{}.json", built.config.digest.strip_prefix("sha256:").expect("a digest"));
    add(&config, &built.config.bytes);
    let layers: Vec<String> = (0..built.layers.len()).map(|n| format!("layer{n}/layer.tar")).collect();
    for (name, layer) in layers.iter().zip(&built.layers) {
        add(name, &layer.blob.bytes);
    }
    let manifest = json!([{"Config": config, "RepoTags": [name], "Layers": layers}]);
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().expect("a tar")
}
