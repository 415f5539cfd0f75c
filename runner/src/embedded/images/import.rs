//! Gets an image from a file or folder of this machine: the layers that are not here, four at once.
//! Absent: whether the image is needed, what is remembered of it.

use std::{io, os::unix::fs::MetadataExt, sync::Arc};

use futures_util::{StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::{
    accept::{self, Accepted},
    lock::{self, Lock, Sharing},
    meter::Meter,
    places::{self, Places},
    records::Origin,
    reference::{Local, Reference},
    scratch::Scratch,
    source::{self, Source},
    trouble,
};
use crate::{Error, Kind, Progress, Result};

/// Layers at once.
const AT_ONCE: usize = 4;

/// By what it is told later that the file or folder has not changed. Blocks.
pub(super) fn origin(reference: &Reference) -> Result<Origin> {
    let (path, outcome) = match reference {
        Reference::Layout(Local { path, .. }) => {
            let index = path.join("index.json");
            let outcome = std::fs::read(&index).map(|bytes| Origin::Layout(places::sha256(&bytes)));
            (index, outcome)
        }
        Reference::Archive(Local { path, .. }) | Reference::Docker(Local { path, .. }) => {
            let outcome = path.metadata().map(|found| Origin::File {
                bytes: found.len(),
                inode: found.ino(),
                changed: (found.mtime(), found.mtime_nsec()),
            });
            (path.clone(), outcome)
        }
        Reference::Registry(_) | Reference::Id(_) => {
            return Err(Error::new(Kind::Permanent, format!("{reference} is no file or folder")));
        }
    };
    outcome.map_err(|e| {
        Error::because(
            Kind::Permanent,
            format!("cannot read the image {reference}: {}: {e}", path.display()),
            e,
        )
    })
}

/// An opened source, with the folder that it may use as long as it lives.
struct Opened {
    source: Box<dyn Source>,
    _scratch: Scratch,
}

/// Gets an image's layers.
pub(super) async fn import(
    places: &Places,
    image: &str,
    reference: &Reference,
    progress: Progress,
) -> Result<Accepted> {
    let (there, wanted, name) = (places.clone(), reference.clone(), image.to_owned());
    let opening = spawn_blocking(move || open(&there, &name, &wanted));
    let (opened, accepted) = opening.await.map_err(trouble::broken)??;
    let opened = Arc::new(opened);
    let layers: Vec<source::Layer> = accepted
        .layers
        .iter()
        .filter_map(|id| opened.source.image().layers.iter().rfind(|layer| layer.diff_id == *id).cloned())
        .collect();
    let sizes: Vec<u64> = layers.iter().map(|layer| layer.size).collect();
    let meter = Meter::new(progress, &sizes);
    let each = layers.into_iter().enumerate().map(|(slot, layer)| {
        let (opened, meter) = (Arc::clone(&opened), &meter);
        async move {
            let size = layer.size;
            unpack(places, image, opened, layer).await?;
            meter.set(slot, size);
            Ok(())
        }
    });
    futures_util::stream::iter(each).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(accepted)
}

fn open(places: &Places, image: &str, reference: &Reference) -> Result<(Opened, Accepted)> {
    let scratch =
        Scratch::make(&places.tmp()).map_err(|e| trouble::disk("make a folder in", &places.tmp(), e))?;
    let source = source::open(reference, scratch.path()).map_err(|e| failed(places, image, e))?;
    let found = source.image();
    let accepted = accept::accept(found.config.clone(), found.layers.len())
        .map_err(|why| trouble::unusable(image, why))?;
    if accepted.id != found.id {
        return Err(trouble::unusable(image, format!("its configuration is not {}", found.id.0)));
    }
    Ok((Opened { source, _scratch: scratch }, accepted))
}

async fn unpack(places: &Places, image: &str, opened: Arc<Opened>, layer: source::Layer) -> Result<()> {
    let path = places.layer_lock(&layer.diff_id);
    let lock = lock::wait(&path, Sharing::Alone).await.map_err(|e| trouble::disk("lock", &path, e))?;
    let (places, image) = (places.clone(), image.to_owned());
    // The lock goes along: unpacking goes on when nobody waits for it any more.
    let unpacking = spawn_blocking(move || unpack_now(&places, &image, &opened, &layer, lock));
    unpacking.await.map_err(trouble::broken)?
}

fn unpack_now(
    places: &Places,
    image: &str,
    opened: &Opened,
    layer: &source::Layer,
    _lock: Lock,
) -> Result<()> {
    let here = places.unpacked(&layer.diff_id).map_err(|e| trouble::disk("read", &places.layers(), e))?;
    if here.is_some() {
        return Ok(());
    }
    let stored = opened.source.open(layer).map_err(|e| failed(places, image, e))?;
    places.unpack_layer(image, &layer.diff_id, stored)
}

fn failed(places: &Places, image: &str, e: source::Error) -> Error {
    match e {
        source::Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            trouble::full(places.root(), None)
        }
        other => Error::because(Kind::Permanent, format!("cannot read the image {image}: {other}"), other),
    }
}
