//! Unpacked layers: whether one is here, and how one comes here. Shared between images; all of it blocks.
//! Holds: a layer has its place only when all of it is on disk and is what its digest says.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
};

use tidegate_config::spec::Digest;

use super::{
    places::{self, Places},
    records::{self, Layer},
    scratch::Scratch,
    trouble,
    unpack::{Limits, decompress, unpack},
};
use crate::Result;

impl Places {
    /// The folder of a layer's files.
    pub(super) fn files(&self, diff_id: &Digest) -> PathBuf {
        self.layer(diff_id).join("fs")
    }

    /// The folder of a layer's files, if it is here and whole.
    pub(super) fn unpacked(&self, diff_id: &Digest) -> io::Result<Option<PathBuf>> {
        let found = self.layer_record(diff_id)?.filter(|layer| layer.diff_id == *diff_id);
        let files = self.files(diff_id);
        Ok(found.filter(|_| files.is_dir()).map(|_| files))
    }

    /// The one empty folder of images without layers.
    pub(super) fn no_files(&self) -> io::Result<PathBuf> {
        let files = self.empty().join("fs");
        fs::create_dir_all(&files)?;
        Ok(files)
    }

    /// Unpacks a layer into its place; the caller holds the layer's lock.
    pub(super) fn unpack_layer(
        &self,
        image: &str,
        diff_id: &Digest,
        stored: Box<dyn Read + Send>,
    ) -> Result<()> {
        let failed = |what: &'static str| move |e| trouble::disk(what, &self.tmp(), e);
        let scratch = Scratch::make(&self.tmp()).map_err(failed("make a folder in"))?;
        let files = scratch.path().join("fs");
        fs::create_dir(&files).map_err(failed("make a folder in"))?;
        let tar = decompress(stored).map_err(|e| trouble::unusable(image, e))?;
        let unpacked =
            unpack(tar, &files, &Limits::default()).map_err(|e| trouble::layer(image, self.root(), e))?;
        if unpacked.diff_id != *diff_id {
            let why =
                format!("a layer unpacks to {:?} where its configuration says {diff_id:?}", unpacked.diff_id);
            return Err(trouble::unusable(image, why));
        }
        let bytes = places::size(&files).map_err(failed("measure"))?;
        let layer = Layer { diff_id: diff_id.clone(), bytes };
        records::write(&scratch.path().join("layer.json"), &layer).map_err(failed("write to"))?;
        // Once for all of its files, which may be many.
        File::open(&files).and_then(|file| Ok(nix::unistd::syncfs(file)?)).map_err(failed("write to"))?;
        self.publish(scratch, diff_id).map_err(failed("put a layer into its place from"))
    }

    /// Puts a layer into its place, where what is damaged may lie.
    fn publish(&self, made: Scratch, diff_id: &Digest) -> io::Result<()> {
        if self.unpacked(diff_id)?.is_some() {
            return Ok(());
        }
        let place = self.layer(diff_id);
        if place.exists() {
            if self.layer_record(diff_id)?.is_some_and(|there| there.diff_id != *diff_id) {
                // Two digests with the same first digits: nobody comes by that without meaning it.
                return Err(io::Error::other(format!("another layer has the place of {diff_id:?}")));
            }
            // Away with it at once, so that a crash leaves the old or the new one.
            let away = Scratch::make(&self.tmp())?;
            fs::rename(&place, away.path().join("damaged"))?;
        }
        made.put(&place)
    }
}

/// Each of these once, where it is last: what is above covers all that the same layer had below, and overlayfs refuses to
/// have one folder twice.
pub(super) fn once(layers: &[Digest]) -> Vec<Digest> {
    let mut kept: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers.iter().rev() {
        if !kept.contains(layer) {
            kept.push(layer.clone());
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_layers_count_where_they_are_last() {
        let digests = |names: &str| names.chars().map(|c| Digest(c.into())).collect::<Vec<_>>();
        for (layers, expected) in [("", ""), ("abc", "abc"), ("aba", "ba"), ("aabb", "ab"), ("abcab", "cab")]
        {
            assert_eq!(once(&digests(layers)), digests(expected), "{layers}");
        }
    }
}
