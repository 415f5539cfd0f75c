//! One registry, asked for one repository: with its credentials, over TLS unless it is listed, and never silent for long.
//! Absent: trying again, other registries, files.

use std::{future::Future, panic::AssertUnwindSafe, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{BlobResponse, ClientConfig, ClientProtocol},
    errors::{DigestError, OciDistributionError as Theirs},
    manifest,
    secrets::RegistryAuth,
};
use tidegate_config::spec::Digest;

use super::{
    places,
    refusal::{Refusal, Why},
};
use crate::{
    credentials::{self, Credentials},
    error::chain,
};

const MANIFESTS: &[&str] = &[
    manifest::OCI_IMAGE_MEDIA_TYPE,
    manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_MEDIA_TYPE,
    manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];
const CONNECT: Duration = Duration::from_secs(10);

/// How registries are asked.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// A config.json instead of Docker's usual one.
    pub credentials: Option<PathBuf>,
    /// How long a registry may be silent.
    pub silence: Duration,
    /// Those that are asked without TLS.
    pub insecure: Vec<String>,
}

/// A registry, asked for one repository.
pub(super) struct Registry {
    client: Client,
    auth: RegistryAuth,
    pub host: String,
    repository: String,
    /// Whether there are credentials.
    pub with: bool,
}

/// A part of a blob, from some byte on.
pub(super) struct Part {
    pub from: u64,
    pub bytes: BoxStream<'static, Result<Bytes, Refusal>>,
}

impl Registry {
    /// Gets the credentials and a token.
    pub(super) async fn connect(host: &str, repository: &str, access: &Access) -> Result<Self, Refusal> {
        let found = credentials::of_registry(host, access.credentials.as_deref()).await;
        let found = found.map_err(|e| Refusal::new(Why::Refused, e.message))?;
        let with = found.is_some();
        let auth = found.map_or(Ok(RegistryAuth::Anonymous), |found| shown(found, host))?;
        let client = client(access)?;
        let registry = Self { client, auth, host: host.into(), repository: repository.into(), with };
        let reference = registry.reference("latest");
        let token = registry.client.auth(&reference, &registry.auth, RegistryOperation::Pull);
        guarded(token).await?;
        Ok(registry)
    }

    /// The digest of what a tag or digest leads to, by a question without an answer's body.
    pub(super) async fn digest(&self, which: &str) -> Result<Digest, Refusal> {
        let reference = self.reference(which);
        Ok(Digest(guarded(self.client.fetch_manifest_digest(&reference, &self.auth)).await?))
    }

    /// What a tag or digest leads to, with its digest.
    pub(super) async fn manifest(&self, which: &str) -> Result<(Bytes, Digest), Refusal> {
        let reference = self.reference(which);
        let (bytes, _) = guarded(self.client.pull_manifest_raw(&reference, &self.auth, MANIFESTS)).await?;
        let digest = places::sha256(&bytes);
        // By our own count, whatever the registry's header says.
        if which.starts_with("sha256:") && which != digest.0 {
            return Err(Refusal::new(
                Why::Wrong,
                format!("the manifest {which} has the digest {}", digest.0),
            ));
        }
        Ok((bytes, digest))
    }

    /// A small blob, whole.
    pub(super) async fn small(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, Refusal> {
        let mut part = self.blob(digest, 0).await?;
        let mut all = Vec::new();
        while let Some(bytes) = part.bytes.next().await {
            all.extend_from_slice(&bytes?);
            if all.len() as u64 > size {
                break;
            }
        }
        let found = places::sha256(&all);
        let right = all.len() as u64 == size && found == *digest;
        right.then_some(all).ok_or_else(|| wrong(digest, &found))
    }

    /// A blob from a byte on, or from its start where the registry cannot do that. Its digest is the caller's business.
    pub(super) async fn blob(&self, digest: &Digest, from: u64) -> Result<Part, Refusal> {
        let reference = self.reference(&digest.0);
        let digest = digest.0.as_str();
        let (from, stream) = if from == 0 {
            (0, guarded(self.client.pull_blob_stream(&reference, digest)).await?)
        } else {
            match guarded(self.client.pull_blob_stream_partial(&reference, digest, from, None)).await? {
                BlobResponse::Full(stream) => (0, stream),
                BlobResponse::Partial(stream) => (from, stream),
            }
        };
        let bytes = stream.stream.map(|bytes| bytes.map_err(|e| cut(&e))).boxed();
        Ok(Part { from, bytes })
    }

    fn reference(&self, which: &str) -> Reference {
        let (host, repository) = (self.host.clone(), self.repository.clone());
        if which.starts_with("sha256:") {
            Reference::with_digest(host, repository, which.into())
        } else {
            Reference::with_tag(host, repository, which.into())
        }
    }
}

/// What came is not what was asked for.
pub(super) fn wrong(wanted: &Digest, found: &Digest) -> Refusal {
    Refusal::new(Why::Wrong, format!("what came for {} has the digest {}", wanted.0, found.0))
}

fn client(access: &Access) -> Result<Client, Refusal> {
    // The program does this at its start; without it, asking over TLS would panic.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig {
        protocol: ClientProtocol::HttpsExcept(access.insecure.clone()),
        read_timeout: Some(access.silence),
        connect_timeout: Some(CONNECT.min(access.silence)),
        user_agent: concat!("tidegate/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Ok(Client::try_from(config)?)
}

/// Credentials as the registry is shown them.
fn shown(found: Credentials, host: &str) -> Result<RegistryAuth, Refusal> {
    match found {
        Credentials { registry_token: Some(token), .. } => Ok(RegistryAuth::Bearer(token)),
        Credentials { username: Some(name), password: Some(password), .. } => {
            Ok(RegistryAuth::Basic(name, password))
        }
        _ => {
            let words = format!(
                "the credentials for {host} are an identity token; a user name and a password are needed"
            );
            Err(Refusal::new(Why::Refused, words))
        }
    }
}

/// A call of the library, which panics on some answers that no honest registry gives.
async fn guarded<T>(call: impl Future<Output = Result<T, Theirs>>) -> Result<T, Refusal> {
    match Box::pin(AssertUnwindSafe(call)).catch_unwind().await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Refusal::new(Why::Refused, "its answer is not understood")),
    }
}

/// A download ended early.
fn cut(e: &std::io::Error) -> Refusal {
    let wrong = e.get_ref().is_some_and(|inner| inner.is::<DigestError>());
    let why = if wrong { Why::Wrong } else { Why::Network };
    let words = e.get_ref().map_or_else(|| e.to_string(), |inner| chain(inner));
    Refusal::new(why, words)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A registry that answers the first request for a blob with its head and some bytes, and then nothing.
    async fn silent(listener: TcpListener) {
        let mut open = Vec::new();
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.expect("a request");
            let blob = String::from_utf8_lossy(&head[..count]).contains("/blobs/");
            let answer = if blob {
                "Content-Length: 10\r\n\r\nabc"
            } else {
                "Content-Length: 0\r\nConnection: close\r\n\r\n"
            };
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.expect("written");
            open.push(blob.then_some(stream));
        }
    }

    #[tokio::test]
    async fn silence_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let host = listener.local_addr().expect("an address").to_string();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(silent(listener));
        let folder = tempfile::tempdir().expect("a folder");
        let access = Access {
            credentials: Some(folder.path().join("absent")),
            silence: Duration::from_millis(200),
            insecure: vec![host.clone()],
        };
        let registry = Registry::connect(&host, "a", &access).await.expect("connected");
        let mut part = registry.blob(&places::sha256(b"abc"), 0).await.expect("it begins");
        assert_eq!(part.bytes.next().await.expect("a part").expect("bytes"), "abc");
        let refusal = part.bytes.next().await.expect("an end").expect_err("nothing more comes");
        assert_eq!(refusal.why, Why::Network, "{refusal:?}");
    }

    #[test]
    fn credentials_are_shown_as_registries_take_them() {
        let some = |text: &str| Some(text.to_owned());
        let basic = Credentials { username: some("u"), password: some("p"), ..Credentials::default() };
        let token = Credentials { registry_token: some("t"), ..Credentials::default() };
        let identity = Credentials { identity_token: some("canary"), ..Credentials::default() };
        assert!(matches!(shown(basic, "h"), Ok(RegistryAuth::Basic(u, p)) if u == "u" && p == "p"));
        assert!(matches!(shown(token, "h"), Ok(RegistryAuth::Bearer(t)) if t == "t"));
        let refusal = shown(identity, "h").expect_err("not supported");
        assert!(refusal.words.contains("identity token") && !refusal.words.contains("canary"));
    }

    #[tokio::test]
    async fn a_panic_is_a_refusal() {
        let outcome = guarded(async { panic!("no header value") }).await;
        assert_eq!(outcome.map(|(): ()| ()).expect_err("refused").why, Why::Refused);
    }
}
