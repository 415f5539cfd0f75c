//! Makes room: images that go by the rule, and what belongs to no image. Blocks, and needs the store for itself.
//! Holds: an image is forgotten before its layers go, and a layer leaves its place whole: a crash leaves nothing half.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use tidegate_config::spec::Digest;

use super::{
    Prune, Pruned,
    gc::{self, Candidate},
    places::{self, Places},
    records::{self, Layer, Record},
    scratch::Scratch,
};

/// A download that nobody has gone on with for so long is not gone on with.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Removes images by the rule, and what belongs to none.
pub(super) fn prune(
    places: &Places,
    in_use: &BTreeSet<Digest>,
    rule: Prune,
    now: SystemTime,
) -> io::Result<Pruned> {
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
    let mut pruned = sweep(places, &kept, &sizes)?;
    let abandoned = if rule.all { Duration::ZERO } else { ABANDONED };
    pruned.freed.0 += partials(places, abandoned, now)?;
    pruned.images = gone;
    Ok(pruned)
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

/// Removes names, configurations and layers without an image.
fn sweep(places: &Places, kept: &[&Record], sizes: &BTreeMap<Digest, u64>) -> io::Result<Pruned> {
    for name in places.all_names()? {
        if !kept.iter().any(|record| record.id == name.id) {
            places::remove(&places.name(&name.name))?;
        }
    }
    let configs: BTreeSet<_> = kept.iter().filter_map(|record| places.config(&record.id)).collect();
    for config in places::entries(&places.configs())? {
        let path = places.configs().join(config);
        if !configs.contains(&path) {
            places::remove(&path)?;
        }
    }
    let used = kept.iter().flat_map(|record| &record.layers);
    let used: BTreeSet<_> = used.map(|layer| places.layer(layer)).chain([places.empty()]).collect();
    let size = |path: &Path| {
        sizes.iter().find(|(layer, _)| places.layer(layer) == path).map_or(0, |(_, bytes)| *bytes)
    };
    let mut pruned = Pruned::default();
    for layer in places::entries(&places.layers())? {
        let path = places.layers().join(layer);
        if !used.contains(&path) {
            remove_layer(places, &path)?;
            pruned.layers += 1;
            pruned.freed.0 += size(&path);
        }
    }
    // Whoever makes a layer shares the store, so that nobody holds any of these.
    for lock in places::entries(&places.locks())? {
        places::remove(&places.locks().join(lock))?;
    }
    Ok(pruned)
}

/// Takes a layer out of its place, and then removes its files, which may take long.
fn remove_layer(places: &Places, path: &Path) -> io::Result<()> {
    match Scratch::make(&places.tmp()) {
        Ok(away) => std::fs::rename(path, away.path().join("layer")),
        // No room for a folder: what says that it is whole goes first.
        Err(e) if e.kind() == io::ErrorKind::StorageFull => {
            places::remove(&path.join("layer.json"))?;
            places::remove(path)
        }
        Err(e) => Err(e),
    }
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
