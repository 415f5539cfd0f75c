//! What the store remembers: of each image, and of each name. A file each, so that two processes lose nothing of each
//! other's. When an image was last used is the time of its file. All of it blocks.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidegate_config::spec::Digest;

use super::places::{self, Places};

/// What is remembered of an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its id.
    pub id: Digest,
    /// When it was built, as its configuration says it.
    pub created: Option<String>,
    /// When it came here.
    #[serde(with = "super::stamp")]
    pub fetched: SystemTime,
    /// Its layers' uncompressed digests, lowest first, each once.
    pub layers: Vec<Digest>,
}

/// What is remembered of a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Name {
    /// The name.
    pub name: String,
    /// The image that it leads to.
    pub id: Digest,
    /// By what it is told that where it came from has not changed.
    pub origin: Origin,
}

/// By what it is told that where an image came from has not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// What the registry's tag named: a manifest or an index.
    Registry(Digest),
    /// A file as it was.
    File {
        /// Its length.
        bytes: u64,
        /// Which file.
        inode: u64,
        /// When it was changed last: seconds and nanoseconds.
        changed: (i64, i64),
    },
    /// A folder by its index.
    Layout(Digest),
}

/// What is remembered of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// Its uncompressed digest.
    pub diff_id: Digest,
    /// What it takes on disk.
    pub bytes: u64,
}

impl Places {
    /// What is remembered of an image; what cannot be understood is as if it were not there.
    pub(super) fn record(&self, id: &Digest) -> io::Result<Option<Record>> {
        let Some(path) = self.image(id) else { return Ok(None) };
        Ok(read::<Record>(&path)?.filter(|record| record.id == *id))
    }

    /// All that is remembered of images, each with when it was last used.
    pub(super) fn records(&self) -> io::Result<Vec<(Record, SystemTime)>> {
        let mut all = Vec::new();
        for name in places::entries(&self.images())? {
            let path = self.images().join(name);
            // Another process may remove it meanwhile.
            let used = path.metadata().and_then(|found| found.modified());
            if let (Some(record), Ok(used)) = (read::<Record>(&path)?, used) {
                all.push((record, used));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Notes that an image is used.
    pub(super) fn touch(&self, id: &Digest, now: SystemTime) -> io::Result<()> {
        let Some(path) = self.image(id) else { return Ok(()) };
        File::options().write(true).open(path)?.set_modified(now)
    }

    /// What is remembered of a name.
    pub(super) fn named(&self, name: &str) -> io::Result<Option<Name>> {
        Ok(read::<Name>(&self.name(name))?.filter(|found| found.name == name))
    }

    /// All names.
    pub(super) fn all_names(&self) -> io::Result<Vec<Name>> {
        let mut all = Vec::new();
        for name in places::entries(&self.names())? {
            all.extend(read::<Name>(&self.names().join(name))?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Remembers an image with its configuration, and then what it is called.
    pub(super) fn remember(&self, record: &Record, config: &[u8], name: &Name) -> io::Result<()> {
        let (Some(image), Some(place)) = (self.image(&record.id), self.config(&record.id)) else {
            return Err(io::Error::other(format!("{:?} is no digest", record.id)));
        };
        places::write(&place, config)?;
        write(&image, record)?;
        write(&self.name(&name.name), name)
    }

    /// An image's configuration, unless it is damaged.
    pub(super) fn read_config(&self, id: &Digest) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.config(id) else { return Ok(None) };
        Ok(there(fs::read(path))?.filter(|bytes| places::sha256(bytes) == *id))
    }

    /// What is remembered of a layer, if it is here.
    pub(super) fn layer_record(&self, diff_id: &Digest) -> io::Result<Option<Layer>> {
        if places::hex(diff_id).is_none() {
            return Ok(None);
        }
        read::<Layer>(&self.layer(diff_id).join("layer.json"))
    }
}

/// Writes what is to be remembered.
pub(super) fn write(path: &Path, what: &impl Serialize) -> io::Result<()> {
    places::write(path, &serde_json::to_vec(what).map_err(io::Error::other)?)
}

/// Reads what is remembered; what cannot be understood is as if it were not there.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = there(fs::read(path))? else { return Ok(None) };
    let understood = serde_json::from_slice(&bytes);
    if let Err(e) = &understood {
        tracing::warn!(file = %path.display(), "not understood: {e}");
    }
    Ok(understood.ok())
}

fn there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_remembered_is_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = Places::make(folder.path()).expect("made");
        let config = b"{}";
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let id = places::sha256(config);
        let record = Record { id: id.clone(), created: None, fetched: at, layers: vec![id.clone()] };
        let name = Name { name: "a:1".into(), id: id.clone(), origin: Origin::Registry(id.clone()) };
        assert_eq!(places.record(&id).expect("read"), None);
        places.remember(&record, config, &name).expect("written");
        places.touch(&id, at).expect("touched");
        assert_eq!(places.record(&id).expect("read"), Some(record.clone()));
        assert_eq!(places.records().expect("read"), [(record, at)]);
        assert_eq!(places.named("a:1").expect("read"), Some(name.clone()));
        assert_eq!(places.named("a:2").expect("read"), None);
        assert_eq!(places.all_names().expect("read"), [name]);
        assert_eq!(places.read_config(&id).expect("read").as_deref(), Some(&config[..]));
    }

    #[test]
    fn damage_is_as_if_nothing_were_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = Places::make(folder.path()).expect("made");
        let id = places::sha256(b"x");
        fs::write(places.image(&id).expect("a path"), "{\"id\":").expect("written");
        fs::write(places.config(&id).expect("a path"), "y").expect("written");
        assert_eq!(places.record(&id).expect("read"), None);
        assert_eq!(places.read_config(&id).expect("read"), None);
    }
}
