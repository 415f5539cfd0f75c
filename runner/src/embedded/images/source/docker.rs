//! An image as `docker save` writes it: `manifest.json`, and what it names. Old archives have a folder for each layer, newer
//! ones blobs by their digests; layers may be symlinks to other layers.

use std::io::Read;

use serde::Deserialize;
use tidegate_config::spec::Digest;

use super::{
    super::{
        places,
        reference::{Reference, Which},
    },
    Error, Found, Layer, Source, diff_ids,
    files::{Files, small},
};

/// More than any honest manifest or configuration has.
const DOCUMENT: u64 = 8 << 20;

/// An image as `docker save` writes it.
pub(super) struct Saved {
    files: Box<dyn Files>,
    found: Found,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Item {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

impl Saved {
    pub(super) fn open(files: Box<dyn Files>, what: &str, which: &Which) -> Result<Self, Error> {
        let bad = |why: String| Error::Bad { what: what.into(), why };
        let read = |name: &str| {
            small(&*files, name, DOCUMENT)?
                .ok_or_else(|| bad(format!("it has no {name}, so `docker save` did not write it")))
        };
        let items: Vec<Item> = serde_json::from_slice(&read("manifest.json")?)
            .map_err(|e| bad(format!("its manifest.json is not understood: {e}")))?;
        let mut configs = Vec::new();
        for item in &items {
            let config = read(&item.config)?;
            configs.push((places::sha256(&config), config));
        }
        let ids: Vec<&Digest> = configs.iter().map(|(id, _)| id).collect();
        let place = choose(&items, &ids, which).map_err(bad)?;
        let (item, (id, config)) = (&items[place], configs.swap_remove(place));
        let stored = item.layers.as_deref().unwrap_or_default();
        let mut layers = Vec::new();
        for (key, diff_id) in stored.iter().zip(diff_ids(&config, stored.len()).map_err(bad)?) {
            let (_, size) = files.open(key)?.ok_or_else(|| bad(format!("its layer {key} is missing")))?;
            layers.push(Layer { diff_id, size, key: key.clone() });
        }
        let found = Found { id, config, layers, name: item.tags().first().cloned() };
        Ok(Self { files, found })
    }
}

impl Source for Saved {
    fn image(&self) -> &Found {
        &self.found
    }

    /// The archive says nothing of a layer's bytes as stored: only `diff_id` tells whether they are right.
    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, Error> {
        let missing = || Error::Bad { what: format!("the layer {}", layer.key), why: "it is missing".into() };
        Ok(self.files.open(&layer.key)?.ok_or_else(missing)?.0)
    }
}

/// The position of the image that is wanted.
fn choose(items: &[Item], ids: &[&Digest], which: &Which) -> Result<usize, String> {
    let tags = || items.iter().flat_map(Item::tags).map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = match which {
        Which::Only if items.len() == 1 => Some(0),
        Which::Only if items.is_empty() => return Err("there is no image in it".into()),
        Which::Only => return Err(format!("there are several images in it: name one of {}", tags())),
        Which::Digest(wanted) => ids.iter().position(|id| *id == wanted),
        Which::Named(wanted) => {
            let wanted = Reference::parse(wanted).map_err(|e| e.to_string())?;
            let is = |tag: &String| Reference::parse(tag).as_ref() == Ok(&wanted);
            items.iter().position(|item| item.tags().iter().any(is))
        }
    };
    found.ok_or_else(|| format!("there is no such image in it, but {}", tags()))
}
