//! Where a service's volumes are on this machine. Named ones are folders of the engine's own that outlive replicas; the
//! shim fills a new one with what the image has there.

use std::{fs, io, path::Path};

use tidegate_config::spec::Volume;

use super::task::Mount;
use crate::{Error, Kind, Result};

/// The mounts of a service's volumes; named volumes are made if they are not there.
pub(super) fn mounts(engine: &Path, volumes: &[Volume]) -> Result<Vec<Mount>> {
    volumes.iter().map(|volume| mount(engine, volume)).collect()
}

fn mount(engine: &Path, volume: &Volume) -> Result<Mount> {
    let bind = |source, fill| Mount::Bind {
        source,
        target: volume.target.clone(),
        read_only: volume.read_only,
        fill,
    };
    if volume.source.starts_with('/') {
        let source = Path::new(&volume.source);
        return match source.try_exists() {
            Ok(true) => Ok(bind(source.to_owned(), false)),
            Ok(false) => {
                let words = format!("{} is to be mounted and does not exist", volume.source);
                Err(Error::new(Kind::Permanent, words))
            }
            Err(error) => Err(unusable(&volume.source, error)),
        };
    }
    let folder = engine.join("volumes").join(&volume.source);
    let made = fs::create_dir_all(&folder).and_then(|()| is_empty(&folder));
    made.map(|empty| bind(folder, empty)).map_err(|error| unusable(&volume.source, error))
}

fn is_empty(folder: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

fn unusable(volume: &str, error: io::Error) -> Error {
    Error::because(Kind::Permanent, format!("the volume {volume} cannot be used: {error}"), error)
}
