//! Gets an image from its registry or a mirror: what it is ([`Sources`]), then the layers that are not here, four at once.
//! Absent: whether the image is needed, what is remembered of it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use tidegate_config::spec::Digest;
use tokio::task::spawn_blocking;

use super::{
    accept::Accepted,
    ask::{Resolved, Sources},
    download::{Failed, download},
    lock::{self, Lock, Sharing},
    manifest::Descriptor,
    meter::Meter,
    places::Places,
    trouble,
};
use crate::{Progress, Result};

/// Layers at once.
const AT_ONCE: usize = 4;
/// An image on its way here.
pub(super) struct Pull<'a> {
    sources: Sources<'a>,
    places: &'a Places,
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

/// A layer that is not here.
struct Wanted {
    diff_id: Digest,
    blob: Descriptor,
}

impl<'a> Pull<'a> {
    pub(super) fn new(sources: Sources<'a>, places: &'a Places) -> Self {
        Self { sources, places }
    }

    /// Gets the image, unless the name still leads to `known`.
    pub(super) async fn run(&self, known: Option<&Digest>, progress: Progress) -> Result<Pulled> {
        let Some(found) = self.sources.resolve(known).await? else { return Ok(Pulled::Unchanged) };
        self.layers(&found, progress).await?;
        let Resolved { top, accepted, .. } = found;
        Ok(Pulled::Got(Box::new(Got { top, accepted })))
    }

    async fn layers(&self, found: &Resolved, progress: Progress) -> Result<()> {
        let wanted = self.wanted(found)?;
        let sizes: Vec<u64> = wanted.iter().map(|wanted| wanted.blob.size).collect();
        let needed: u64 = sizes.iter().sum();
        // What is compressed takes more once it is unpacked: this much is the least.
        if trouble::free(self.places.root()).is_some_and(|free| free < needed) {
            return Err(trouble::full(self.places.root(), Some(needed)));
        }
        tracing::info!(image = self.sources.image, layers = wanted.len(), bytes = needed, "downloading");
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
        let last = self.sources.hosts.len() - 1;
        for host in first..=last {
            let outcome = match self.sources.registry(host).await {
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
                    let mirror = &self.sources.hosts[host].0;
                    tracing::warn!(
                        image = self.sources.image,
                        mirror,
                        "asking the next one: {}",
                        refusal.words
                    );
                }
                Err(Failed::Refused(refusal)) => return Err(self.sources.refused(host, refusal)),
            }
        }
        Err(trouble::unusable(self.sources.image, "no registry was asked"))
    }

    /// Unpacks a layer's blob and removes it. The lock goes along: unpacking goes on when nobody waits for it any more.
    async fn unpack(&self, wanted: &Wanted, lock: Lock) -> Result<()> {
        let places = self.places.clone();
        let partial = places.partial(&wanted.blob.digest, &wanted.diff_id);
        let (image, diff_id) = (Arc::<str>::from(self.sources.image), wanted.diff_id.clone());
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
