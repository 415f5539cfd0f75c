//! An image in OCI's layout: `index.json`, and blobs by their digests.

use std::{collections::BTreeMap, io::Read};

use serde::Deserialize;
use tidegate_config::spec::Digest;

use super::{
    super::{
        accept,
        manifest::{self, Document, Entry, Manifest},
        places,
        reference::Which,
    },
    Error, Found, Layer, Source, diff_ids,
    files::{Files, failed, small},
    platform::Platform,
    verify::Verified,
};

/// More than any honest manifest, index or configuration has.
const DOCUMENT: u64 = 8 << 20;
/// How many indexes may lead to each other.
const INDEXES: usize = 4;
/// What tools call an image, in the order in which they are believed.
const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// An image in OCI's layout.
pub(super) struct Layout {
    files: Box<dyn Files>,
    /// Where, for people.
    what: String,
    found: Found,
}

#[derive(Deserialize)]
struct Top {
    #[serde(default)]
    manifests: Vec<Named>,
}

/// An image, or an index of images for several machines.
#[derive(Deserialize, Clone)]
struct Named {
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Named {
    fn names(&self) -> impl Iterator<Item = &str> {
        NAMES.iter().filter_map(|name| self.annotations.get(*name)).map(String::as_str)
    }

    /// `1.0` and `example.com/app:1.0` both have the tag `1.0`.
    fn is(&self, wanted: &str) -> bool {
        self.names().any(|name| name == wanted || name.strip_suffix(wanted).is_some_and(|n| n.ends_with(':')))
    }
}

impl Layout {
    pub(super) fn open(files: Box<dyn Files>, what: String, which: &Which) -> Result<Self, Error> {
        let bad = |why: String| Error::Bad { what: what.clone(), why };
        let index = small(&*files, "index.json", DOCUMENT)?
            .ok_or_else(|| bad("it has no index.json, so it is not an OCI layout".into()))?;
        let top: Top = serde_json::from_slice(&index)
            .map_err(|e| bad(format!("its index.json is not understood: {e}")))?;
        let (start, name) = choose(&top.manifests, which).map_err(bad)?;
        let manifest = resolve(&*files, start).map_err(|why| bad(why.to_string()))?;
        let config = blob(&*files, &manifest.config.digest)?;
        let ids = diff_ids(&config, manifest.layers.len()).map_err(bad)?;
        let layer = |(stored, diff_id): (manifest::Descriptor, Digest)| Layer {
            diff_id,
            size: stored.size,
            key: stored.digest.0,
        };
        let layers = manifest.layers.into_iter().zip(ids).map(layer).collect();
        let found = Found { id: manifest.config.digest, config, layers, name };
        Ok(Self { files, what, found })
    }
}

impl Source for Layout {
    fn image(&self) -> &Found {
        &self.found
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
        let digest = Digest(layer.key.clone());
        let (reader, size) = find(&*self.files, &digest)?;
        if size != layer.size {
            let why = format!("its layer {digest:?} has {size} bytes, not {}", layer.size);
            return Err(Error::Bad { what: self.what.clone(), why });
        }
        Ok(Box::new(Verified::new(reader, digest)))
    }
}

/// Where to start, and what the image is called.
fn choose(all: &[Named], which: &Which) -> Result<(Digest, Option<String>), String> {
    let these: Vec<Named> = match which {
        Which::Digest(digest) => return Ok((digest.clone(), None)),
        Which::Only => all.to_vec(),
        Which::Named(wanted) => all.iter().filter(|image| image.is(wanted)).cloned().collect(),
    };
    let listed = || {
        let mut names: Vec<&str> = all.iter().flat_map(Named::names).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { "none with a name".into() } else { names.join(", ") }
    };
    let name = these.first().and_then(|image| image.names().next()).map(str::to_owned);
    match these.as_slice() {
        [] if matches!(which, Which::Only) => Err("there is no image in it".into()),
        [] => Err(format!("there is no such image in it, but {}", listed())),
        [one] => Ok((one.digest.clone(), name)),
        // One image for several machines may stand there without an index of its own.
        [first, rest @ ..] if rest.iter().all(|image| image.names().eq(first.names())) => {
            let entry =
                |image: &Named| Entry { digest: image.digest.clone(), platform: image.platform.clone() };
            let entries: Vec<Entry> = these.iter().map(entry).collect();
            accept::choose(&entries).map(|digest| (digest, name))
        }
        _ => Err(format!("there are several images in it: name one of {}", listed())),
    }
}

/// The manifest for this machine.
fn resolve(files: &dyn Files, start: Digest) -> Result<Manifest, Error> {
    let mut digest = start;
    for _ in 0..INDEXES {
        let what = || format!("its manifest {}", digest.0);
        let bytes = blob(files, &digest)?;
        match manifest::read(&bytes).map_err(|why| Error::Bad { what: what(), why })? {
            Document::Image(manifest) => return Ok(manifest),
            Document::Index(entries) => {
                digest = accept::choose(&entries).map_err(|why| Error::Bad { what: what(), why })?;
            }
        }
    }
    Err(Error::Bad { what: format!("its index {}", digest.0), why: "indexes lead to indexes".into() })
}

/// A small blob, checked.
fn blob(files: &dyn Files, digest: &Digest) -> Result<Vec<u8>, Error> {
    let (reader, size) = find(files, digest)?;
    if size > DOCUMENT {
        let why = format!("it has {size} bytes, {DOCUMENT} at most");
        return Err(Error::Bad { what: format!("its blob {}", digest.0), why });
    }
    let mut bytes = Vec::new();
    Verified::new(reader, digest.clone())
        .read_to_end(&mut bytes)
        .map_err(|e| failed(format!("read its blob {}", digest.0), e))?;
    Ok(bytes)
}

fn find(files: &dyn Files, digest: &Digest) -> Result<super::files::Opened, Error> {
    let bad = |why: &str| Error::Bad { what: format!("its blob {}", digest.0), why: why.into() };
    let hex = places::hex(digest).ok_or_else(|| bad("that is not a digest of sha256"))?;
    files.open(&format!("blobs/sha256/{hex}"))?.ok_or_else(|| bad("it is missing"))
}
