//! Gets images and says what they are: from the engine, a registry, or a `docker-archive:FILE`.
//! What an image is never changes under one digest, so it is remembered. A download has no deadline of its own as long
//! as it advances; a minute or two of silence ends it.

use std::{collections::HashMap, path::Path, time::Duration};

use bollard::{
    auth::DockerCredentials,
    models::{BuildInfo, CreateImageInfo, ImageInspect},
    query_parameters::{CreateImageOptions, ImportImageOptions},
};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tidegate_config::{
    spec::{Digest, Pull},
    units::Bytes,
};
use tokio::time::timeout;

use super::call::{Api, failed};
use crate::{
    Error, Kind, Prepared, Progress, PullProgress, Result,
    call::{Failed, READ},
    credentials,
    image::{argv, exposed},
};

const ARCHIVE: &str = "docker-archive:";
/// What Docker cannot read; the embedded engine can.
const LAYOUTS: [&str; 2] = ["oci:", "oci-archive:"];
/// How long a download may be silent. Extracting a big layer on a slow disk is.
const SILENCE: Duration = Duration::from_secs(120);

/// What an image is, as far as starting it is concerned.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    pub healthcheck: Option<Vec<String>>,
    pub user: String,
    /// By which names and digests registries have it; none: it came from no registry.
    pub digests: Vec<String>,
}

impl Facts {
    /// The name and digest by which the registry has it that this reference names, or else any does.
    pub(crate) fn pinned(&self, image: &str) -> Option<&str> {
        let name = repository(image);
        let same = self.digests.iter().find(|pinned| repository(pinned) == name);
        same.or(self.digests.first()).map(String::as_str)
    }
}

/// The engine's images.
pub(crate) struct Images {
    api: Api,
    facts: Mutex<HashMap<Digest, Facts>>,
}

impl Images {
    pub(crate) fn new(api: Api) -> Self {
        Self { api, facts: Mutex::default() }
    }

    /// Sees to it that the image is there and says what it is.
    pub(crate) async fn prepare(&self, image: &str, pull: Pull, progress: &Progress) -> Result<Prepared> {
        if LAYOUTS.iter().any(|kind| image.starts_with(kind)) {
            return Err(foreign(image));
        }
        if let Some(rest) = image.strip_prefix(ARCHIVE) {
            let (file, wanted) = place(rest);
            let loaded = self.load(Path::new(file), wanted).await?;
            let found = self.inspect(&loaded).await?.ok_or_else(|| absent(image, "the engine lost it"))?;
            return self.remember(image, &found);
        }
        let found = self.inspect(image).await?;
        match (pull, found) {
            (Pull::Missing | Pull::Never, Some(found)) => self.remember(image, &found),
            (Pull::Never, None) => Err(absent(image, "pull = never")),
            (_, None) if is_id(image) => Err(absent(image, "what has no name cannot be downloaded")),
            (_, Some(found)) if is_id(image) => self.remember(image, &found),
            (Pull::Missing, None) | (Pull::Always, _) => {
                self.pull(image, progress).await?;
                let found =
                    self.inspect(image).await?.ok_or_else(|| absent(image, "removed after its download"))?;
                self.remember(image, &found)
            }
        }
    }

    /// What the image of this digest is; asks the engine the first time only.
    pub(crate) async fn facts(&self, digest: &Digest) -> Result<Option<Facts>> {
        if let Some(facts) = self.facts.lock().get(digest) {
            return Ok(Some(facts.clone()));
        }
        let Some(found) = self.inspect(&digest.0).await? else { return Ok(None) };
        let facts = facts(&found);
        self.facts.lock().insert(digest.clone(), facts.clone());
        Ok(Some(facts))
    }

    fn remember(&self, image: &str, found: &ImageInspect) -> Result<Prepared> {
        let digest = Digest(found.id.clone().ok_or_else(|| absent(image, "the engine gave it no id"))?);
        let facts = facts(found);
        self.facts.lock().insert(digest.clone(), facts.clone());
        let ports = found.config.as_ref().and_then(|c| c.exposed_ports.as_deref()).unwrap_or_default();
        Ok(Prepared { digest, exposed: exposed(ports), healthcheck: facts.healthcheck })
    }

    async fn inspect(&self, image: &str) -> Result<Option<ImageInspect>> {
        match self.api.call("image inspect", READ, self.api.inspect_image(image)).await {
            Ok(found) => Ok(Some(found)),
            Err(failed) if failed.is(404) => Ok(None),
            Err(failed) => Err(failed.during(format!("look for the image {image}"))),
        }
    }

    async fn pull(&self, image: &str, progress: &Progress) -> Result<()> {
        let credentials = credentials::of(image).await?.map(for_engine);
        let with = if credentials.is_some() { "with" } else { "without" };
        tracing::info!(image, "downloading, {with} credentials");
        let from_image = Some(tagged(image));
        let options = CreateImageOptions { from_image, ..CreateImageOptions::default() };
        let mut messages = std::pin::pin!(self.api.create_image(Some(options), None, credentials));
        let mut layers = Layers::default();
        while let Some(message) = next(&mut messages).await.map_err(|f| refused(image, with, f))? {
            if layers.note(&message) {
                progress(layers.sum());
            }
        }
        Ok(())
    }

    /// Loads an archive; gives the id or the tag that the engine loaded, or the one of them that is wanted.
    async fn load(&self, file: &Path, wanted: Option<&str>) -> Result<String> {
        let what = format!("load the image archive {}", file.display());
        let opened = tokio::fs::File::open(file)
            .await
            .map_err(|e| Error::because(Kind::Permanent, format!("{what}: {e}"), e))?;
        let chunks = tokio_util::io::ReaderStream::with_capacity(opened, 256 << 10);
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let mut messages = std::pin::pin!(self.api.import_image_stream(options, chunks, None));
        let mut loaded = Vec::new();
        while let Some(message) = next(&mut messages).await.map_err(|f| f.permanent(&what))? {
            loaded.extend(reference(&message));
        }
        only(loaded, wanted).map_err(|why| Error::new(Kind::Permanent, format!("{what}: {why}")))
    }
}

/// An archive's path, and which of its images: `FILE`, `FILE:NAME:TAG` or `FILE@sha256:DIGEST`.
fn place(text: &str) -> (&str, Option<&str>) {
    if let Some(at) = text.rfind("@sha256:") {
        return (&text[..at], Some(&text[at + 1..]));
    }
    text.split_once(':').map_or((text, None), |(file, name)| (file, Some(name)))
}

/// The one that was loaded, or the one of them that is wanted.
fn only(mut loaded: Vec<String>, wanted: Option<&str>) -> std::result::Result<String, String> {
    if let Some(wanted) = wanted {
        // By its id an image is found, whatever names it was loaded by.
        let is = |one: &String| is_id(wanted) || tagged(one) == tagged(wanted);
        let found = loaded.iter().any(is).then(|| wanted.to_owned());
        return found.ok_or_else(|| format!("it holds no {wanted}, but {}", loaded.join(", ")));
    }
    match (loaded.pop(), loaded.as_slice()) {
        (Some(one), []) => Ok(one),
        (last, _) => {
            loaded.extend(last);
            Err(format!("it holds {} images ({}), expected one", loaded.len(), loaded.join(", ")))
        }
    }
}

fn foreign(image: &str) -> Error {
    let message = format!(
        "Docker cannot read the image {image}: it takes references and docker-archive:FILE. Use engine = \"embedded\", or \
         convert it, as with `skopeo copy {image} docker-archive:FILE`"
    );
    Error::new(Kind::Permanent, message)
}

/// Credentials as the engine takes them.
pub(crate) fn for_engine(found: credentials::Credentials) -> DockerCredentials {
    DockerCredentials {
        username: found.username,
        password: found.password,
        identitytoken: found.identity_token,
        registrytoken: found.registry_token,
        serveraddress: Some(found.server),
        ..DockerCredentials::default()
    }
}

/// The next message of a download, unless it goes silent.
async fn next<T>(
    messages: &mut (impl Stream<Item = std::result::Result<T, bollard::errors::Error>> + Unpin),
) -> std::result::Result<Option<T>, Failed> {
    match timeout(SILENCE, messages.next()).await {
        Ok(message) => message.transpose().map_err(failed),
        Err(_) => Err(Failed { status: None, words: format!("nothing came for {} s", SILENCE.as_secs()) }),
    }
}

/// Whether an image is named by its content, and not by where it comes from.
fn is_id(image: &str) -> bool {
    image.starts_with("sha256:")
}

fn absent(image: &str, why: &str) -> Error {
    Error::new(Kind::Permanent, format!("no such image: {image} ({why})"))
}

/// A registry's refusal, in words that say whether another try makes sense.
fn refused(image: &str, with: &str, failed: Failed) -> Error {
    let words = failed.words.to_ascii_lowercase();
    let denied =
        ["denied", "unauthorized", "authentication", "no basic auth"].iter().any(|w| words.contains(w));
    let unknown = ["not found", "unknown", "does not exist", "no matching manifest", "invalid reference"]
        .iter()
        .any(|w| words.contains(w));
    let what = format!("cannot download the image {image} ({with} credentials)");
    let permanent = denied || unknown || matches!(failed.status, Some(400 | 401 | 403 | 404));
    if permanent { failed.permanent(what) } else { failed.during(what) }
}

/// The reference with a tag: without one the engine would download every tag that there is.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

/// A reference without its tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or(image);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find(':').map_or(name, |colon| &name[..last + colon])
}

/// What a load's message says was loaded.
fn reference(message: &BuildInfo) -> Option<String> {
    let line = message.stream.as_deref()?.trim();
    let found = line.strip_prefix("Loaded image ID: ").or_else(|| line.strip_prefix("Loaded image: "))?;
    Some(found.trim().to_owned())
}

fn facts(found: &ImageInspect) -> Facts {
    let config = found.config.as_ref();
    let test = config.and_then(|c| c.healthcheck.as_ref()?.test.as_deref());
    Facts {
        healthcheck: test.and_then(argv),
        user: config.and_then(|c| c.user.clone()).unwrap_or_default(),
        digests: found.repo_digests.clone().unwrap_or_default(),
    }
}

/// How far each layer of a download is.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    /// Takes a message in; whether it changed anything.
    fn note(&mut self, message: &CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (&message.id, message.status.as_deref()) else { return false };
        let detail = message.progress_detail.as_ref();
        let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        let (done, total) = (detail.and_then(|d| number(d.current)), detail.and_then(|d| number(d.total)));
        match (status, done, total) {
            ("Downloading", Some(done), Some(total)) => self.0.insert(id.clone(), (done, total)),
            ("Download complete" | "Pull complete", ..) => {
                let total = self.0.get(id).map_or(0, |(_, total)| *total);
                self.0.insert(id.clone(), (total, total))
            }
            _ => return false,
        };
        true
    }

    fn sum(&self) -> PullProgress {
        let (done, total) = self.0.values().fold((0, 0), |(d, t), (done, total)| (d + done, t + total));
        PullProgress { done: Bytes(done), total: Bytes(total) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn references_get_a_tag() {
        for (image, expected) in [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("host:5000/a/b", "host:5000/a/b:latest"),
            ("a@sha256:0", "a@sha256:0"),
        ] {
            assert_eq!(tagged(image), expected);
        }
    }

    #[test]
    fn archives_may_say_which_image() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        for (text, file, wanted) in [
            ("/a.tar", "/a.tar", None),
            ("/a.tar:app:1", "/a.tar", Some("app:1")),
            ("/a.tar:localhost:5000/app:1", "/a.tar", Some("localhost:5000/app:1")),
            ("/a.tar@sha256:00", "/a.tar", Some("sha256:00")),
        ] {
            assert_eq!(place(text), (file, wanted));
        }
        for (loaded, wanted, expected) in [
            (&["app:1"][..], None, Ok("app:1")),
            (&["app:1", "app:2"], None, Err("it holds 2 images (app:1, app:2), expected one")),
            (&[], None, Err("it holds 0 images (), expected one")),
            (&["app:1", "app:2"], Some("app:2"), Ok("app:2")),
            (&["app:latest"], Some("app"), Ok("app")),
            (&["app:1", "app:2"], Some("app:3"), Err("it holds no app:3, but app:1, app:2")),
            (&["app:1", "app:2"], Some("sha256:00"), Ok("sha256:00")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(only(list(loaded), wanted), expected);
        }
    }

    #[test]
    fn layouts_are_for_the_other_engine() {
        let error = foreign("oci:/images/app");
        assert_eq!(error.kind, Kind::Permanent);
        assert!(error.message.contains("oci:/images/app") && error.message.contains("embedded"), "{error}");
    }

    #[test]
    fn progress_is_summed_over_layers() {
        let message = |id: &str, status: &str, at: Option<(i64, i64)>| CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: at.map(|(c, t)| ProgressDetail { current: Some(c), total: Some(t) }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        for (message, changed, done, total) in [
            (message("a", "Pulling fs layer", None), false, 0, 0),
            (message("a", "Downloading", Some((10, 100))), true, 10, 100),
            (message("b", "Downloading", Some((5, 50))), true, 15, 150),
            (message("a", "Download complete", None), true, 105, 150),
            (message("a", "Extracting", Some((1, 100))), false, 105, 150),
        ] {
            assert_eq!(layers.note(&message), changed, "{message:?}");
            assert_eq!(layers.sum(), PullProgress { done: Bytes(done), total: Bytes(total) });
        }
    }

    #[test]
    fn refusals_say_whether_to_try_again() {
        for (status, words, kind) in [
            (Some(404), "manifest for x not found", Kind::Permanent),
            (Some(500), "unauthorized: authentication required", Kind::Permanent),
            (Some(500), "dial tcp: lookup registry on 1.1.1.1:53: timeout", Kind::Retryable),
            (None, "nothing came for 120 s", Kind::Silent),
        ] {
            let error = refused("x:1", "without", Failed { status, words: words.into() });
            assert_eq!(error.kind, kind, "{words}");
            assert!(error.message.contains("x:1"));
        }
    }
}
