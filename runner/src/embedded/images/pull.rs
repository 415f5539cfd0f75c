//! Gets an image from its registry or a mirror: manifest, configuration, then the layers that are not here, four at once.
//! Absent: whether the image is needed, what is remembered of it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use tidegate_config::{model::Images, spec::Digest};
use tokio::{sync::OnceCell, task::spawn_blocking};

use super::{
    accept::{self, Accepted},
    download::{Failed, download},
    lock::{self, Lock, Sharing},
    manifest::{self, Descriptor, Document, Manifest},
    meter::Meter,
    places::Places,
    reference::Remote,
    refusal::{Refusal, Why},
    registry::{Access, Registry},
    trouble,
};
use crate::{Error, Progress, Result};

/// Layers at once.
const AT_ONCE: usize = 4;
/// How often the registry itself is asked for a manifest before it counts as out of reach. A mirror is asked once.
const TRIES: u32 = 3;

/// An image on its way here.
pub(super) struct Pull<'a> {
    image: &'a str,
    places: &'a Places,
    remote: &'a Remote,
    access: &'a Access,
    /// Mirrors first, the registry itself last.
    hosts: Vec<(String, OnceCell<Registry>)>,
}

/// What a pull came to.
pub(super) enum Pulled {
    /// The name leads where it led.
    Unchanged,
    /// An image is here.
    Got(Box<Got>),
}

/// An image whose layers are here.
pub(super) struct Got {
    /// What the name leads to.
    pub top: Digest,
    pub accepted: Accepted,
}

/// What is to be fetched.
struct Resolved {
    /// Which host knew it.
    host: usize,
    top: Digest,
    manifest: Manifest,
    accepted: Accepted,
}

/// A layer that is not here.
struct Wanted {
    diff_id: Digest,
    blob: Descriptor,
}

impl<'a> Pull<'a> {
    pub(super) fn new(
        image: &'a str,
        remote: &'a Remote,
        places: &'a Places,
        settings: &Images,
        access: &'a Access,
    ) -> Self {
        let mirrors = settings.mirrors.get(&remote.registry).into_iter().flatten();
        let hosts = mirrors.chain([&remote.registry]).map(|host| (host.clone(), OnceCell::new()));
        Self { image, places, remote, access, hosts: hosts.collect() }
    }

    /// Gets the image, unless the name still leads to `known`.
    pub(super) async fn run(&self, known: Option<&Digest>, progress: Progress) -> Result<Pulled> {
        let Some(found) = self.resolve(known).await? else { return Ok(Pulled::Unchanged) };
        self.layers(&found, progress).await?;
        let Resolved { top, accepted, .. } = found;
        Ok(Pulled::Got(Box::new(Got { top, accepted })))
    }

    async fn resolve(&self, known: Option<&Digest>) -> Result<Option<Resolved>> {
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

    async fn registry(&self, host: usize) -> std::result::Result<&Registry, Refusal> {
        let (name, open) = &self.hosts[host];
        open.get_or_try_init(|| Registry::connect(name, &self.remote.repository, self.access)).await
    }

    fn refused(&self, host: usize, refusal: Refusal) -> Error {
        let (name, open) = &self.hosts[host];
        refusal.of(self.image, name, open.get().is_some_and(|registry| registry.with))
    }

    async fn layers(&self, found: &Resolved, progress: Progress) -> Result<()> {
        let wanted = self.wanted(found)?;
        let sizes: Vec<u64> = wanted.iter().map(|wanted| wanted.blob.size).collect();
        let needed: u64 = sizes.iter().sum();
        // What is compressed takes more once it is unpacked: this much is the least.
        if trouble::free(self.places.root()).is_some_and(|free| free < needed) {
            return Err(trouble::full(self.places.root(), Some(needed)));
        }
        tracing::info!(image = self.image, layers = wanted.len(), bytes = needed, "downloading");
        let meter = &Meter::new(progress, &sizes);
        let layers = wanted.into_iter().enumerate();
        let each = layers.map(|(slot, wanted)| self.layer(found.host, wanted, meter, slot));
        futures_util::stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn wanted(&self, found: &Resolved) -> Result<Vec<Wanted>> {
        let config = &found.accepted.config.rootfs.diff_ids;
        let mut wanted = Vec::new();
        for diff_id in &found.accepted.layers {
            let here = self.places.unpacked(diff_id);
            if here.map_err(|e| trouble::disk("read", &self.places.layers(), e))?.is_none() {
                let stored = config.iter().rposition(|other| other == diff_id);
                let blob = stored.and_then(|place| found.manifest.layers.get(place)).cloned();
                wanted.extend(blob.map(|blob| Wanted { diff_id: diff_id.clone(), blob }));
            }
        }
        Ok(wanted)
    }

    async fn layer(&self, first: usize, wanted: Wanted, meter: &Meter, slot: usize) -> Result<()> {
        let path = self.places.layer_lock(&wanted.diff_id);
        let lock = lock::wait(&path, Sharing::Alone).await.map_err(|e| trouble::disk("lock", &path, e))?;
        let here = self.places.unpacked(&wanted.diff_id);
        if here.map_err(|e| trouble::disk("read", &self.places.layers(), e))?.is_some() {
            meter.set(slot, wanted.blob.size);
            return Ok(());
        }
        self.fetch(first, &wanted, &|done| meter.set(slot, done)).await?;
        self.unpack(&wanted, lock).await
    }

    /// Gets a layer's blob from the host that had the manifest, or else from those after it.
    async fn fetch(&self, first: usize, wanted: &Wanted, told: &(dyn Fn(u64) + Send + Sync)) -> Result<()> {
        let partial = self.places.partial(&wanted.blob.digest, &wanted.diff_id);
        let last = self.hosts.len() - 1;
        for host in first..=last {
            let outcome = match self.registry(host).await {
                Ok(registry) => download(registry, &wanted.blob, &partial, told).await,
                Err(refusal) => Err(refusal.into()),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(Failed::Disk(error)) => {
                    if trouble::is_full(&error) {
                        let _ = super::places::remove(&partial);
                    }
                    return Err(error);
                }
                Err(Failed::Refused(refusal)) if host < last => {
                    let mirror = &self.hosts[host].0;
                    tracing::warn!(image = self.image, mirror, "asking the next one: {}", refusal.words);
                }
                Err(Failed::Refused(refusal)) => return Err(self.refused(host, refusal)),
            }
        }
        Err(trouble::unusable(self.image, "no registry was asked"))
    }

    /// Unpacks a layer's blob and removes it. The lock goes along: unpacking goes on when nobody waits for it any more.
    async fn unpack(&self, wanted: &Wanted, lock: Lock) -> Result<()> {
        let places = self.places.clone();
        let partial = places.partial(&wanted.blob.digest, &wanted.diff_id);
        let (image, diff_id) = (Arc::<str>::from(self.image), wanted.diff_id.clone());
        let unpacking = spawn_blocking(move || {
            let _lock = lock;
            let failed = |what: &'static str| |e| trouble::disk(what, &partial, e);
            let outcome = std::fs::File::open(&partial)
                .map_err(failed("open"))
                .and_then(|file| places.unpack_layer(&image, &diff_id, Box::new(file)));
            // A blob that does not unpack today does not tomorrow.
            super::places::remove(&partial).map_err(failed("remove"))?;
            outcome
        });
        unpacking.await.map_err(trouble::broken)?
    }
}
