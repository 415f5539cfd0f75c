//! What an image is, as its registry or a mirror says: its manifest and configuration, without its layers.
//! Absent: whether the image is needed, layers, what is remembered of it.

use tidegate_config::{model::Images, spec::Digest};
use tokio::sync::OnceCell;

use super::{
    Config, SILENCE,
    accept::{self, Accepted},
    manifest::{self, Document, Manifest},
    reference::{Reference, Remote},
    refusal::{Refusal, Why},
    registry::{Access, Registry},
};
use crate::{Error, Kind, Result};

/// How often the registry itself is asked for a manifest before it counts as out of reach. A mirror is asked once.
const TRIES: u32 = 3;

/// Who may have an image.
pub(super) struct Sources<'a> {
    pub image: &'a str,
    remote: &'a Remote,
    access: &'a Access,
    /// Mirrors first, the registry itself last.
    pub hosts: Vec<(String, OnceCell<Registry>)>,
}

/// What an image is made of.
pub(super) struct Resolved {
    /// Which host knew it.
    pub host: usize,
    /// What the name leads to.
    pub top: Digest,
    pub manifest: Manifest,
    pub accepted: Accepted,
}

/// An image that is somewhere else.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    /// The digest of its configuration: the image's id.
    pub digest: Digest,
    /// How to run it.
    pub config: Config,
    /// Its name and the digest of what that name leads to, as engines elsewhere fetch it.
    pub pinned: String,
}

/// Asks an image's registry, or a mirror of it, what it is. Nothing is fetched but that.
pub(crate) async fn describe(image: &str, settings: &Images) -> Result<Described> {
    let reference = Reference::parse(image).map_err(|e| Error::because(Kind::Permanent, e.to_string(), e))?;
    let Reference::Registry(remote) = &reference else {
        let words = format!("{image} is in no registry, and nothing else is asked here");
        return Err(Error::new(Kind::Permanent, words));
    };
    let insecure = settings.insecure_registries.clone();
    let access = Access { credentials: None, silence: SILENCE, insecure };
    let found = Sources::new(image, remote, settings, &access).resolve(None).await?;
    let Some(Resolved { top, accepted, .. }) = found else {
        return Err(Error::new(Kind::Retryable, format!("nobody said what {image} is")));
    };
    let pinned = format!("{}/{}@{}", remote.registry, remote.repository, top.0);
    Ok(Described { digest: accepted.id, config: accepted.config, pinned })
}

impl<'a> Sources<'a> {
    pub(super) fn new(image: &'a str, remote: &'a Remote, settings: &Images, access: &'a Access) -> Self {
        let mirrors = settings.mirrors.get(&remote.registry).into_iter().flatten();
        let hosts = mirrors.chain([&remote.registry]).map(|host| (host.clone(), OnceCell::new()));
        Self { image, remote, access, hosts: hosts.collect() }
    }

    /// What the image is made of; `None`: its name still leads to `known`.
    pub(super) async fn resolve(&self, known: Option<&Digest>) -> Result<Option<Resolved>> {
        let own = self.hosts.len() - 1;
        for host in 0..own {
            match self.ask(host, known).await {
                Ok(found) => return Ok(found),
                Err(refusal) => {
                    let mirror = &self.hosts[host].0;
                    tracing::warn!(image = self.image, mirror, "asking the next one: {}", refusal.words);
                }
            }
        }
        let mut tried = 1;
        loop {
            match self.ask(own, known).await {
                Ok(found) => return Ok(found),
                Err(refusal) if refusal.why == Why::Network && tried < TRIES => {
                    tokio::time::sleep(std::time::Duration::from_millis(250 << tried)).await;
                    tried += 1;
                }
                Err(refusal) => return Err(self.refused(own, refusal)),
            }
        }
    }

    /// What the image is made of, as one host says.
    async fn ask(
        &self,
        host: usize,
        known: Option<&Digest>,
    ) -> std::result::Result<Option<Resolved>, Refusal> {
        let registry = self.registry(host).await?;
        let which = match (&self.remote.digest, &self.remote.tag) {
            (Some(digest), _) => digest.0.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        };
        if let Some(known) = known
            && registry.digest(which).await? == *known
        {
            return Ok(None);
        }
        let unusable = |why: String| Refusal::new(Why::Refused, why);
        let (bytes, top) = registry.manifest(which).await?;
        let manifest = match manifest::read(&bytes).map_err(unusable)? {
            Document::Image(manifest) => manifest,
            Document::Index(entries) => {
                let chosen = accept::choose(&entries).map_err(unusable)?;
                let (bytes, _) = registry.manifest(&chosen.0).await?;
                match manifest::read(&bytes).map_err(unusable)? {
                    Document::Image(manifest) => manifest,
                    Document::Index(_) => return Err(unusable("its index leads to another index".into())),
                }
            }
        };
        let config = registry.small(&manifest.config.digest, manifest.config.size).await?;
        let accepted = accept::accept(config, manifest.layers.len()).map_err(unusable)?;
        Ok(Some(Resolved { host, top, manifest, accepted }))
    }

    pub(super) async fn registry(&self, host: usize) -> std::result::Result<&Registry, Refusal> {
        let (name, open) = &self.hosts[host];
        open.get_or_try_init(|| Registry::connect(name, &self.remote.repository, self.access)).await
    }

    pub(super) fn refused(&self, host: usize, refusal: Refusal) -> Error {
        let (name, open) = &self.hosts[host];
        refusal.of(self.image, name, open.get().is_some_and(|registry| registry.with))
    }
}
