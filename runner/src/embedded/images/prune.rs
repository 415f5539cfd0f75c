//! Makes room: images that go by the rule, and what belongs to no image. Blocks, and needs the store for itself.
//! Holds: an image is forgotten before its layers go, and a layer leaves its place whole: a crash leaves nothing half.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tidegate_config::spec::Digest;

use super::{
    Prune, Pruned,
    gc::{self, Candidate},
    lock::{self, Sharing},
    places::{self, Places},
    records::{self, Layer, Record},
    scratch::Scratch,
};

/// A download that nobody has gone on with for so long is not gone on with.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Removes images by the rule, and what belongs to none. Also gives what has left its place and is removed with its
/// folder's end: that needs the store no more.
pub(super) fn prune(
    places: &Places,
    in_use: &BTreeSet<Digest>,
    rule: Prune,
    now: SystemTime,
) -> io::Result<(Pruned, Vec<Scratch>)> {
    let records = places.records()?;
    let sizes = sizes(places)?;
    let candidates: Vec<Candidate> = records
        .iter()
        .map(|(record, used)| Candidate {
            id: record.id.clone(),
            last_used: *used,
            layers: record.layers.clone(),
        })
        .collect();
    let gone = gc::choose(&candidates, &sizes, in_use, rule, now);
    for id in &gone {
        forget(places, id)?;
    }
    places::sync(&places.images())?;
    let kept: Vec<&Record> =
        records.iter().map(|(record, _)| record).filter(|record| !gone.contains(&record.id)).collect();
    let (mut pruned, away) = sweep(places, &kept, &sizes)?;
    let abandoned = if rule.all { Duration::ZERO } else { ABANDONED };
    pruned.freed.0 += partials(places, abandoned, now)?;
    pruned.images = gone;
    Ok((pruned, away))
}

/// Removes what belongs to no image, downloads that were broken off included.
pub(super) fn clean(places: &Places, now: SystemTime) -> io::Result<()> {
    let records = places.records()?;
    let kept: Vec<&Record> = records.iter().map(|(record, _)| record).collect();
    sweep(places, &kept, &BTreeMap::new())?;
    partials(places, Duration::ZERO, now)?;
    Ok(())
}

/// What each layer takes.
fn sizes(places: &Places) -> io::Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for name in places::entries(&places.layers())? {
        let found = records::read::<Layer>(&places.layers().join(name).join("layer.json"))?;
        sizes.extend(found.map(|layer| (layer.diff_id, layer.bytes)));
    }
    Ok(sizes)
}

fn forget(places: &Places, id: &Digest) -> io::Result<()> {
    tracing::info!(image = id.short(), "removing an image");
    for path in [places.image(id), places.config(id)].into_iter().flatten() {
        places::remove(&path)?;
    }
    Ok(())
}

/// Removes names and configurations without an image, and puts away layers without one.
fn sweep(
    places: &Places,
    kept: &[&Record],
    sizes: &BTreeMap<Digest, u64>,
) -> io::Result<(Pruned, Vec<Scratch>)> {
    for name in places.all_names()? {
        if !kept.iter().any(|record| record.id == name.id) {
            places::remove(&places.name(&name.name))?;
        }
    }
    let configs = kept.iter().filter_map(|record| places.config(&record.id));
    for config in others(&places.configs(), configs)? {
        places::remove(&config)?;
    }
    let layers = kept.iter().flat_map(|record| &record.layers).map(|layer| places.layer(layer));
    let (mut pruned, mut away) = (Pruned::default(), Vec::new());
    for layer in others(&places.layers(), layers.chain([places.empty()]))? {
        let size = sizes.iter().find(|(id, _)| places.layer(id) == layer).map_or(0, |(_, bytes)| *bytes);
        away.extend(put_away(places, &layer)?);
        pruned.layers += 1;
        pruned.freed.0 += size;
    }
    unlock(places)?;
    Ok((pruned, away))
}

/// What is in a folder besides these.
fn others(folder: &Path, these: impl Iterator<Item = PathBuf>) -> io::Result<Vec<PathBuf>> {
    let these: BTreeSet<_> = these.collect();
    let all = places::entries(folder)?.into_iter().map(|name| folder.join(name));
    Ok(all.filter(|path| !these.contains(path)).collect())
}

/// Takes a layer out of its place. Its files, which may be many, are removed with what is given.
fn put_away(places: &Places, layer: &Path) -> io::Result<Option<Scratch>> {
    match Scratch::make(&places.tmp()) {
        Ok(away) => std::fs::rename(layer, away.path().join("layer")).map(|()| Some(away)),
        // No room for a folder: what says that it is whole goes first.
        Err(e) if e.kind() == io::ErrorKind::StorageFull => {
            places::remove(&layer.join("layer.json"))?;
            places::remove(layer).map(|()| None)
        }
        Err(e) => Err(e),
    }
}

/// Removes the files of locks that nobody has. One who stopped waiting for an image may still be unpacking a layer.
fn unlock(places: &Places) -> io::Result<()> {
    for name in places::entries(&places.locks())? {
        let path = places.locks().join(name);
        if let Some(_lock) = lock::attempt(&path, Sharing::Alone)? {
            places::remove(&path)?;
        }
    }
    Ok(())
}

/// Removes downloads that nobody has gone on with for so long; says how many bytes they had.
fn partials(places: &Places, age: Duration, now: SystemTime) -> io::Result<u64> {
    let mut freed = 0;
    for name in places::entries(&places.partials())? {
        let path = places.partials().join(name);
        let found = path.metadata()?;
        if now.duration_since(found.modified()?).unwrap_or_default() >= age {
            places::remove(&path)?;
            freed += found.len();
        }
    }
    Ok(freed)
}
