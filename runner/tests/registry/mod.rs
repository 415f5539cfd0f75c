//! A real registry on loopback, with images that are made here.

pub(crate) mod image;
pub(crate) mod proxy;
pub(crate) mod world;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use tempfile::TempDir;

use image::{Blob, Built};

/// Who may ask a registry that asks who asks.
pub(crate) const USER: &str = "me";
/// With what password.
pub(crate) const PASSWORD: &str = "canary-secret";
/// The same as the registry's file has it.
const HTPASSWD: &str = "me:$2b$04$EXJ6UEHJx9NpThyqcQZjZ.oWKb2yzrm874OZUtK1tuqUoEo/bnmky\n";

/// Debian's `docker-registry`, as long as this lives.
pub(crate) struct Registry {
    child: Child,
    pub host: String,
    basic: bool,
    _folder: TempDir,
}

impl Registry {
    /// One that everyone may use.
    pub(crate) fn open() -> Self {
        Self::start(false)
    }

    /// One that asks for a name and a password.
    pub(crate) fn locked() -> Self {
        Self::start(true)
    }

    fn start(basic: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
             http: {{addr: 127.0.0.1:0}}\n"
        );
        if basic {
            config += &format!("auth: {{htpasswd: {{realm: test, path: {at}/htpasswd}}}}\n");
            std::fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("written");
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("written");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is installed (Debian's package of this name)");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, after) = line.split_once("listening on ")?;
                Some(after.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect())
            })
            .expect("the registry listens");
        // It would stop at a pipe that is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, host, basic, _folder: folder }
    }

    /// Pushes an image and gives what the tag then leads to.
    pub(crate) async fn push(&self, name: &str, built: &Built) {
        let (client, reference) = self.client(name).await;
        for blob in built.layers.iter().map(|layer| &layer.blob).chain([&built.config]) {
            client.push_blob(&reference, blob.bytes.clone(), &blob.digest).await.expect("pushed");
        }
        self.push_manifest(name, &built.manifest).await;
    }

    /// Pushes a manifest or an index under a tag or digest.
    pub(crate) async fn push_manifest(&self, name: &str, manifest: &Blob) {
        let (client, reference) = self.client(name).await;
        let kind = manifest.kind.parse().expect("a header's value");
        client.push_manifest_raw(&reference, manifest.bytes.clone(), kind).await.expect("pushed");
    }

    async fn client(&self, name: &str) -> (Client, Reference) {
        // As the program does at its start.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let client = Client::try_from(config).expect("a client");
        let reference: Reference = format!("{}/{name}", self.host).parse().expect("a reference");
        let auth = if self.basic {
            RegistryAuth::Basic(USER.into(), PASSWORD.into())
        } else {
            RegistryAuth::Anonymous
        };
        client.auth(&reference, &auth, RegistryOperation::Push).await.expect("allowed");
        (client, reference)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
