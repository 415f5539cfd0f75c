//! The store: whether an image is needed, is here, and what is remembered of it. Who adds to the store shares its lock;
//! who removes has it alone.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidegate_config::{
    model::Images,
    spec::{Digest, Pull},
    units::Bytes,
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Config, Image, Prune, Pruned, SILENCE, Stored,
    accept::Accepted,
    ask::Sources,
    import,
    lock::{self, Lock, Sharing},
    places::Places,
    prune,
    pull::{Pull as Fetch, Pulled},
    records::{Name, Origin, Record},
    reference::{Reference, Remote},
    registry::Access,
    scratch, trouble,
};
use crate::{Error, Kind, Progress, Result};

/// How long pruning waits for downloads to end.
const BUSY: Duration = Duration::from_secs(5);

/// The images of this machine.
#[derive(Debug)]
pub struct Store {
    places: Places,
    settings: Images,
    access: Access,
}

impl Store {
    /// Opens the store in a folder, which is made if it is absent, and clears what a crash left. Blocks for a moment.
    pub fn open(folder: &Path, settings: Images) -> Result<Arc<Self>> {
        Self::open_with(folder, settings, None)
    }

    /// The same, with another config.json for the registries' credentials than Docker's usual one.
    pub fn open_with(folder: &Path, settings: Images, credentials: Option<PathBuf>) -> Result<Arc<Self>> {
        let failed = |what: &'static str| move |e| trouble::disk(what, folder, e);
        let places = Places::make(folder).map_err(failed("make"))?;
        scratch::clear(&places.tmp()).map_err(failed("clear"))?;
        let access = Access { credentials, silence: SILENCE, insecure: settings.insecure_registries.clone() };
        Ok(Arc::new(Self { places, settings, access }))
    }

    /// Sees to it that an image is here, and says what it is. A registry's image is fetched as `pull` says; a file or
    /// folder is read again if it has changed.
    pub async fn prepare(&self, image: &str, pull: Pull, progress: Progress) -> Result<Image> {
        let reference =
            Reference::parse(image).map_err(|e| Error::because(Kind::Permanent, e.to_string(), e))?;
        let shared = self.share().await?;
        let outcome = match &reference {
            Reference::Id(id) => {
                let found = self.load(id).await?;
                found.ok_or_else(|| trouble::absent(image, "what has no name cannot be downloaded"))
            }
            Reference::Registry(remote) => self.of_registry(image, &reference, remote, pull, progress).await,
            Reference::Layout(_) | Reference::Archive(_) | Reference::Docker(_) => {
                self.of_file(image, &reference, progress).await
            }
        };
        drop(shared);
        if outcome.as_ref().is_err_and(trouble::is_full) {
            self.clean().await;
        }
        outcome
    }

    /// The image of this id, if it is here and whole. Counts as a use of it.
    pub async fn image(&self, digest: &Digest) -> Result<Option<Image>> {
        let _shared = self.share().await?;
        self.load(digest).await
    }

    /// All images, by id.
    pub async fn list(&self) -> Result<Vec<Stored>> {
        self.blocking("read", list).await
    }

    /// Removes images that nothing uses, by the rule, and what belongs to no image. What is in use is the caller's to
    /// say: also images of services that sleep. An error if downloads are going on all the while.
    pub async fn prune(&self, in_use: &BTreeSet<Digest>, rule: Prune) -> Result<Pruned> {
        let alone = timeout(BUSY, lock::wait(&self.places.lock(), Sharing::Alone)).await;
        let alone = alone
            .map_err(|_| Error::new(Kind::Retryable, "images are being downloaded; nothing was removed"))?
            .map_err(|e| trouble::disk("lock", &self.places.lock(), e))?;
        let in_use = in_use.clone();
        self.blocking("prune", move |places| {
            let (pruned, away) = prune::prune(places, &in_use, rule, SystemTime::now())?;
            // Whoever waits for the store need not wait for files that nobody sees any more.
            drop(alone);
            drop(away);
            Ok(pruned)
        })
        .await
    }

    /// Whether an error of this store says that there is no room, which [`Store::prune`] may make.
    #[must_use]
    pub fn is_full(error: &Error) -> bool {
        trouble::is_full(error)
    }

    async fn share(&self) -> Result<Lock> {
        let path = self.places.lock();
        lock::wait(&path, Sharing::Shared).await.map_err(|e| trouble::disk("lock", &path, e))
    }

    async fn of_registry(
        &self,
        image: &str,
        reference: &Reference,
        remote: &Remote,
        pull: Pull,
        progress: Progress,
    ) -> Result<Image> {
        let known = self.known(reference).await?;
        // What a digest leads to never changes.
        let settled = pull != Pull::Always || remote.digest.is_some();
        let known = match known {
            Some((_, found)) if settled => return Ok(found),
            known => known,
        };
        if pull == Pull::Never {
            return Err(trouble::absent(image, "pull = never"));
        }
        let led = known.as_ref().and_then(|(name, _)| match &name.origin {
            Origin::Registry(digest) => Some(digest),
            Origin::File { .. } | Origin::Layout(_) => None,
        });
        let fetching = Fetch::new(Sources::new(image, remote, &self.settings, &self.access), &self.places);
        match (Box::pin(fetching.run(led, progress)).await?, known) {
            (Pulled::Unchanged, Some((_, found))) => Ok(found),
            (Pulled::Unchanged, None) => Err(trouble::absent(image, "it was removed meanwhile")),
            (Pulled::Got(got), _) => {
                let origin = Origin::Registry(got.top);
                self.keep(reference, got.accepted, origin).await
            }
        }
    }

    async fn of_file(&self, image: &str, reference: &Reference, progress: Progress) -> Result<Image> {
        let looked = reference.clone();
        let origin = spawn_blocking(move || import::origin(&looked)).await.map_err(trouble::broken)??;
        if let Some((name, found)) = self.known(reference).await?
            && name.origin == origin
        {
            return Ok(found);
        }
        let accepted = import::import(&self.places, image, reference, progress).await?;
        self.keep(reference, accepted, origin).await
    }

    /// What a name leads to, if all of it is here.
    async fn known(&self, reference: &Reference) -> Result<Option<(Name, Image)>> {
        let name = reference.to_string();
        self.blocking("read", move |places| {
            let Some(name) = places.named(&name)? else { return Ok(None) };
            Ok(load(places, &name.id)?.map(|image| (name, image)))
        })
        .await
    }

    async fn load(&self, id: &Digest) -> Result<Option<Image>> {
        let id = id.clone();
        self.blocking("read", move |places| load(places, &id)).await
    }

    /// Remembers an image whose layers are here.
    async fn keep(&self, reference: &Reference, accepted: Accepted, origin: Origin) -> Result<Image> {
        let Accepted { id, bytes, created, layers, .. } = accepted;
        let name = Name { name: reference.to_string(), id: id.clone(), origin };
        let record = Record { id, created, fetched: SystemTime::now(), layers };
        let kept = self.blocking("write to", move |places| {
            places.remember(&record, &bytes, &name)?;
            load(places, &record.id)
        });
        kept.await?.ok_or_else(|| trouble::absent(&reference.to_string(), "it was removed meanwhile"))
    }

    /// After a full disk: what belongs to no image goes, unless others are adding to the store.
    async fn clean(&self) {
        let cleaned = self.blocking("clean", |places| {
            let alone = lock::attempt(&places.lock(), Sharing::Alone)?;
            alone.map_or(Ok(()), |_alone| prune::clean(places, SystemTime::now()))
        });
        if let Err(e) = cleaned.await {
            tracing::warn!("{e}");
        }
    }

    /// Works on the store's files.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Places) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let places = self.places.clone();
        let outcome = spawn_blocking(move || work(&places)).await.map_err(trouble::broken)?;
        outcome.map_err(|e| trouble::disk(what, self.places.root(), e))
    }
}

/// The image of this id, if it is here and whole; it counts as used now.
fn load(places: &Places, id: &Digest) -> io::Result<Option<Image>> {
    let (Some(record), Some(config)) = (places.record(id)?, places.read_config(id)?) else { return Ok(None) };
    let Ok(config) = serde_json::from_slice::<Config>(&config) else { return Ok(None) };
    let mut layers = Vec::with_capacity(record.layers.len().max(1));
    for layer in &record.layers {
        let Some(files) = places.unpacked(layer)? else {
            tracing::warn!(image = id.short(), layer = layer.short(), "an image has lost a layer");
            return Ok(None);
        };
        layers.push(files);
    }
    if layers.is_empty() {
        layers.push(places.no_files()?);
    }
    // A file system that cannot note it (full, read-only) does not keep an image from running.
    if let Err(e) = places.touch(id, SystemTime::now()) {
        tracing::warn!(image = id.short(), "cannot note that it is used: {e}");
    }
    Ok(Some(Image { digest: id.clone(), config, layers }))
}

fn list(places: &Places) -> io::Result<Vec<Stored>> {
    let names = places.all_names()?;
    let mut all = Vec::new();
    for (record, last_used) in places.records()? {
        let mut bytes = 0;
        for layer in &record.layers {
            bytes += places.layer_record(layer)?.map_or(0, |layer| layer.bytes);
        }
        let mine = names.iter().filter(|name| name.id == record.id).map(|name| name.name.clone());
        all.push(Stored {
            names: mine.collect(),
            bytes: Bytes(bytes),
            layers: record.layers.len(),
            created: record.created,
            fetched: record.fetched,
            last_used,
            id: record.id,
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_removed_while_something_is_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), Images::default()).expect("opened");
        let all = Prune { all: true, ..Prune::default() };
        let adding = store.share().await.expect("shared");
        let error = store.prune(&BTreeSet::new(), all).await.expect_err("it is busy");
        assert_eq!(error.kind, Kind::Retryable, "{error}");
        drop(adding);
        assert_eq!(store.prune(&BTreeSet::new(), all).await.expect("pruned"), Pruned::default());
    }
}
