//! A store in a folder of its own, and what its tests say again and again.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tidegate_config::{model::Images, spec::Digest};
use tidegate_runner::{Error, Kind, Progress, embedded::Store};

use super::{
    PASSWORD, USER,
    image::{Built, Layer, Stored, layer, noise},
    proxy::Proxy,
};

/// A store in a folder of its own.
pub(crate) struct World {
    pub folder: TempDir,
    pub settings: Images,
    credentials: PathBuf,
}

impl World {
    /// With these registries listed as those without TLS.
    pub(crate) fn new(insecure: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let insecure_registries = insecure.iter().map(|host| (*host).to_owned()).collect();
        let credentials = folder.path().join("config.json");
        Self { settings: Images { insecure_registries, ..Images::default() }, credentials, folder }
    }

    /// With a password for a registry.
    pub(crate) fn knowing(self, host: &str, password: &str) -> Self {
        let entry = serde_json::json!({"auths": {host: {"username": USER, "password": password}}});
        fs::write(&self.credentials, entry.to_string()).expect("written");
        self
    }

    /// The store's folder.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// Opens the store.
    pub(crate) fn store(&self) -> Arc<Store> {
        Store::open_with(&self.images(), self.settings.clone(), Some(self.credentials.clone()))
            .expect("opened")
    }

    /// What is in a folder of the store.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.images().join(folder)).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Nothing that was begun is left.
    pub(crate) fn is_clean(&self) {
        for folder in ["partial", "tmp"] {
            assert_eq!(self.names(folder), [""; 0], "{folder}");
        }
    }

    /// Makes an image look as if it was last used so long ago.
    pub(crate) fn unused_for(&self, id: &Digest, age: Duration) {
        let hex = id.0.strip_prefix("sha256:").expect("a digest");
        let file = fs::File::options().write(true).open(self.images().join(format!("images/{hex}.json")));
        file.and_then(|file| file.set_modified(SystemTime::now() - age)).expect("changed");
    }
}

/// Nobody listens.
pub(crate) fn silent() -> Progress {
    Arc::new(|_| ())
}

/// What a layer's files say, by their path in an image: the uppermost counts.
pub(crate) fn read(layers: &[PathBuf], path: &str) -> Option<String> {
    layers.iter().rev().find_map(|layer| fs::read_to_string(layer.join(path)).ok())
}

/// A layer with one file.
pub(crate) fn small(name: &str, text: &str) -> Layer {
    layer(&[(name, text.as_bytes())], Stored::Gzip)
}

/// A layer that does not compress.
pub(crate) fn large(seed: u64, kibibytes: usize) -> Layer {
    layer(&[(&format!("noise-{seed}"), &noise(seed, kibibytes << 10))], Stored::Gzip)
}

/// How often layers of an image were asked for.
pub(crate) fn blobs(proxy: &Proxy, built: &Built) -> usize {
    built.layers.iter().map(|layer| proxy.seen(&layer.blob.digest).len()).sum()
}

/// It was refused with these words, and without secrets.
#[track_caller]
pub(crate) fn refused(outcome: Result<impl std::fmt::Debug, Error>, kind: Kind, words: &str) -> Error {
    let error = outcome.expect_err("refused");
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.message.contains(words), "{error}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
    error
}

/// A small file system in memory, as long as it lives.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// With these options.
    pub(crate) fn mount(at: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&at).expect("made");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), &at, Some("tmpfs"), flags, Some(options))
            .expect("the test runs as root");
        Self(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
